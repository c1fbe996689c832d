/* adafactor.c - second moments, factored or whole, and steps relative to the size of a parameter.
 * Paper: Shazeer and Stern 2018; details follow T5X.
 *
 *     b2 = 1 - t^-decay_rate;  v = b2 v + (1-b2) (g^2 + 1e-30)
 *     u = g / sqrt(v);  u = u / max(1, rms(u) / clip_threshold)
 *     p = (1 - decay) p - lr max(min_scale, rms(p)) u
 *
 * At t = 1, b2 is 0: the first moment is the first square, so no bias needs correcting. Factored, v
 * is kept as its row and column means, v_ij = r_i c_j / mean(r). */
#include "tandem/kind/optimizer.h"

struct adafactor {
    bool    factored, decay_by_rate;
    int64_t min_factored;
    double  decay_rate, beta1, weight_decay, clip_threshold, min_scale;
};

static const td_option options[] = {
    TD_OPTION_BOOL(struct adafactor, factored, false,
                   "keep row and column sums of matrices instead of all second moments"),
    TD_OPTION_INT(struct adafactor, min_factored, 128, 1, 1 << 30,
                  "factor only if each of the two largest axes has at least this length"),
    TD_OPTION_FLOAT(struct adafactor, decay_rate, 0.8, 0, 4,
                    "the decay of second moments at step t is 1 - t^-decay_rate"),
    TD_OPTION_FLOAT(struct adafactor, beta1, 0, 0, 0.999999,
                    "momentum of the update; 0: none, which saves its memory"),
    TD_OPTION_FLOAT(struct adafactor, weight_decay, 0, 0, 1,
                    "decoupled weight decay, not multiplied by the rate"),
    TD_OPTION_BOOL(struct adafactor, decay_by_rate, false,
                   "the weight decay is the square of the rate (PaLM)"),
    TD_OPTION_FLOAT(struct adafactor, clip_threshold, 1, 1e-6, 1e6,
                    "largest root mean square of an update"),
    TD_OPTION_FLOAT(
        struct adafactor, min_scale, 1e-3, 0, 1,
        "the rate is multiplied by a parameter's root mean square, or by this if that is larger"),
    TD_OPTION_END
};

struct axes {
    int largest, second;
};

/* Of equal axes the earlier counts as larger, so [D, D] and checkpoints of it are unambiguous. Only
 * for rank 2 and more is there a second. */
static struct axes largest_axes(const td_tensor *p)
{
    struct axes a = { 0, -1 };
    for (int k = 1; k < p->rank; k++) {
        if (p->dim[k] > p->dim[a.largest]) {
            a.second = a.largest;
            a.largest = k;
        } else if (a.second < 0 || p->dim[k] > p->dim[a.second])
            a.second = k;
    }
    return a;
}

static bool is_factored(const struct adafactor *c, const td_tensor *p)
{
    return c->factored && p->rank >= 2 && p->dim[largest_axes(p).second] >= c->min_factored;
}

/* s = b2 s + (1-b2) square in the state `name`, with `keep` = 1 - b2; returns the new value.
 * axis: the axis averaged over, or -1. */
static td_tensor *decayed(const td_optimizer_in *in, const char *name, int axis, td_tensor *square,
                          td_tensor *keep)
{
    int64_t    dims[TD_MAX_RANK];
    td_tensor *s, *next;
    memcpy(dims, in->param->dim, sizeof dims);
    if (axis >= 0) {
        dims[axis] = 1;
        square = td_mean(square, axis);
    }
    /* the averaged axis stays, with length 1, so that the state broadcasts against the gradient */
    s = td_moment(in, name, dims, in->param->rank, 0);
    next = td_add(td_mul(s, td_affine(keep, -1, 1)), td_mul(square, keep));
    td_assign(s, next, in->gate);
    return next;
}

