/* kind/op.h - an op: what a node of the graph may be. Stateless; the core's own ops are plugins of
 * this kind too.
 *
 * An op says its shapes, its gradient as ops of the same vocabulary, and (composites) its lowering
 * to simpler ops. How it is computed is a kernel's business (kind/kernels.h). Emit it with
 * td_emit(graph, "name", inputs, n, &attrs).
 */
#ifndef TANDEM_KIND_OP_H
#define TANDEM_KIND_OP_H

#include "../graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_OP_KIND "op/1"

/* What shape inference fills for one output. */
typedef struct td_shape {
    int32_t dtype, rank;
    int64_t dim[TD_MAX_RANK];
} td_shape;

enum {
    TD_OP_EFFECT = 1,      /* writes to a state: never dropped, merged or moved */
    TD_OP_ELEMENTWISE = 2, /* output element i needs only input elements i (after broadcasting) */
    TD_OP_VIEW =
        4 /* only built-in ops: another window of the input's memory (reshape, permute, ..) */
};

/* FLOPs of one node; a multiply-add counts 2. `visible` is the share of attention scores that the
 * mask shows (1: all). */
typedef struct td_flops {
    double matmul;      /* every score of attention counted */
    double visible;     /* only the pairs that the mask lets through */
    double elementwise; /* all else */
} td_flops;

typedef struct td_op {
    td_plugin plugin;
    int32_t   min_inputs, max_inputs;
    uint64_t  flags;
    /* inplace[k] = 1 + the input whose memory output k must share (a state); 0: none. */
    int8_t    inplace[TD_MAX_OUTPUTS];
    /* Output `accumulate_out` can start from input `accumulate_in` - 1 instead of 0 (the planner
     * folds sums there). */
    int8_t    accumulate_in, accumulate_out;
    /* Dtypes and dims of the outputs; gives their number, or a negative code with `error`. in[k]
     * may be NULL. [build] */
    int (*infer)(td_tensor *const *in, int n_in, const td_attrs *, td_shape *out, td_error *error);
    /* Emit the gradients: grad_in[k] for every k with need[k], from grad_out (NULL: nothing flows).
     * NULL hook: the op has no gradient. [build] */
    void (*vjp)(td_tensor *const *in, int n_in, td_tensor *const *out, td_tensor *const *grad_out,
                const td_attrs *, const bool *need, td_tensor **grad_in);
    /* Emit simpler ops that compute out[]; NULL hook: a primitive. `used[k]`: somebody reads output
     * k. [build] */
    void (*lower)(td_graph *, td_tensor *const *in, int n_in, const td_attrs *, const bool *used,
                  td_tensor **out);
    /* NULL: one elementwise operation per element of output 0. `pairs`: share of visible scores.
     * [build] */
    void (*flops)(td_tensor *const *in, int n_in, td_tensor *const *out, const td_attrs *,
                  double pairs, td_flops *flops);
    /* What to try the op on: fill `in` and `attrs` (zeros at first) for the n-th example, n = 0, 1,
     * .., and give the number of inputs; 0: there are no more. Reals come from td_param, so that
     * gradients can be checked. NULL: whoever checks guesses. [build] */
    int (*example)(td_graph *, int n, td_tensor **in, td_attrs *attrs);
} td_op;

#ifdef __cplusplus
}
#endif
#endif
