/* ops.h - the op vocabulary: one inline function per op, over the host's table.
 *
 * Primitives first, composites (which have a lowering to primitives, and may have a fused kernel)
 * after. Elementwise ops broadcast as NumPy does: dims are aligned at the right; a dim of 1
 * stretches. "real" is the graph's real dtype (f32; f64 when checking). Axes may be negative. In
 * each comment: what it computes, then the attribute slots that the node carries.
 */
#ifndef TANDEM_OPS_H
#define TANDEM_OPS_H

#include <string.h>

#include "graph.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline td_tensor *td_emit_(const char *op, td_tensor *const *in, int n,
                                  const td_attrs *attrs)
{
    return in[0]->graph->host->emit(in[0]->graph, op, in, n, attrs);
}

static inline int td_axis_(const td_tensor *x, int axis)
{
    return axis < 0 ? axis + x->rank : axis;
}

static inline td_tensor *td_op1_(const char *op, td_tensor *x)
{
    td_tensor *in[] = { x };
    return td_emit_(op, in, 1, 0);
}

static inline td_tensor *td_op2_(const char *op, td_tensor *x, td_tensor *y)
{
    td_tensor *in[] = { x, y };
    return td_emit_(op, in, 2, 0);
}

/* ---- create ---------------------------------------------------------------------------------- */

/* All elements `value`. "full": i[0] rank, i[1..8] dims, i[9] dtype; f[0] value */
static inline td_tensor *td_full(td_graph *g, int dtype, const int64_t *dims, int rank,
                                 double value)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.i[0] = rank;
    a.i[9] = dtype ? dtype : g->host->real(g);
    a.f[0] = value;
    for (int k = 0; k < rank; k++)
        a.i[1 + k] = dims[k];
    return g->host->emit(g, "full", 0, 0, &a);
}

static inline td_tensor *td_scalar(td_graph *g, double value)
{
    return td_full(g, TD_REAL, 0, 0, value);
}

/* 0, 1, .. n-1. "iota": i[0] n, i[9] dtype */
static inline td_tensor *td_iota(td_graph *g, int dtype, int64_t n)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.i[0] = n;
    a.i[9] = dtype ? dtype : g->host->real(g);
    return g->host->emit(g, "iota", 0, 0, &a);
}

/* ---- movement (views where the kernels take strides) ----------------------------------------- */

/* The same elements in other dims; one dim may be -1. "reshape": i[0] rank, i[1..8] dims */
static inline td_tensor *td_reshape(td_tensor *x, const int64_t *dims, int rank)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    int64_t    known = 1;
    memset(&a, 0, sizeof a);
    a.i[0] = rank;
    for (int k = 0; k < rank; k++) {
        a.i[1 + k] = dims[k];
        known *= dims[k] < 0 ? 1 : dims[k];
    }
    for (int k = 0; k < rank; k++)
        if (dims[k] < 0)
            a.i[1 + k] = known ? td_count(x) / known : 0;
    return td_emit_("reshape", in, 1, &a);
}

/* Axis k of the result is axis `order[k]` of x. "permute": i[0..rank-1] order */
static inline td_tensor *td_permute(td_tensor *x, const int *order)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    for (int k = 0; k < x->rank; k++)
        a.i[k] = td_axis_(x, order[k]);
    return td_emit_("permute", in, 1, &a);
}

/* Swap two axes. */
static inline td_tensor *td_transpose(td_tensor *x, int a, int b)
{
    int order[TD_MAX_RANK];
    for (int k = 0; k < x->rank; k++)
        order[k] = k;
    order[td_axis_(x, a)] = td_axis_(x, b);
    order[td_axis_(x, b)] = td_axis_(x, a);
    return td_permute(x, order);
}

/* Dims of 1 stretch to `dims` (same rank). "expand": i[0..rank-1] dims */
static inline td_tensor *td_expand(td_tensor *x, const int64_t *dims)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    for (int k = 0; k < x->rank; k++)
        a.i[k] = dims[k];
    return td_emit_("expand", in, 1, &a);
}

/* `length` entries of `axis` from `start`. "slice": i[0] axis, i[1] start, i[2] length */
static inline td_tensor *td_slice(td_tensor *x, int axis, int64_t start, int64_t length)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = td_axis_(x, axis);
    a.i[1] = start;
    a.i[2] = length;
    return td_emit_("slice", in, 1, &a);
}

