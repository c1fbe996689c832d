/* node.c - nodes of a graph, and queries about them.
 *
 * Memory of variables can change while a graph runs: an op may write to a state in place. So the
 * result of a node that reads a state, or a view of it, depends on its place in the order. The last
 * part of this file is how merging, recomputation and the planner find out.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"

size_t td_dtype_size(int dtype)
{
    assert(dtype >= TD_F32 && dtype <= TD_I32); /* TD_REAL must have been resolved by now */
    return dtype == TD_F64 ? 8 : dtype == TD_BF16 ? 2 : 4;
}

bool td_has_dims(const td_tensor *t, int dtype, int rank, const int64_t *dims)
{
    return t->dtype == dtype && t->rank == rank &&
           (!rank || !memcmp(t->dim, dims, (size_t)rank * sizeof *dims));
}

bool td_node_is(const td_node *n, const char *name)
{
    return n->kind == TD_NODE_OP && !strcmp(n->op->plugin.name, name);
}

int td_check_shape(const td_shape *s, td_error *error)
{
    double count = 1;
    if (s->rank < 0 || s->rank > TD_MAX_RANK)
        return td_fail(error, TD_EGRAPH, "rank %d is not in 0 .. %d", s->rank, TD_MAX_RANK);
    if (s->dtype < TD_F32 || s->dtype > TD_I32)
        return td_fail(error, TD_EGRAPH, "%d is not the dtype of a tensor", s->dtype);
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] < 0)
            return td_fail(error, TD_EGRAPH, "axis %d has %lld entries", d, (long long)s->dim[d]);
        count *= (double)s->dim[d];
    }
    /* far beyond any memory, far below where td_count and byte counts would wrap */
    return count > 1e15 ? td_fail(error, TD_EGRAPH, "%.3g elements are too many", count) : 0;
}

/* The list moves as it grows, nodes do not: tensors are pointers into them. */
static bool append(td_graph_full *g, td_node *n)
{
    if (g->n_nodes == g->room) {
        int32_t   room = g->room ? 2 * g->room : 1024;
        td_node **nodes = realloc(g->nodes, (size_t)room * sizeof *nodes);
        if (!nodes)
            return false;
        g->nodes = nodes;
        g->room = room;
    }
    n->index = g->n_nodes;
    g->nodes[g->n_nodes++] = n;
    return true;
}

/* A node, its outputs and its list of inputs are one block of the graph's arena. */
td_node *td_node_new(td_graph_full *g, int kind, int n_in, int n_out)
{
    size_t   outputs = (size_t)n_out * sizeof(td_value);
    size_t   inputs = (size_t)n_in * sizeof(td_value *);
    td_node *n;

    assert(n_in >= 0 && n_in <= TD_MAX_INPUTS && n_out >= 1 && n_out <= TD_MAX_OUTPUTS);
    n = td_arena_alloc(g->arena, sizeof *n + outputs + inputs);
    if (!n || !append(g, n))
        return NULL;
    n->out = (td_value *)(void *)(n + 1);
    n->in = (td_value **)(void *)(n->out + n_out);
    n->kind = kind;
    n->n_in = n_in;
    n->n_out = n_out;
    n->region = g->region;
    n->backward = g->backward;
    n->path = g->scopes[g->depth].path; /* in the arena: it outlives the scope */
    for (int k = 0; k < n_out; k++) {
        n->out[k].t.graph = &g->base;
        n->out[k].node = n;
        n->out[k].slot = k;
    }
    return n;
}

td_tensor *td_graph_refuse(td_graph *graph, const char *message)
{
    td_graph_full *g = td_full_of(graph);
    const char    *path = g->scopes[g->depth].path;
    /* td_fail keeps the first: later errors are mostly consequences of it */
    td_fail(&g->error, TD_EGRAPH, "%s%s%s", path, *path ? ": " : "", message);
    return &g->error_node->out[0].t;
}

td_tensor *td_graph_out_of_memory(td_graph_full *g)
{
    return td_graph_refuse(&g->base, "out of memory while building the graph");
}

/* ---- states ---------------------------------------------------------------------------------- */

td_node *td_state_of(const td_value *v)
{
    /* back through views, and through ops whose output is their input's memory */
    while (v->node->kind == TD_NODE_OP) {
        const td_node *n = v->node;
        int            k = n->op->flags & TD_OP_VIEW ? 0 : n->op->inplace[v->slot] - 1;
        if (k < 0 || k >= n->n_in || !n->in[k])
            return NULL;
        v = n->in[k];
    }
    return v->node->kind == TD_NODE_VARIABLE ? v->node : NULL;
}

/* `written` is the last write so far, so while a graph is built this may become true, never
 * false. */
bool td_written_since(const td_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        const td_node *state = n->in[k] ? td_state_of(n->in[k]) : NULL;
        if (state && state->written > n->index)
            return true;
    }
    return false;
}
