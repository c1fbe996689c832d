/* passes.c - builds, plans and runs passes (passes.h). */
#include "generate/passes.h"

#include <string.h>

#include "graph/cache.h"
#include "plugin/hook.h"

/* ---- graphs ---------------------------------------------------------------------------------- */

/* Hidden states [B, T, D] at the last real column of each row: [B, D]. */
static td_tensor *last_column(td_graph *g, td_tensor *hidden)
{
    int64_t    rows = td_dim(hidden, 0), tokens = td_dim(hidden, 1), width = td_dim(hidden, 2);
    int64_t    flat[] = { rows * tokens, width };
    td_tensor *last = td_affine(td_cache_counts(g, rows), 1, -1); /* -1 in idle rows */
    td_tensor *zero = td_full(g, TD_I32, NULL, 0, 0);
    td_tensor *start = td_affine(td_iota(g, TD_I32, rows), (double)tokens, 0);
    return td_gather(td_reshape(hidden, flat, 2), td_add(start, td_maximum(last, zero)));
}

/* Adds the nodes of the pass to its graph. */
static int build(const td_passes *d, td_pass *p, td_error *error)
{
    const td_model        *m = d->model;
    const td_architecture *a = (const void *)m->architecture.plugin;
    td_dropout             none = { 0 };
    td_architecture_out    out = { 0 };
    td_architecture_in     in = { p->graph, d->batch, &none };
    int                    code = 0;
    TD_HOOK(a, build, m->architecture.config, &in, &out);
    /* after an error `out` is incomplete */
    if (td_graph_error(p->graph, error))
        return TD_EGRAPH;
    if (p->scored)
        code = td_model_score(d->batch, &out, p->graph, TD_PASS_PIECE, &p->outputs[0],
                              &p->outputs[1], error);
    else
        p->outputs[0] = td_cap(td_scale(td_matmul(last_column(p->graph, out.hidden),
                                                  td_transpose(out.embedding, 0, 1)),
                                        out.logit_scale),
                               out.logit_cap);
    return code ? code : td_graph_error(p->graph, error) ? TD_EGRAPH : 0;
}

/* ---- plans ----------------------------------------------------------------------------------- */

/* All plans share one arena. The next pass may overwrite it, because everything that outlives a
 * pass is in the cache. */
static int bind(td_passes *d, td_pass *p, td_error *error)
{
    size_t need = td_plan_arena(p->plan);
    if (need <= d->arena_size)
        return td_plan_bind(p->plan, d->arena, error);
    if (d->arena)
        TD_HOOK_QUICK(d->device.backend, release, d->device.state, d->arena, d->arena_size);
    d->arena = TD_HOOK_QUICK(d->device.backend, allocate, d->device.state, need);
    d->arena_size = d->arena ? need : 0;
    if (!d->arena)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to read %lld tokens of a text",
                       need, (long long)p->tokens);
    for (size_t k = 0; k < d->count; k++)
        if (td_plan_bind(d->at[k].plan, d->arena, error))
            return td_failed(error, TD_ENOMEM);
    return 0;
}

/* States of the cache are allocated after each plan: a new shape of pass may have declared some. */
static int plan(td_passes *d, td_pass *p, td_error *error)
{
    td_graph_options options = { .phase = p->phase,
                                 .real = d->model->real,
                                 .narrow = d->model->narrow,
                                 .cache = (td_cache *)(uintptr_t)p->cache };
    td_error         e = { 0 };

    p->graph = td_graph_new(d->model->registry, d->variables, &options);
    if (!p->graph)
        return td_fail(error, TD_ENOMEM, "out of memory while planning a pass");
    if (build(d, p, error))
        return td_failed(error, TD_EGRAPH);
    p->plan = td_plan_new(p->graph, p->outputs, p->scored ? 2 : 1, &d->device, &e);
    if (!p->plan)
        return td_fail(error, e.code, "%s", e.text);
    return p->cache ? td_cache_allocate(options.cache, &d->device, error) : 0;
}

