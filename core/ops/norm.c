/* norm.c - softmax, RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last
 * axis.
 *
 * The norms have their statistics (reciprocal root, mean) as further outputs, one number a row, so
 * that the gradient need not compute them again.
 */
#include "define.h"

static int infer_softmax(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                         td_error *error)
{
    if (!in[0]->rank || !td_is_real(in[0]))
        return td_fail(error, TD_EGRAPH, "the input must be real, of rank 1 or more");
    return td_infer_same(in, n, a, out, error);
}

static int infer_softmax_grad(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                              td_error *error)
{
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (!td_is_alike(in[0], in[1]))
        return td_fail(error, TD_EGRAPH,
                       "the dims or dtype of the gradient differ from the output's");
    return infer_softmax(in, n, a, out, error);
}

/* From y alone: x need not be kept. */
static void vjp_softmax(TD_VJP_PARAMETERS)
{
    grad_in[0] = td_op2_("softmax_grad", grad_out[0], out[0]);
}

/*     y = exp(x - max) / sum(exp(x - max)); without the maximum exp would overflow */
static void lower_softmax(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                          const bool *used, td_tensor **out)
{
    td_tensor *e = td_exp(td_sub(in[0], td_max(in[0], -1)));
    out[0] = td_div(e, td_sum(e, -1));
}

/* dx = y (dy - sum(dy y)) */
static void lower_softmax_grad(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                               const bool *used, td_tensor **out)
{
    out[0] = td_mul(in[1], td_sub(in[0], td_sum(td_mul(in[0], in[1]), -1)));
}

TD_DEFINE_OP(td_op_softmax, "softmax", 1, 1, "exp(x) / sum(exp(x))", .infer = infer_softmax,
             .vjp = vjp_softmax, .lower = lower_softmax);
TD_DEFINE_OP(td_op_softmax_grad, "softmax_grad", 2, 2, "gradient of softmax (dy, y)",
             .infer = infer_softmax_grad, .lower = lower_softmax_grad);

/* ---- the norms ------------------------------------------------------------------------------- */

/* One entry for each of the last axis of x. */
static bool is_row(const td_tensor *w, const td_tensor *x)
{
    return w->dtype == x->dtype && w->rank == 1 && w->dim[0] == td_dim(x, -1);
}

/* One entry for each row of x: [.., 1]. */
static bool is_column(const td_tensor *s, const td_tensor *x)
{
    return s->dtype == x->dtype && s->rank == x->rank && td_dim(s, -1) == 1 &&
           !memcmp(s->dim, x->dim, (size_t)(x->rank - 1) * sizeof *x->dim);
}

/* From (x, parameters ..): y like x, then the statistics [.., 1]. */
static int infer_norm(td_tensor *const *in, int n, int statistics, td_shape *out, td_error *error)
{
    if (!in[0]->rank || !td_is_real(in[0]))
        return td_fail(error, TD_EGRAPH, "the input must be real, of rank 1 or more");
    /* parameters are optional: a norm without a weight is one of the variants */
    for (int k = 1; k < n; k++)
        if (in[k] && !is_row(in[k], in[0]))
            return td_fail(error, TD_EGRAPH,
                           "parameter %d must be real [%lld], as long as the input's last axis", k,
                           (long long)td_dim(in[0], -1));
    for (int k = 0; k <= statistics; k++) {
        out[k] = td_shape_of(in[0]);
        if (k)
            out[k].dim[in[0]->rank - 1] = 1;
    }
    return 1 + statistics;
}

/* One statistic: the reciprocal root of the mean square. */
static int infer_rms(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    return infer_norm(in, n, 1, out, error);
}

/* Two: the mean, the reciprocal deviation. */
static int infer_layer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                       td_error *error)
{
    return infer_norm(in, n, 2, out, error);
}

/* From (dy, x, w, statistics ..): the gradient of x, then that of each parameter [E]. */
static int infer_norm_grad(td_tensor *const *in, int n, int parameters, td_shape *out,
                           td_error *error)
{
    if (td_require(in, n, 1u << 2, error))
        return TD_EGRAPH;
    if (!in[1]->rank || !td_is_real(in[1]) || !td_is_alike(in[0], in[1]) ||
        (in[2] && !is_row(in[2], in[1])))
        return td_fail(error, TD_EGRAPH,
                       "the gradient and the input must be reals of the same dims, the weight as "
                       "long as their last axis");
    /* w may be absent; a bias is not needed for any gradient, so it is not an input */
    for (int k = 3; k < n; k++)
        if (!is_column(in[k], in[1]))
            return td_fail(error, TD_EGRAPH, "statistic %d must have one entry for each row",
                           k - 3);
    out[0] = td_shape_of(in[1]);
    for (int k = 1; k <= parameters; k++) {
        out[k].dtype = in[1]->dtype;
        out[k].rank = 1;
        out[k].dim[0] = td_dim(in[1], -1);
    }
    return 1 + parameters;
}

static int infer_rms_grad(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                          td_error *error)
{
    return infer_norm_grad(in, n, 1, out, error);
}

