/* looked_plan.h - a plan that keeps what the weights of attentions are computed from: fused kernels
 * never store weights, and this works with any backend. */
#ifndef TD_EVALUATE_LOOKED_PLAN_H
#define TD_EVALUATE_LOOKED_PLAN_H

#include "evaluate/looked.h"

typedef struct td_looked_plan {
    td_engine    *engine;
    td_graph     *graph; /* the plan's, which frees it */
    td_attentions found;
    td_looked     looked;
    td_tensor   **roots; /* [n_roots] */
    size_t        n_roots;
    td_plan      *plan;
    void         *memory; /* the plan's arena, [memory_size] */
    size_t        memory_size;
} td_looked_plan;

/* Plan `graph`, which it takes, for the attentions that the spec names; `root`, or NULL, is computed
 * as well. `p` must be zeroed, except for looked.keeps; always close it. */
int  td_looked_plan_open(td_looked_plan *p, td_engine *, td_graph *graph, td_tensor *root,
                         const td_analyze_spec *, td_error *error);
void td_looked_plan_close(td_looked_plan *);

#endif
