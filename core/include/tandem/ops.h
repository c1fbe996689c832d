/* ops.h - the op vocabulary: what a plugin writes its formulas in.
 *
 * Each op is one inline function that emits one node over the host's table (graph.h), so a module
 * needs no tandem symbol at link time. The ops come in three files, all included by this one:
 *
 *   primitives.h   movement, elementwise, reduction, index, matrix product
 *   ops.h          composites: ops that deserve their own kernel. Each has a lowering to
 *                  primitives, so it runs on a backend that has no such kernel, slower
 *   update.h       the fused updates of optimizers
 *
 * Use the composite where there is one: td_rms_norm instead of its five primitives. Fast kernels,
 * the FLOP count and the memory planner recognize it. Dtypes, broadcasting, axes and errors are
 * described in primitives.h; each comment here gives the formula, then, after the op's name in
 * quotes, the attribute slots (td_attrs) for those who write a kernel. A module may bring ops that
 * are not listed here (kind/op.h) and emit them with td_emit. All of this file is [build].
 *
 * Example:
 *
 *     // A residual feed-forward block: x + down(silu(gate(norm(x))) * up(norm(x))), x [N, D].
 *     static td_tensor *block(td_tensor *x, td_tensor *scale, td_tensor *w_gate, td_tensor *w_up,
 *                             td_tensor *w_down)
 *     {
 *         td_tensor *n = td_rms_norm(x, scale, 1e-6);
 *         td_tensor *h = td_glu(td_matmul(n, w_gate), td_matmul(n, w_up), TD_SILU);
 *         return td_add(x, td_matmul(h, w_down));
 *     }
 */
#ifndef TANDEM_OPS_H
#define TANDEM_OPS_H

#include <string.h>

#include "primitives.h"
#include "random.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- products by group (mixture of experts) -------------------------------------------------- */

/* Multiply each row by the matrix of its group: y[n] = x[n] w[group[n]], with x [N, K], w [G, K, M]
 * and group i32 [N]; or w [G, M, K] if `transposed`. A row whose group is outside 0 .. G-1 becomes
 * zeros: a token without an expert. Rows come in any order; if they are sorted by group, kernels
 * need not copy them. "grouped_matmul": i[0] 1: transposed */
static inline td_tensor *td_grouped_matmul(td_tensor *x, td_tensor *w, td_tensor *group,
                                           bool transposed)
{
    td_attrs   a = td_attrs_(transposed, 0, 0, 0);
    td_tensor *in[] = { x, w, group };
    return td_emit_("grouped_matmul", in, 3, &a);
}

/* For each group the sum of x[n]^T y[n] over its rows: [groups, P, Q], with x [N, P] and y [N, Q].
 * This is the weight gradient of td_grouped_matmul. An input 3, if present, is added.
 * "grouped_outer": i[0] groups */
static inline td_tensor *td_grouped_outer(td_tensor *x, td_tensor *y, td_tensor *group,
                                          int64_t groups)
{
    td_attrs   a = td_attrs_(groups, 0, 0, 0);
    td_tensor *in[] = { x, y, group, 0 };
    return td_emit_("grouped_outer", in, 4, &a);
}

/* ---- normalization, rotation, activation ----------------------------------------------------- */

/* exp(x) / sum(exp(x)) over the last axis; the maximum is subtracted first, so large x is safe.
 * "softmax" */
static inline td_tensor *td_softmax(td_tensor *x) { return td_op1_("softmax", x); }

/* x / sqrt(mean(x^2) + eps) * w over the last axis; w [E], or NULL for 1. Output 1: the reciprocal
 * root [.., 1], kept for the gradient. Paper: Zhang and Sennrich 2019. "rms_norm": f[0] eps */
static inline td_tensor *td_rms_norm(td_tensor *x, td_tensor *w, double eps)
{
    td_attrs   a = td_attrs_(0, 0, 0, eps);
    td_tensor *in[] = { x, w };
    return td_emit_("rms_norm", in, 2, &a);
}

/* (x - mean) / sqrt(var + eps) * w + b over the last axis; w and b [E], or NULL for 1 and 0.
 * Outputs 1 and 2: mean and reciprocal deviation. Paper: Ba et al. 2016. "layer_norm": f[0] eps */
static inline td_tensor *td_layer_norm(td_tensor *x, td_tensor *w, td_tensor *b, double eps)
{
    td_attrs   a = td_attrs_(0, 0, 0, eps);
    td_tensor *in[] = { x, w, b };
    return td_emit_("layer_norm", in, 3, &a);
}

