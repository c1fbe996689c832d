/* movement.c - ops that only move elements: reshape, permute, expand, slice, detach (views), copy,
 * pad, concat.
 *
 * The views have no kernels: the planner reads their attributes and computes strides. Each op's
 * gradient is the opposite movement.
 */
#include "define.h"

static void no_flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                     double pairs, td_flops *f)
{
    memset(f, 0, sizeof *f);
}

/* i[0] rank, i[1..] dims; td_reshape has resolved a dim of -1. */
static int infer_reshape(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                         td_error *error)
{
    double count = 1; /* in int64_t a stranger's dims might wrap around to the right number */
    if (a->i[0] < 0 || a->i[0] > TD_MAX_RANK)
        return td_fail(error, TD_EGRAPH, "rank %lld is not in 0 .. %d", (long long)a->i[0],
                       TD_MAX_RANK);
    out[0].dtype = in[0]->dtype;
    out[0].rank = (int32_t)a->i[0];
    for (int k = 0; k < out[0].rank; k++)
        count *= (double)(out[0].dim[k] = a->i[1 + k]);
    if (count != (double)td_count(in[0]))
        return td_fail(error, TD_EGRAPH, "%lld elements do not fit into dims of %.0f",
                       (long long)td_count(in[0]), count);
    return 1;
}

static void vjp_reshape(TD_VJP_PARAMETERS)
{
    grad_in[0] = td_reshape(grad_out[0], in[0]->dim, in[0]->rank);
}

TD_DEFINE_OP(td_op_reshape, "reshape", 1, 1, "the same elements with other dims",
             .flags = TD_OP_VIEW, .infer = infer_reshape, .vjp = vjp_reshape, .flops = no_flops);

/* i[k]: the axis of x that becomes axis k. */
static int infer_permute(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                         td_error *error)
{
    unsigned seen = 0; /* a set of axes: a->i may name one twice */
    out[0].dtype = in[0]->dtype;
    out[0].rank = in[0]->rank;
    for (int k = 0; k < in[0]->rank; k++) {
        if (a->i[k] < 0 || a->i[k] >= in[0]->rank || seen & 1u << a->i[k])
            return td_fail(error, TD_EGRAPH, "the order is not a permutation of %d axes",
                           in[0]->rank);
        seen |= 1u << a->i[k];
        out[0].dim[k] = in[0]->dim[a->i[k]];
    }
    return 1;
}

/* Axis k of the result was axis i[k] of x: back by the inverse. */
static void vjp_permute(TD_VJP_PARAMETERS)
{
    int inverse[TD_MAX_RANK] = { 0 };
    for (int k = 0; k < in[0]->rank; k++)
        inverse[a->i[k]] = k;
    grad_in[0] = td_permute(grad_out[0], inverse);
}

TD_DEFINE_OP(td_op_permute, "permute", 1, 1, "axes in a different order", .flags = TD_OP_VIEW,
             .infer = infer_permute, .vjp = vjp_permute, .flops = no_flops);

/* i[k]: dims of the result, of x's rank; only a single entry can be repeated. */
static int infer_expand(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    out[0] = td_shape_of(in[0]);
    for (int k = 0; k < in[0]->rank; k++) {
        if (in[0]->dim[k] != 1 && in[0]->dim[k] != a->i[k])
            return td_fail(error, TD_EGRAPH, "axis %d cannot be expanded from %lld entries to %lld",
                           k, (long long)in[0]->dim[k], (long long)a->i[k]);
        out[0].dim[k] = a->i[k];
    }
    return 1;
}

/* One entry was read many times: their gradients add up. */
static void vjp_expand(TD_VJP_PARAMETERS) { grad_in[0] = td_unbroadcast(grad_out[0], in[0]); }

TD_DEFINE_OP(td_op_expand, "expand", 1, 1, "stretch dims of 1", .flags = TD_OP_VIEW,
             .infer = infer_expand, .vjp = vjp_expand, .flops = no_flops);

/* i[0] axis, i[1] start, i[2] length. */
static int infer_slice(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                       td_error *error)
{
    if (a->i[0] < 0 || a->i[0] >= in[0]->rank)
        return td_fail(error, TD_EGRAPH, "a tensor of rank %d has no axis %lld", in[0]->rank,
                       (long long)a->i[0]);
    /* written so that start + length cannot overflow */
    if (a->i[1] < 0 || a->i[2] < 0 || a->i[1] > in[0]->dim[a->i[0]] - a->i[2])
        return td_fail(error, TD_EGRAPH, "cannot take %lld entries from %lld on: the axis has %lld",
                       (long long)a->i[2], (long long)a->i[1], (long long)in[0]->dim[a->i[0]]);
    out[0] = td_shape_of(in[0]);
    out[0].dim[a->i[0]] = a->i[2];
    return 1;
}

