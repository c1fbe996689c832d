/* cross_entropy.c - projection and cross-entropy in one op, with z-loss (Chowdhery et al., "PaLM",
 * 2022) and label smoothing as T5X computes it.
 *
 * The gradients of hidden states and embedding are outputs of the forward op: a fused kernel goes
 * through the logits chunk by chunk and computes both while it has a chunk, so [N, V] never exists.
 * The lowering stores it.
 */
#include "define.h"

static int check(td_tensor *const *in, int n, td_error *error)
{
    const td_tensor *h = in[TD_CE_HIDDEN], *e = in[TD_CE_EMBEDDING], *y = in[TD_CE_LABELS],
                    *w = in[TD_CE_WEIGHTS];
    /* the planner may put a summand of the embedding's gradient into the last input */
    if (td_require(in, n, 1u << TD_CE_ACC, error))
        return TD_EGRAPH;
    if (!td_is_real(h) || e->dtype != h->dtype || w->dtype != h->dtype ||
        in[TD_CE_DIVISOR]->dtype != h->dtype)
        return td_fail(error, TD_EGRAPH,
                       "hidden, embedding, weights and divisor must be reals of one dtype");
    if (h->rank != 2 || e->rank != 2 || h->dim[1] != e->dim[1])
        return td_fail(error, TD_EGRAPH,
                       "hidden must be [N, D] and the embedding [V, D]; D is %lld and %lld",
                       (long long)td_dim(h, -1), (long long)td_dim(e, -1));
    if (y->dtype != TD_I32 || y->rank != 1 || w->rank != 1 || y->dim[0] != h->dim[0] ||
        w->dim[0] != h->dim[0])
        return td_fail(
            error, TD_EGRAPH,
            "labels must be i32 [%lld] and weights real [%lld]: one for each row of hidden",
            (long long)h->dim[0], (long long)h->dim[0]);
    if (td_count(in[TD_CE_DIVISOR]) != 1)
        return td_fail(error, TD_EGRAPH, "the divisor must be a scalar");
    return 0;
}

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    const td_tensor *h = in[TD_CE_HIDDEN], *e = in[TD_CE_EMBEDDING];
    if (check(in, n, error))
        return TD_EGRAPH;
    /* loss and sum are scalars, of rank 0 */
    memset(out, 0, TD_CE_OUTPUTS * sizeof *out);
    out[TD_CE_LOSS].dtype = out[TD_CE_SUM].dtype = out[TD_CE_NLL].dtype = h->dtype;
    out[TD_CE_NLL].rank = 1;
    out[TD_CE_NLL].dim[0] = h->dim[0];
    out[TD_CE_GRAD_HIDDEN] = td_shape_of(h);
    out[TD_CE_GRAD_EMBEDDING] = td_shape_of(e);
    return TD_CE_OUTPUTS;
}

/* The gradients were computed by the forward op; what flows into the loss only scales them. */
static void vjp(TD_VJP_PARAMETERS)
{
    if (!td_no_gradient_of(in, grad_out, TD_CE_SUM, "the reported cross-entropy") ||
        !td_no_gradient_of(in, grad_out, TD_CE_NLL, "the cross-entropy per token") ||
        !grad_out[TD_CE_LOSS])
        return;
    if (need[TD_CE_HIDDEN])
        grad_in[TD_CE_HIDDEN] = td_mul(out[TD_CE_GRAD_HIDDEN], grad_out[TD_CE_LOSS]);
    if (need[TD_CE_EMBEDDING])
        grad_in[TD_CE_EMBEDDING] = td_mul(out[TD_CE_GRAD_EMBEDDING], grad_out[TD_CE_LOSS]);
}

/* Smoothed targets: `on` for the label, `off` for all others. `entropy` is sum t log t, a constant
 * that makes the loss 0 for a perfect prediction. */
typedef struct targets {
    double on, off, entropy;
} targets;

static targets smoothed(double s, int64_t vocab)
{
    targets t = { 1 - s, vocab > 1 ? s / (double)(vocab - 1) : 0, 0 };
    if (s > 0)
        t.entropy = t.on * log(t.on) + (double)(vocab - 1) * t.off * log(t.off);
    return t;
}

/* [N] -> [N, 1], to broadcast against logits. */
static td_tensor *column(td_tensor *x)
{
    int64_t dims[] = { td_count(x), 1 };
    return td_reshape(x, dims, 2);
}

/* 1 at each row's label: [N, V]. */
static td_tensor *one_hot(td_graph *g, td_tensor *labels, int64_t vocab)
{
    int64_t dims[] = { 1, vocab };
    return td_cast(td_equal(td_reshape(td_iota(g, TD_I32, vocab), dims, 2), column(labels)),
                   TD_REAL);
}