/* Rotate the halves (u, v) of the last axis of x [B, H, T, E] by angles given as their cosines and
 * sines [B, T, E/2]: (u cos - v sin, v cos + u sin). Pairs are (e, e + E/2), as in Hugging Face's
 * models, not (2e, 2e + 1) as in the paper (Su et al. 2021). "rope": i[0] 1: rotate back */
static inline td_tensor *td_rope(td_tensor *x, td_tensor *cosine, td_tensor *sine)
{
    td_tensor *in[] = { x, cosine, sine };
    return td_emit_("rope", in, 3, 0);
}

typedef enum td_activation {
    TD_SILU,   /* x sigmoid(x), also called swish */
    TD_GELU,   /* x Phi(x) in its tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    TD_RELU,   /* max(x, 0); NaN stays NaN */
    TD_RELU2,  /* max(x, 0)^2 (So et al. 2021) */
    TD_SIGMOID /* 1 / (1 + e^-x) */
} td_activation;

/* f(x), element by element. "activation": i[0] td_activation */
static inline td_tensor *td_activate(td_tensor *x, td_activation f)
{
    return td_op1_with_("activation", x, td_attrs_((int64_t)f, 0, 0, 0));
}

/* f(gate) * up, the gated linear unit (Shazeer 2020); one pass over memory instead of two.
 * "glu": i[0] td_activation */
static inline td_tensor *td_glu(td_tensor *gate, td_tensor *up, td_activation f)
{
    td_attrs   a = td_attrs_((int64_t)f, 0, 0, 0);
    td_tensor *in[] = { gate, up };
    return td_emit_("glu", in, 2, &a);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* Which keys j a query i sees: a rule over a few integers per token, never a matrix.
 *
 *     the key is there                       j < k_length
 *     same segment, and not padding          q_segment[i] == k_segment[j] != 0
 *     and, if causal,                        k_index[j] <= q_index[i], or both are input tokens
 *     and, if window > 0,                    q_index[i] - k_index[j] < window
 *     or, if self, the token itself          k_index[j] == q_index[i] of a padding query (segment 0)
 *
 * A query with no key gets 0. All tensors are i32 [B, T], except for k_length, i32 [B]. Any may be
 * NULL: indices then count 0, 1, ..; no token is an input; all tokens are of one segment; all keys
 * are present. Keys from k_length on are not read and cost nothing: in generation these slots hold
 * the leftovers of an earlier text. A kernel that does not know k_length must refuse a call that
 * has one (`accepts`). */
typedef struct td_mask {
    bool       causal, self;
    int64_t    window;
    td_tensor *q_segment, *k_segment;
    td_tensor *q_input, *k_input;
    td_tensor *q_index, *k_index;
    td_tensor *k_length;
    td_tensor *dense; /* real [B|1, H|1, Tq, Tk], added to the scores (-inf hides), or NULL: slow */
} td_mask;

/* [B, T] to [B, 1, T, 1], and to [B, 1, 1, T]. */
static inline td_tensor *td_of_queries_(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), 1, td_dim(x, 1), 1 };
    return td_reshape(x, dims, 4);
}
static inline td_tensor *td_of_keys_(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, 0), 1, 1, td_dim(x, 1) };
    return td_reshape(x, dims, 4);
}

/* An index, [B, T], or if absent 0, 1, .. for every row, [1, T]. */
static inline td_tensor *td_index_or_count_(td_graph *g, td_tensor *index, int64_t length)
{
    int64_t dims[] = { 1, length };
    return index ? index : td_reshape(td_iota(g, TD_I32, length), dims, 2);
}

/* Which of `keys` slots hold a key, by k_length i32 [B], as 0 and 1: i32 [B, 1, 1, keys]. */
static inline td_tensor *td_keys_present(td_graph *g, td_tensor *k_length, int64_t keys)
{
    int64_t rows[] = { td_dim(k_length, 0), 1, 1, 1 };
    return td_less(td_of_keys_(td_index_or_count_(g, 0, keys)), td_reshape(k_length, rows, 4));
}

/* The rule as a tensor, for an attention whose weights are not a softmax of its own: 1 where the
 * query sees the key and 0 elsewhere, i32 [B|1, 1, queries, keys]. Its memory grows with the square
 * of the length, unlike td_attend's. `dense` is not part of it: it is added to scores. "And" is a
 * product here, "or" a maximum. */
