/* cache.c - td_remember_axis and td_carry in generation: which state of the cache a tensor lives in,
 * and how a pass writes to it. In training both leave the graph as it is. */
#include "graph/cache.h"

#include <stdlib.h>

#include "graph/internal.h"
#include "tandem/generation.h"
#include "tandem/ops.h"

/* ---- the object ------------------------------------------------------------------------------ */

/* The lowering of append divides lengths as floats, which hold integers exactly up to here. */
enum { MOST_TOKENS = 1 << 24 };

td_cache *td_cache_new(int64_t rows, int64_t capacity, int64_t chunk, int64_t source,
                       td_error *error)
{
    td_cache *c;
    /* a source of 0 tokens is valid: there is no encoder */
    if (rows < 1 || capacity < 1 || capacity > MOST_TOKENS || chunk < 1 || chunk > capacity ||
        source < 0 || source > MOST_TOKENS) {
        td_fail(error, TD_ERANGE,
                "cannot make a cache of %lld rows of %lld tokens, for passes of %lld and sources "
                "of %lld: it needs at least one row, 1 to %d tokens per row, and passes no longer "
                "than a row",
                (long long)rows, (long long)capacity, (long long)chunk, (long long)source,
                MOST_TOKENS);
        return NULL;
    }
    c = calloc(1, sizeof *c);
    if (c)
        *c = (td_cache){ rows, capacity, chunk, source, td_variables_new() };
    if (c && c->variables)
        return c;
    td_cache_free(c);
    td_fail(error, TD_ENOMEM, "out of memory while making a cache");
    return NULL;
}

void td_cache_free(td_cache *c)
{
    if (!c)
        return;
    td_variables_free(c->variables);
    free(c);
}

/* ---- states ---------------------------------------------------------------------------------- */

static const td_cache *cache_of(const td_graph *g) { return td_full_of(g)->options.cache; }

static bool is_prefill(const td_graph *g)
{
    return td_full_of(g)->options.phase == TD_PHASE_PREFILL;
}

/* The error tensor if there is no cache, or axis 0 does not count its rows; else NULL. */
static td_tensor *refuse_rows(td_graph *g, const char *name, const int64_t *dims, int rank)
{
    const td_cache *c = cache_of(g);
    if (!c)
        return td_graph_fail(g,
                             "'%s' cannot be kept: a graph of PREFILL or STEP needs a cache "
                             "(td_graph_options.cache)",
                             name);
    if (rank < 1 || rank > TD_MAX_RANK || dims[0] != c->rows)
        return td_graph_fail(g,
                             "'%s' cannot be kept: axis 0 must be the %lld rows of the cache, and "
                             "has %lld entries",
                             name, (long long)c->rows, (long long)(rank < 1 ? 0 : dims[0]));
    return NULL;
}

/* Remembered tensors keep the precision they were computed in. Carried ones are sums over a text, so
 * they stay wide. */
static bool is_narrow(const td_graph *g) { return td_full_of(g)->options.narrow != 0; }

/* The state PATH.name of the cache. Parameters may have that name, too: their leaves are found by
 * other keys. `narrow`: in a graph in bf16 its reals are kept so. */
static td_tensor *state_of(td_graph *graph, const char *name, int dtype, const int64_t *dims,
                           int rank, bool narrow)
{
    td_graph_full *g = td_full_of(graph);
    const char    *path = g->scopes[g->depth].path;
    const char    *full = td_arena_print(g->arena, "%s%s%s", path, *path ? "." : "", name);
    const char    *key = full ? td_arena_print(g->arena, "cache:%s", full) : NULL;
    td_variable   *v;
    if (!key)
        return td_graph_out_of_memory(g);
    v = td_variables_add_state(cache_of(graph)->variables, full, dtype == TD_I32 ? TD_I32 : TD_REAL,
                               dims, rank);
    if (v)
        v->narrow = narrow && v->dtype == TD_REAL;
    return v ? td_graph_leaf(graph, key, v)
             : td_graph_fail(graph,
                             "'%s' is already kept with other dims, another dtype or another "
                             "window: give it its own name",
                             full);
}

/* ---- td_remember_axis ------------------------------------------------------------------------ */

/* A query of a pass sees window - 1 tokens before itself, and the pass writes all its tokens before
 * the first query looks: so a ring holds both. */
static int64_t slots_of(const td_cache *c, int64_t window)
{
    int64_t ring = window + c->chunk - 1;
    return window > 0 && ring < c->capacity ? ring : c->capacity;
}

static td_tensor *append(td_tensor *x, const char *name, int axis, int64_t window)
{
    td_graph       *g = x->graph;
    const td_cache *c = cache_of(g);
    int64_t         dims[TD_MAX_RANK], slots = slots_of(c, window);
    td_tensor      *buffer;
    if (x->dim[axis] > c->chunk)
        return td_graph_fail(g,
                             "'%s': a pass of %lld new tokens; the cache is made for passes of up "
                             "to %lld",
                             name, (long long)x->dim[axis], (long long)c->chunk);
    memcpy(dims, x->dim, sizeof dims);
    dims[axis] = slots;
    buffer = state_of(g, name, x->dtype, dims, x->rank, is_narrow(g));
    /* with fewer slots than the cache has tokens, the buffer is a ring */
    return td_append(buffer, x, td_cache_lengths(g, c->rows), td_cache_counts(g, c->rows), axis,
                     slots < c->capacity);
}

