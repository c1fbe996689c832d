/* attend.c - scaled dot-product attention under a mask rule (Vaswani et al. 2017).
 *
 * The mask is a rule over a few integers per token, so a fused kernel (Dao et al. 2022) needs no
 * memory of the order T x T, and skips tiles that the rule hides. The lowering below stores scores
 * and mask: it defines the result, and is what a backend without the kernel runs.
 */
#include "define.h"

#define HIDDEN -1e30 /* below any score; finite, as the difference of two infinities is NaN */

static int check_heads(const td_tensor *q, const td_tensor *k, const td_tensor *v, td_error *error)
{
    if (q->rank != 4 || k->rank != 4 || v->rank != 4)
        return td_fail(error, TD_EGRAPH,
                       "queries, keys and values must be [B, H, T, E]; their ranks are %d, %d, %d",
                       q->rank, k->rank, v->rank);
    if (!td_is_real(q) || k->dtype != q->dtype || v->dtype != q->dtype)
        return td_fail(error, TD_EGRAPH, "queries, keys and values must be reals of one dtype");
    if (q->dim[3] != k->dim[3] || k->dim[0] != q->dim[0] || v->dim[0] != q->dim[0])
        return td_fail(error, TD_EGRAPH,
                       "queries [%lld, .., %lld], keys [%lld, .., %lld] and values [%lld, ..] must "
                       "have the same batch, queries and keys the same width",
                       (long long)q->dim[0], (long long)q->dim[3], (long long)k->dim[0],
                       (long long)k->dim[3], (long long)v->dim[0]);
    if (k->dim[1] != v->dim[1] || k->dim[2] != v->dim[2])
        return td_fail(error, TD_EGRAPH,
                       "there are %lld heads of %lld keys, but %lld heads of %lld values",
                       (long long)k->dim[1], (long long)k->dim[2], (long long)v->dim[1],
                       (long long)v->dim[2]);
    /* grouped heads: each head of keys serves the same number of heads of queries */
    if (!k->dim[1] || q->dim[1] % k->dim[1])
        return td_fail(error, TD_EGRAPH,
                       "the %lld query heads are not a multiple of the %lld key heads",
                       (long long)q->dim[1], (long long)k->dim[1]);
    return 0;
}

/* The rule's integers, one per token. */
static int check_rule(td_tensor *const *in, td_error *error)
{
    const td_tensor *q = in[TD_ATTEND_Q], *k = in[TD_ATTEND_K];
    for (int i = TD_ATTEND_Q_SEGMENT; i <= TD_ATTEND_K_POSITION; i++) {
        bool of_q = i == TD_ATTEND_Q_SEGMENT || i == TD_ATTEND_Q_INPUT || i == TD_ATTEND_Q_INDEX ||
                    i == TD_ATTEND_Q_POSITION;
        int64_t length = of_q ? q->dim[2] : k->dim[2];
        if (i == TD_ATTEND_TABLE || !in[i])
            continue;
        if (in[i]->dtype != TD_I32 || in[i]->rank != 2 || in[i]->dim[0] != q->dim[0] ||
            in[i]->dim[1] != length)
            return td_fail(error, TD_EGRAPH, "mask input %d must be i32 [%lld, %lld]", i,
                           (long long)q->dim[0], (long long)length);
    }
    if (in[TD_ATTEND_K_LENGTH] &&
        (in[TD_ATTEND_K_LENGTH]->dtype != TD_I32 || in[TD_ATTEND_K_LENGTH]->rank != 1 ||
         in[TD_ATTEND_K_LENGTH]->dim[0] != q->dim[0]))
        return td_fail(error, TD_EGRAPH, "the number of keys must be i32 [%lld]",
                       (long long)q->dim[0]);
    /* an index may be absent on one side: it counts from 0 then. These are compared, and need
     * both */
    if (!in[TD_ATTEND_Q_SEGMENT] != !in[TD_ATTEND_K_SEGMENT] ||
        !in[TD_ATTEND_Q_INPUT] != !in[TD_ATTEND_K_INPUT])
        return td_fail(error, TD_EGRAPH,
                       "segments and input marks must be set for both queries and keys, or for "
                       "neither");
    return 0;
}