/* Zeros before and after along `axis`. "pad": i[0] axis, i[1] before, i[2] after */
static inline td_tensor *td_pad(td_tensor *x, int axis, int64_t before, int64_t after)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = td_axis_(x, axis);
    a.i[1] = before;
    a.i[2] = after;
    return td_emit_("pad", in, 1, &a);
}

/* Join along `axis`. "concat": i[0] axis */
static inline td_tensor *td_concat(td_tensor *const *x, int n, int axis)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.i[0] = td_axis_(x[0], axis);
    return td_emit_("concat", x, n, &a);
}

/* ---- elementwise ----------------------------------------------------------------------------- */

static inline td_tensor *td_neg(td_tensor *x) { return td_op1_("neg", x); }
static inline td_tensor *td_exp(td_tensor *x) { return td_op1_("exp", x); }
static inline td_tensor *td_log(td_tensor *x) { return td_op1_("log", x); }
static inline td_tensor *td_sqrt(td_tensor *x) { return td_op1_("sqrt", x); }
static inline td_tensor *td_rsqrt(td_tensor *x) { return td_op1_("rsqrt", x); }
static inline td_tensor *td_sin(td_tensor *x) { return td_op1_("sin", x); }
static inline td_tensor *td_cos(td_tensor *x) { return td_op1_("cos", x); }
static inline td_tensor *td_tanh(td_tensor *x) { return td_op1_("tanh", x); }
static inline td_tensor *td_sigmoid(td_tensor *x) { return td_op1_("sigmoid", x); }
static inline td_tensor *td_abs(td_tensor *x) { return td_op1_("abs", x); }
static inline td_tensor *td_sign(td_tensor *x)
{
    return td_op1_("sign", x);
} /* -1, 0, 1; no gradient */
static inline td_tensor *td_floor(td_tensor *x) { return td_op1_("floor", x); } /* no gradient */

static inline td_tensor *td_add(td_tensor *x, td_tensor *y) { return td_op2_("add", x, y); }
static inline td_tensor *td_sub(td_tensor *x, td_tensor *y) { return td_op2_("sub", x, y); }
static inline td_tensor *td_mul(td_tensor *x, td_tensor *y) { return td_op2_("mul", x, y); }
static inline td_tensor *td_div(td_tensor *x, td_tensor *y) { return td_op2_("div", x, y); }
/* The larger; NaN where either is, so that no divergence is hidden. */
static inline td_tensor *td_maximum(td_tensor *x, td_tensor *y) { return td_op2_("maximum", x, y); }
static inline td_tensor *td_less(td_tensor *x, td_tensor *y)
{
    return td_op2_("less", x, y);
} /* 0 or 1, x's dtype */
static inline td_tensor *td_equal(td_tensor *x, td_tensor *y)
{
    return td_op2_("equal", x, y);
} /* 0 or 1, x's dtype */

/* y where `condition` (i32 or real) is not 0, else z. "where" */
static inline td_tensor *td_where(td_tensor *condition, td_tensor *y, td_tensor *z)
{
    td_tensor *in[] = { condition, y, z };
    return td_emit_("where", in, 3, 0);
}

/* scale * x + shift. "affine": f[0] scale, f[1] shift */
static inline td_tensor *td_affine(td_tensor *x, double scale, double shift)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.f[0] = scale;
    a.f[1] = shift;
    return scale == 1 && shift == 0 ? x : td_emit_("affine", in, 1, &a);
}

static inline td_tensor *td_scale(td_tensor *x, double by) { return td_affine(x, by, 0); }

/* "cast": i[0] dtype */
static inline td_tensor *td_cast(td_tensor *x, int dtype)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = dtype ? dtype : x->graph->host->real(x->graph);
    return x->dtype == a.i[0] ? x : td_emit_("cast", in, 1, &a);
}

/* The same value; no gradient flows through. "detach" */
static inline td_tensor *td_detach(td_tensor *x) { return td_op1_("detach", x); }

/* ---- reduce, index, matmul ------------------------------------------------------------------- */

/* Sum over the axes in the bit set `axes` (bit k: axis k), which stay as dims of 1. "sum": i[0]
 * axes */
