/* kind/op.h - an op: what a node of the graph may be. Stateless; the core's own ops are plugins of
 * this kind too.
 *
 * An op is defined by its shapes (`infer`), its gradient as further ops (`vjp`) and, for a
 * composite, its lowering to simpler ops (`lower`). With a lowering it runs on every backend; a
 * kernel (kind/kernels.h) then only makes it faster. A primitive, an op without a lowering, runs
 * only where there is a kernel. Emit it with td_emit(graph, "name", inputs, n, &attrs); attributes
 * are the numbered slots of td_attrs, whose meaning the op defines, and unused ones must be 0.
 *
 * A new op is worthwhile where the ops of ops.h would store too much or compute too slowly. A
 * module usually holds the op, a kernel for "cpu", and the layer that uses both. A built-in op
 * cannot be replaced.
 *
 * Example:
 *
 *     #include "tandem/ops.h"
 *
 *     // "scaled_tanh": f[0] limit. y = limit tanh(x / limit)
 *     static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
 *                      td_error *error)
 *     {
 *         (void)n;
 *         if (!in[0] || in[0]->dtype == TD_I32 || !(a->f[0] > 0))
 *             return td_fail(error, TD_EGRAPH, "needs reals and a limit above 0");
 *         out[0].dtype = in[0]->dtype;
 *         out[0].rank = in[0]->rank;
 *         memcpy(out[0].dim, in[0]->dim, sizeof out[0].dim);
 *         return 1;
 *     }
 *
 *     // dx = dy (1 - (y / limit)^2)
 *     static void vjp(td_tensor *const *in, int n, td_tensor *const *out,
 *                     td_tensor *const *grad_out, const td_attrs *a, const bool *need,
 *                     td_tensor **grad_in)
 *     {
 *         td_tensor *t = td_scale(out[0], 1 / a->f[0]);
 *         (void)in;
 *         (void)n;
 *         (void)need;
 *         grad_in[0] = td_mul(grad_out[0], td_affine(td_mul(t, t), -1, 1));
 *     }
 *
 *     static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
 *                       const bool *used, td_tensor **out)
 *     {
 *         (void)g;
 *         (void)n;
 *         (void)used;
 *         out[0] = td_scale(td_tanh(td_scale(in[0], 1 / a->f[0])), a->f[0]);
 *     }
 *
 *     static const td_op scaled_tanh = {
 *         .plugin = TD_PLUGIN(td_op, TD_OP_KIND, "scaled_tanh", NULL, char,
 *                             .brief = "limit tanh(x / limit)"),
 *         .min_inputs = 1,
 *         .max_inputs = 1,
 *         .flags = TD_OP_ELEMENTWISE,
 *         .infer = infer,
 *         .vjp = vjp,
 *         .lower = lower,
 *     };
 */
#ifndef TANDEM_KIND_OP_H
#define TANDEM_KIND_OP_H

#include "../graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_OP_KIND "op/1"

/* One output, as `infer` describes it. */
typedef struct td_shape {
    int32_t dtype, rank;
    int64_t dim[TD_MAX_RANK];
} td_shape;

/* Flags of an op. */
enum {
    TD_OP_EFFECT = 1,      /* writes to a state: never dropped, merged or moved */
    TD_OP_ELEMENTWISE = 2, /* output element i depends on input elements i alone, once broadcast */
    TD_OP_VIEW = 4         /* built-in ops only: the output is its input's memory */
};

/* FLOPs of one node, a multiply-add counting 2. */
typedef struct td_flops {
    double matmul;      /* matrix products, including all scores of an attention */
    double visible;     /* the same, but only for the pairs of tokens that the mask shows */
    double elementwise; /* everything else */
} td_flops;

typedef struct td_op {
    td_plugin plugin;
    int32_t   min_inputs, max_inputs;
    uint64_t  flags; /* TD_OP_.. */
    /* inplace[k]: 1 + the number of the input, a state, whose memory output k is; 0: none. */
    int8_t    inplace[TD_MAX_OUTPUTS];
    /* Output `accumulate_out` can start from input `accumulate_in` - 1 instead of 0: the planner
     * folds a td_add of the output into the node. 0: it cannot. */
    int8_t    accumulate_in, accumulate_out;
    /* Set dtype, rank and dims of each output and return how many there are, or fail with a
     * message: no other check stands between a caller's error and the kernels. in[k] is NULL for an
     * input that was left out. [build] */
    int (*infer)(td_tensor *const *in, int n_in, const td_attrs *, td_shape *out, td_error *error);
    /* Emit the gradients: set grad_in[k] for every k with need[k], from grad_out[j], which is NULL
     * for an output that the loss does not depend on. A NULL grad_in[k] means zero. NULL hook: no
     * gradient flows through the op. [build] */
    void (*vjp)(td_tensor *const *in, int n_in, td_tensor *const *out, td_tensor *const *grad_out,
                const td_attrs *, const bool *need, td_tensor **grad_in);
    /* Emit simpler ops that compute the same: set out[k] for every k with used[k], the outputs that
     * have a reader. NULL hook: a primitive. [build] */
    void (*lower)(td_graph *, td_tensor *const *in, int n_in, const td_attrs *, const bool *used,
                  td_tensor **out);
    /* Count the node's FLOPs; `pairs` is the fraction of an attention's scores that the mask lets
     * through. NULL: one elementwise operation per element of output 0. [build] */
    void (*flops)(td_tensor *const *in, int n_in, td_tensor *const *out, const td_attrs *,
                  double pairs, td_flops *flops);
    /* The examples that `tandem plugins check` runs the op on: fill in `in` and `attrs`, zeroed
     * before, for example n = 0, 1, .. and return the number of inputs; 0 if there is no such
     * example. Take reals from td_param, so that gradients can be checked. NULL: the suite guesses
     * inputs of equal dims. [build] */
    int (*example)(td_graph *, int n, td_tensor **in, td_attrs *attrs);
} td_op;

#ifdef __cplusplus
}
#endif
#endif
