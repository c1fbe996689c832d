/* primitives.h - the ops that everything else is made of: movement, elementwise, reduction, index,
 * matrix product.
 *
 * Include ops.h, which brings this file and the composite ops with it. One inline function emits
 * one node; nothing is computed until the host runs the graph. A primitive has no lowering: a
 * backend that has a kernel for each op of this file can run any model. (Composites, ops.h, are
 * lowered to these wherever a backend has no fused kernel.) All of this file is [build].
 *
 * Dtypes. "Real" is the graph's real dtype: f32, or f64 when the conformance suite checks
 * gradients. Operands of one op have one dtype; td_cast converts. Movement, comparison, td_add,
 * td_sub, td_mul, td_maximum, td_where, td_affine, td_neg, td_abs, td_sign, sums and td_gather also
 * take i32; the functions of calculus (td_exp, td_sqrt, ..) do not.
 *
 * Shapes. Elementwise ops broadcast as NumPy does: dims are aligned at the right, and a dim of 1
 * stretches, without a copy. The gradient is summed over stretched axes. A negative axis counts
 * from the end: -1 is the last. Wrong dims are a graph error, reported with the scope in which they
 * occur; the function then returns the graph's error tensor, so callers need no checks.
 *
 * Each comment gives the formula, then, after the op's name in quotes, the attribute slots of the
 * node (td_attrs), which is what a kernel reads.
 *
 * Example:
 *
 *     // Softmax over the last axis, written out: exp(x - max) / sum(exp(x - max)).
 *     static td_tensor *softmax(td_tensor *x)
 *     {
 *         td_tensor *e = td_exp(td_sub(x, td_max(x, -1)));
 *         return td_div(e, td_sum(e, -1));
 *     }
 */
#ifndef TANDEM_PRIMITIVES_H
#define TANDEM_PRIMITIVES_H

#include <string.h>

#include "graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- helpers of these headers: names that end in _ are not part of the ABI ------------------- */

/* Emits into the graph of the first input, which therefore must not be NULL. */
static inline td_tensor *td_emit_(const char *op, td_tensor *const *in, int n,
                                  const td_attrs *attrs)
{
    return in[0]->graph->host->emit(in[0]->graph, op, in, n, attrs);
}

static inline int td_axis_(const td_tensor *x, int axis)
{
    return axis < 0 ? axis + x->rank : axis;
}

/* Attributes whose other slots are 0. Padding is zeroed as well: equal nodes are merged by their
 * bytes. (C++17 has no designated initializers, which would read better.) */
static inline td_attrs td_attrs_(int64_t i0, int64_t i1, int64_t i2, double f0)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.i[0] = i0;
    a.i[1] = i1;
    a.i[2] = i2;
    a.f[0] = f0;
    return a;
}

static inline td_tensor *td_op1_(const char *op, td_tensor *x)
{
    td_tensor *in[] = { x };
    return td_emit_(op, in, 1, 0);
}

static inline td_tensor *td_op1_with_(const char *op, td_tensor *x, td_attrs a)
{
    td_tensor *in[] = { x };
    return td_emit_(op, in, 1, &a);
}

static inline td_tensor *td_op2_(const char *op, td_tensor *x, td_tensor *y)
{
    td_tensor *in[] = { x, y };
    return td_emit_(op, in, 2, 0);
}

/* ---- create ---------------------------------------------------------------------------------- */

/* Every element is `value`. "full": i[0] rank, i[1..8] dims, i[9] dtype; f[0] value */
static inline td_tensor *td_full(td_graph *g, int dtype, const int64_t *dims, int rank,
                                 double value)
{
    td_attrs a = td_attrs_(rank, 0, 0, value);
    for (int k = 0; k < rank; k++)
        a.i[1 + k] = dims[k];
    a.i[9] = dtype ? dtype : g->host->real(g);
    return g->host->emit(g, "full", 0, 0, &a);
}