static inline td_tensor *td_sum_axes(td_tensor *x, int64_t axes)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = axes;
    return axes ? td_emit_("sum", in, 1, &a) : x;
}

static inline td_tensor *td_sum(td_tensor *x, int axis)
{
    return td_sum_axes(x, (int64_t)1 << td_axis_(x, axis));
}

static inline td_tensor *td_mean(td_tensor *x, int axis)
{
    return td_scale(td_sum(x, axis), 1.0 / (double)td_dim(x, axis));
}

/* Sum of all elements: a scalar of rank 0. */
static inline td_tensor *td_sum_all(td_tensor *x)
{
    return td_reshape(td_sum_axes(x, ((int64_t)1 << x->rank) - 1), 0, 0);
}

/* Largest over the axes in the bit set, kept as dims of 1, NaN where one is; the gradient goes to
 * the first largest. "max": i[0] axes */
static inline td_tensor *td_max(td_tensor *x, int axis)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = (int64_t)1 << td_axis_(x, axis);
    return td_emit_("max", in, 1, &a);
}

/* Running sum along `axis`. "cumsum": i[0] axis, i[1] 1: from the end */
static inline td_tensor *td_cumsum(td_tensor *x, int axis, bool reverse)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = td_axis_(x, axis);
    a.i[1] = reverse;
    return td_emit_("cumsum", in, 1, &a);
}

/* The k largest of the last axis, descending, ties by index. Output 1: their indices (i32). "topk":
 * i[0] k */
static inline td_tensor *td_topk(td_tensor *x, int64_t k, td_tensor **indices)
{
    td_attrs   a;
    td_tensor *in[] = { x }, *y;
    memset(&a, 0, sizeof a);
    a.i[0] = k;
    y = td_emit_("topk", in, 1, &a);
    if (indices)
        *indices = x->graph->host->output(y, 1);
    return y;
}

/* Rows of `table` [N, ...] at `ids` (i32, any dims): [ids..., ...]. An embedding lookup.
 * "gather" */
static inline td_tensor *td_gather(td_tensor *table, td_tensor *ids)
{
    return td_op2_("gather", table, ids);
}

/* `acc` [rows, ...] (NULL: zeros) plus the rows `src` [ids..., ...] at `ids`. "scatter_add": i[0]
 * rows */
static inline td_tensor *td_scatter_add(td_tensor *ids, td_tensor *src, td_tensor *acc,
                                        int64_t rows)
{
    td_attrs   a;
    td_tensor *in[] = { ids, src, acc };
    memset(&a, 0, sizeof a);
    a.i[0] = rows;
    return td_emit_("scatter_add", in, 3, &a);
}

/* [..., M, K] x [..., K, N] -> [..., M, N]; leading dims of 1 stretch. A transposed operand is a
 * td_transpose, free of charge. Input 2, if any, is added: the planner puts sums there. "matmul" */
static inline td_tensor *td_matmul(td_tensor *a, td_tensor *b)
{
    td_tensor *in[] = { a, b, 0 };
    return td_emit_("matmul", in, 3, 0);
}

/* `state` becomes `value` when the run reaches it, if `gate` (scalar, NULL: always) is not 0. Gives
 * the new content. Nodes run in the order in which they are emitted: one that reads the state
 * before this sees the old content, one after it the new. The state itself, views of it (reshape,
 * permute, ..) and what this gives are one memory, which is read when its reader runs. "assign" */
static inline td_tensor *td_assign(td_tensor *state, td_tensor *value, td_tensor *gate)
{
    td_tensor *in[] = { state, value, gate };
    return td_emit_("assign", in, 3, 0);
}

/* ---- composites ------------------------------------------------------------------------------ */

/* The inputs of "append". */
enum { TD_APPEND_BUFFER, TD_APPEND_NEW, TD_APPEND_LENGTHS, TD_APPEND_COUNTS, TD_APPEND_INPUTS };

/* Write new tokens behind those that each row of a buffer holds, in place. With `axis` the axis of
 * tokens, buffer [B, .., slots, ..] and x [B, .., T, ..]: token t of row b, if t < counts[b], goes to
 * slot lengths[b] + t, or in a ring to that modulo the number of slots; the rest of x is padding and
 * is not written. lengths and counts are i32 [B]. Gives the buffer, a state, as td_assign does.
 *
 * A kernel fails with TD_ERANGE, and writes nothing, if the tokens of a row do not fit. The lowering
 * cannot see that; it also writes the whole buffer where a kernel writes T slots of it. "append":
 * i[0] axis, i[1] 1: a ring */
