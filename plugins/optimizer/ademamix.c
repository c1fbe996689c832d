/* ademamix.c - AdamW with a second, much slower momentum. Paper: Pagliardini et al. 2024.
 *
 *     m1 = b1 m1 + (1-b1) g;  m2 = b3(t) m2 + (1-b3(t)) g;  v = b2 v + (1-b2) g^2
 *     p -= lr ((m1/(1-b1^t) + alpha(t) m2) / (sqrt(v/(1-b2^t)) + eps) + decay p)
 *
 * m2 averages gradients over thousands of steps. It starts at 0 and is not corrected for that, so
 * alpha and b3 grow over a warm-up. */
#include "tandem/kind/optimizer.h"

struct ademamix {
    double  beta1, beta2, beta3, alpha, eps, weight_decay;
    int64_t warmup;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct ademamix, beta1, 0.9, 0.001, 0.999999, "decay of the fast momentum"),
    TD_OPTION_FLOAT(struct ademamix, beta2, 0.999, 0, 0.999999, "decay of the second moment"),
    TD_OPTION_FLOAT(struct ademamix, beta3, 0.9999, 0.001, 0.99999999,
                    "decay of the slow momentum"),
    TD_OPTION_FLOAT(struct ademamix, alpha, 5, 0, 1000, "weight of the slow momentum"),
    TD_OPTION_INT(
        struct ademamix, warmup, 0, 0, 1LL << 40,
        "steps over which alpha grows from 0 and the slow momentum's decay from beta1; the "
        "paper uses the whole run. 0: none"),
    TD_OPTION_FLOAT(struct ademamix, eps, 1e-8, 1e-30, 1, "added to the root of the second moment"),
    TD_OPTION_FLOAT(struct ademamix, weight_decay, 0.1, 0, 1,
                    "multiplied by the rate; for tensors of rank 2 or more"),
    TD_OPTION_END
};

/* The share of the warm-up that is over: min(t / warmup, 1), as -max(-t / warmup, -1). */
static td_tensor *progress(const struct ademamix *c, const td_optimizer_in *in)
{
    td_tensor *one = td_scalar(in->graph, 1);
    if (!c->warmup)
        return one;
    return td_neg(td_maximum(td_scale(in->step, -1 / (double)c->warmup), td_neg(one)));
}

/* 1 - exp(-x) = 2 t / (1 + t), t = tanh(x / 2). Near 0, where 1 - exp(-x) would lose its digits,
 * tanh keeps them: 1 - b3 is 1e-4. */
static td_tensor *one_minus_exp(td_tensor *x)
{
    td_tensor *t = td_tanh(td_scale(x, 0.5));
    return td_div(td_scale(t, 2), td_affine(t, 1, 1));
}

/* 1 - b3(t). The half-life of the decay, not the decay, grows linearly from beta1's to beta3's with
 * the share s of the warm-up (section 3 of the paper):
 *     b3(t) = exp(ln b1 ln b3 / ((1 - s) ln b3 + s ln b1)) */
static td_tensor *slow_share(const struct ademamix *c, td_tensor *share)
{
    double     from = log(c->beta1), to = log(c->beta3);
    td_tensor *below = td_affine(share, to - from, -to);
    return one_minus_exp(td_div(td_scalar(share->graph, from * to), below));
}

/* The state x = (1 - k) x + k new; returns the new value. The gate keeps the old one. */
static td_tensor *mixed(const td_optimizer_in *in, const char *name, td_tensor *k, td_tensor *new)
{
    td_tensor *x = td_moment(in, name, in->param->dim, in->param->rank, 0);
    td_tensor *next = td_add(td_mul(x, td_affine(k, -1, 1)), td_mul(new, k));
    td_assign(x, next, in->gate);
    return next;
}

/* 1 / (1 - b^t), which corrects an average for its start at 0. */
static td_tensor *correction(const td_optimizer_in *in, double b)
{
    td_tensor *one = td_scalar(in->graph, 1);
    return b > 0 ? td_div(one, one_minus_exp(td_scale(in->step, -log(b)))) : one;
}

/* The quotient in the formula: fast + alpha slow over the root of the square. */
static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct ademamix *c = config;
    td_graph              *g = in->graph;
    td_tensor             *p = in->param, *grad = td_mul(in->grad, in->clip);
    td_tensor             *share = progress(c, in);
    td_tensor             *fast = mixed(in, "m", td_scalar(g, 1 - c->beta1), grad);
    td_tensor             *slow = mixed(in, "m_slow", slow_share(c, share), grad);
    td_tensor             *square = mixed(in, "v", td_scalar(g, 1 - c->beta2), td_mul(grad, grad));
    td_tensor             *above = td_add(td_mul(fast, correction(in, c->beta1)),
                                          td_mul(slow, td_scale(share, c->alpha)));
    td_tensor *below = td_affine(td_sqrt(td_mul(square, correction(in, c->beta2))), 1, c->eps);
    td_tensor *move = td_div(above, below);
    double     decay = p->rank >= 2 ? c->weight_decay * in->decay_scale : 0;

    /* as for AdamW, vectors (norms, biases) do not decay */
    if (decay > 0)
        move = td_add(move, td_scale(p, decay));
    return td_sub(p, td_mul(move, in->rate));
}

static int check(const void *config, td_error *error)
{
    const struct ademamix *c = config;
    return c->beta3 >= c->beta1
               ? 0
               : td_fail(
                     error, TD_ECONFIG,
                     "beta3 = %g is less than beta1 = %g: the slow momentum would be the faster "
                     "one; set beta3 to 0.9999, say, as in the paper",
                     c->beta3, c->beta1);
}

static const td_optimizer ademamix = {
    .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "ademamix", options, struct ademamix,
                        .brief = "AdamW with a second, much slower momentum",
                        .paper = "Pagliardini et al., The AdEMAMix Optimizer: Better, Faster, "
                                 "Older, 2024",
                        .check = check),
    .build = build,
};

TD_MODULE("ademamix", "1.0", "tandem", "MIT", &ademamix.plugin)