static int infer_layer_grad(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                            td_error *error)
{
    return infer_norm_grad(in, n, 2, out, error);
}

/* Sum over all axes but the last, [E]: the gradient of a parameter that every row uses. */
static td_tensor *sum_rows(td_tensor *x)
{
    int64_t dims[] = { td_dim(x, -1) };
    return td_reshape(td_sum_axes(x, ((int64_t)1 << (x->rank - 1)) - 1), dims, 1);
}

/* One op for the gradients of x and w: both need the normalized x, and a fused kernel reads x
 * once. */
static void vjp_rms(TD_VJP_PARAMETERS)
{
    td_tensor *inputs[] = { grad_out[0], in[0], n > 1 ? in[1] : 0, out[1] };
    if (!td_no_gradient_of(in, grad_out, 1, "the reciprocal root of rms_norm") || !grad_out[0])
        return;
    grad_in[0] = td_emit_("rms_norm_grad", inputs, 4, a);
    if (n > 1 && need[1])
        grad_in[1] = td_output(grad_in[0], 1);
}

/*     r = 1 / sqrt(mean(x^2) + eps);  y = x r w */
static void lower_rms(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                      td_tensor **out)
{
    td_tensor *y;
    out[1] = td_rsqrt(td_affine(td_mean(td_mul(in[0], in[0]), -1), 1, a->f[0]));
    y = td_mul(in[0], out[1]);
    out[0] = n > 1 && in[1] ? td_mul(y, in[1]) : y;
}

/* With n = x r: dn = dy w, dx = r (dn - n mean(dn n)), dw = sum(dy n). */
static void lower_rms_grad(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                           const bool *used, td_tensor **out)
{
    td_tensor *dy = in[0], *w = in[2], *r = in[3], *norm = td_mul(in[1], r),
              *dn = w ? td_mul(dy, w) : dy;
    out[0] = td_mul(r, td_sub(dn, td_mul(norm, td_mean(td_mul(dn, norm), -1))));
    if (used[1])
        out[1] = sum_rows(td_mul(dy, norm));
}

/* Like vjp_rms, with a bias. */
static void vjp_layer(TD_VJP_PARAMETERS)
{
    td_tensor *inputs[] = { grad_out[0], in[0], n > 1 ? in[1] : 0, out[1], out[2] };
    if (!td_no_gradient_of(in, grad_out, 1, "the mean of layer_norm") ||
        !td_no_gradient_of(in, grad_out, 2, "the deviation of layer_norm") || !grad_out[0])
        return;
    grad_in[0] = td_emit_("layer_norm_grad", inputs, 5, a);
    for (int k = 1; k < n; k++)
        if (need[k])
            grad_in[k] = td_output(grad_in[0], k);
}

/*     r = 1 / sqrt(mean((x - mean)^2) + eps);  y = (x - mean) r w + b
 *
 * The variance is that of the centred x, not mean(x^2) - mean^2, which cancels. */
static void lower_layer(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                        const bool *used, td_tensor **out)
{
    td_tensor *centred, *y;
    out[1] = td_mean(in[0], -1);
    centred = td_sub(in[0], out[1]);
    out[2] = td_rsqrt(td_affine(td_mean(td_mul(centred, centred), -1), 1, a->f[0]));
    y = td_mul(centred, out[2]);
    y = n > 1 && in[1] ? td_mul(y, in[1]) : y;
    out[0] = n > 2 && in[2] ? td_add(y, in[2]) : y;
}

/* With n = (x - mean) r: dx = r (dn - mean(dn) - n mean(dn n)). */
static void lower_layer_grad(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                             const bool *used, td_tensor **out)
{
    td_tensor *dy = in[0], *w = in[2], *r = in[4], *norm = td_mul(td_sub(in[1], in[3]), r);
    td_tensor *dn = w ? td_mul(dy, w) : dy;
    out[0] = td_mul(r, td_sub(td_sub(dn, td_mean(dn, -1)),
                              td_mul(norm, td_mean(td_mul(dn, norm), -1))));
    if (used[1])
        out[1] = sum_rows(td_mul(dy, norm));
    if (used[2])
        out[2] = sum_rows(dy);
}

TD_DEFINE_OP(td_op_rms_norm, "rms_norm", 1, 2, "x / sqrt(mean(x^2) + eps) w", .infer = infer_rms,
             .vjp = vjp_rms, .lower = lower_rms);
TD_DEFINE_OP(td_op_rms_norm_grad, "rms_norm_grad", 4, 4,
             "gradient of rms_norm (dy, x, w, reciprocal root)", .infer = infer_rms_grad,
             .lower = lower_rms_grad);
TD_DEFINE_OP(td_op_layer_norm, "layer_norm", 1, 3, "(x - mean) / sqrt(var + eps) w + b",
             .infer = infer_layer, .vjp = vjp_layer, .lower = lower_layer);
TD_DEFINE_OP(td_op_layer_norm_grad, "layer_norm_grad", 5, 5,
             "gradient of layer_norm (dy, x, w, mean, deviation)", .infer = infer_layer_grad,
             .lower = lower_layer_grad);