static bool is_or_one(int64_t dim, int64_t wanted) { return dim == wanted || dim == 1; }

/* Terms added to the scores: a table by distance, or a tensor that may broadcast over rows and
 * heads. */
static int check_bias(td_tensor *const *in, td_error *error)
{
    const td_tensor *q = in[TD_ATTEND_Q], *k = in[TD_ATTEND_K], *table = in[TD_ATTEND_TABLE],
                    *dense = in[TD_ATTEND_DENSE];
    /* distances beyond the table read its first or last entry, so any length but 0 will do */
    if (table && (table->dtype != q->dtype || table->rank != 2 || table->dim[0] != q->dim[1] ||
                  table->dim[1] < 1 || !in[TD_ATTEND_Q_POSITION] || !in[TD_ATTEND_K_POSITION]))
        return td_fail(
            error, TD_EGRAPH,
            "a bias table must be real [%lld heads, distances], not empty, and needs the positions "
            "of queries and keys",
            (long long)q->dim[1]);
    if (dense && (dense->dtype != q->dtype || dense->rank != 4 ||
                  !is_or_one(dense->dim[0], q->dim[0]) || !is_or_one(dense->dim[1], q->dim[1]) ||
                  dense->dim[2] != q->dim[2] || dense->dim[3] != k->dim[2]))
        return td_fail(error, TD_EGRAPH,
                       "a dense mask must be real [%lld or 1, %lld or 1, %lld queries, %lld keys]",
                       (long long)q->dim[0], (long long)q->dim[1], (long long)q->dim[2],
                       (long long)k->dim[2]);
    return 0;
}

static int check(td_tensor *const *in, td_error *error)
{
    if (td_require(in, TD_ATTEND_V + 1, 0, error) ||
        check_heads(in[TD_ATTEND_Q], in[TD_ATTEND_K], in[TD_ATTEND_V], error) ||
        check_rule(in, error))
        return TD_EGRAPH;
    return check_bias(in, error);
}

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (check(in, error))
        return TD_EGRAPH;
    /* [B, H, Tq, F] and the logsumexp [B, H, Tq] */
    out[0] = td_shape_of(in[TD_ATTEND_Q]);
    out[1] = out[0];
    out[0].dim[3] = in[TD_ATTEND_V]->dim[3];
    out[1].rank = 3;
    return 2;
}

/* The output, its gradient and the logsumexp must be those of attend. */
static int check_results(td_tensor *const *in, td_error *error)
{
    const td_tensor *q = in[TD_ATTEND_Q];
    for (int k = TD_ATTEND_GRAD; k < TD_ATTEND_GRAD_INPUTS; k++) {
        bool lse = k == TD_ATTEND_LSE;
        if (!in[k] || in[k]->dtype != q->dtype || in[k]->rank != (lse ? 3 : 4) ||
            memcmp(in[k]->dim, q->dim, 3 * sizeof *q->dim) ||
            (!lse && in[k]->dim[3] != in[TD_ATTEND_V]->dim[3]))
            return td_fail(error, TD_EGRAPH, "input %d does not have the dims of attend's output",
                           k);
    }
    return 0;
}

static int infer_grad(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                      td_error *error)
{
    static const int of[] = { TD_ATTEND_Q, TD_ATTEND_K, TD_ATTEND_V, TD_ATTEND_TABLE,
                              TD_ATTEND_DENSE };
    if (check(in, error) || check_results(in, error))
        return TD_EGRAPH;
    for (int k = 0; k < 5; k++)
        if (in[of[k]])
            out[k] = td_shape_of(in[of[k]]);
        else { /* an absent input has an empty gradient, so that the outputs keep their numbers */
            out[k].dtype = in[0]->dtype;
            out[k].rank = 1;
            out[k].dim[0] = 0;
        }
    return 5;
}

