/* describe.h - what a graph says about its model beyond FLOPs. */
#ifndef TD_GRAPH_DESCRIBE_H
#define TD_GRAPH_DESCRIBE_H

#include "graph/graph.h"

/* FLOPs of the forward pass's embedding lookups, if they were products of one-hot rows with the
 * table: some papers count them so; td_graph_flops counts none, since rows are only copied. A
 * parameter is taken for a vocabulary table by its first dim, whatever its name. */
double td_graph_lookups(const td_graph *, int64_t vocabulary);

#endif