/* One real number, rank 0. It broadcasts against anything. */
static inline td_tensor *td_scalar(td_graph *g, double value)
{
    return td_full(g, TD_REAL, 0, 0, value);
}

/* 0, 1, .. n-1: [n]. "iota": i[0] n, i[9] dtype */
static inline td_tensor *td_iota(td_graph *g, int dtype, int64_t n)
{
    td_attrs a = td_attrs_(n, 0, 0, 0);
    a.i[9] = dtype ? dtype : g->host->real(g);
    return g->host->emit(g, "iota", 0, 0, &a);
}

/* ---- movement: no copy where the kernel that reads it takes strides -------------------------- */

/* The same elements, row-major, with other dims. One of them may be -1: it is computed from the
 * rest. "reshape": i[0] rank, i[1..8] dims */
static inline td_tensor *td_reshape(td_tensor *x, const int64_t *dims, int rank)
{
    td_attrs a = td_attrs_(rank, 0, 0, 0);
    int64_t  known = 1;
    for (int k = 0; k < rank; k++) {
        a.i[1 + k] = dims[k];
        known *= dims[k] < 0 ? 1 : dims[k];
    }
    /* if known == 0 any size would do; 0 keeps the count right */
    for (int k = 0; k < rank; k++)
        if (dims[k] < 0)
            a.i[1 + k] = known ? td_count(x) / known : 0;
    return td_op1_with_("reshape", x, a);
}

/* Axis k of the result is axis `order[k]` of x. "permute": i[0..rank-1] order */
static inline td_tensor *td_permute(td_tensor *x, const int *order)
{
    td_attrs a = td_attrs_(0, 0, 0, 0);
    for (int k = 0; k < x->rank; k++)
        a.i[k] = td_axis_(x, order[k]);
    return td_op1_with_("permute", x, a);
}

/* Swap two axes: a td_permute. */
static inline td_tensor *td_transpose(td_tensor *x, int a, int b)
{
    int order[TD_MAX_RANK];
    for (int k = 0; k < x->rank; k++)
        order[k] = k;
    order[td_axis_(x, a)] = td_axis_(x, b);
    order[td_axis_(x, b)] = td_axis_(x, a);
    return td_permute(x, order);
}

/* Stretch dims of 1 to `dims`, of the same rank. Rarely needed, as elementwise ops broadcast.
 * "expand": i[0..rank-1] dims */
static inline td_tensor *td_expand(td_tensor *x, const int64_t *dims)
{
    td_attrs a = td_attrs_(0, 0, 0, 0);
    for (int k = 0; k < x->rank; k++)
        a.i[k] = dims[k];
    return td_op1_with_("expand", x, a);
}

/* `length` entries along `axis`, the first at `start`. "slice": i[0] axis, i[1] start, i[2]
 * length */
static inline td_tensor *td_slice(td_tensor *x, int axis, int64_t start, int64_t length)
{
    return td_op1_with_("slice", x, td_attrs_(td_axis_(x, axis), start, length, 0));
}

/* Add zeros along `axis`, `before` and `after` the existing entries. "pad": i[0] axis, i[1]
 * before, i[2] after */
static inline td_tensor *td_pad(td_tensor *x, int axis, int64_t before, int64_t after)
{
    return td_op1_with_("pad", x, td_attrs_(td_axis_(x, axis), before, after, 0));
}

/* Join n tensors along `axis`; their other dims agree. "concat": i[0] axis */
static inline td_tensor *td_concat(td_tensor *const *x, int n, int axis)
{
    td_attrs a = td_attrs_(td_axis_(x[0], axis), 0, 0, 0);
    return td_emit_("concat", x, n, &a);
}

/* ---- elementwise, one operand ---------------------------------------------------------------- */