static void vjp(TD_VJP_PARAMETERS)
{
    static const int of[] = { TD_ATTEND_Q, TD_ATTEND_K, TD_ATTEND_V, TD_ATTEND_TABLE,
                              TD_ATTEND_DENSE };
    td_tensor       *inputs[TD_ATTEND_GRAD_INPUTS], *first;
    if (!td_no_gradient_of(in, grad_out, 1, "the logsumexp of attend") || !grad_out[0])
        return;
    for (int k = 0; k < TD_ATTEND_INPUTS; k++)
        inputs[k] = k < n ? in[k] : 0;
    inputs[TD_ATTEND_GRAD] = grad_out[0];
    inputs[TD_ATTEND_OUT] = out[0];
    inputs[TD_ATTEND_LSE] = out[1];
    /* one op for all gradients: they share the weights, which are too large to keep */
    first = td_emit_("attend_grad", inputs, TD_ATTEND_GRAD_INPUTS, a);
    for (int k = 0; k < 5; k++)
        if (of[k] < n && need[of[k]])
            grad_in[of[k]] = td_output(first, k);
}

/* ---- the lowering ---------------------------------------------------------------------------- */

static td_tensor *integer(td_graph *g, int64_t value)
{
    return td_full(g, TD_I32, 0, 0, (double)value);
}

/* Keys or values [B, G, Tk, E], with zeros for absent ones: a weight of 0 would not hide a NaN
 * that an earlier text left. */
static td_tensor *without_absent(td_graph *g, td_tensor *const *in, td_tensor *x)
{
    if (!in[TD_ATTEND_K_LENGTH])
        return x;
    return td_where(td_transpose(td_keys_present(g, in[TD_ATTEND_K_LENGTH], x->dim[2]), 2, 3), x,
                    td_scalar(g, 0));
}

/* The mask as 0 and 1, [B|1, 1, Tq, Tk], in i32. */
static td_tensor *visible(td_graph *g, td_tensor *const *in, const td_attrs *a)
{
    const td_mask m = { .causal = a->i[0] != 0,
                        .window = a->i[1],
                        .self = a->i[2] != 0,
                        .q_segment = in[TD_ATTEND_Q_SEGMENT],
                        .k_segment = in[TD_ATTEND_K_SEGMENT],
                        .q_input = in[TD_ATTEND_Q_INPUT],
                        .k_input = in[TD_ATTEND_K_INPUT],
                        .q_index = in[TD_ATTEND_Q_INDEX],
                        .k_index = in[TD_ATTEND_K_INDEX],
                        .k_length = in[TD_ATTEND_K_LENGTH] };
    return td_mask_visible(g, &m, in[TD_ATTEND_Q]->dim[2], in[TD_ATTEND_K]->dim[2]);
}

/* Grouped heads (Ainslie et al. 2023) written out: [B, G, T, E] -> [B, H, T, E]. */
static td_tensor *each_head(td_tensor *x, int64_t heads)
{
    int64_t groups = x->dim[1], one[] = { x->dim[0], groups, 1, x->dim[2], x->dim[3] };
    int64_t wide[] = { x->dim[0], groups, heads / groups, x->dim[2], x->dim[3] };
    int64_t dims[] = { x->dim[0], heads, x->dim[2], x->dim[3] };
    return groups == heads ? x : td_reshape(td_expand(td_reshape(x, one, 5), wide), dims, 4);
}

