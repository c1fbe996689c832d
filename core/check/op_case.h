/* op_case.h - one op with inputs to try it on: a row of op_cases.h. */
#ifndef TD_CHECK_OP_CASE_H
#define TD_CHECK_OP_CASE_H

#include <math.h>

#include "tandem/graph.h"
#include "tandem/random.h"

typedef struct td_op_case {
    const char *op;        /* the node that the graph must contain */
    const char *dims;      /* of the inputs: "2x3,3,-" where - is a scalar */
    double      low, high; /* inputs are random numbers in this range, where the op is smooth */
    td_tensor *(*build)(td_graph *, td_tensor **x, int64_t option);
    int64_t option; /* interpreted by `build`: an axis, flags, an activation */
    bool    flat;   /* no gradient */
} td_op_case;

/* A random number that float holds exactly, a multiple of 2^-12 of the range. */
static inline double td_op_noise(uint64_t stream, int64_t n, double low, double high)
{
    return low + (high - low) * floor(td_random_uniform(11, stream, (uint64_t)n) * 4096) / 4096;
}

#endif
