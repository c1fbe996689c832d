/* description.c - parameters, FLOPs and memory of a session's model, its graph and its masks.
 * Nothing is allocated: an 8B model is described on a laptop. */
#include <stdlib.h>
#include <string.h>

#include "graph/describe.h"
#include "model/shard.h"
#include "run/session.h"

/* ---- the sketch ------------------------------------------------------------------------------ */

/* One sequence without padding, because a bucket of 1 rounds nothing up. */
static td_batch *sequence(const td_session *s, td_error *error)
{
    return td_session_random_batch(s, 1, 1, error);
}

/* The sketch plans one sequence first, because td_engine_graph returns the first plan's graph. */
static int open_sketch(td_session *s, const td_batch *one, td_error *error)
{
    int code;
    if (s->sketch)
        return 0;
    /* separate from the engine that holds parameters: it is planned for other shapes, and stays
     * small */
    s->sketch = td_session_sketch(s, error);
    code = s->sketch ? td_engine_plan(s->sketch, one, NULL, error) : td_failed(error, TD_EIO);
    if (code) {
        td_engine_close(s->sketch);
        s->sketch = NULL;
    }
    return code;
}

static td_graph *graph_of(td_session *s)
{
    td_tensor *const *roots;
    size_t            n;
    return td_engine_graph(s->sketch, &roots, &n);
}

/* ---- counting -------------------------------------------------------------------------------- */

/* The part that a parameter is counted under: the first whose pattern matches its name. Norms come
 * before attention, because their names may contain an attention's. */
static int64_t *group_of(td_description *d, const char *name)
{
    const struct {
        const char *pattern;
        int64_t    *group;
    } groups[] = {
        { "*embed*", &d->embedding }, { "*lm_head*", &d->embedding },   { "*norm*", &d->norm },
        { "*attn*", &d->attention },  { "*attention*", &d->attention }, { "*mlp*", &d->ffn },
        { "*ffn*", &d->ffn },
    };
    for (size_t k = 0; k < sizeof groups / sizeof *groups; k++)
        if (td_match(groups[k].pattern, name))
            return groups[k].group;
    return &d->other;
}

static void count_parameters(td_variables *v, td_description *d)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        *group_of(d, x->name) += x->count;
        d->parameters += x->count;
    }
}

static td_flop_counts counts(const td_flops *f)
{
    return (td_flop_counts){ f->matmul, f->visible, f->elementwise };
}

static void count_flops(const td_session *s, const td_batch *one, td_description *d)
{
    td_tensor *const *roots;
    size_t            n;
    td_graph         *g = td_engine_graph(s->sketch, &roots, &n);
    td_flops_phases   f;

    td_graph_flops(g, roots, n, one, &f);
    d->forward = counts(&f.forward);
    d->backward = counts(&f.backward);
    /* The paper counts an embedding lookup as a product with a one-hot matrix. */
    d->paper_flops = f.forward.matmul + td_graph_lookups(g, td_session_vocabulary(s));
    d->predicted = td_batch_targets(one);
}

/* If sharded, shows the process that has the most of each. Slices of sums are equal on all
 * ranks. */
static void take_most(const td_session *s, td_footprint *f)
{
    const td_model     *m = td_engine_model(s->sketch);
    const td_variables *v = td_engine_variables(s->sketch);
    size_t              own = 0;
    if (m->shard.size < 2)
        return;
    f->states = td_shard_most(m, v, TD_VARIABLE_STATE);
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_GRAD && !td_variables_at(v, i)->absent)
            own += (size_t)td_variables_at(v, i)->count * td_dtype_size(m->real);
    if (!td_shard_parameters(m))
        return;
    f->parameters = td_shard_most(m, v, TD_VARIABLE_PARAM);
    f->gradients += td_shard_most(m, v, TD_VARIABLE_GRAD) - own;
}

/* Counts the FLOPs of one sequence and the memory of a whole run. */
static int describe(td_session *s, td_description *d, td_error *error)
{
    td_pair   pair = td_arrange_pair(&s->x->data);
    td_bounds bounds = td_arrange_bounds(&s->x->loss, pair, s->x->train.length);
    td_batch *one = sequence(s, error);
    int       code = one ? open_sketch(s, one, error) : td_failed(error, TD_ENOMEM);

    *d = (td_description){ .length = pair.inputs ? bounds.total : s->x->train.length,
                           /* a sequence is never of maximum length in both streams */
                           .split_varies = bounds.given + bounds.predicted > bounds.total };
    if (!code) {
        count_flops(s, one, d);
        count_parameters(td_engine_variables(s->sketch), d);
        d->unavailable = s->unavailable;
        code = td_session_plan(s, s->sketch, &d->memory, error);
    }
    if (!code)
        take_most(s, &d->memory);
    td_batch_free(one);
    return code;
}

const td_description *td_session_describe(td_session *s, td_error *error)
{
    if (!s->described && describe(s, &s->description, error))
        return NULL;
    s->described = true;
    return &s->description;
}

