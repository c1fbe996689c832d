/* attend.c - the attention weights of one text, pair by pair.
 *
 * Like an analysis (attention.c), but of a single example, without a loss, and with the weights
 * themselves instead of means.
 */
#include "evaluate/attend.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/looked_plan.h"
#include "plugin/hook.h"

typedef struct job {
    td_engine             *engine;
    const td_arrange_spec *feed;
    const td_attending    *in;
    td_batch              *batch;
    td_looked_plan         at;
} job;

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the attention weights of a text");
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The limits of the lengths keep sums of them, and positions, within an int32. */
static int check(const job *j, td_error *error)
{
    const td_part         *part = &j->feed->architecture;
    const td_architecture *a = (const void *)part->plugin;
    int64_t                n = j->in->n_given, m = j->in->n_target;
    td_bounds              bounds = { n + m, n, m, n + m };
    if (n < 0 || m < 1 || n > INT32_MAX / 4 || m > INT32_MAX / 4)
        return td_fail(error, TD_ECONFIG,
                       "a text of %" PRId64 " given tokens and a target of %" PRId64
                       ": the first takes 0 .. %d, the target 1 or more",
                       n, m, INT32_MAX / 4);
    if (!n && a->flags & TD_ARCHITECTURE_HAS_ENCODER)
        return td_fail(error, TD_ECONFIG,
                       "model '%s' reads the given tokens in its encoder: give at least one",
                       part->plugin->name);
    /* a position table may be too short */
    return a->check_bounds && a->check_bounds(part->config, &bounds, error)
               ? td_failed(error, TD_ECONFIG)
               : 0;
}

/* In rows without padding, whose weights mean nothing. */
static int arrange(job *j, td_error *error)
{
    td_example x = { .given = j->in->given,
                     .n_given = j->in->n_given,
                     .predicted = j->in->target,
                     .n_predicted = j->in->n_target };
    j->batch = td_batch_new();
    return j->batch
               ? td_arrange_rows(j->feed, &x, 1, 1, td_arrange_extent(j->feed, &x), j->batch, error)
               : out_of_memory(error);
}

static int read_text(job *j, td_error *error)
{
    const td_device    *d = td_engine_device(j->engine);
    td_analyze_spec     spec = { .layers = j->in->layers,
                                 .n_layers = j->in->n_layers,
                                 .heads = j->in->heads,
                                 .n_heads = j->in->n_heads };
    td_architecture_out a;
    td_graph           *graph;
    int code = td_model_read(td_engine_model(j->engine), td_engine_variables(j->engine), j->batch,
                             &graph, &a, error);
    spec.evaluate.feed.length = j->in->n_given + j->in->n_target;
    j->at.looked.keeps = true;
    /* the hidden states are a root as well: a plan needs one, and an attention may have no weights */
    if (!code)
        code = td_looked_plan_open(&j->at, j->engine, graph, a.hidden, &spec, error);
    if (!code)
        code = td_plan_set_batch(j->at.plan, j->batch, error);
    if (!code)
        code = td_plan_run(j->at.plan, error);
    return code ? code : td_looked_add(&j->at.looked, j->at.plan, d->services, error);
}

/* ---- which tokens ---------------------------------------------------------------------------- */

static bool holds_tokens(const char *name)
{
    size_t n = strlen(name), suffix = strlen("_ids");
    return n > suffix && !strcmp(name + n - suffix, "_ids");
}

/* The ids of an architecture's own stream, or (`encoder`) of the other one; NULL: it has none of that
 * length, and the tokens are unknown. */
static const int32_t *stream(const job *j, bool encoder, int64_t length)
{
    const td_architecture *a = (const void *)j->feed->architecture.plugin;
    for (int32_t k = 0; a->generated && k < j->batch->count; k++) {
        const td_array *x = &j->batch->at[k];
        bool            own = !strcmp(x->name, a->generated);
        if (x->dtype == TD_I32 && x->rank == 2 && x->dim[1] == length && holds_tokens(x->name) &&
            own == !encoder)
            return x->data;
    }
    return NULL;
}

static int32_t *copy_ids(const int32_t *a, int64_t n, const int32_t *b, int64_t m)
{
    int32_t *ids = (n && !a) || (m && !b) ? NULL : calloc((size_t)(n + m) + 1, sizeof *ids);
    if (ids && n)
        memcpy(ids, a, (size_t)n * sizeof *ids);
    if (ids && m)
        memcpy(ids + n, b, (size_t)m * sizeof *ids);
    return ids;
}

/* ---- results --------------------------------------------------------------------------------- */

/* The rows move from the looked-at attention to the result. */
static int take(const job *j, td_looked_at *from, td_attention_weights *to, td_error *error)
{
    const td_attention_node *n = from->node;
    int64_t                  keys = n->in[TD_ATTEND_K]->dim[2];
    bool                     encoder = !n->predicts;
    *to = (td_attention_weights){ .name = strdup(n->path),
                                  .layer = n->layer,
                                  .map = n->map,
                                  .reads = td_looked_reads_of(n),
                                  .heads = (int64_t)from->n_heads,
                                  .queries = n->in[TD_ATTEND_Q]->dim[2],
                                  .own = n->own,
                                  .memory = keys - n->own,
                                  .weights = from->rows };
    from->rows = NULL;
    to->query_ids = copy_ids(stream(j, encoder, to->queries), to->queries, NULL, 0);
    to->key_ids = copy_ids(stream(j, encoder, to->own), to->own, stream(j, true, to->memory),
                           to->memory);
    return to->name ? 0 : out_of_memory(error);
}

static int take_all(job *j, td_attended *out, td_error *error)
{
    td_looked *l = &j->at.looked;
    int        code = 0;
    out->at = calloc(l->n + 1, sizeof *out->at);
    out->without = calloc(j->at.found.n_without + 1, sizeof *out->without);
    if (!out->at || !out->without)
        return out_of_memory(error);
    for (size_t k = 0; k < l->n && !code; k++)
        code = take(j, &l->at[k], &out->at[out->n++], error);
    for (size_t k = 0; k < j->at.found.n_without && !code; k++) {
        out->without[k] = strdup(j->at.found.without[k]);
        code = out->without[k] ? 0 : out_of_memory(error);
        out->n_without += !code;
    }
    return code;
}

/* ---- the functions --------------------------------------------------------------------------- */

int td_attend_to(td_engine *engine, const td_arrange_spec *feed, const td_attending *in,
                 td_attended *out, td_error *error)
{
    job j = { .engine = engine, .feed = feed, .in = in };
    int code;
    *out = (td_attended){ 0 };
    code = check(&j, error);
    if (!code)
        code = arrange(&j, error);
    if (!code)
        code = read_text(&j, error);
    if (!code)
        code = take_all(&j, out, error);
    td_looked_plan_close(&j.at);
    td_batch_free(j.batch);
    return code;
}

void td_attended_free(td_attended *a)
{
    for (size_t k = 0; k < a->n; k++) {
        free((void *)(uintptr_t)a->at[k].name);
        free((void *)(uintptr_t)a->at[k].query_ids);
        free((void *)(uintptr_t)a->at[k].key_ids);
        free((void *)(uintptr_t)a->at[k].weights);
    }
    for (size_t k = 0; k < a->n_without; k++)
        free((void *)(uintptr_t)a->without[k]);
    free(a->at);
    free(a->without);
    *a = (td_attended){ 0 };
}
