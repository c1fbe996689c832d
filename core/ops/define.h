/* define.h - macros that define the core's ops, and helpers for their hooks.
 *
 * The core's ops are plugins like any other: they include public headers only, so third-party ops
 * can do everything that they can. Each has an `infer` hook that checks its inputs, since a graph
 * is checked nowhere else; a gradient as ops of the same vocabulary; and, if it is a composite, a
 * lowering that defines what it computes. The kernels are tested against that.
 *
 * In a vjp, `in` and `out` are the op's tensors and `grad_out` what flows into its outputs (NULL:
 * nothing). An op with one output may rely on grad_out[0]: it is not called without one.
 */
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

/* The parameters of a vjp hook, which seldom reads them all. */
#define TD_VJP_PARAMETERS                                                           \
    td_tensor *const *in, int n, td_tensor *const *out, td_tensor *const *grad_out, \
        const td_attrs *a, const bool *need, td_tensor **grad_in

/* The return value of infer for an output with the dims of `x`. */
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

/* The same dims and dtype. */
static inline bool td_is_alike(const td_tensor *x, const td_tensor *y)
{
    return x->dtype == y->dtype && td_same_dims(x, y);
}

/* "f32[2, 3]", for messages: written to `text` and returned. */
enum { TD_DIMS_TEXT = 200 };
static inline const char *td_dims_text(const td_tensor *x, char text[TD_DIMS_TEXT])
{
    static const char *const dtypes[] = { "real", "f32", "f64", "bf16", "i32" };
    int                      length = snprintf(text, TD_DIMS_TEXT, "%s[", dtypes[x->dtype]);
    for (int k = 0; k < x->rank; k++) /* at most 8 numbers of 20 digits: they fit */
        length += snprintf(text + length, (size_t)(TD_DIMS_TEXT - length), "%s%lld", k ? ", " : "",
                           (long long)x->dim[k]);
    snprintf(text + length, (size_t)(TD_DIMS_TEXT - length), "]");
    return text;
}

/* 0 if all inputs are present, except for those in the bit set `optional`. */
static inline int td_require(td_tensor *const *in, int n, unsigned optional, td_error *error)
{
    for (int k = 0; k < n; k++)
        if (!in[k] && !(optional >> k & 1))
            return td_fail(error, TD_EGRAPH, "input %d is missing", k);
    return 0;
}

static inline bool td_is_real(const td_tensor *x) { return x->dtype != TD_I32; }

/* `grad`, which has the dims of a broadcast result, summed to the dims of `like`: an entry that was
 * read many times collects the gradients of all of them. */
static inline td_tensor *td_unbroadcast(td_tensor *grad, const td_tensor *like)
{
    int     extra = grad->rank - like->rank;
    int64_t axes = 0;
    /* axes that `like` lacks at the left, and those that it has with a single entry */
    for (int a = 0; a < grad->rank; a++)
        if (a < extra || (like->dim[a - extra] == 1 && grad->dim[a] != 1))
            axes |= (int64_t)1 << a;
    grad = td_sum_axes(grad, axes);
    return td_reshape(grad, like->dim, like->rank);
}

/* For a vjp: refuse a gradient that flows into output k, a statistic that is only saved for the
 * gradient. False after the error. */
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

/* The infer hook of ops whose output is like input 0. */
int td_infer_same(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error);

#endif