static inline td_tensor *td_mask_visible(td_graph *g, const td_mask *m, int64_t queries,
                                         int64_t keys)
{
    td_tensor *qi = td_of_queries_(td_index_or_count_(g, m->q_index, queries));
    td_tensor *ki = td_of_keys_(td_index_or_count_(g, m->k_index, keys));
    td_tensor *zero = td_full(g, TD_I32, 0, 0, 0), *see;
    td_tensor *causal = td_full(g, TD_I32, 0, 0, m->causal);
    see = td_affine(td_mul(td_less(qi, ki), causal), -1, 1);
    /* input tokens see each other both ways */
    if (m->causal && m->q_input) {
        td_tensor *both = td_mul(td_of_queries_(m->q_input), td_of_keys_(m->k_input));
        see = td_maximum(see, td_affine(td_equal(both, zero), -1, 1));
    }
    if (m->window > 0)
        see = td_mul(see, td_less(td_sub(qi, ki), td_full(g, TD_I32, 0, 0, (double)m->window)));
    if (m->q_segment) {
        td_tensor *qs = td_of_queries_(m->q_segment), *ks = td_of_keys_(m->k_segment);
        see = td_mul(see, td_mul(td_equal(qs, ks), td_affine(td_equal(qs, zero), -1, 1)));
        /* last of all: a padding query sees itself whatever else the rule says */
        if (m->self)
            see = td_maximum(see, td_mul(td_equal(qs, zero), td_equal(qi, ki)));
    }
    return m->k_length ? td_mul(see, td_keys_present(g, m->k_length, keys)) : see;
}

/* A bias by distance: the score of query i and key j in head h is increased by
 * table[h, clamp(k_position[j] - q_position[i] + offset, 0, R - 1)]. */
typedef struct td_bias {
    td_tensor *table;                   /* real [H, R], or NULL: no bias */
    td_tensor *q_position, *k_position; /* i32 [B, T] */
    int64_t    offset;                  /* the index of distance 0 */
} td_bias;

/* cap tanh(x / cap): about x where x is small, and never beyond +-cap. cap 0: x itself. Papers: Bello
 * et al. 2016; Gemma Team 2024 (Gemma 2). */
static inline td_tensor *td_cap(td_tensor *x, double cap)
{
    return cap > 0 ? td_scale(td_tanh(td_scale(x, 1 / cap)), cap) : x;
}

/* The inputs of "attend". "attend_grad" takes the same, then the gradient of the output, the
 * output, and output 1. */
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

/* softmax(td_cap(scale q k^T, cap) + bias, over the keys that the mask shows) v. q [B, H, Tq, E], k
 * [B, G, Tk, E], v [B, G, Tk, F], G dividing H (grouped heads: head h reads group h / (H/G)). ->
 * [B, H, Tq, F]; output 1: logsumexp [B, H, Tq], through which no gradient flows. A kernel that does
 * not know the cap must refuse a call that has one (`accepts`). "attend": i[0] causal, i[1] window,
 * i[2] self, i[3] bias offset; f[0] scale, f[1] cap (0: none). "attend_grad": -> dq, dk, dv, dtable
 * [H, R], ddense */
static inline td_tensor *td_attend_capped(td_tensor *q, td_tensor *k, td_tensor *v,
                                          const td_mask *mask, const td_bias *bias, double scale,
                                          double cap)
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
    a.f[1] = cap;
    /* without a bias by distance its three inputs stay absent */
    if (bias && bias->table) {
        in[TD_ATTEND_TABLE] = bias->table;
        in[TD_ATTEND_Q_POSITION] = bias->q_position;
        in[TD_ATTEND_K_POSITION] = bias->k_position;
        a.i[3] = bias->offset;
    }
    return td_emit_("attend", in, TD_ATTEND_INPUTS, &a);
}

static inline td_tensor *td_attend(td_tensor *q, td_tensor *k, td_tensor *v, const td_mask *mask,
                                   const td_bias *bias, double scale)
{
    return td_attend_capped(q, k, v, mask, bias, scale, 0);
}

/* ---- cross-entropy --------------------------------------------------------------------------- */

/* The inputs and outputs of "cross_entropy", in order. ACC, if present, is added to the gradient of
 * the embedding: the planner folds sums into it. */
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

