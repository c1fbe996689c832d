/* update.h - the fused updates of optimizers, each one op over a parameter and its moments. */
#ifndef TANDEM_STEPS_H
#define TANDEM_STEPS_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One AdamW update in place (Loshchilov and Hutter 2019). Inputs: p, g, m, v, then scalars lr, t
 * (from 1, real), clip (multiplies g) and gate (0: change nothing). Outputs 0 p, 1 m, 2 v share the
 * memory of their inputs.
 *     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + decay p)
 * "adamw_step": f[0] b1, f[1] b2, f[2] eps, f[3] decay */
enum {
    TD_STEP_P,
    TD_STEP_G,
    TD_STEP_M,
    TD_STEP_V,
    TD_STEP_LR,
    TD_STEP_T,
    TD_STEP_CLIP,
    TD_STEP_GATE,
    TD_STEP_INPUTS
};

static inline td_tensor *td_adamw_step(td_tensor *const in[TD_STEP_INPUTS], double b1, double b2,
                                       double eps, double decay)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.f[0] = b1;
    a.f[1] = b2;
    a.f[2] = eps;
    a.f[3] = decay;
    return td_emit_("adamw_step", in, TD_STEP_INPUTS, &a);
}

/* Adafactor, not factored, first half: the second moment, in place. Inputs: g, v, then scalars t
 * (from 1), clip and gate.
 *     b2 = 1 - t^-rate;  v = b2 v + (1-b2) ((clip g)^2 + 1e-30);  outputs 0 v, 1 sum((clip g)^2 / v), a scalar
 * "adafactor_moment": f[0] rate (0.8) */
enum { TD_MOMENT_G, TD_MOMENT_V, TD_MOMENT_T, TD_MOMENT_CLIP, TD_MOMENT_GATE, TD_MOMENT_INPUTS };

static inline td_tensor *td_adafactor_moment(td_tensor *const in[TD_MOMENT_INPUTS], double rate)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.f[0] = rate;
    return td_emit_("adafactor_moment", in, TD_MOMENT_INPUTS, &a);
}

/* Second half. Inputs: p, g, v, m (or NULL), sum_u2, sum_p2 (scalars), lr, clip, gate. Outputs 0 p,
 * 1 m, in place.
 *     u = clip g / sqrt(v) / max(1, sqrt(sum_u2/n));  delta = lr max(1e-3, sqrt(sum_p2/n)) u
 *     m = b1 m + (1-b1) delta (if b1 > 0);  p = (1 - decay) p - (m or delta), or with decay = lr^2 where f[1] < 0
 * "adafactor_step": f[0] b1, f[1] decay, f[2] clip threshold, f[3] smallest scale */
enum {
    TD_FACTOR_P,
    TD_FACTOR_G,
    TD_FACTOR_V,
    TD_FACTOR_M,
    TD_FACTOR_SUM_U2,
    TD_FACTOR_SUM_P2,
    TD_FACTOR_LR,
    TD_FACTOR_CLIP,
    TD_FACTOR_GATE,
    TD_FACTOR_INPUTS
};

static inline td_tensor *td_adafactor_step(td_tensor *const in[TD_FACTOR_INPUTS], double b1,
                                           double decay, double threshold, double smallest)
{
    td_attrs a;
    memset(&a, 0, sizeof a);
    a.f[0] = b1;
    a.f[1] = decay;
    a.f[2] = threshold;
    a.f[3] = smallest;
    return td_emit_("adafactor_step", in, TD_FACTOR_INPUTS, &a);
}

#ifdef __cplusplus
}
#endif
#endif
