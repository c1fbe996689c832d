/* rows.c - the rows of a cache: their memory, the inputs that say how many tokens they hold, and the
 * graph that moves them. */
#include "plan/rows.h"

#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "plugin/hook.h"
#include "tandem/generation.h"
#include "tandem/ops.h"

/* ---- memory ---------------------------------------------------------------------------------- */

int td_cache_allocate(td_cache *c, const td_device *device, td_error *error)
{
    return td_variables_allocate(c->variables, device, td_device_real(device), error);
}

void td_cache_release(td_cache *c, const td_device *device)
{
    td_variables_release(c->variables, device);
}

size_t td_cache_bytes(const td_cache *c, const td_device *device)
{
    size_t bytes = 0;
    for (size_t i = 0; i < td_variables_count(c->variables); i++) {
        const td_variable *v = td_variables_at(c->variables, i);
        int                dtype = v->dtype ? v->dtype : td_device_real(device);
        bytes += (size_t)v->count * td_dtype_size(v->narrow ? TD_BF16 : dtype);
    }
    return bytes;
}

/* ---- places of new tokens -------------------------------------------------------------------- */

int td_cache_place(const td_cache *c, td_plan *plan, int64_t tokens, const int32_t *lengths,
                   const int32_t *counts, td_error *error)
{
    /* kernels write where these numbers say, and trust them */
    for (int64_t r = 0; r < c->rows; r++) {
        if (lengths[r] < 0 || counts[r] < 0 || counts[r] > tokens)
            return td_fail(error, TD_ERANGE,
                           "row %lld: cannot append %d of %lld new tokens to a row of %d",
                           (long long)r, counts[r], (long long)tokens, lengths[r]);
        if (lengths[r] + (int64_t)counts[r] > c->capacity)
            return td_fail(error, TD_ERANGE,
                           "row %lld holds %d tokens and gets %d more, but the cache holds only "
                           "%lld: make a larger one",
                           (long long)r, lengths[r], counts[r], (long long)c->capacity);
    }
    if (td_plan_set_ints(plan, "cache_lengths", lengths, c->rows, error))
        return td_failed(error, TD_EGRAPH);
    return td_plan_set_ints(plan, "cache_counts", counts, c->rows, error);
}

/* ---- moving rows ----------------------------------------------------------------------------- */

struct td_row_gather {
    td_cache *to, *from;
    td_device device;
    td_graph *graph;
    td_plan  *plan;
    void     *arena;
    size_t    arena_size;
    bool inserts; /* its plan writes one row, from a cache of one, and leaves the others alone */
};

/* The same state in another cache, made if it is missing; NULL if there is one of a different
 * kind. */
static td_variable *twin_of(td_cache *c, const td_variable *v)
{
    int64_t dims[TD_MAX_RANK];
    memcpy(dims, v->dim, sizeof dims);
    dims[0] = c->rows;
    td_variable *twin = td_variables_add_state(c->variables, v->name, v->dtype, dims, v->rank);
    if (twin)
        twin->narrow = v->narrow;
    return twin;
}

/* Both caches keep the same tensors. */
static int pair_states(td_cache *to, td_cache *from, td_error *error)
{
    for (size_t i = 0; i < td_variables_count(from->variables); i++) {
        const td_variable *v = td_variables_at(from->variables, i);
        if (!twin_of(to, v))
            return td_fail(error, TD_EGRAPH,
                           "rows cannot move between these caches: '%s' has different dims in the "
                           "other; both must have the same capacity, chunk and source",
                           v->name);
    }
    for (size_t i = 0; i < td_variables_count(to->variables); i++) {
        const td_variable *v = td_variables_at(to->variables, i);
        if (!td_variables_find(from->variables, v->name))
            return td_fail(error, TD_EGRAPH,
                           "rows cannot move between these caches: one does not keep '%s'; do they "
                           "belong to the same model?",
                           v->name);
    }
    return 0;
}

/* The names occur in both caches, so the leaves need other keys. */
static td_tensor *leaf_of(td_graph *g, const char *side, td_variable *v)
{
    const char *key = td_arena_print(td_full_of(g)->arena, "%s:%s", side, v->name);
    return key ? td_graph_leaf(g, key, v) : td_graph_out_of_memory(td_full_of(g));
}