static inline td_tensor *td_append(td_tensor *buffer, td_tensor *x, td_tensor *lengths,
                                   td_tensor *counts, int axis, bool ring)
{
    td_attrs   a;
    td_tensor *in[TD_APPEND_INPUTS] = { buffer, x, lengths, counts };
    memset(&a, 0, sizeof a);
    a.i[0] = td_axis_(buffer, axis);
    a.i[1] = ring;
    return td_emit_("append", in, TD_APPEND_INPUTS, &a);
}

/* Each row by the matrix of its group: y[n] = x[n] w[group[n]], of x [N, K], w [G, K, M] and group
 * (i32 [N]); or w [G, M, K], `transposed`. A row whose group is none of 0 .. G-1 gives zeros. Rows in
 * any order; sorted by group they are not copied. "grouped_matmul": i[0] 1: transposed */
static inline td_tensor *td_grouped_matmul(td_tensor *x, td_tensor *w, td_tensor *group,
                                           bool transposed)
{
    td_attrs   a;
    td_tensor *in[] = { x, w, group };
    memset(&a, 0, sizeof a);
    a.i[0] = transposed;
    return td_emit_("grouped_matmul", in, 3, &a);
}

/* For each of `groups` groups the sum of x[n]^T y[n] over its rows, [G, P, Q], of x [N, P] and
 * y [N, Q]. Input 3, if any, is added. "grouped_outer": i[0] groups */
static inline td_tensor *td_grouped_outer(td_tensor *x, td_tensor *y, td_tensor *group,
                                          int64_t groups)
{
    td_attrs   a;
    td_tensor *in[] = { x, y, group, 0 };
    memset(&a, 0, sizeof a);
    a.i[0] = groups;
    return td_emit_("grouped_outer", in, 4, &a);
}

/* exp(x) / sum(exp(x)) over the last axis. "softmax" */
static inline td_tensor *td_softmax(td_tensor *x) { return td_op1_("softmax", x); }

/* x / sqrt(mean(x^2) + eps) * w over the last axis; w [E] or NULL. Output 1: the reciprocal root
 * [.., 1]. "rms_norm": f[0] eps */
static inline td_tensor *td_rms_norm(td_tensor *x, td_tensor *w, double eps)
{
    td_attrs   a;
    td_tensor *in[] = { x, w };
    memset(&a, 0, sizeof a);
    a.f[0] = eps;
    return td_emit_("rms_norm", in, 2, &a);
}

/* (x - mean) / sqrt(var + eps) * w + b over the last axis; w, b [E] or NULL. Outputs 1, 2: mean,
 * reciprocal deviation. "layer_norm": f[0] eps */
static inline td_tensor *td_layer_norm(td_tensor *x, td_tensor *w, td_tensor *b, double eps)
{
    td_attrs   a;
    td_tensor *in[] = { x, w, b };
    memset(&a, 0, sizeof a);
    a.f[0] = eps;
    return td_emit_("layer_norm", in, 3, &a);
}

/* Rotate the halves (u, v) of the last axis of x [B, H, T, E] by angles whose cosines and sines [B,
 * T, E/2] are given: (u cos - v sin, v cos + u sin). "rope": i[0] 1: rotate back */
static inline td_tensor *td_rope(td_tensor *x, td_tensor *cosine, td_tensor *sine)
{
    td_attrs   a;
    td_tensor *in[] = { x, cosine, sine };
    memset(&a, 0, sizeof a);
    return td_emit_("rope", in, 3, &a);
}

typedef enum td_activation {
    TD_SILU,  /* x sigmoid(x) */
    TD_GELU,  /* tanh form */
    TD_RELU,  /* max(x, 0), NaN for NaN */
    TD_RELU2, /* max(x, 0)^2 */
    TD_SIGMOID
} td_activation;

/* "activation": i[0] td_activation */
static inline td_tensor *td_activate(td_tensor *x, td_activation f)
{
    td_attrs   a;
    td_tensor *in[] = { x };
    memset(&a, 0, sizeof a);
    a.i[0] = (int64_t)f;
    return td_emit_("activation", in, 1, &a);
}

