/* plans.c - the plans of an engine: made once for each purpose and shape, over one arena.
 *
 * Lengths are rounded up to buckets, so a run has few shapes. What changes from step to step (the
 * rate, lengths, masks, the divisor) is an input of the graph, and needs no other plan.
 *
 * All shapes known in advance are planned before anything is allocated; then the footprint is
 * known, and memory is taken once. An unforeseen shape is planned when it first occurs.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/internal.h"
#include "model/shard.h"
#include "plugin/hook.h"

/* ---- building -------------------------------------------------------------------------------- */

static void add_root(planned *x, td_tensor *root)
{
    assert(x->n_roots < sizeof x->own_roots / sizeof *x->own_roots);
    x->own_roots[x->n_roots++] = root;
}

/* The norm is read back for metrics, the gate to learn whether the update was applied. */
static int build_update(td_engine *e, planned *x, td_error *error)
{
    int code = td_model_update(&e->model, e->variables, &x->update, error);
    x->graph = x->update.graph;
    if (!code) {
        add_root(x, x->update.norm);
        add_root(x, x->update.gate);
    }
    return code;
}

/* Also allocates those of all ranks, so that a step allocates nothing. */
static int build_squares(td_engine *e, planned *x, td_error *error)
{
    int code = td_model_squares(&e->model, e->variables, &x->squares, error);
    x->graph = x->squares.graph;
    x->roots = x->squares.at;
    x->n_roots = x->squares.count;
    if (!code && !e->squares)
        e->squares = calloc((size_t)x->squares.all + 1, sizeof *e->squares);
    return code || e->squares ? code : td_fail(error, TD_ENOMEM, "out of memory for the norm");
}

/* Too many roots for `own_roots`: they stay where td_model_norms put them. */
static int build_norms(td_engine *e, planned *x, td_error *error)
{
    int code = td_model_norms(&e->model, e->variables, &x->norms, error);
    x->graph = x->norms.graph;
    x->roots = x->norms.at;
    x->n_roots = 2 * x->norms.count;
    return code;
}

/* The results copied out after each run; everything else in the arena may be overwritten. */
static void add_batch_roots(planned *x)
{
    add_root(x, x->built.sum);
    add_root(x, x->purpose == SCORE ? x->built.nll : x->built.loss);
    if (x->purpose == PROBE)
        add_root(x, x->built.logits);
    for (size_t k = 0; k < x->built.n_aux && x->purpose != SCORE; k++)
        add_root(x, x->built.aux[k].loss);
}

static int build_batch(td_engine *e, planned *x, const td_batch *batch, td_error *error)
{
    int phase = x->purpose == SCORE ? TD_PHASE_EVALUATE : TD_PHASE_TRAIN;
    int code = td_model_forward(&e->model, e->variables, phase, batch, x->purpose == PROBE,
                                &x->built, error);
    x->graph = x->built.graph;
    if (!code && x->purpose != SCORE)
        code = td_model_backward(&e->model, e->variables, &x->built, x->purpose == GRADIENT_ADD,
                                 error);
    /* the plan has to know who owns what */
    if (!code && x->purpose == GRADIENT && td_shard_parameters(&e->model))
        code = td_shard_assign(&e->model, e->variables, error);
    if (code)
        return code;
    add_batch_roots(x);
    /* FLOPs are reported for each step, whose masks differ: counted once, here, so that a step need
     * not count them */
    return x->purpose == GRADIENT || x->purpose == GRADIENT_ADD
               ? td_graph_cost(x->graph, x->roots, x->n_roots, &x->cost, error)
               : 0;
}

static int build_tokens(td_engine *e, planned *x, const td_batch *batch, td_error *error)
{
    int code = td_model_tokens(&e->model, e->variables, batch, &x->tokens, error);
    x->graph = x->tokens.graph;
    if (!code) {
        add_root(x, x->tokens.nll);
        add_root(x, x->tokens.best);
    }
    return code;
}

static int build(td_engine *e, planned *x, const td_batch *batch, td_error *error)
{
    switch (x->purpose) {
    case UPDATE:
        return build_update(e, x, error);
    case SQUARES:
        return build_squares(e, x, error);
    case NORMS:
        return build_norms(e, x, error);
    case TOKENS:
        return build_tokens(e, x, batch, error);
    default:
        return build_batch(e, x, batch, error);
    }
}

/* The plan first: it points into the graph. */
static void free_planned(planned *x)
{
    td_plan_free(x->plan);
    td_cost_free(&x->cost);
    if (x->purpose == NORMS)
        td_norms_free(&x->norms);
    else if (x->purpose == SQUARES)
        td_squares_free(&x->squares);
    else
        td_graph_free(x->graph);
    free(x);
}

void td_engine_free_plans(td_engine *e)
{
    for (size_t k = 0; k < e->n_plans; k++)
        free_planned(e->plans[k]);
    free(e->plans);
}

