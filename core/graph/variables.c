/* variables.c - parameters, gradients and states, which outlive a graph.
 *
 * The set is shared by all graphs of a model: each declares what it uses, by name, and the first
 * declaration makes the variable. Pointers to variables stay valid as long as the set.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"

struct td_variables {
    td_arena     *arena;
    td_map       *by_name;
    td_variable **at;
    size_t        count, room;
};

td_variables *td_variables_new(void)
{
    td_variables *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->arena = td_arena_new();
    v->by_name = td_map_new();
    if (v->arena && v->by_name)
        return v;
    td_variables_free(v);
    return NULL;
}

void td_variables_free(td_variables *v)
{
    if (!v)
        return;
    td_map_free(v->by_name);
    td_arena_free(v->arena);
    free(v->at);
    free(v);
}

size_t td_variables_count(const td_variables *v) { return v->count; }

td_variable *td_variables_at(const td_variables *v, size_t i)
{
    assert(i < v->count);
    return v->at[i];
}

td_variable *td_variables_find(const td_variables *v, const char *name)
{
    return td_map_get(v->by_name, name);
}

/* In order of declaration, which is the same in every run, as building is deterministic. */
static td_variable *append(td_variables *v)
{
    td_variable *x = td_arena_alloc(v->arena, sizeof *x);
    /* the list moves as it grows, the variables do not: graphs and optimizers hold pointers to
     * them */
    if (v->count == v->room) {
        size_t        room = v->room ? 2 * v->room : 64;
        td_variable **at = realloc(v->at, room * sizeof *at);
        if (!at)
            return NULL;
        v->at = at;
        v->room = room;
    }
    if (x) {
        x->index = (int64_t)v->count;
        v->at[v->count++] = x;
    }
    return x;
}

static bool has_dims(const td_variable *x, const int64_t *dims, int rank)
{
    return x->rank == rank && (!rank || !memcmp(x->dim, dims, (size_t)rank * sizeof *dims));
}

static td_variable *declare(td_variables *v, const char *name, int kind, const int64_t *dims,
                            int rank)
{
    td_variable *x = append(v);
    if (!x)
        return NULL;
    x->name = td_arena_copy(v->arena, name);
    x->kind = kind;
    x->rank = rank;
    x->owner = -1;
    x->count = 1;
    for (int k = 0; k < rank; k++) {
        x->dim[k] = dims[k];
        x->count *= dims[k];
    }
    td_map_set(v->by_name, name, x);
    return x;
}

td_variable *td_variables_add(td_variables *v, const char *name, int kind, const int64_t *dims,
                              int rank, td_init init, double initial)
{
    td_variable *x = td_variables_find(v, name);
    if (x)
        return has_dims(x, dims, rank) && x->dtype == TD_REAL ? x : NULL;
    x = declare(v, name, kind, dims, rank);
    if (!x)
        return NULL;
    x->init = init;
    x->initial = initial;
    return x;
}

td_variable *td_variables_add_state(td_variables *v, const char *name, int dtype,
                                    const int64_t *dims, int rank)
{
    td_variable *x = td_variables_find(v, name);
    if (x)
        return has_dims(x, dims, rank) && x->dtype == dtype ? x : NULL;
    x = declare(v, name, TD_VARIABLE_STATE, dims, rank);
    if (x)
        x->dtype = dtype;
    return x;
}
