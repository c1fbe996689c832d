/* update.c - sum of squares, and fused optimizer updates: AdamW (Loshchilov and Hutter 2019),
 * Adafactor (Shazeer and Stern 2018, as T5X computes it).
 *
 * What changes from step to step (rate, step number, clip factor, gate) is a scalar input, so one
 * plan serves the whole run. All writes are under the gate: a step that the NaN guard refuses
 * changes nothing. The formulas are in tandem/update.h.
 */
#include "define.h"

/* A scalar of rank 0, whatever the dims of the input. */
static int infer_scalar(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    if (!td_is_real(in[0]))
        return td_fail(error, TD_EGRAPH, "the input must be real, not i32");
    out[0].dtype = in[0]->dtype;
    out[0].rank = 0;
    return 1;
}

static void vjp_squares(TD_VJP_PARAMETERS) { grad_in[0] = td_scale(td_mul(in[0], grad_out[0]), 2); }

/* A kernel adds up fixed chunks, so that no thread count changes a bit; here the sum op does. */
static void lower_squares(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                          const bool *used, td_tensor **out)
{
    out[0] = td_sum_all(td_mul(in[0], in[0]));
}

TD_DEFINE_OP(td_op_sum_squares, "sum_squares", 1, 1, "sum of squares of all elements",
             .infer = infer_scalar, .vjp = vjp_squares, .lower = lower_squares);

/* Tensors [0, n_full) have the parameter's dims, the rest are scalars; all are reals of one
 * dtype. */
static int check_step(td_tensor *const *in, int n_full, int n, unsigned optional, td_error *error)
{
    if (td_require(in, n, optional, error))
        return TD_EGRAPH;
    for (int k = 0; k < n; k++) {
        if (in[k] && (!td_is_real(in[k]) || in[k]->dtype != in[0]->dtype))
            return td_fail(error, TD_EGRAPH, "input %d must have the real dtype of input 0", k);
        if (in[k] && k < n_full && !td_same_dims(in[k], in[0]))
            return td_fail(error, TD_EGRAPH, "input %d must have the dims of input 0", k);
        if (in[k] && k >= n_full && td_count(in[k]) != 1)
            return td_fail(error, TD_EGRAPH, "input %d must be a scalar", k);
    }
    return 0;
}

static int infer_adamw(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                       td_error *error)
{
    if (check_step(in, 4, n, 0, error))
        return TD_EGRAPH;
    out[0] = out[1] = out[2] = td_shape_of(in[0]);
    return 3;
}

/* 1 - b^t, which undoes the bias of a moment that began at 0. */
static td_tensor *correction(td_tensor *t, double b)
{
    return td_affine(td_exp(td_scale(t, log(b))), -1, 1);
}

/*     m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *     p -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p)
 *
 * The gradient is clipped on the way: no clipped copy is kept. */
static void lower_adamw(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                        const bool *used, td_tensor **out)
{
    td_tensor *p = in[TD_STEP_P], *grad = td_mul(in[TD_STEP_G], in[TD_STEP_CLIP]),
              *t = in[TD_STEP_T];
    td_tensor *m = td_add(td_scale(in[TD_STEP_M], a->f[0]), td_scale(grad, 1 - a->f[0]));
    td_tensor *v = td_add(td_scale(in[TD_STEP_V], a->f[1]),
                          td_scale(td_mul(grad, grad), 1 - a->f[1]));
    td_tensor *root = td_affine(td_sqrt(td_div(v, correction(t, a->f[1]))), 1, a->f[2]);
    td_tensor *move = td_add(td_div(td_div(m, correction(t, a->f[0])), root), td_scale(p, a->f[3]));
    out[0] = td_assign(p, td_sub(p, td_mul(move, in[TD_STEP_LR])), in[TD_STEP_GATE]);
    out[1] = td_assign(in[TD_STEP_M], m, in[TD_STEP_GATE]);
    out[2] = td_assign(in[TD_STEP_V], v, in[TD_STEP_GATE]);
}

TD_DEFINE_OP(td_op_adamw_step, "adamw_step", TD_STEP_INPUTS, TD_STEP_INPUTS, "one AdamW update",
             .flags = TD_OP_EFFECT, .inplace = { 1 + TD_STEP_P, 1 + TD_STEP_M, 1 + TD_STEP_V },
             .infer = infer_adamw, .lower = lower_adamw);

/* ---- Adafactor, not factored ----------------------------------------------------------------- */

