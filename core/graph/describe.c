/* describe.c - properties of a graph's model other than FLOPs: the lookups in its vocabulary
 * tables. */
#include "graph/describe.h"

#include "graph/internal.h"

/* Whether the node reads a table of parameters with one row per word. Scatters of the backward
 * pass are left out: only the forward pass counts. */
static bool looks_up(const td_node *n, int64_t vocabulary)
{
    const td_node *table = n->kind == TD_NODE_OP && !n->backward && td_node_is(n, "gather")
                               ? n->in[0]->node
                               : NULL;
    return table && table->kind == TD_NODE_VARIABLE && table->variable->kind == TD_VARIABLE_PARAM &&
           table->variable->rank > 0 && table->variable->dim[0] == vocabulary;
}

double td_graph_lookups(const td_graph *graph, int64_t vocabulary)
{
    const td_graph_full *g = td_full_of(graph);
    double               flops = 0;
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const td_node *n = g->nodes[i];
        /* 2 (multiply and add) x tokens x words x width */
        if (looks_up(n, vocabulary))
            flops += 2 * (double)td_count(&n->in[1]->t) * (double)n->in[0]->node->variable->count;
    }
    return flops;
}