static inline td_tensor *td_neg(td_tensor *x) { return td_op1_("neg", x); }
static inline td_tensor *td_exp(td_tensor *x) { return td_op1_("exp", x); }
static inline td_tensor *td_log(td_tensor *x) { return td_op1_("log", x); } /* natural */
static inline td_tensor *td_sqrt(td_tensor *x) { return td_op1_("sqrt", x); }
static inline td_tensor *td_rsqrt(td_tensor *x) { return td_op1_("rsqrt", x); } /* 1 / sqrt(x) */
static inline td_tensor *td_sin(td_tensor *x) { return td_op1_("sin", x); }     /* radians */
static inline td_tensor *td_cos(td_tensor *x) { return td_op1_("cos", x); }
static inline td_tensor *td_tanh(td_tensor *x) { return td_op1_("tanh", x); }
static inline td_tensor *td_sigmoid(td_tensor *x) { return td_op1_("sigmoid", x); }
static inline td_tensor *td_abs(td_tensor *x) { return td_op1_("abs", x); }

/* -1, 0 or 1. No gradient. */
static inline td_tensor *td_sign(td_tensor *x) { return td_op1_("sign", x); }

/* The largest integer not above x, as a real. No gradient. */
static inline td_tensor *td_floor(td_tensor *x) { return td_op1_("floor", x); }

/* scale * x + shift. "affine": f[0] scale, f[1] shift */
static inline td_tensor *td_affine(td_tensor *x, double scale, double shift)
{
    td_attrs a = td_attrs_(0, 0, 0, scale);
    a.f[1] = shift;
    return scale == 1 && shift == 0 ? x : td_op1_with_("affine", x, a);
}

static inline td_tensor *td_scale(td_tensor *x, double by) { return td_affine(x, by, 0); }

/* x in another dtype; TD_REAL is the graph's. Gradients flow between reals only.
 * "cast": i[0] dtype */
static inline td_tensor *td_cast(td_tensor *x, int dtype)
{
    int to = dtype ? dtype : x->graph->host->real(x->graph);
    return x->dtype == to ? x : td_op1_with_("cast", x, td_attrs_(to, 0, 0, 0));
}

/* x itself, but a constant to the gradient. "detach" */
static inline td_tensor *td_detach(td_tensor *x) { return td_op1_("detach", x); }

/* ---- elementwise, two and three operands ----------------------------------------------------- */

static inline td_tensor *td_add(td_tensor *x, td_tensor *y) { return td_op2_("add", x, y); }
static inline td_tensor *td_sub(td_tensor *x, td_tensor *y) { return td_op2_("sub", x, y); }
static inline td_tensor *td_mul(td_tensor *x, td_tensor *y) { return td_op2_("mul", x, y); }
static inline td_tensor *td_div(td_tensor *x, td_tensor *y) { return td_op2_("div", x, y); }

/* The larger of the two, and NaN where either is NaN, so that divergence is never hidden. If they
 * are equal, x gets the gradient. */
static inline td_tensor *td_maximum(td_tensor *x, td_tensor *y) { return td_op2_("maximum", x, y); }

/* 1 where x < y, else 0, in x's dtype. No gradient. */
static inline td_tensor *td_less(td_tensor *x, td_tensor *y) { return td_op2_("less", x, y); }

/* 1 where x == y, else 0, in x's dtype. No gradient. */
static inline td_tensor *td_equal(td_tensor *x, td_tensor *y) { return td_op2_("equal", x, y); }

/* y where `condition` (i32 or real) is not 0, else z. Only the chosen side gets the gradient.
 * "where" */
static inline td_tensor *td_where(td_tensor *condition, td_tensor *y, td_tensor *z)
{
    td_tensor *in[] = { condition, y, z };
    return td_emit_("where", in, 3, 0);
}

/* ---- reduce ---------------------------------------------------------------------------------- */

/* Sum over the axes in the bit set `axes` (bit k: axis k), which remain as dims of 1, ready to
 * broadcast against x. "sum": i[0] axes */
static inline td_tensor *td_sum_axes(td_tensor *x, int64_t axes)
{
    return axes ? td_op1_with_("sum", x, td_attrs_(axes, 0, 0, 0)) : x;
}