/* The moment lies in the memory of its input; the sum is a new tensor. */
static int infer_moment(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    if (check_step(in, 2, n, 0, error))
        return TD_EGRAPH;
    out[0] = td_shape_of(in[TD_MOMENT_V]);
    out[1].dtype = in[0]->dtype;
    out[1].rank = 0;
    return 2;
}

/*     b2 = 1 - t^-rate;  v = b2 v + (1 - b2) (g^2 + 1e-30);  sum = sum(g^2 / v)
 *
 * t is a tensor, so its power is an exp of its log. The sum of squares is an output of this op,
 * since the second half needs it whole before it can write anything. */
static void lower_moment(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                         const bool *used, td_tensor **out)
{
    td_tensor *grad = td_mul(in[TD_MOMENT_G], in[TD_MOMENT_CLIP]), *square = td_mul(grad, grad);
    td_tensor *keep = td_exp(td_scale(td_log(in[TD_MOMENT_T]), -a->f[0])); /* 1 - b2 */
    td_tensor *v = td_add(td_mul(in[TD_MOMENT_V], td_affine(keep, -1, 1)),
                          td_mul(td_affine(square, 1, 1e-30), keep));
    out[0] = td_assign(in[TD_MOMENT_V], v, in[TD_MOMENT_GATE]);
    out[1] = td_sum_all(td_div(square, v));
}

TD_DEFINE_OP(td_op_adafactor_moment, "adafactor_moment", TD_MOMENT_INPUTS, TD_MOMENT_INPUTS,
             "second moment of Adafactor", .flags = TD_OP_EFFECT, .inplace = { 1 + TD_MOMENT_V },
             .infer = infer_moment, .lower = lower_moment);

/* There is a momentum if and only if b1 > 0. */
static int infer_adafactor(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                           td_error *error)
{
    if (check_step(in, 4, n, a->f[0] > 0 ? 0 : 1u << TD_FACTOR_M, error))
        return TD_EGRAPH;
    out[0] = out[1] = td_shape_of(in[0]);
    return 2;
}

/*     u = g / sqrt(v) / max(1, rms(g / sqrt(v)) / threshold);  delta = lr max(smallest, rms(p)) u
 *     m = b1 m + (1 - b1) delta (if b1 > 0);  p = (1 - decay) p - (m or delta) */
static void lower_adafactor(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                            const bool *used, td_tensor **out)
{
    /* the sums of squares cover the whole parameter, so a sharded one only needs an all-reduce */
    double     each = 1 / (double)td_count(in[TD_FACTOR_P]);
    td_tensor *rms_u = td_sqrt(td_scale(in[TD_FACTOR_SUM_U2], each)),
              *rms_p = td_sqrt(td_scale(in[TD_FACTOR_SUM_P2], each));
    td_tensor *u = td_div(td_mul(in[TD_FACTOR_G], in[TD_FACTOR_CLIP]), td_sqrt(in[TD_FACTOR_V]));
    td_tensor *shrink = td_maximum(td_scalar(g, 1), td_scale(rms_u, 1 / a->f[2]));
    td_tensor *rate = td_mul(in[TD_FACTOR_LR], td_maximum(td_scalar(g, a->f[3]), rms_p));
    td_tensor *delta = td_mul(td_div(u, shrink), rate), *m = 0, *p = in[TD_FACTOR_P];
    if (a->f[0] > 0) {
        m = td_add(td_scale(in[TD_FACTOR_M], a->f[0]), td_scale(delta, 1 - a->f[0]));
        delta = m;
    }
    if (a->f[1] < 0) /* decay = lr^2 */
        p = td_mul(p, td_affine(td_mul(in[TD_FACTOR_LR], in[TD_FACTOR_LR]), -1, 1));
    else if (a->f[1] > 0)
        p = td_scale(p, 1 - a->f[1]);
    out[0] = td_assign(in[TD_FACTOR_P], td_sub(p, delta), in[TD_FACTOR_GATE]);
    if (m)
        out[1] = td_assign(in[TD_FACTOR_M], m, in[TD_FACTOR_GATE]);
}

TD_DEFINE_OP(td_op_adafactor_step, "adafactor_step", TD_FACTOR_INPUTS, TD_FACTOR_INPUTS,
             "one Adafactor update", .flags = TD_OP_EFFECT,
             .inplace = { 1 + TD_FACTOR_P, 1 + TD_FACTOR_M }, .infer = infer_adafactor,
             .lower = lower_adafactor);
