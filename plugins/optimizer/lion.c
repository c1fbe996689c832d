/* lion.c - the sign of an interpolated momentum. Paper: Chen et al. 2023.
 *
 *     p -= lr (sign(b1 m + (1-b1) g) + decay p);  m = b2 m + (1-b2) g
 *
 * Every entry moves by lr, so rates are about a tenth of AdamW's and decays ten times as large. */
#include "tandem/kind/optimizer.h"

struct lion {
    double beta1, beta2, weight_decay;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct lion, beta1, 0.9, 0, 0.999999,
                    "weight of the momentum in the update; the gradient has the rest"),
    TD_OPTION_FLOAT(struct lion, beta2, 0.99, 0, 0.999999, "decay of the momentum"),
    TD_OPTION_FLOAT(
        struct lion, weight_decay, 0, 0, 10,
        "decoupled weight decay, multiplied by the rate; for tensors of rank 2 or more"),
    TD_OPTION_END
};

static td_tensor *mix(td_tensor *m, td_tensor *g, double beta)
{
    return td_add(td_scale(m, beta), td_scale(g, 1 - beta));
}

static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct lion *c = config;
    td_tensor         *p = in->param, *g = td_mul(in->grad, in->clip);
    td_tensor *m = td_moment(in, "m", p->dim, p->rank, 0), *move = td_sign(mix(m, g, c->beta1));

    /* the momentum decays more slowly than its share in the move: two interpolations of the same
     * two tensors */
    td_assign(m, mix(m, g, c->beta2), in->gate);
    if (c->weight_decay * in->decay_scale > 0 && p->rank >= 2)
        move = td_add(move, td_scale(p, c->weight_decay * in->decay_scale));
    return td_sub(p, td_mul(move, in->rate));
}

static const td_optimizer lion = {
    .plugin =
        TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "lion", options, struct lion,
                  .brief = "the sign of an interpolated momentum",
                  .paper = "Chen et al., Symbolic Discovery of Optimization Algorithms, 2023"),
    .build = build,
};

TD_MODULE("lion", "1.0", "tandem", "MIT", &lion.plugin)
