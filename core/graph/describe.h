/* describe.h - properties of a graph's model other than FLOPs. */
#ifndef TD_GRAPH_DESCRIBE_H
#define TD_GRAPH_DESCRIBE_H

#include "graph/graph.h"

/* FLOPs of the forward pass's embedding lookups, counted as products of one-hot rows with the
 * table, as some papers do; td_graph_flops counts none, since rows are only copied. A vocabulary
 * table is recognized by its first dim, whatever its name. */
double td_graph_lookups(const td_graph *, int64_t vocabulary);

#endif