/* `rows` [R]: a row of the source, or -1. */
static void move_state(td_graph *g, td_cache *to, td_cache *from, size_t i, td_tensor *rows)
{
    td_variable *v = td_variables_at(from->variables, i);
    td_tensor   *old = leaf_of(g, "to", td_variables_find(to->variables, v->name));
    td_tensor   *source = to == from ? old : leaf_of(g, "from", v);
    int64_t      column[TD_MAX_RANK] = { to->rows, 1, 1, 1, 1, 1, 1, 1 };
    td_tensor   *zero = td_full(g, TD_I32, NULL, 0, 0);
    td_tensor   *stays = td_reshape(td_less(rows, zero), column, v->rank);
    td_tensor   *moved = td_gather(source, td_maximum(rows, zero));
    td_assign(old, td_where(stays, old, moved), NULL);
}

/* Treats a buffer as a text whose tokens are its rows: the row is appended after `row` [1] others.
 */
static void insert_state(td_graph *g, td_cache *to, td_cache *from, size_t i, td_tensor *row)
{
    td_variable *v = td_variables_at(from->variables, i);
    int64_t      all[] = { 1, to->rows, v->count }, one[] = { 1, 1, v->count };
    td_tensor   *old = leaf_of(g, "to", td_variables_find(to->variables, v->name));
    td_tensor   *count = td_full(g, TD_I32, (int64_t[]){ 1 }, 1, 1);
    td_append(td_reshape(old, all, 3), td_reshape(leaf_of(g, "from", v), one, 3), row, count, 1,
              false);
}

static void build_moves(td_row_gather *m)
{
    int64_t    count = m->inserts ? 1 : m->to->rows;
    td_tensor *rows = td_graph_input(m->graph, "rows", TD_I32, &count, 1);
    for (size_t i = 0; i < td_variables_count(m->from->variables); i++)
        if (m->inserts)
            insert_state(m->graph, m->to, m->from, i, rows);
        else
            move_state(m->graph, m->to, m->from, i, rows);
}

static int make_plan(td_row_gather *m, td_error *error)
{
    td_graph_options o = { .phase = TD_PHASE_EVALUATE, .real = td_device_real(&m->device) };

    m->graph = td_graph_new(m->device.registry, m->to->variables, &o);
    if (!m->graph)
        return td_fail(error, TD_ENOMEM, "out of memory while planning to move rows");
    build_moves(m);
    m->plan = td_plan_new(m->graph, NULL, 0, &m->device, error);
    if (!m->plan)
        return td_failed(error, TD_EGRAPH);
    m->arena_size = td_plan_arena(m->plan) + 64; /* never 0 bytes, for which NULL would be a
                                                  * valid answer */
    m->arena = TD_HOOK_QUICK(m->device.backend, allocate, m->device.state, m->arena_size);
    if (!m->arena)
        return td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to move rows of a cache",
                       m->arena_size);
    return td_plan_bind(m->plan, m->arena, error);
}

td_row_gather *td_row_gather_new(td_cache *to, td_cache *from, const td_device *device,
                                 td_error *error)
{
    td_row_gather *m = calloc(1, sizeof *m);
    if (!m) {
        td_fail(error, TD_ENOMEM, "out of memory while planning to move rows");
        return NULL;
    }
    *m = (td_row_gather){
        .to = to, .from = from, .device = *device, .inserts = to != from && from->rows == 1
    };
    /* in this order: pairing may declare states, these need memory, and the plan is bound to it */
    if (!pair_states(to, from, error) && !td_cache_allocate(to, device, error) &&
        !make_plan(m, error))
        return m;
    td_row_gather_free(m);
    return NULL;
}

static int run_with(td_row_gather *m, const int32_t *rows, int64_t count, td_error *error)
{
    if (td_plan_set_ints(m->plan, "rows", rows, count, error))
        return td_failed(error, TD_EGRAPH);
    return td_plan_run(m->plan, error);
}

int td_row_gather_run(td_row_gather *m, const int32_t *rows, td_error *error)
{
    for (int64_t r = 0; r < m->to->rows; r++)
        if (rows[r] < -1 || rows[r] >= m->from->rows)
            return td_fail(error, TD_ERANGE, "row %lld cannot become row %d of a cache of %lld",
                           (long long)r, rows[r], (long long)m->from->rows);
    if (!m->inserts)
        return run_with(m, rows, m->to->rows, error);
    for (int32_t r = 0; r < m->to->rows; r++)
        if (rows[r] == 0 && run_with(m, &r, 1, error))
            return td_failed(error, TD_EGRAPH);
    return 0;
}

void td_row_gather_free(td_row_gather *m)
{
    if (!m)
        return;
    td_plan_free(m->plan);
    td_graph_free(m->graph);
    if (m->arena)
        TD_HOOK_QUICK(m->device.backend, release, m->device.state, m->arena, m->arena_size);
    free(m);
}
