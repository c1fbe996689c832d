/* sgd.c - stochastic gradient descent with momentum. Paper: Sutskever et al. 2013.
 *
 *     m = momentum m + g;  p -= lr (m + decay p)
 *
 * Nesterov's form moves along g + momentum m instead, towards where the momentum will carry it
 * anyway. */
#include "tandem/kind/optimizer.h"

struct sgd {
    double momentum, weight_decay;
    bool   nesterov;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct sgd, momentum, 0.9, 0, 0.999999,
                    "fraction of the last update kept in the next"),
    TD_OPTION_BOOL(struct sgd, nesterov, false, "look ahead along the momentum"),
    TD_OPTION_FLOAT(
        struct sgd, weight_decay, 0, 0, 1,
        "decoupled weight decay, multiplied by the rate; for tensors of rank 2 or more"),
    TD_OPTION_END
};

static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct sgd *c = config;
    td_tensor        *p = in->param, *move = td_mul(in->grad, in->clip), *g = move;

    /* without momentum there is no state to keep */
    if (c->momentum > 0) {
        td_tensor *m = td_moment(in, "m", p->dim, p->rank, 0);
        move = td_add(td_scale(m, c->momentum), g);
        td_assign(m, move, in->gate);
        if (c->nesterov)
            move = td_add(g, td_scale(move, c->momentum));
    }
    if (c->weight_decay * in->decay_scale > 0 && p->rank >= 2)
        move = td_add(move, td_scale(p, c->weight_decay * in->decay_scale));
    return td_sub(p, td_mul(move, in->rate));
}

static int check(const void *config, td_error *error)
{
    const struct sgd *c = config;
    return c->nesterov && c->momentum == 0
               ? td_fail(error, TD_ECONFIG,
                         "nesterov = true needs momentum > 0: without it there is nothing to look "
                         "ahead along")
               : 0;
}

static const td_optimizer sgd = {
    .plugin = TD_PLUGIN(
        td_optimizer, TD_OPTIMIZER_KIND, "sgd", options, struct sgd,
        .brief = "stochastic gradient descent with momentum", .check = check,
        .paper = "Sutskever et al., On the importance of initialization and momentum, 2013"),
    .build = build,
};

TD_MODULE("sgd", "1.0", "tandem", "MIT", &sgd.plugin)