/* ---- as text --------------------------------------------------------------------------------- */

/* The next request for a text replaces this one. */
static void clear(td_text *t)
{
    td_text_free(t);
    *t = (td_text){ 0 };
}

static void print_flops(td_text *out, const char *what, const td_flop_counts *f)
{
    td_text_print(out, "  %-10s %.4g dense, %.4g visible, elementwise %.4g\n", what, f->dense,
                  f->visible, f->elementwise);
}

static void print(const td_description *d, int64_t processes, td_text *out)
{
    td_text_print(out, "parameters   %lld: embedding %lld, attention %lld, ffn %lld, norm %lld",
                  (long long)d->parameters, (long long)d->embedding, (long long)d->attention,
                  (long long)d->ffn, (long long)d->norm);
    if (d->other) /* from other people's plugins; ours have none */
        td_text_print(out, ", other %lld", (long long)d->other);
    td_text_print(out, "\nFLOPs of one sequence of %lld tokens, %lld of them predicted%s\n",
                  (long long)d->length, (long long)d->predicted,
                  d->split_varies ? " (the split varies)" : "");
    print_flops(out, "forward", &d->forward);
    print_flops(out, "backward", &d->backward);
    td_text_print(out, "  as the paper counts (forward, dense, lookups as products)  %.4g\n",
                  d->paper_flops);
    td_text_print(out, "memory       ");
    td_footprint_print(&d->memory, out);
    if (processes)
        td_text_print(out, ", in each of %lld processes", (long long)processes);
    td_text_print(out, "\n");
    if (d->unavailable)
        td_text_print(
            out, "  planned for the default backend, because this machine lacks the config's: %s\n",
            d->unavailable);
}

const char *td_session_describe_text(td_session *s, td_error *error)
{
    const td_description *d = td_session_describe(s, error);
    if (!d)
        return NULL;
    clear(&s->text);
    print(d, s->imagined, &s->text);
    return td_text_get(&s->text);
}

const char *td_session_graph(td_session *s, bool dot, td_error *error)
{
    td_batch *one = sequence(s, error);
    int       code = one ? open_sketch(s, one, error) : td_failed(error, TD_ENOMEM);
    td_batch_free(one);
    if (code)
        return NULL;
    /* the whole step as planned: forward, loss and backward */
    clear(&s->text);
    if (dot)
        td_graph_dump_dot(graph_of(s), &s->text);
    else
        td_graph_dump_text(graph_of(s), &s->text);
    return td_text_get(&s->text);
}

static const char *rule_text(const char *op)
{
    switch (td_precision_of(op)->precision) {
    case TD_PRECISION_PRODUCT:
        return "bf16, sums f32";
    case TD_PRECISION_EITHER:
        return "as stored, computed in f32";
    case TD_PRECISION_MOVE:
        return "as stored";
    default:
        return !strcmp(op, "cast") ? "between the two" : "f32";
    }
}

static void print_precision(const td_precision_row *rows, size_t n, td_text *out)
{
    td_text_print(out, "%-20s %8s %8s  %s\n", "op", "bf16", "f32", "rule");
    for (size_t k = 0; k < n; k++) {
        char bytes[32];
        td_text_print(out, "%-20s %8lld %8lld  %s", rows[k].op, (long long)rows[k].narrow,
                      (long long)rows[k].wide, rule_text(rows[k].op));
        if (rows[k].bytes > 0)
            td_text_print(out, "; %s written", td_human_bytes(bytes, rows[k].bytes));
        td_text_print(out, "\n");
    }
}

const char *td_session_precision(td_session *s, td_error *error)
{
    enum { MOST = 128 };
    td_precision_row rows[MOST];
    td_batch        *one = sequence(s, error);
    int              code = one ? open_sketch(s, one, error) : td_failed(error, TD_ENOMEM);
    bool             narrow = s->x->train.precision != 0;

    td_batch_free(one);
    if (code)
        return NULL;
    clear(&s->text);
    td_text_print(&s->text,
                  "train.precision = \"%s\" on backend '%s': calls of a training step on one "
                  "sequence\nparameters, gradients and optimizer states f32%s\n",
                  narrow ? "bf16" : "f32", s->x->backend.plugin->name,
                  narrow ? ", copies of matrices bf16" : "");
    print_precision(rows, td_engine_precision(s->sketch, rows, MOST), &s->text);
    return td_text_get(&s->text);
}

const char *td_session_mask(td_session *s, const char *path, td_error *error)
{
    td_batch *one = sequence(s, error);
    int       code = one ? open_sketch(s, one, error) : td_failed(error, TD_ENOMEM);
    clear(&s->text);
    if (!code)
        code = td_graph_dump_mask(graph_of(s), one, path, 0, &s->text, error);
    td_batch_free(one);
    return code ? NULL : td_text_get(&s->text);
}
