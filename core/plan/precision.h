/* precision.h - mixed precision: which reals of a graph are computed and stored in bf16.
 *
 * A graph of td_graph_options.narrow computes in bf16 what its rules say, op by op. Nothing else is
 * aware of it: tensors keep the dtype of the graph's reals, so plugins, gradients and lowerings are
 * written once. The planner decides for each value where it is stored, takes the kernel of that
 * dtype, and inserts casts; what has no kernel in bf16 runs in the wide dtype, between casts.
 *
 * The wide dtype is the graph's `real`. Parameters, gradients and states of optimizers are wide. A
 * parameter that products read has a copy in bf16, which the plan of the update writes.
 */
#ifndef TD_PLAN_PRECISION_H
#define TD_PLAN_PRECISION_H

#include "plan/plan.h"

typedef enum td_precision {
    /* operands and results are wide: sums, exponentials, everything that is not listed */
    TD_PRECISION_WIDE,
    /* operands are bf16, sums are wide, results are bf16 if a reader wants them so: products */
    TD_PRECISION_PRODUCT,
    /* in bf16 if an operand is stored so; each operand is read as it is stored: elementwise ops and
     * norms, computed wide inside */
    TD_PRECISION_EITHER,
    /* the same, with all operands and results in one dtype: data that moves */
    TD_PRECISION_MOVE
} td_precision;

/* A rule. Bit k of `wide_in` and `wide_out`: operand or result k is wide nevertheless. */
typedef struct td_precision_rule {
    const char *op;
    int32_t     precision;
    uint32_t    wide_in, wide_out;
} td_precision_rule;

/* The rule of an op; without one it is TD_PRECISION_WIDE. */
const td_precision_rule *td_precision_of(const char *op);

/* How a plan computes one op: its calls in bf16 and in the wide dtype. Casts that the planner
 * inserted have a row of their own, "cast"; `bytes` is what they write. */
typedef struct td_precision_row {
    const char *op;
    int64_t     narrow, wide;
    double      bytes;
} td_precision_row;

/* Fill one row per op, in order of first call, and return their number; ops beyond `room` rows are
 * left out. Calls on integers are not counted. */
size_t td_plan_precision_rows(const td_plan *, td_precision_row *rows, size_t room);

#endif
