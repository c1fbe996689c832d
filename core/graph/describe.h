/* describe.h - what a graph says of its model beyond FLOPs. */
#ifndef TD_GRAPH_DESCRIBE_H
#define TD_GRAPH_DESCRIBE_H

#include "graph/graph.h"

/* FLOPs of the forward pass's lookups of words, counted as products of one-hot rows with the table,
 * as some papers do. A vocabulary table is told by its parameter's first dim, whatever its name. */
double td_graph_lookups(const td_graph *, int64_t vocabulary);

#endif
