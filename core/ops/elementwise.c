/* elementwise.c - ops on single elements; operands broadcast as in NumPy.
 *
 * Gradients are written in terms of x, the output y and what flows in, g, whichever is cheapest: a
 * gradient in y lets the planner reuse the memory of x.
 */
#include "define.h"

/* ---- one operand ----------------------------------------------------------------------------- */

static int infer_real(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                      td_error *error)
{
    if (!td_is_real(in[0]))
        return td_fail(error, TD_EGRAPH,
                       "it is not defined for integers: convert them to reals "
                       "with td_cast");
    return td_infer_same(in, n, a, out, error);
}

/* An op of one operand, its gradient a function of x, y and g. */
#define UNARY(name, infer_, brief, gradient)                                                    \
    static void vjp_##name(TD_VJP_PARAMETERS)                                                   \
    {                                                                                           \
        td_tensor *x = in[0], *y = out[0], *g = grad_out[0];                                    \
        (void)x; /* a gradient need not read both */                                            \
        (void)y;                                                                                \
        grad_in[0] = gradient;                                                                  \
    }                                                                                           \
    TD_DEFINE_OP(td_op_##name, #name, 1, 1, brief, .flags = TD_OP_ELEMENTWISE, .infer = infer_, \
                 .vjp = vjp_##name)

UNARY(neg, td_infer_same, "-x", td_neg(g));
UNARY(exp, infer_real, "e^x", td_mul(g, y));
UNARY(log, infer_real, "natural logarithm", td_div(g, x));
UNARY(sqrt, infer_real, "square root", td_scale(td_div(g, y), 0.5));
UNARY(rsqrt, infer_real, "1/sqrt(x)", td_scale(td_mul(g, td_mul(y, td_mul(y, y))), -0.5));
UNARY(sin, infer_real, "sine", td_mul(g, td_cos(x)));
UNARY(cos, infer_real, "cosine", td_neg(td_mul(g, td_sin(x))));
UNARY(tanh, infer_real, "hyperbolic tangent", td_mul(g, td_affine(td_mul(y, y), -1, 1)));
UNARY(sigmoid, infer_real, "1/(1+e^-x)", td_mul(g, td_mul(y, td_affine(y, -1, 1))));
UNARY(abs, td_infer_same, "|x|", td_mul(g, td_sign(x)));
UNARY(affine, td_infer_same, "scale x + shift", td_scale(g, a->f[0]));

/* Piecewise constant: the gradient is 0 almost everywhere, so none is emitted. */
TD_DEFINE_OP(td_op_sign, "sign", 1, 1, "-1, 0 or 1", .flags = TD_OP_ELEMENTWISE,
             .infer = td_infer_same);
TD_DEFINE_OP(td_op_floor, "floor", 1, 1, "largest integer not above x", .flags = TD_OP_ELEMENTWISE,
             .infer = infer_real);

static int infer_cast(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                      td_error *error)
{
    out[0] = td_shape_of(in[0]);
    out[0].dtype = (int32_t)a->i[0];
    return 1;
}

/* No gradient flows through integers. */
static void vjp_cast(TD_VJP_PARAMETERS)
{
    grad_in[0] = td_is_real(in[0]) && td_is_real(out[0]) ? td_cast(grad_out[0], in[0]->dtype) : 0;
}

TD_DEFINE_OP(td_op_cast, "cast", 1, 1, "another dtype", .infer = infer_cast, .vjp = vjp_cast);

/* ---- two and three operands ------------------------------------------------------------------ */

/* Widen `s` by the dims of x. */
static int broadcast(td_shape *s, const td_tensor *x, td_error *error)
{
    int     rank = s->rank > x->rank ? s->rank : x->rank;
    int64_t dim[TD_MAX_RANK];
    for (int k = 1; k <= rank; k++) { /* dims are aligned at the right; missing ones count as 1 */
        int64_t p = k <= s->rank ? s->dim[s->rank - k] : 1, q = td_dim(x, -k);
        if (p != q && p != 1 && q != 1)
            return td_fail(error, TD_EGRAPH,
                           "dims %lld and %lld do not broadcast (axis %d from the right)",
                           (long long)p, (long long)q, k);
        dim[rank - k] = p == 1 ? q : p;
    }
    s->rank = rank;
    memcpy(s->dim, dim, (size_t)rank * sizeof *dim);
    return 0;
}

static int infer_binary(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    char one[TD_DIMS_TEXT], other[TD_DIMS_TEXT];
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (in[0]->dtype != in[1]->dtype)
        return td_fail(error, TD_EGRAPH, "the operands are %s and %s: convert one with td_cast",
                       td_dims_text(in[0], one), td_dims_text(in[1], other));
    out[0] = td_shape_of(in[0]);
    return broadcast(&out[0], in[1], error) ? TD_EGRAPH : 1;
}

/* An op of two operands: the gradients of x and y before they are summed to the operands' dims. */
#define BINARY(name, brief, left, right)                                       \
    static void vjp_##name(TD_VJP_PARAMETERS)                                  \
    {                                                                          \
        td_tensor *x = in[0], *y = in[1], *z = out[0], *g = grad_out[0];       \
        (void)x; /* a gradient need not read them all */                       \
        (void)y;                                                               \
        (void)z;                                                               \
        if (need[0])                                                           \
            grad_in[0] = td_unbroadcast(left, x);                              \
        if (need[1])                                                           \
            grad_in[1] = td_unbroadcast(right, y);                             \
    }                                                                          \
    TD_DEFINE_OP(td_op_##name, #name, 2, 2, brief, .flags = TD_OP_ELEMENTWISE, \
                 .infer = infer_binary, .vjp = vjp_##name)

BINARY(add, "x + y", g, g);
BINARY(sub, "x - y", g, td_neg(g));
BINARY(mul, "x y", td_mul(g, y), td_mul(g, x));
BINARY(div, "x / y", td_div(g, y), td_neg(td_mul(g, td_div(z, y))));
BINARY(maximum, "the larger; the gradient goes to x where they are equal",
       td_where(td_less(x, y), td_scalar(x->graph, 0), g),
       td_where(td_less(x, y), g, td_scalar(x->graph, 0)));

/* Comparisons are 0 or 1 in the operands' dtype, so that they can be multiplied with. */
TD_DEFINE_OP(td_op_less, "less", 2, 2, "1 where x < y", .flags = TD_OP_ELEMENTWISE,
             .infer = infer_binary);
TD_DEFINE_OP(td_op_equal, "equal", 2, 2, "1 where x == y", .flags = TD_OP_ELEMENTWISE,
             .infer = infer_binary);

static int infer_where(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                       td_error *error)
{
    char one[TD_DIMS_TEXT], other[TD_DIMS_TEXT];
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (in[1]->dtype != in[2]->dtype)
        return td_fail(error, TD_EGRAPH, "the two choices are %s and %s: convert one with td_cast",
                       td_dims_text(in[1], one), td_dims_text(in[2], other));
    out[0] = td_shape_of(in[1]);
    return broadcast(&out[0], in[2], error) || broadcast(&out[0], in[0], error) ? TD_EGRAPH : 1;
}

/* By `where` again, not by a product with the condition: a NaN of the branch that was not taken
 * must not come through. */
static void vjp_where(TD_VJP_PARAMETERS)
{
    td_tensor *zero = td_scalar(in[1]->graph, 0);
    if (need[1])
        grad_in[1] = td_unbroadcast(td_where(in[0], grad_out[0], zero), in[1]);
    if (need[2])
        grad_in[2] = td_unbroadcast(td_where(in[0], zero, grad_out[0]), in[2]);
}

TD_DEFINE_OP(td_op_where, "where", 3, 3, "y where the condition is not 0, else z",
             .flags = TD_OP_ELEMENTWISE, .infer = infer_where, .vjp = vjp_where);