/* u = g / sqrt(v), with v_ij = r_i c_j / mean(r) if it is factored */
static td_tensor *normalized(const struct adafactor *c, const td_optimizer_in *in)
{
    /* 1e-30 keeps v above 0 where a gradient has been 0 from the start */
    td_tensor  *g = td_mul(in->grad, in->clip), *square = td_affine(td_mul(g, g), 1, 1e-30);
    td_tensor  *keep = td_exp(td_scale(td_log(in->step), -c->decay_rate)); /* 1 - b2 = t^-rate */
    struct axes a = largest_axes(in->param);
    td_tensor  *row, *column;

    if (!is_factored(c, in->param))
        return td_div(g, td_sqrt(decayed(in, "v", -1, square, keep)));
    row = decayed(in, "v_row", a.largest, square, keep);
    column = decayed(in, "v_column", a.second, square, keep);
    /* two divisions by broadcast vectors: v itself is never formed */
    return td_div(td_div(g, td_sqrt(td_div(row, td_mean(row, a.second)))), td_sqrt(column));
}

static td_tensor *root_mean_square(td_tensor *x)
{
    return td_sqrt(td_scale(td_sum_squares(x), 1 / (double)td_count(x)));
}

/* (1 - decay) p, with decay the square of the rate or the configured number */
static td_tensor *shrunk(const struct adafactor *c, const td_optimizer_in *in)
{
    double scale = in->decay_scale;
    if (c->decay_by_rate && scale > 0)
        return td_mul(in->param, td_affine(td_mul(in->rate, in->rate), -scale, 1));
    return td_scale(in->param, 1 - c->weight_decay * scale);
}

/* The update from primitives: for factored moments, and for decays that the fused op does not
 * cover. */
static td_tensor *composed(const struct adafactor *c, const td_optimizer_in *in)
{
    td_tensor *p = in->param, *u = normalized(c, in), *one = td_scalar(in->graph, 1);
    td_tensor *limit = td_maximum(one, td_scale(root_mean_square(u), 1 / c->clip_threshold));
    td_tensor *rate = td_mul(in->rate,
                             td_maximum(td_scalar(in->graph, c->min_scale), root_mean_square(p)));
    td_tensor *delta = td_mul(td_div(u, limit), rate);

    /* momentum of the finished update, not of the gradient: the rate is already inside */
    if (c->beta1 > 0) {
        td_tensor *m = td_moment(in, "m", p->dim, p->rank, 0);
        delta = td_add(td_scale(m, c->beta1), td_scale(delta, 1 - c->beta1));
        td_assign(m, delta, in->gate);
    }
    return td_sub(shrunk(c, in), delta);
}

/* The same in two passes over memory. The first updates v and sums u^2, which the second needs
 * before it can clip its first entry. decay < 0: the square of the rate. */
static td_tensor *fused(const struct adafactor *c, const td_optimizer_in *in, double decay)
{
    td_tensor *p = in->param, *v = td_moment(in, "v", p->dim, p->rank, 0);
    td_tensor *m = c->beta1 > 0 ? td_moment(in, "m", p->dim, p->rank, 0) : NULL;
    td_tensor *moment = td_adafactor_moment((td_tensor *[]){ in->grad, v, in->step, in->clip,
                                                             in->gate },
                                            c->decay_rate);
    td_tensor *step[] = { p,        in->grad, moment,  m, td_output(moment, 1), td_sum_squares(p),
                          in->rate, in->clip, in->gate };
    return td_adafactor_step(step, c->beta1, decay, c->clip_threshold, c->min_scale);
}

static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct adafactor *c = config;
    bool                    by_rate = c->decay_by_rate && in->decay_scale > 0;

    /* the fused op squares the rate but cannot scale the square for a group */
    if (is_factored(c, in->param) || (by_rate && in->decay_scale != 1))
        return composed(c, in);
    return fused(c, in, by_rate ? -1 : c->weight_decay * in->decay_scale);
}

static int check(const void *config, td_error *error)
{
    const struct adafactor *c = config;
    if (c->decay_by_rate && c->weight_decay > 0)
        return td_fail(error, TD_ECONFIG,
                       "decay_by_rate = true replaces weight_decay = %g: remove one of the two",
                       c->weight_decay);
    return 0;
}

static const td_optimizer adafactor = {
    .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "adafactor", options, struct adafactor,
                        .brief = "Adafactor, factored or not, with relative steps", .check = check,
                        .paper = "Shazeer and Stern, Adafactor: Adaptive Learning Rates with "
                                 "Sublinear Memory Cost, 2018"),
    .build = build,
};

TD_MODULE("adafactor", "1.0", "tandem", "MIT", &adafactor.plugin)
