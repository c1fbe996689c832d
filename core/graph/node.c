/* node.c - nodes of a graph, and what other files ask about them. */
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"

size_t td_dtype_size(int dtype) { return dtype == TD_F64 ? 8 : dtype == TD_BF16 ? 2 : 4; }

bool td_has_dims(const td_tensor *t, int dtype, int rank, const int64_t *dims)
{
    return t->dtype == dtype && t->rank == rank &&
           (!rank || !memcmp(t->dim, dims, (size_t)rank * sizeof *dims));
}

bool td_node_is(const td_node *n, const char *name)
{
    return n->kind == TD_NODE_OP && !strcmp(n->op->plugin.name, name);
}

/* What an op may not give, whoever wrote it: what follows relies on it. */
int td_check_shape(const td_shape *s, int k, td_error *error)
{
    double count = 1;
    if (s->rank < 0 || s->rank > TD_MAX_RANK || s->dtype < TD_F32 || s->dtype > TD_I32)
        return td_fail(error, TD_EGRAPH, "output %d would have rank %d and dtype %d", k, s->rank,
                       s->dtype);
    for (int d = 0; d < s->rank; d++)
        count *= s->dim[d] < 0 ? 1e300 : (double)s->dim[d];
    return count > 1e15 ? td_fail(error, TD_EGRAPH,
                                  "output %d would have dims that are negative or too large", k)
                        : 0;
}

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

td_node *td_node_new(td_graph_full *g, int kind, int n_in, int n_out)
{
    size_t   values = (size_t)n_out * sizeof(td_value), inputs = (size_t)n_in * sizeof(td_value *);
    td_node *n = td_arena_alloc(g->arena, sizeof *n + values + inputs);
    if (!n || !append(g, n))
        return NULL;
    n->out = (td_value *)(void *)(n + 1);
    n->in = (td_value **)(void *)(n->out + n_out);
    n->kind = kind;
    n->n_in = n_in;
    n->n_out = n_out;
    n->region = g->region;
    n->backward = g->backward;
    n->path = g->scopes[g->depth].path;
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
    td_fail(&g->error, TD_EGRAPH, "%s%s%s", path, *path ? ": " : "", message);
    return &g->error_node->out[0].t;
}

td_tensor *td_graph_out_of_memory(td_graph_full *g)
{
    return td_graph_refuse(&g->base, "out of memory while building the graph");
}

/* ---- states --------------------------------------------------------------------------------- */

td_node *td_state_of(const td_value *v)
{
    while (v->node->kind == TD_NODE_OP) {
        const td_node *n = v->node;
        int            k = n->op->flags & TD_OP_VIEW ? 0 : n->op->inplace[v->slot] - 1;
        if (k < 0 || k >= n->n_in || !n->in[k])
            return NULL;
        v = n->in[k];
    }
    return v->node->kind == TD_NODE_VARIABLE ? v->node : NULL;
}

bool td_written_since(const td_node *n)
{
    for (int k = 0; k < n->n_in; k++) {
        const td_node *state = n->in[k] ? td_state_of(n->in[k]) : NULL;
        if (state && state->written > n->index)
            return true;
    }
    return false;
}