/* f(gate) * up, the gated linear unit (Shazeer 2020). "glu": i[0] td_activation */
static inline td_tensor *td_glu(td_tensor *gate, td_tensor *up, td_activation f)
{
    td_attrs   a;
    td_tensor *in[] = { gate, up };
    memset(&a, 0, sizeof a);
    a.i[0] = (int64_t)f;
    return td_emit_("glu", in, 2, &a);
}

/* Which keys j a query i sees: a rule over a few integers per token, never a matrix.
 *
 *     the key is there                       j < k_length
 *     same segment, and not padding          q_segment[i] == k_segment[j] != 0
 *     and, if causal,                        k_index[j] <= q_index[i], or both are input tokens
 *     and, if window > 0,                    q_index[i] - k_index[j] < window
 *     or, if self, the token itself          k_index[j] == q_index[i] of a padding query (segment 0)
 *
 * A query with no key gets 0. All tensors are i32 [B, T], but for k_length, i32 [B]; a NULL index
 * counts 0, 1, ..; NULL inputs: no token is one; NULL segments: all are of one; NULL k_length: all
 * keys are there. Keys from k_length on are not read, and cost nothing: the buffers of generation
 * hold there what an earlier text left. */
typedef struct td_mask {
    bool       causal, self;
    int64_t    window;
    td_tensor *q_segment, *k_segment;
    td_tensor *q_input, *k_input;
    td_tensor *q_index, *k_index;
    td_tensor *k_length;
    td_tensor *dense; /* real [B|1, H|1, Tq, Tk], added to the scores (-inf hides), or NULL: slow */
} td_mask;

/* What is added to the score of query i and key j of head h: table[h, clamp(k_pos[j] - q_pos[i] +
 * offset)]. */
typedef struct td_bias {
    td_tensor *table;                   /* real [H, R], or NULL: no bias */
    td_tensor *q_position, *k_position; /* i32 [B, T] */
    int64_t    offset;                  /* the index of distance 0 */
} td_bias;

/* The inputs of "attend". "attend_grad" has the same, then the gradient of the output, the output,
 * and output 1. */
enum {
    TD_ATTEND_Q,
    TD_ATTEND_K,
    TD_ATTEND_V,
    TD_ATTEND_Q_SEGMENT,
    TD_ATTEND_K_SEGMENT,
    TD_ATTEND_Q_INPUT,
    TD_ATTEND_K_INPUT,
    TD_ATTEND_Q_INDEX,
    TD_ATTEND_K_INDEX,
    TD_ATTEND_TABLE,
    TD_ATTEND_Q_POSITION,
    TD_ATTEND_K_POSITION,
    TD_ATTEND_DENSE,
    TD_ATTEND_K_LENGTH,
    TD_ATTEND_INPUTS,
    TD_ATTEND_GRAD = TD_ATTEND_INPUTS,
    TD_ATTEND_OUT,
    TD_ATTEND_LSE,
    TD_ATTEND_GRAD_INPUTS
};

/* softmax(scale q k^T + bias, over the keys that the mask shows) v. q [B, H, Tq, E], k [B, G, Tk,
 * E], v [B, G, Tk, F], G dividing H (grouped heads: head h reads group h / (H/G)). -> [B, H, Tq,
 * F]; output 1: logsumexp [B, H, Tq], through which no gradient flows. "attend": i[0] causal, i[1] window, i[2] self, i[3] bias
 * offset; f[0] scale. "attend_grad": -> dq, dk, dv, dtable [H, R], ddense */
static inline td_tensor *td_attend(td_tensor *q, td_tensor *k, td_tensor *v, const td_mask *mask,
                                   const td_bias *bias, double scale)
{
    td_attrs   a;
    td_tensor *in[TD_ATTEND_INPUTS] = { q,
                                        k,
                                        v,
                                        mask->q_segment,
                                        mask->k_segment,
                                        mask->q_input,
                                        mask->k_input,
                                        mask->q_index,
                                        mask->k_index,
                                        0,
                                        0,
                                        0,
                                        mask->dense,
                                        mask->k_length };
    memset(&a, 0, sizeof a);
    a.i[0] = mask->causal;
    a.i[1] = mask->window;
    a.i[2] = mask->self;
    a.f[0] = scale;
    if (bias && bias->table) {
        in[TD_ATTEND_TABLE] = bias->table;
        in[TD_ATTEND_Q_POSITION] = bias->q_position;
        in[TD_ATTEND_K_POSITION] = bias->k_position;
        a.i[3] = bias->offset;
    }
    return td_emit_("attend", in, TD_ATTEND_INPUTS, &a);
}