/* The parts left out get zeros. */
static void vjp_slice(TD_VJP_PARAMETERS)
{
    grad_in[0] = td_pad(grad_out[0], (int)a->i[0], a->i[1],
                        in[0]->dim[a->i[0]] - a->i[1] - a->i[2]);
}

TD_DEFINE_OP(td_op_slice, "slice", 1, 1, "a range along one axis", .flags = TD_OP_VIEW,
             .infer = infer_slice, .vjp = vjp_slice, .flops = no_flops);

int td_infer_same(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    out[0] = td_shape_of(in[0]);
    return 1;
}

static void vjp_copy(TD_VJP_PARAMETERS) { grad_in[0] = grad_out[0]; }

/* No vjp: this is what stops a gradient. */
TD_DEFINE_OP(td_op_detach, "detach", 1, 1, "the same value, no gradient", .flags = TD_OP_VIEW,
             .infer = td_infer_same, .flops = no_flops);
/* The planner also inserts it where a kernel does not take an operand's strides. */
TD_DEFINE_OP(td_op_copy, "copy", 1, 1, "the same value, dense in memory", .infer = td_infer_same,
             .vjp = vjp_copy, .flops = no_flops);

/* i[0] axis, i[1] zeros before, i[2] after. */
static int infer_pad(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (a->i[0] < 0 || a->i[0] >= in[0]->rank || a->i[1] < 0 || a->i[2] < 0 ||
        a->i[1] > INT32_MAX || a->i[2] > INT32_MAX) /* so that the sum cannot overflow */
        return td_fail(error, TD_EGRAPH, "cannot pad axis %lld of %d by %lld and %lld",
                       (long long)a->i[0], in[0]->rank, (long long)a->i[1], (long long)a->i[2]);
    out[0] = td_shape_of(in[0]);
    out[0].dim[a->i[0]] += a->i[1] + a->i[2];
    return 1;
}

/* The zeros take no gradient. */
static void vjp_pad(TD_VJP_PARAMETERS)
{
    grad_in[0] = td_slice(grad_out[0], (int)a->i[0], a->i[1], in[0]->dim[a->i[0]]);
}

TD_DEFINE_OP(td_op_pad, "pad", 1, 1, "zeros before and after", .infer = infer_pad, .vjp = vjp_pad,
             .flops = no_flops);

static int infer_concat(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    char    part[TD_DIMS_TEXT], first[TD_DIMS_TEXT];
    int64_t axis = a->i[0];
    /* all dims but that of the axis are those of the first part */
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    out[0] = td_shape_of(in[0]);
    if (axis < 0 || axis >= in[0]->rank)
        return td_fail(error, TD_EGRAPH, "tensors of rank %d have no axis %lld", in[0]->rank,
                       (long long)axis);
    for (int k = 1; k < n; k++) {
        if (in[k]->rank != in[0]->rank || in[k]->dtype != in[0]->dtype)
            return td_fail(error, TD_EGRAPH,
                           "part %d is %s, part 0 is %s: ranks and dtypes must agree", k,
                           td_dims_text(in[k], part), td_dims_text(in[0], first));
        for (int d = 0; d < in[0]->rank; d++)
            if (d != axis && in[k]->dim[d] != in[0]->dim[d])
                return td_fail(error, TD_EGRAPH,
                               "axis %d has %lld entries in part %d, but %lld in part 0", d,
                               (long long)in[k]->dim[d], k, (long long)in[0]->dim[d]);
        out[0].dim[axis] += in[k]->dim[axis];
    }
    return 1;
}

/* Each part gets the gradient of its own range. */
static void vjp_concat(TD_VJP_PARAMETERS)
{
    int64_t start = 0;
    for (int k = 0; k < n; k++) {
        int64_t length = in[k]->dim[a->i[0]];
        if (need[k])
            grad_in[k] = td_slice(grad_out[0], (int)a->i[0], start, length);
        start += length;
    }
}

TD_DEFINE_OP(td_op_concat, "concat", 1, TD_MAX_INPUTS, "join along an axis", .infer = infer_concat,
             .vjp = vjp_concat, .flops = no_flops);