static bool is_shape(const td_pass *a, const td_pass *b)
{
    return a->cache == b->cache && a->phase == b->phase && a->rows == b->rows &&
           a->tokens == b->tokens && a->source == b->source && a->scored == b->scored;
}

static void drop(td_pass *p)
{
    td_plan_free(p->plan);
    td_graph_free(p->graph);
}

/* The plan for the shape of the batch, made when it is needed first. */
static td_pass *find_pass(td_passes *d, td_pass shape, td_error *error)
{
    td_pass *p;
    for (size_t k = 0; k < d->count; k++)
        if (is_shape(&d->at[k], &shape))
            return &d->at[k];
    /* lengths are rounded up, so there are few shapes; whole texts grow by one bucket at a time */
    if (d->count == TD_MOST_PASSES) {
        drop(&d->at[0]);
        memmove(d->at, d->at + 1, --d->count * sizeof *d->at);
    }
    p = &d->at[d->count];
    *p = shape;
    if (plan(d, p, error)) {
        drop(p);
        return NULL;
    }
    d->count++;
    return bind(d, p, error) ? NULL : p;
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* A pass is padded to one of a few lengths, so that few plans serve all prompts: powers of two, then
 * multiples of 8, and of a 32nd part of longer ones, because padding costs time too. */
int64_t td_pass_length(int64_t count, int64_t most)
{
    int64_t tokens = 1, multiple = 8;
    while (tokens < count && tokens < multiple)
        tokens *= 2;
    while (multiple * 32 < count)
        multiple *= 2;
    if (tokens < count)
        tokens = (count + multiple - 1) / multiple * multiple;
    return tokens < most ? tokens : most;
}

/* Passes of about one length: a short last one would read all parameters for a few tokens. */
int64_t td_pass_share(int64_t left, int64_t most)
{
    int64_t passes = (left + most - 1) / most, share = (left + passes - 1) / passes;
    int64_t padded = td_pass_length(share, most);
    return padded < left ? padded : left;
}

/* ---- running --------------------------------------------------------------------------------- */

static int place(const td_pass *p, const td_pass_input *in, td_error *error)
{
    if (p->cache)
        return td_cache_place(p->cache, p->plan, p->tokens, in->lengths, in->counts, error);
    return td_plan_set_ints(p->plan, "cache_counts", in->counts, p->rows, error);
}

/* The arrays that say which tokens are to be scored. */
static int add_scored(td_batch *b, const td_pass *shape, const td_pass_input *in, td_error *error)
{
    size_t   bytes = (size_t)shape->scored * sizeof(int32_t);
    int32_t *scored, *labels;
    if (!shape->scored)
        return 0;
    scored = b->add(b, "scored", TD_I32, 1, &shape->scored);
    labels = b->add(b, "scored_labels", TD_I32, 1, &shape->scored);
    if (!scored || !labels)
        return td_fail(error, TD_ENOMEM, "out of memory while scoring %lld tokens",
                       (long long)shape->scored);
    memcpy(scored, in->scored, bytes);
    memcpy(labels, in->labels, bytes);
    return 0;
}

td_pass *td_passes_run(td_passes *d, td_pass shape, const td_pass_input *in, td_error *error)
{
    td_pass *p;
    if (td_prompt_pass(in->slices, shape.rows, shape.tokens, shape.source, in->like, d->batch,
                       error) ||
        add_scored(d->batch, &shape, in, error))
        return NULL;
    /* after the batch is laid out: a new plan takes its dims from there */
    p = find_pass(d, shape, error);
    if (!p || td_plan_set_batch(p->plan, d->batch, error) || place(p, in, error) ||
        td_plan_run(p->plan, error)) {
        td_fail(error, TD_EGRAPH, "a pass over %lld tokens failed", (long long)shape.tokens);
        return NULL;
    }
    return p;
}

void td_passes_close(td_passes *d)
{
    for (size_t k = 0; k < d->count; k++)
        drop(&d->at[k]);
    /* plans go first: they hold addresses in the arena */
    if (d->arena)
        TD_HOOK_QUICK(d->device.backend, release, d->device.state, d->arena, d->arena_size);
    td_batch_free(d->batch);
}