/* Its gradient: heads summed by group, [B, H, T, E] -> [B, G, T, E]. */
static td_tensor *each_group(td_tensor *x, int64_t groups)
{
    int64_t wide[] = { x->dim[0], groups, x->dim[1] / groups, x->dim[2], x->dim[3] };
    int64_t dims[] = { x->dim[0], groups, x->dim[2], x->dim[3] };
    return x->dim[1] == groups ? x : td_reshape(td_sum(td_reshape(x, wide, 5), 2), dims, 4);
}

/* The column of the bias table that each pair of tokens reads: its distance, clamped to the table.
 * i32 [B, Tq, Tk]. */
static td_tensor *distance(td_graph *g, td_tensor *const *in, const td_attrs *a)
{
    int64_t    last = in[TD_ATTEND_TABLE]->dim[1] - 1, b = in[0]->dim[0];
    int64_t    dims[] = { b, in[TD_ATTEND_Q]->dim[2], in[TD_ATTEND_K]->dim[2] };
    td_tensor *d = td_sub(td_of_keys_(in[TD_ATTEND_K_POSITION]),
                          td_of_queries_(in[TD_ATTEND_Q_POSITION]));
    d = td_maximum(td_affine(d, 1, (double)a->i[3]), integer(g, 0));
    return td_reshape(td_where(td_less(d, integer(g, last)), d, integer(g, last)), dims, 3);
}

/* cap tanh(scale q k^T / cap)                                                    [B, H, Tq, Tk] */
static td_tensor *capped(td_tensor *const *in, const td_attrs *a)
{
    td_tensor *k = each_head(in[TD_ATTEND_K], in[TD_ATTEND_Q]->dim[1]);
    return td_cap(td_scale(td_matmul(in[TD_ATTEND_Q], td_transpose(k, -1, -2)), a->f[0]), a->f[1]);
}

/* The same, plus the biases. */
static td_tensor *scores(td_graph *g, td_tensor *const *in, const td_attrs *a)
{
    int        order[] = { 0, 3, 1, 2 }; /* rows of the transposed table: [B, Tq, Tk, H] */
    td_tensor *s = capped(in, a);
    if (in[TD_ATTEND_TABLE])
        s = td_add(s, td_permute(td_gather(td_transpose(in[TD_ATTEND_TABLE], 0, 1),
                                           distance(g, in, a)),
                                 order));
    return in[TD_ATTEND_DENSE] ? td_add(s, in[TD_ATTEND_DENSE]) : s;
}

/*     o = sum_j exp(s_j - top) v_j / sum, sum = sum_j exp(s_j - top), over the visible keys j
 *     lse = log(sum) + top */
static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                  td_tensor **out)
{
    int64_t    rows[] = { in[0]->dim[0], in[0]->dim[1], in[0]->dim[2] };
    /* hidden scores, even NaN, count neither for the maximum nor for the sum */
    td_tensor *s = scores(g, in, a), *see = visible(g, in, a), *floor_ = td_scalar(g, HIDDEN);
    /* a query without keys has sum 0: it divides by 1 instead, and gets 0 */
    td_tensor *top = td_maximum(td_max(td_where(see, s, floor_), -1), floor_);
    td_tensor *e = td_where(see, td_exp(td_sub(s, top)), td_scalar(g, 0)), *sum = td_sum(e, -1);
    td_tensor *empty = td_equal(sum, td_scalar(g, 0));
    out[0] = td_div(td_matmul(e, each_head(without_absent(g, in, in[TD_ATTEND_V]), rows[1])),
                    td_add(sum, empty));
    out[1] = td_reshape(td_add(td_log(sum), top), rows, 3);
}

/* The gradient of scale q k^T from that of the scores: a cap's slope is 1 - tanh^2. Hidden pairs,
 * whose products may be NaN, have a gradient of exactly 0. */
static td_tensor *uncapped(td_graph *g, td_tensor *const *in, const td_attrs *a, td_tensor *ds)
{
    td_tensor *c;
    if (a->f[1] <= 0)
        return ds;
    c = td_scale(capped(in, a), 1 / a->f[1]);
    return td_where(ds, td_mul(ds, td_affine(td_mul(c, c), -1, 1)), td_scalar(g, 0));
}

