/* adamw.c - Adam with decoupled weight decay. Paper: Loshchilov and Hutter 2019. */
#include "tandem/kind/optimizer.h"

struct adamw {
    double beta1, beta2, eps, weight_decay;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct adamw, beta1, 0.9, 0, 0.999999, "decay of the first moment"),
    TD_OPTION_FLOAT(struct adamw, beta2, 0.95, 0, 0.999999, "decay of the second moment"),
    TD_OPTION_FLOAT(struct adamw, eps, 1e-8, 1e-30, 1, "added to the root of the second moment"),
    TD_OPTION_FLOAT(struct adamw, weight_decay, 0.1, 0, 1,
                    "multiplied by the rate; for tensors of rank 2 or more"),
    TD_OPTION_END
};

/* One fused op, which also assigns the moments and applies clip and gate:
 *
 *     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2; 
 *     p -= lr (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + decay p)
 *
 * Vectors (norms, biases) do not decay. */
static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct adamw *c = config;
    td_tensor          *p = in->param;
    double              decay = p->rank >= 2 ? c->weight_decay * in->decay_scale : 0;
    td_tensor          *step[TD_STEP_INPUTS] = {
                 [TD_STEP_P] = p,
                 [TD_STEP_G] = in->grad,
                 [TD_STEP_M] = td_moment(in, "m", p->dim, p->rank, 0),
                 [TD_STEP_V] = td_moment(in, "v", p->dim, p->rank, 0),
                 [TD_STEP_LR] = in->rate,
                 [TD_STEP_T] = in->step,
                 [TD_STEP_CLIP] = in->clip,
                 [TD_STEP_GATE] = in->gate,
    };
    return td_adamw_step(step, c->beta1, c->beta2, c->eps, decay);
}

static const td_optimizer adamw = {
    .plugin =
        TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "adamw", options, struct adamw,
                  .brief = "Adam with decoupled weight decay",
                  .paper = "Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019"),
    .build = build,
};

TD_MODULE("adamw", "1.0", "tandem", "MIT", &adamw.plugin)