static inline td_tensor *td_sum(td_tensor *x, int axis)
{
    return td_sum_axes(x, (int64_t)1 << td_axis_(x, axis));
}

static inline td_tensor *td_mean(td_tensor *x, int axis)
{
    return td_scale(td_sum(x, axis), 1.0 / (double)td_dim(x, axis));
}

/* The sum of all elements, of rank 0. */
static inline td_tensor *td_sum_all(td_tensor *x)
{
    return td_reshape(td_sum_axes(x, ((int64_t)1 << x->rank) - 1), 0, 0);
}

/* The largest along `axis`, which remains as a dim of 1; NaN if any is NaN. The first of equal
 * elements gets the gradient. "max": i[0] axes, a bit set */
static inline td_tensor *td_max(td_tensor *x, int axis)
{
    return td_op1_with_("max", x, td_attrs_((int64_t)1 << td_axis_(x, axis), 0, 0, 0));
}

/* Running sum along `axis`, the element itself included. "cumsum": i[0] axis, i[1] 1: from the
 * end */
static inline td_tensor *td_cumsum(td_tensor *x, int axis, bool reverse)
{
    return td_op1_with_("cumsum", x, td_attrs_(td_axis_(x, axis), reverse, 0, 0));
}

/* The k largest of the last axis, in descending order; equal ones keep their order. `indices`, if
 * not NULL, receives output 1: where they were (i32). "topk": i[0] k */
static inline td_tensor *td_topk(td_tensor *x, int64_t k, td_tensor **indices)
{
    td_tensor *y = td_op1_with_("topk", x, td_attrs_(k, 0, 0, 0));
    if (indices)
        *indices = x->graph->host->output(y, 1);
    return y;
}

/* ---- index ----------------------------------------------------------------------------------- */

/* Rows of `table` [N, ..] at `ids` (i32, of any dims): [ids.., ..]. An embedding lookup. An id that
 * is not in 0 .. N-1 fails the run. "gather" */
static inline td_tensor *td_gather(td_tensor *table, td_tensor *ids)
{
    return td_op2_("gather", table, ids);
}

/* The reverse: add the rows `src` [ids.., ..] to those of `acc` [rows, ..] (NULL: zeros) at `ids`.
 * Rows with the same id are added in order, so that the bits do not depend on threads. An id
 * outside the rows fails the run. "scatter_add": i[0] rows */
static inline td_tensor *td_scatter_add(td_tensor *ids, td_tensor *src, td_tensor *acc,
                                        int64_t rows)
{
    td_attrs   a = td_attrs_(rows, 0, 0, 0);
    td_tensor *in[] = { ids, src, acc };
    return td_emit_("scatter_add", in, 3, &a);
}

/* ---- matrix product, and writing to a state -------------------------------------------------- */

/* [.., M, K] x [.., K, N] -> [.., M, N]; leading dims of 1 stretch. A td_transpose of an operand
 * costs nothing: kernels take it as strides. An input 2, if present, is added; the planner folds
 * sums into it. "matmul" */
static inline td_tensor *td_matmul(td_tensor *a, td_tensor *b)
{
    td_tensor *in[] = { a, b, 0 };
    return td_emit_("matmul", in, 3, 0);
}

/* `state` becomes `value` when the run reaches this node, unless the scalar `gate` (NULL: open) is
 * 0. Returns the new content.
 *
 * Nodes run in the order in which they are emitted: a reader emitted before sees the old content,
 * one emitted after the new. The state, its views (td_reshape, td_permute, ..) and the result share
 * the same memory, which is read when the reader runs. "assign" */
static inline td_tensor *td_assign(td_tensor *state, td_tensor *value, td_tensor *gate)
{
    td_tensor *in[] = { state, value, gate };
    return td_emit_("assign", in, 3, 0);
}

#ifdef __cplusplus
}
#endif
#endif
