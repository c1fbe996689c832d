/* optimizer-@NAME@.c - gradient descent with bias-corrected momentum.
 * Paper: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013;
 * the bias correction is Adam's (Kingma and Ba 2015).
 *
 * The contract: tandem/kind/optimizer.h. */
#include "tandem/kind/optimizer.h"

struct @IDENT@_config {
    double momentum, weight_decay;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct @IDENT@_config, momentum, 0.9, 0, 0.999999,
                    "fraction of the momentum kept at each step; 0 for none"),
    TD_OPTION_FLOAT(struct @IDENT@_config, weight_decay, 0, 0, 10,
                    "decoupled weight decay, multiplied by the rate; for tensors of rank 2 or more"),
    TD_OPTION_END
};

/* The mean of all gradients so far, weighted by momentum^age. The moment lives from step to step,
 * and in checkpoints, under the parameter's name. */
static td_tensor *mean_gradient(const struct @IDENT@_config *c, const td_optimizer_in *in,
                                td_tensor *g)
{
    td_tensor *m = td_moment(in, "m", g->dim, g->rank, 0); /* zeros at first */
    td_tensor *next = td_add(td_scale(m, c->momentum), td_scale(g, 1 - c->momentum));
    /* 1 - momentum^t: the sum of the weights after t steps */
    td_tensor *weights = td_affine(td_exp(td_scale(in->step, log(c->momentum))), -1, 1);

    /* through the gate: a step that the guard rejects (NaN, a spike) must change nothing */
    td_assign(m, next, in->gate);
    return td_div(next, weights);
}

/* [build]: called once per parameter; returns its new value, which the host assigns, also through
 * the gate. Everything that changes from step to step is a tensor (rate, step, clip), so that one
 * graph serves all steps; options are plain numbers. in->grad is not clipped yet: multiply it by
 * in->clip.
 *
 *     m = b m + (1-b) g;  p -= lr (m / (1-b^t) + decay p) */
static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct @IDENT@_config *c = config;
    td_tensor                *p = in->param, *move = td_mul(in->grad, in->clip);
    double                    decay = c->weight_decay * in->decay_scale; /* the group's factor */

    if (c->momentum > 0)
        move = mean_gradient(c, in, move);
    if (decay > 0 && p->rank >= 2) /* gains and biases must not be pulled to 0 */
        move = td_add(move, td_scale(p, decay));
    return td_sub(p, td_mul(move, in->rate));
}

static const td_optimizer @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "gradient descent with bias-corrected momentum",
                        .paper = "Sutskever et al., On the importance of initialization and "
                                 "momentum in deep learning, 2013"),
    .build = build,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
