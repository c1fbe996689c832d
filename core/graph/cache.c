/* memory.c - what generation keeps from one pass to the next: td_remember_axis and td_carry.
 *
 * It is kept in states named by path, name and how many tokens there are: "model.layers.0.self_attn.k@17". A pass reads
 * those of the tokens before it and leaves those of the tokens until now, so nothing is copied
 * between passes. Integers (positions, segments) are kept as reals, exact up to 2^24.
 */
#include "graph/internal.h"
#include "tandem/layers.h"

/* The state of a memory: of `tokens` tokens, or of any number (-1). */
static td_tensor *memory_of(td_graph *graph, const char *name, int64_t tokens, const int64_t *dims,
                            int rank)
{
    td_graph_full *g = td_full_of(graph);
    td_init        zeros = { TD_INIT_ZEROS, 0 };
    const char    *path = g->scopes[g->depth].path;
    const char    *full = tokens < 0
                              ? td_arena_print(g->arena, "%s.%s", path, name)
                              : td_arena_print(g->arena, "%s.%s@%lld", path, name, (long long)tokens);
    td_variable   *v;
    if (!full)
        return td_graph_fail(graph, "out of memory while remembering '%s'", name);
    v = td_variables_add(g->variables, full, TD_VARIABLE_STATE, dims, rank, zeros, 0);
    return v ? td_graph_variable(graph, v)
             : td_graph_fail(graph, "'%s' is remembered with other dims than before", full);
}

/* Keep x (its last `window` entries along `axis`) as what is there after `tokens` tokens. */
static void keep(td_tensor *x, const char *name, int axis, int64_t window, int64_t tokens)
{
    int64_t length = td_dim(x, axis);
    if (window > 0 && length > window) {
        x = td_slice(x, axis, length - window, window);
        length = window;
    }
    td_assign(memory_of(x->graph, name, tokens, x->dim, x->rank), td_cast(x, TD_REAL), NULL);
}

static td_tensor *append(td_tensor *x, const char *name, int axis, int64_t window)
{
    const td_graph_options *o = &td_full_of(x->graph)->options;
    int64_t                 after = o->past + td_dim(x, axis), dims[TD_MAX_RANK];
    td_tensor              *all = x;

    if (o->phase == TD_PHASE_STEP && o->past > 0) {
        memcpy(dims, x->dim, sizeof dims);
        dims[axis] = window > 0 && window < o->past ? window : o->past;
        all = td_concat((td_tensor *[]){ td_cast(memory_of(x->graph, name, o->past, dims, x->rank),
                                                 x->dtype),
                                         x },
                        2, axis);
    }
    keep(all, name, axis, window, after);
    return all;
}

td_tensor *td_graph_remember(td_tensor *x, const char *name, int axis, int64_t window, int mode)
{
    int phase = td_full_of(x->graph)->options.phase;
    if (axis < 0 || axis >= x->rank)
        return td_graph_fail(x->graph, "'%s' cannot be remembered along axis %d of %d", name, axis,
                             x->rank);
    if (phase <= TD_PHASE_EVALUATE)
        return x;
    if (mode == TD_REMEMBER_APPEND)
        return append(x, name, axis, window);
    if (phase == TD_PHASE_PREFILL) {
        keep(x, name, axis, 0, -1);
        return x;
    }
    return td_cast(memory_of(x->graph, name, -1, x->dim, x->rank), x->dtype);
}

td_tensor *td_graph_carry(td_graph *g, const char *name, const int64_t *dims, int rank)
{
    if (td_full_of(g)->options.phase <= TD_PHASE_EVALUATE)
        return td_full(g, TD_REAL, dims, rank, 0);
    return memory_of(g, name, -1, dims, rank);
}