/* Tokens of an encoder: all at once in the prefill, from slot 0 on. */
static td_tensor *keep(td_tensor *x, const char *name, int axis)
{
    td_graph       *g = x->graph;
    const td_cache *c = cache_of(g);
    int64_t         dims[TD_MAX_RANK];
    td_tensor      *buffer;
    if (!c->source || (is_prefill(g) && x->dim[axis] > c->source))
        return td_graph_fail(g,
                             "'%s': the encoder has %lld tokens; the cache holds at most %lld of a "
                             "source",
                             name, (long long)x->dim[axis], (long long)c->source);
    memcpy(dims, x->dim, sizeof dims);
    dims[axis] = c->source;
    buffer = state_of(g, name, x->dtype, dims, x->rank, is_narrow(g));
    /* later passes read the buffer only, so what computes x is dead code in them */
    if (is_prefill(g))
        td_assign(td_slice(buffer, axis, 0, x->dim[axis]), x, NULL);
    return buffer;
}

static td_tensor *keep_whole(td_tensor *x, const char *name)
{
    td_tensor *state = state_of(x->graph, name, x->dtype, x->dim, x->rank, is_narrow(x->graph));
    if (is_prefill(x->graph))
        td_assign(state, x, NULL);
    return state;
}

/* The tensors that the pass already remembers. Positions and segments are the same tensors in every
 * layer, and kept once; the name is compared too, since two things may happen to be equal in one
 * pass. */
struct td_remembered {
    const td_tensor      *x;
    const char           *name;
    int                   axis, mode;
    int64_t               window;
    td_tensor            *buffer;
    struct td_remembered *next;
};

static td_tensor *find_remembered(const td_graph_full *g, const struct td_remembered *like)
{
    for (const struct td_remembered *r = g->remembered; r; r = r->next)
        if (r->x == like->x && r->axis == like->axis && r->window == like->window &&
            r->mode == like->mode && !strcmp(r->name, like->name))
            return r->buffer;
    return NULL;
}

static td_tensor *note_remembered(td_graph_full *g, const struct td_remembered *it)
{
    struct td_remembered *r = td_arena_alloc(g->arena, sizeof *r);
    if (!r)
        return td_graph_out_of_memory(g);
    *r = *it;
    r->name = td_arena_copy(g->arena, it->name);
    r->next = g->remembered;
    if (!r->name)
        return td_graph_out_of_memory(g);
    g->remembered = r;
    return r->buffer;
}

td_tensor *td_graph_remember(td_tensor *x, const char *name, int axis, int64_t window, int mode)
{
    struct td_remembered it = { x, name, axis, mode, window, NULL, NULL };
    td_graph            *g = x->graph;
    td_tensor           *other;
    if (mode != TD_REMEMBER_WHOLE && (axis < 1 || axis >= x->rank))
        return td_graph_fail(g, "'%s' cannot be remembered along axis %d of %d", name, axis,
                             x->rank);
    if (!td_is_generating(g))
        return x;
    other = refuse_rows(g, name, x->dim, x->rank);
    /* another layer may have remembered the tensor already: both use one buffer */
    if (!other)
        other = find_remembered(td_full_of(g), &it);
    if (other)
        return other;
    it.buffer = mode == TD_REMEMBER_APPEND ? append(x, name, axis, window)
                : mode == TD_REMEMBER_KEEP ? keep(x, name, axis)
                                           : keep_whole(x, name);
    return note_remembered(td_full_of(g), &it);
}

/* ---- td_carry -------------------------------------------------------------------------------- */

/* The tensor that td_carry returned, and its state. */
struct td_carried {
    td_tensor         *shown, *state;
    struct td_carried *next;
};

/* A row that begins carries zeros, whatever was in it before. A product with 0 would not do: 0
 * times NaN is NaN. */
static td_tensor *of_old_rows(td_tensor *state)
{
    int64_t    column[TD_MAX_RANK] = { state->dim[0], 1, 1, 1, 1, 1, 1, 1 };
    td_tensor *old = td_reshape(td_cache_lengths(state->graph, column[0]), column, state->rank);
    return td_where(old, state, td_scalar(state->graph, 0));
}

td_tensor *td_graph_carry(td_graph *graph, const char *name, const int64_t *dims, int rank)
{
    td_graph_full     *g = td_full_of(graph);
    struct td_carried *c;
    td_tensor         *refused;
    if (!td_is_generating(graph))
        return td_full(graph, TD_REAL, dims, rank, 0);
    refused = refuse_rows(graph, name, dims, rank);
    if (refused)
        return refused;
    c = td_arena_alloc(g->arena, sizeof *c);
    if (!c)
        return td_graph_out_of_memory(g);
    c->state = state_of(graph, name, TD_REAL, dims, rank, false);
    /* zeros for rows that begin a text */
    c->shown = of_old_rows(c->state);
    c->next = g->carried;
    g->carried = c;
    return c->shown;
}

void td_graph_carry_on(td_tensor *shown, td_tensor *value)
{
    const td_graph_full *g = td_full_of(shown->graph);
    if (!td_is_generating(shown->graph))
        return;
    for (const struct td_carried *c = g->carried; c; c = c->next)
        if (c->shown == shown) {
            td_assign(c->state, value, NULL);
            return;
        }
    td_graph_fail(shown->graph, "td_carry_on takes the tensor that td_carry returned");
}