/* With p the weights, from the saved logsumexp: ds = p (do v^T - sum(do o)); dq = ds k, dk = ds^T
 * q, dv = p^T do. */
static void lower_grad(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                       const bool *used, td_tensor **out)
{
    td_tensor *q = in[TD_ATTEND_Q], *go = in[TD_ATTEND_GRAD], *lse = in[TD_ATTEND_LSE];
    int64_t    heads = q->dim[1], groups = in[TD_ATTEND_K]->dim[1],
            rows[] = { q->dim[0], heads, q->dim[2], 1 };
    int        last[] = { 0, 2, 3, 1 };
    td_tensor *k = each_head(without_absent(g, in, in[TD_ATTEND_K]), heads),
              *v = each_head(without_absent(g, in, in[TD_ATTEND_V]), heads),
              *zero = td_scalar(g, 0);
    /* the logsumexp of a query without keys is -infinity: kept finite, or exp(s - lse) is NaN */
    td_tensor *top = td_maximum(td_reshape(lse, rows, 4), td_scalar(g, HIDDEN));
    /* weights are recomputed, not saved, because they need T x T memory */
    td_tensor *p = td_where(visible(g, in, a), td_exp(td_sub(scores(g, in, a), top)), zero);
    td_tensor *dp = td_matmul(go, td_transpose(v, -1, -2));
    td_tensor *ds = td_mul(p, td_sub(dp, td_sum(td_mul(go, in[TD_ATTEND_OUT]), -1)));
    td_tensor *scaled = td_scale(uncapped(g, in, a, ds), a->f[0]);
    out[0] = td_matmul(scaled, k);
    out[1] = each_group(td_matmul(td_transpose(scaled, -1, -2), q), groups);
    out[2] = each_group(td_matmul(td_transpose(p, -1, -2), go), groups);
    if (used[3])
        out[3] = td_transpose(td_scatter_add(distance(g, in, a), td_permute(ds, last), 0,
                                             in[TD_ATTEND_TABLE]->dim[1]),
                              0, 1);
    if (used[4])
        out[4] = td_unbroadcast(ds, in[TD_ATTEND_DENSE]);
}

/* ---- cost ------------------------------------------------------------------------------------ */

/* Pairs of tokens, over heads and rows. */
static double all_pairs(td_tensor *const *in)
{
    const td_tensor *q = in[TD_ATTEND_Q], *v = in[TD_ATTEND_V];
    return (double)q->dim[0] * (double)q->dim[1] * (double)q->dim[2] * (double)v->dim[2];
}

static void flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                  double pairs, td_flops *f)
{
    f->matmul = 2 * all_pairs(in) * (double)(in[TD_ATTEND_Q]->dim[3] + in[TD_ATTEND_V]->dim[3]);
    f->visible = f->matmul * pairs;
    f->elementwise = 4 * all_pairs(in) * pairs;
}

/* Counted as the four products that a gradient needs; computing the scores again is the kernel's
 * own choice. */
static void flops_grad(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                       double pairs, td_flops *f)
{
    flops(in, n, out, a, pairs, f);
    f->matmul *= 2;
    f->visible *= 2;
    f->elementwise *= 2;
}

TD_DEFINE_OP(td_op_attend, "attend", TD_ATTEND_INPUTS, TD_ATTEND_INPUTS,
             "softmax(cap(scale q k^T) + bias) v under a mask rule", .infer = infer, .vjp = vjp,
             .lower = lower, .flops = flops);
TD_DEFINE_OP(td_op_attend_grad, "attend_grad", TD_ATTEND_GRAD_INPUTS, TD_ATTEND_GRAD_INPUTS,
             "gradients of attend", .infer = infer_grad, .lower = lower_grad, .flops = flops_grad);