/* Items to score come in many shapes, and their plans would pile up: the oldest one goes. */
static void limit_tokens(td_engine *e)
{
    enum { MOST = 64 };
    size_t count = 0, oldest = 0;
    for (size_t k = e->n_plans; k-- > 0;)
        if (e->plans[k]->purpose == TOKENS) {
            oldest = k;
            count++;
        }
    if (count < MOST)
        return;
    free_planned(e->plans[oldest]);
    e->n_plans--;
    memmove(e->plans + oldest, e->plans + oldest + 1, (e->n_plans - oldest) * sizeof *e->plans);
}

static planned *make(td_engine *e, purpose purpose, const td_batch *batch, const char *key,
                     td_error *error)
{
    double   start = td_now();
    planned *x = calloc(1, sizeof *x);

    if (!x) {
        td_fail(error, TD_ENOMEM, "out of memory while planning");
        return NULL;
    }
    x->purpose = purpose;
    x->roots = x->own_roots;
    strcpy(x->key, key);
    /* a failed build leaves no plan, and its partial graph is freed with `x` */
    if (!build(e, x, batch, error))
        x->plan = td_plan_new(x->graph, x->roots, x->n_roots, &e->device, error);
    e->planning += td_now() - start;
    if (x->plan) {
        td_plan_profile(x->plan, e->profile);
        return x;
    }
    free_planned(x);
    return NULL;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Every plan keeps addresses in the arena. */
static int bind_all(td_engine *e, td_error *error)
{
    for (size_t k = 0; k < e->n_plans; k++)
        if (td_plan_bind(e->plans[k]->plan, e->arena, error))
            return td_failed(error, TD_ENOMEM);
    return 0;
}

/* One arena serves all plans, because only one of them runs at a time. When a plan needs a larger
 * one, all plans move. */
static int grow_arena(td_engine *e, size_t needed, td_error *error)
{
    const td_backend *b = e->device.backend;
    /* released first: both together may exceed the memory, and nothing in it outlives a run */
    if (e->arena)
        TD_HOOK_QUICK(b, release, e->device.state, e->arena, e->arena_size);
    e->arena = TD_HOOK_QUICK(b, allocate, e->device.state, needed);
    e->arena_size = e->arena ? needed : 0;
    return e->arena ? 0
                    : td_fail(error, TD_ENOMEM,
                              "cannot allocate %zu bytes for activations: use a smaller "
                              "train.micro_batch, or set train.recompute = \"layer\"",
                              needed);
}

static int bind(td_engine *e, const planned *x, td_error *error)
{
    size_t needed = td_plan_arena(x->plan);
    if (needed <= e->arena_size)
        return td_plan_bind(x->plan, e->arena, error);
    return grow_arena(e, needed, error) ? td_failed(error, TD_ENOMEM) : bind_all(e, error);
}

static size_t bytes_of_kind(const td_engine *e, int kind)
{
    size_t n = 0;
    for (size_t i = 0; i < td_variables_count(e->variables); i++) {
        const td_variable *v = td_variables_at(e->variables, i);
        if (v->kind != kind || v->absent)
            continue;
        n += (size_t)v->count * td_dtype_size(e->model.real);
        if (v->copied)
            n += (size_t)v->count * td_dtype_size(TD_BF16);
    }
    return n;
}

/* Known once a graph was built: building declares them. */
static td_footprint variables_of(const td_engine *e)
{
    return (td_footprint){ .parameters = bytes_of_kind(e, TD_VARIABLE_PARAM),
                           .gradients = bytes_of_kind(e, TD_VARIABLE_GRAD),
                           .states = bytes_of_kind(e, TD_VARIABLE_STATE) };
}

int td_engine_allocate(td_engine *e, uint64_t seed, td_error *error)
{
    td_footprint needed = variables_of(e);
    int          code;
    /* checked once more: plans may have been made since the caller looked */
    for (size_t k = 0; k < e->n_plans; k++)
        if (td_plan_arena(e->plans[k]->plan) > needed.activations)
            needed.activations = td_plan_arena(e->plans[k]->plan);
    /* the second time, what it has taken is no longer available */
    code = e->allocated ? 0 : td_footprint_check(&needed, &e->device, error);
    if (!code)
        code = td_variables_allocate(e->variables, &e->device, e->model.real, error);
    if (!code)
        code = td_variables_initialize(e->variables, &e->device, e->model.real, seed, error);
    if (!code && needed.activations > e->arena_size)
        code = grow_arena(e, needed.activations, error);
    if (!code)
        code = bind_all(e, error);
    e->allocated = !code;
    return code ? td_failed(error, TD_ENOMEM) : 0;
}

/* ---- finding --------------------------------------------------------------------------------- */

planned *td_engine_known(const td_engine *e, purpose purpose, const char *key)
{
    for (size_t k = 0; k < e->n_plans; k++)
        if (e->plans[k]->purpose == purpose && !strcmp(e->plans[k]->key, key))
            return e->plans[k];
    return NULL;
}

static int append(td_engine *e, planned *x, td_error *error)
{
    planned **larger = realloc(e->plans, (e->n_plans + 1) * sizeof *larger);
    if (!larger)
        return td_fail(error, TD_ENOMEM, "out of memory while planning");
    e->plans = larger;
    e->plans[e->n_plans++] = x;
    return 0;
}

/* A plan made after the allocation, for an unforeseen shape: allocate its variables, if they are
 * new, and its memory. */
static int allocate_late(td_engine *e, const planned *x, td_error *error)
{
    return td_variables_allocate(e->variables, &e->device, e->model.real, error) ||
                   bind(e, x, error)
               ? td_failed(error, TD_ENOMEM)
               : 0;
}

/* A linear search: every step looks its plans up, but there are only a handful. */
planned *td_engine_find(td_engine *e, purpose purpose, const td_batch *batch, td_error *error)
{
    char     key[KEY] = "";
    planned *x;

    if (batch)
        td_batch_key(batch, key, sizeof key);
    if (strlen(key) + 1 == sizeof key) { /* cut off, so another shape may have the same key */
        td_fail(error, TD_EFORMAT,
                "the batch has more arrays than a plan can be made for: %.100s ..", key);
        return NULL;
    }
    x = td_engine_known(e, purpose, key);
    if (x)
        return x;
    if (purpose == TOKENS)
        limit_tokens(e);
    x = make(e, purpose, batch, key, error);
    if (!x)
        return NULL;
    if (append(e, x, error)) {
        free_planned(x);
        return NULL;
    }
    if (e->allocated && allocate_late(e, x, error)) {
        /* taken out of the list again: without memory it must not be found and run */
        e->n_plans--;
        free_planned(x);
        return NULL;
    }
    return x;
}

/* ---- planning ahead -------------------------------------------------------------------------- */

/* Plans share the arena and have separate inputs. */
static int count(td_footprint *f, const planned *x, const td_error *error)
{
    size_t arena = x ? td_plan_arena(x->plan) : 0;
    if (!x)
        return td_failed(error, TD_EGRAPH);
    if (!f)
        return 0;
    f->activations = arena > f->activations ? arena : f->activations;
    f->inputs += td_plan_inputs(x->plan);
    return 0;
}

int td_engine_plan(td_engine *e, const td_batch *shape, td_footprint *footprint, td_error *error)
{
    planned *x = td_engine_find(e, GRADIENT, shape, error), *update = NULL, *squares = NULL;
    /* The update comes second: the backward pass declares the gradients that it reads. */
    if (x && e->model.optimizer.plugin && !(update = td_engine_find(e, UPDATE, NULL, error)))
        return td_failed(error, TD_EGRAPH);
    if (update && e->model.shard.size > 1 && !(squares = td_engine_find(e, SQUARES, NULL, error)))
        return td_failed(error, TD_EGRAPH);
    /* set, not added to: variables are shared by all plans, and counted only here */
    if (footprint)
        *footprint = variables_of(e);
    if (count(footprint, x, error))
        return td_failed(error, TD_EGRAPH);
    if (update && count(footprint, update, error))
        return td_failed(error, TD_EGRAPH);
    return squares ? count(footprint, squares, error) : 0;
}

int td_engine_plan_adding(td_engine *e, const td_batch *shape, td_footprint *footprint,
                          td_error *error)
{
    return count(footprint, td_engine_find(e, GRADIENT_ADD, shape, error), error);
}

int td_engine_plan_evaluation(td_engine *e, const td_batch *shape, td_footprint *footprint,
                              td_error *error)
{
    return count(footprint, td_engine_find(e, SCORE, shape, error), error);
}

int td_engine_plan_tokens(td_engine *e, const td_batch *shape, td_footprint *footprint,
                          td_error *error)
{
    return count(footprint, td_engine_find(e, TOKENS, shape, error), error);
}

int td_engine_plan_norms(td_engine *e, td_footprint *footprint, td_error *error)
{
    return count(footprint, td_engine_find(e, NORMS, NULL, error), error);
}

size_t td_engine_precision(td_engine *e, td_precision_row *rows, size_t room)
{
    return e->n_plans ? td_plan_precision_rows(e->plans[0]->plan, rows, room) : 0;
}

td_graph *td_engine_graph(td_engine *e, td_tensor *const **roots, size_t *n_roots)
{
    planned *x = e->n_plans ? e->plans[0] : NULL;
    *roots = x ? x->roots : NULL;
    *n_roots = x ? x->n_roots : 0;
    return x ? x->graph : NULL;
}
