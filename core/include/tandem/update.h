/* update.h - the fused updates of optimizers: one op over a parameter, its gradient and its
 * moments.
 *
 * An optimizer (kind/optimizer.h) may write its update in elementwise ops, and the planner runs
 * them in place. These ops do the same in one pass over memory, which is the whole cost of an
 * update. Each writes parameter and moments in place and has a lowering to simpler ops, so that
 * every backend runs it. All are [build].
 *
 * Scalars that change from step to step are inputs: `lr`, the learning rate; `t`, the number of the
 * update, from 1; `clip`, which multiplies the gradient (global-norm clipping); `gate`, 0 to change
 * nothing (the guard against NaN). ops.h includes this file.
 *
 * Example:
 *
 *     #include "tandem/kind/optimizer.h"
 *
 *     static td_tensor *build(const void *config, const td_optimizer_in *in)
 *     {
 *         const int64_t *dims = in->param->dim;
 *         int            rank = in->param->rank;
 *         td_tensor *m = td_moment(in, "m", dims, rank, 0), *v = td_moment(in, "v", dims, rank, 0);
 *         td_tensor *x[TD_STEP_INPUTS] = { in->param, in->grad, m,        v,
 *                                          in->rate,  in->step, in->clip, in->gate };
 *         (void)config;
 *         return td_adamw_step(x, 0.9, 0.95, 1e-8, 0.1 * in->decay_scale);
 *     }
 */
#ifndef TANDEM_UPDATE_H
#define TANDEM_UPDATE_H

#include "ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The inputs of "adamw_step", in order: parameter, gradient, first and second moment, then
 * scalars. */
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

/* One AdamW update (Loshchilov and Hutter 2019). With g already multiplied by clip:
 *
 *     m = b1 m + (1-b1) g
 *     v = b2 v + (1-b2) g^2
 *     p = p - lr (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + decay p)
 *
 * Outputs: 0 p, 1 m, 2 v, in the memory of their inputs. "adamw_step": f[0] b1, f[1] b2, f[2] eps,
 * f[3] decay */
static inline td_tensor *td_adamw_step(td_tensor *const in[TD_STEP_INPUTS], double b1, double b2,
                                       double eps, double decay)
{
    td_attrs a = td_attrs_(0, 0, 0, b1);
    a.f[1] = b2;
    a.f[2] = eps;
    a.f[3] = decay;
    return td_emit_("adamw_step", in, TD_STEP_INPUTS, &a);
}

/* The inputs of "adafactor_moment": gradient, second moment, then scalars. */
enum { TD_MOMENT_G, TD_MOMENT_V, TD_MOMENT_T, TD_MOMENT_CLIP, TD_MOMENT_GATE, TD_MOMENT_INPUTS };

/* Adafactor (Shazeer and Stern 2018), without factoring, first half: the second moment.
 *
 *     b2 = 1 - t^-rate
 *     v  = b2 v + (1-b2) ((clip g)^2 + 1e-30)
 *
 * Outputs: 0 v, in place; 1 sum((clip g)^2 / v), a scalar that td_adafactor_step uses to limit the
 * update. The two halves are separate because that sum spans the whole tensor.
 * "adafactor_moment": f[0] rate, 0.8 in the paper */
static inline td_tensor *td_adafactor_moment(td_tensor *const in[TD_MOMENT_INPUTS], double rate)
{
    td_attrs a = td_attrs_(0, 0, 0, rate);
    return td_emit_("adafactor_moment", in, TD_MOMENT_INPUTS, &a);
}

/* The inputs of "adafactor_step". M may be NULL if b1 is 0. SUM_U2 is output 1 of the first half,
 * SUM_P2 the td_sum_squares of the parameter. */
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

/* Adafactor, second half: the parameter of n elements.
 *
 *     u     = clip g / sqrt(v) / max(1, sqrt(sum_u2 / n) / threshold)
 *     delta = lr max(smallest, sqrt(sum_p2 / n)) u
 *     m     = b1 m + (1-b1) delta          if b1 > 0
 *     p     = (1 - decay) p - (m or delta)
 *
 * A negative `decay` stands for lr^2, as in T5X. Outputs: 0 p, 1 m, in place.
 * "adafactor_step": f[0] b1, f[1] decay, f[2] threshold, f[3] smallest */
static inline td_tensor *td_adafactor_step(td_tensor *const in[TD_FACTOR_INPUTS], double b1,
                                           double decay, double threshold, double smallest)
{
    td_attrs a = td_attrs_(0, 0, 0, b1);
    a.f[1] = decay;
    a.f[2] = threshold;
    a.f[3] = smallest;
    return td_emit_("adafactor_step", in, TD_FACTOR_INPUTS, &a);
}

#ifdef __cplusplus
}
#endif
#endif