enum {
    TD_CE_HIDDEN,
    TD_CE_EMBEDDING,
    TD_CE_LABELS,
    TD_CE_WEIGHTS,
    TD_CE_DIVISOR,
    TD_CE_ACC,
    TD_CE_INPUTS
};
enum { TD_CE_LOSS, TD_CE_SUM, TD_CE_NLL, TD_CE_GRAD_HIDDEN, TD_CE_GRAD_EMBEDDING, TD_CE_OUTPUTS };

/* Cross-entropy of logits z = scale * hidden embedding^T, fused with the projection and chunked, so
 * that [N, V] never exists. hidden [N, D], embedding [V, D], labels i32 [N], weights real [N],
 * divisor: a scalar, the global sum of weights.
 *     loss = sum_n w_n (log Z - sum_v t_v z_v + z_loss (log Z)^2 - smoothing's constant) / divisor
 * with t = onehot, or 1-s and s/(V-1). Rows of weight 0 are not there: whatever
 * they hold, their nll and gradient are 0, and so is a loss without any weight. Outputs: 0 loss, 1
 * sum_n w_n (log Z - z_y), a scalar not divided, 2 log Z - z_y [N], 3 dloss/dhidden, 4
 * dloss/dembedding (plus input 5, if any); those nobody uses are not computed. "cross_entropy":
 * f[0] scale, f[1] z_loss, f[2] smoothing */
static inline td_tensor *td_cross_entropy(td_tensor *hidden, td_tensor *embedding,
                                          td_tensor *labels, td_tensor *weights, td_tensor *divisor,
                                          double scale, double z_loss, double smoothing)
{
    td_attrs   a;
    td_tensor *in[TD_CE_INPUTS] = { hidden, embedding, labels, weights, divisor, 0 };
    memset(&a, 0, sizeof a);
    a.f[0] = scale;
    a.f[1] = z_loss;
    a.f[2] = smoothing;
    return td_emit_("cross_entropy", in, TD_CE_INPUTS, &a);
}

/* x / (1 - rate) where a random number keeps it, else 0. The number depends on (seed, step,
 * example, place, element): `step` is a scalar i32, `example` i32 [B] with B = dim 0 of x, the
 * place is the path in the model. Axes in the bit set `shared` share one number. Identity outside
 * training. "dropout": f[0] rate, i[0] place, i[1] shared, i[2] seed */
static inline td_tensor *td_dropout_at(td_tensor *x, td_tensor *step, td_tensor *example,
                                       double rate, int64_t shared, const char *place)
{
    td_attrs   a;
    td_tensor *in[] = { x, step, example };
    td_graph  *g = x->graph;
    uint64_t   h = 0xCBF29CE484222325u;
    memset(&a, 0, sizeof a);
    for (const char *p = g->host->path(g); *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001B3u;
    for (const char *p = place; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001B3u;
    a.f[0] = rate;
    a.i[0] = (int64_t)(h >> 1);
    a.i[1] = shared;
    a.i[2] = (int64_t)(g->host->seed(g) >> 1);
    return rate > 0 && td_is_training(g) ? td_emit_("dropout", in, 3, &a) : x;
}

/* Sum of squares of all elements, a scalar; partial sums belong to fixed chunks. "sum_squares" */
static inline td_tensor *td_sum_squares(td_tensor *x) { return td_op1_("sum_squares", x); }

/* The op as a name, for ops that a third module brings: see kind/op.h. */
static inline td_tensor *td_emit(td_graph *g, const char *op, td_tensor *const *in, int n,
                                 const td_attrs *attrs)
{
    return g->host->emit(g, op, in, n, attrs);
}

static inline td_tensor *td_output(td_tensor *first, int index)
{
    return first->graph->host->output(first, index);
}

#ifdef __cplusplus
}
#endif

#include "update.h" /* the fused updates of optimizers */
#endif