/* Cross-entropy of the logits z = td_cap(scale * hidden embedding^T, cap), fused with the projection
 * and computed in chunks, so that [N, V] never exists. With Z = sum_v exp(z_v), label y and weight w:
 *
 *     loss = sum_n w_n (log Z - sum_v t_v z_v + z_loss (log Z)^2 - c) / divisor
 *
 * where t is the label smoothed by s: 1-s at y, s/(V-1) elsewhere, and c the entropy of t, so that
 * a perfect prediction costs 0. hidden [N, D], embedding [V, D], labels i32 [N], weights real [N];
 * divisor is a scalar, the sum of weights over the whole global batch.
 *
 * A row of weight 0 is ignored: whatever it holds (a label of -1, NaN), its cross-entropy and
 * gradient are 0. Without rows the loss is 0.
 *
 * Outputs: 0 loss; 1 sum_n w_n (log Z - z_y), a scalar, not divided; 2 log Z - z_y, [N]; 3
 * dloss/dhidden; 4 dloss/dembedding. An output without a reader is not computed. The gradients are
 * outputs because they are cheapest while the logits of a chunk exist. The z-loss is from Chowdhery
 * et al. 2022 (PaLM). "cross_entropy": f[0] scale, f[1] z_loss, f[2] smoothing, f[3] cap (0: none) */
static inline td_tensor *td_cross_entropy_capped(td_tensor *hidden, td_tensor *embedding,
                                                 td_tensor *labels, td_tensor *weights,
                                                 td_tensor *divisor, double scale, double cap,
                                                 double z_loss, double smoothing)
{
    td_attrs   a = td_attrs_(0, 0, 0, scale);
    td_tensor *in[TD_CE_INPUTS] = { hidden, embedding, labels, weights, divisor, 0 };
    a.f[1] = z_loss;
    a.f[2] = smoothing;
    a.f[3] = cap;
    return td_emit_("cross_entropy", in, TD_CE_INPUTS, &a);
}

static inline td_tensor *td_cross_entropy(td_tensor *hidden, td_tensor *embedding,
                                          td_tensor *labels, td_tensor *weights, td_tensor *divisor,
                                          double scale, double z_loss, double smoothing)
{
    return td_cross_entropy_capped(hidden, embedding, labels, weights, divisor, scale, 0, z_loss,
                                   smoothing);
}

/* ---- dropout, norms, and ops by name --------------------------------------------------------- */

/* x / (1 - rate) where a random number keeps the element, else 0; x itself outside training.
 *
 * The number is a function of (seed, step, example, place, element), so dropout does not depend on
 * the batch's layout, on threads or on ranks. `step` is a scalar i32; `example` i32 [B], B being
 * dim 0 of x; the place is the path in the model and then `place`, so two sublayers differ. Axes in
 * the bit set `shared` share one number. Prefer td_drop (kind/dropout.h), which applies the run's
 * settings. Paper: Srivastava et al. 2014.
 * "dropout": f[0] rate, i[0] place, i[1] shared, i[2] seed */
static inline td_tensor *td_dropout_at(td_tensor *x, td_tensor *step, td_tensor *example,
                                       double rate, int64_t shared, const char *place)
{
    td_graph  *g = x->graph;
    uint64_t   where = td_hash(td_random_stream(g->host->path(g)), place, strlen(place));
    td_attrs   a = td_attrs_((int64_t)(where >> 1), shared, (int64_t)(g->host->seed(g) >> 1), rate);
    td_tensor *in[] = { x, step, example };
    return rate > 0 && td_is_training(g) ? td_emit_("dropout", in, 3, &a) : x;
}

/* The sum of squares of all elements, a scalar, used for gradient norms. Partial sums belong to
 * fixed pieces of x, so the bits do not depend on threads. "sum_squares" */
static inline td_tensor *td_sum_squares(td_tensor *x) { return td_op1_("sum_squares", x); }

/* Emit an op by its name: for ops that a module brings (kind/op.h). Returns output 0; `attrs`
 * may be NULL, for zeros, and so may optional inputs. */
static inline td_tensor *td_emit(td_graph *g, const char *op, td_tensor *const *in, int n,
                                 const td_attrs *attrs)
{
    return g->host->emit(g, op, in, n, attrs);
}

/* Another output of the node that made `first`, its output 0. */
static inline td_tensor *td_output(td_tensor *first, int index)
{
    return first->graph->host->output(first, index);
}

#ifdef __cplusplus
}
#endif

#include "update.h" /* the fused updates of optimizers */
#endif