/* Tensors shared by the loss and its gradients. */
typedef struct softmax {
    td_tensor *ex, *sum, *log_z; /* exp(z - max) [N, V], its sum [N, 1], log sum exp(z) [N, 1] */
} softmax;

static softmax softmax_of(td_tensor *z)
{
    td_tensor *top = td_max(z, -1), *ex = td_exp(td_sub(z, top)), *sum = td_sum(ex, -1);
    return (softmax){ ex, sum, td_add(td_log(sum), top) };
}

/* dz = scale w / divisor (p (1 + 2 z_loss log Z) - t), p = ex / sum, [N, V]; a cap multiplies it by
 * its slope, 1 - (z / cap)^2 */
static td_tensor *logit_gradients(const softmax *s, td_tensor *z, td_tensor *hot, td_tensor *share,
                                  const targets *t, const td_attrs *a)
{
    td_tensor *dz = td_mul(td_div(s->ex, s->sum), td_affine(s->log_z, 2 * a->f[1], 1));
    dz = td_sub(dz, td_affine(hot, t->on - t->off, t->off));
    if (a->f[3] > 0)
        dz = td_mul(dz, td_affine(td_mul(z, z), -1 / (a->f[3] * a->f[3]), 1));
    return td_scale(td_mul(dz, share), a->f[0]);
}

/*     loss = sum_n w_n (log Z - sum_v t_v z_v + entropy + z_loss (log Z)^2) / divisor
 *
 * A row of weight 0 may hold anything: padding, NaN, a label that is not a token. `where` keeps it
 * out, which a product with 0 would not. */
static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                  td_tensor **out)
{
    td_tensor *zero = td_scalar(g, 0), *w = column(in[TD_CE_WEIGHTS]);
    td_tensor *h = td_where(w, in[TD_CE_HIDDEN], zero), *e = in[TD_CE_EMBEDDING], *dz;
    int64_t    vocab = e->dim[0], flat[] = { h->dim[0] };
    targets    t = smoothed(a->f[2], vocab);
    td_tensor *z = td_cap(td_scale(td_matmul(h, td_transpose(e, 0, 1)), a->f[0]), a->f[3]);
    td_tensor *hot = one_hot(g, in[TD_CE_LABELS], vocab);
    softmax    s = softmax_of(z);
    td_tensor *z_y = td_sum(td_mul(z, hot), -1), *t_z = z_y; /* sum_v t_v z_v */
    td_tensor *nll = td_where(w, td_sub(s.log_z, z_y), zero), *row;
    td_tensor *share = td_where(w, td_div(w, in[TD_CE_DIVISOR]), zero);

    if (a->f[2] > 0)
        t_z = td_add(td_scale(z_y, t.on - t.off), td_scale(td_sum(z, -1), t.off));
    row = td_add(td_affine(td_sub(s.log_z, t_z), 1, t.entropy),
                 td_scale(td_mul(s.log_z, s.log_z), a->f[1]));
    out[TD_CE_LOSS] = td_sum_all(td_mul(share, row));
    out[TD_CE_SUM] = td_sum_all(td_mul(w, nll));
    out[TD_CE_NLL] = td_reshape(nll, flat, 1);
    if (!used[TD_CE_GRAD_HIDDEN] && !used[TD_CE_GRAD_EMBEDDING])
        return;
    dz = logit_gradients(&s, z, hot, share, &t, a);
    out[TD_CE_GRAD_HIDDEN] = td_matmul(dz, e);
    out[TD_CE_GRAD_EMBEDDING] = td_matmul(td_transpose(dz, 0, 1), h);
    if (n > TD_CE_ACC && in[TD_CE_ACC])
        out[TD_CE_GRAD_EMBEDDING] = td_add(in[TD_CE_ACC], out[TD_CE_GRAD_EMBEDDING]);
}

/* Products that nobody reads are not computed, and so not counted. */
static void flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                  double pairs, td_flops *f)
{
    double logits = (double)in[TD_CE_HIDDEN]->dim[0] * (double)in[TD_CE_EMBEDDING]->dim[0];
    int    products = 1 + !!out[TD_CE_GRAD_HIDDEN] + !!out[TD_CE_GRAD_EMBEDDING];
    f->matmul = f->visible = 2 * products * logits * (double)in[TD_CE_HIDDEN]->dim[1];
    f->elementwise = 4 * logits;
}

TD_DEFINE_OP(td_op_cross_entropy, "cross_entropy", 5, TD_CE_INPUTS,
             "projection, softmax, cross-entropy and z-loss in one", .infer = infer, .vjp = vjp,
             .lower = lower, .flops = flops, .accumulate_in = TD_CE_ACC + 1,
             .accumulate_out = TD_CE_GRAD_EMBEDDING);
