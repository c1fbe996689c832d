/* define.h - how the core's ops are written down, and what their hooks share. Only public headers:
 * they are plugins too. */
#ifndef TD_OPS_DEFINE_H
#define TD_OPS_DEFINE_H

#include <math.h>

#include "tandem/kind/op.h"
#include "tandem/layers.h"

#define TD_DEFINE_OP(symbol, name_, low, high, brief_, ...)              \
    const td_op symbol = { .plugin = { .size = sizeof(td_op),            \
                                       .kind = TD_OP_KIND,               \
                                       .name = name_,                    \
                                       .option_size = sizeof(td_option), \
                                       .brief = brief_ },                \
                           .min_inputs = low,                            \
                           .max_inputs = high,                           \
                           __VA_ARGS__ }

/* The parameters of a vjp hook, and the ones that it does not read. */
#define TD_VJP_PARAMETERS                                                           \
    td_tensor *const *in, int n, td_tensor *const *out, td_tensor *const *grad_out, \
        const td_attrs *a, const bool *need, td_tensor **grad_in

/* The shape of `x`, and one of the given dims. */
static inline td_shape td_shape_of(const td_tensor *x)
{
    td_shape s = { x->dtype, x->rank, { 0 } };
    memcpy(s.dim, x->dim, sizeof s.dim);
    return s;
}

static inline bool td_same_dims(const td_tensor *x, const td_tensor *y)
{
    return x->rank == y->rank && !memcmp(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim);
}

/* Of the same dims and dtype. */
static inline bool td_is_alike(const td_tensor *x, const td_tensor *y)
{
    return x->dtype == y->dtype && td_same_dims(x, y);
}

/* 0 if all inputs are there but those in the bit set `optional`. */
static inline int td_require(td_tensor *const *in, int n, unsigned optional, td_error *error)
{
    for (int k = 0; k < n; k++)
        if (!in[k] && !(optional >> k & 1))
            return td_fail(error, TD_EGRAPH, "input %d is missing", k);
    return 0;
}

static inline bool td_is_real(const td_tensor *x) { return x->dtype != TD_I32; }

/* `grad`, which has the dims of a broadcast result, summed to the dims of `like`. */
static inline td_tensor *td_unbroadcast(td_tensor *grad, const td_tensor *like)
{
    int     extra = grad->rank - like->rank;
    int64_t axes = 0;
    for (int a = 0; a < grad->rank; a++)
        if (a < extra || (like->dim[a - extra] == 1 && grad->dim[a] != 1))
            axes |= (int64_t)1 << a;
    grad = td_sum_axes(grad, axes);
    return td_reshape(grad, like->dim, like->rank);
}

/* Dims of the scalar, vector or matrix of ones that seeds and masks need. */
static inline td_tensor *td_zeros_like(const td_tensor *x)
{
    return td_full(x->graph, x->dtype, x->dim, x->rank, 0);
}

/* For a vjp: nothing may flow into output k, a statistic that is saved for the gradient. */
static inline bool td_no_gradient_of(td_tensor *const *in, td_tensor *const *grad_out, int k,
                                     const char *what)
{
    if (grad_out[k])
        td_graph_fail(
            in[0]->graph,
            "no gradient flows through %s: compute it from simpler ops, or td_detach it if none "
            "should",
            what);
    return !grad_out[k];
}

int td_infer_same(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error);

#endif
