/* muon.c - momentum orthogonalized, for matrices; AdamW for the rest. Papers: Jordan et al. 2024;
 * Liu et al. 2025 (arXiv 2502.16982).
 *
 * A matrix moves along U V^T of its momentum U S V^T: every direction that the momentum has gets
 * the same step, not only the few that dominate it. A Newton-Schulz iteration finds U V^T with
 * matrix products alone. */
#include "tandem/kind/optimizer.h"
#include "tandem/match.h"

struct muon {
    double     momentum, weight_decay, eps, adamw_rate, beta1, beta2, adamw_eps;
    bool       nesterov;
    int64_t    iterations, scale;
    td_strings adamw;
};

enum { RMS, SHAPE }; /* indices into scales */

static const char *const scales[] = { "rms", "shape", 0 };

static const td_option options[] = {
    TD_OPTION_FLOAT(struct muon, momentum, 0.95, 0, 0.999999,
                    "fraction of the momentum kept from step to step"),
    TD_OPTION_BOOL(struct muon, nesterov, true, "look ahead along the momentum"),
    TD_OPTION_INT(struct muon, iterations, 5, 1, 50,
                  "Newton-Schulz iterations; 5 bring singular values to about 0.7 .. 1.2"),
    TD_OPTION_CHOICE(struct muon, scale, RMS, scales,
                     "factor of a matrix's update: rms, 0.2 sqrt(max(rows, columns)), gives it the "
                     "size of AdamW's (Liu et al.); shape, sqrt(max(1, rows / columns)) (Jordan et "
                     "al.)"),
    TD_OPTION_FLOAT(
        struct muon, weight_decay, 0.1, 0, 1,
        "decoupled weight decay, multiplied by the rate; for tensors of rank 2 or more"),
    TD_OPTION_FLOAT(struct muon, eps, 1e-7, 1e-30, 1, "added to the norm of the momentum"),
    TD_OPTION_STRINGS(
        struct muon, adamw,
        "names, with * and ?, of parameters of rank 2 and more that AdamW updates too; empty: "
        "*embed*, *lm_head* and *relative_attention_bias*"),
    TD_OPTION_FLOAT(struct muon, adamw_rate, 1, 0, 1e6, "multiplies the rate where AdamW updates"),
    TD_OPTION_FLOAT(struct muon, beta1, 0.9, 0, 0.999999, "AdamW's decay of the first moment"),
    TD_OPTION_FLOAT(struct muon, beta2, 0.95, 0, 0.999999, "AdamW's decay of the second moment"),
    TD_OPTION_FLOAT(struct muon, adamw_eps, 1e-8, 1e-30, 1,
                    "added to the root of AdamW's second moment"),
    TD_OPTION_END
};

/* ---- which parameters ------------------------------------------------------------------------ */

/* Lookup tables, whose rows move one by one, and the projection to the vocabulary: the papers leave
 * them to AdamW. */
static const char *const tables[] = { "*embed*", "*lm_head*", "*relative_attention_bias*" };

/* Vectors, and the parameters that the option or its default names. */
static bool is_adamws(const struct muon *c, const td_optimizer_in *in)
{
    td_strings names = c->adamw.count ? c->adamw
                                      : (td_strings){ tables, sizeof tables / sizeof *tables };
    for (size_t k = 0; k < names.count; k++)
        if (td_match(names.at[k], in->name))
            return true;
    return in->param->rank < 2;
}

/* AdamW's update of a parameter, as plugins/optimizer/adamw.c emits it, at a separate rate. */
static td_tensor *adamw(const struct muon *c, const td_optimizer_in *in, double decay)
{
    td_tensor *p = in->param;
    /* the fused op assigns both moments itself, and applies clip and gate */
    td_tensor *step[TD_STEP_INPUTS] = {
        [TD_STEP_P] = p,
        [TD_STEP_G] = in->grad,
        [TD_STEP_M] = td_moment(in, "m", p->dim, p->rank, 0),
        [TD_STEP_V] = td_moment(in, "v", p->dim, p->rank, 0),
        [TD_STEP_LR] = td_scale(in->rate, c->adamw_rate),
        [TD_STEP_T] = in->step,
        [TD_STEP_CLIP] = in->clip,
        [TD_STEP_GATE] = in->gate,
    };
    return td_adamw_step(step, c->beta1, c->beta2, c->adamw_eps, decay);
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* X <- a X + (b A + c A^2) X with A = X X^T. A singular value s becomes a s + b s^3 + c s^5. Jordan
 * et al. chose a, b and c for a steep slope at 0, so that small ones grow fast; the price is that
 * values end near 1, not at 1. X must not have more rows than columns: A is then the smaller
 * product. */
static td_tensor *iterate(td_tensor *x)
{
    td_tensor *a = td_matmul(x, td_transpose(x, -1, -2));
    td_tensor *b = td_add(td_scale(a, -4.7750), td_scale(td_matmul(a, a), 2.0315));
    return td_add(td_scale(x, 3.4445), td_matmul(b, x));
}

/* Nearly U V^T of x = U S V^T along the last two axes: each matrix by itself. */
static td_tensor *orthogonal(const struct muon *c, td_tensor *x)
{
    bool       tall = td_dim(x, -2) > td_dim(x, -1);
    int64_t    both = (int64_t)3 << (x->rank - 2); /* a bit per axis: the last two */
    td_tensor *norm = td_sqrt(td_sum_axes(td_mul(x, x), both));

    /* the iteration converges from singular values of at most 1; none exceeds the Frobenius norm */
    x = td_div(x, td_affine(norm, 1, c->eps));
    x = tall ? td_transpose(x, -1, -2) : x;
    for (int64_t k = 0; k < c->iterations; k++)
        x = iterate(x);
    return tall ? td_transpose(x, -1, -2) : x;
}

/* An orthogonal matrix r x c has mean square 1 / max(r, c). RMS brings its root to 0.2, typical of
 * AdamW's updates, so that a rate tuned for AdamW fits. */
static double scale_of(const struct muon *c, const td_tensor *p)
{
    double rows = (double)td_dim(p, -2), columns = (double)td_dim(p, -1);
    return c->scale == RMS ? 0.2 * sqrt(rows > columns ? rows : columns)
                           : sqrt(rows > columns ? rows / columns : 1);
}

/* m = momentum m + g;  p -= lr (scale orthogonal(g + momentum m) + decay p) */
static td_tensor *build(const void *config, const td_optimizer_in *in)
{
    const struct muon *c = config;
    td_tensor         *p = in->param, *g, *m, *move;
    double             decay = p->rank >= 2 ? c->weight_decay * in->decay_scale : 0;

    if (is_adamws(c, in))
        return adamw(c, in, decay);
    g = td_mul(in->grad, in->clip);
    m = td_moment(in, "m", p->dim, p->rank, 0);
    move = td_add(td_scale(m, c->momentum), g); /* m of this step */
    td_assign(m, move, in->gate);
    if (c->nesterov)
        move = td_add(g, td_scale(move, c->momentum));
    /* the rate comes last, so that decay is in the same units as the move */
    move = td_scale(orthogonal(c, move), scale_of(c, p));
    if (decay > 0)
        move = td_add(move, td_scale(p, decay));
    return td_sub(p, td_mul(move, in->rate));
}

static const td_optimizer muon = {
    .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "muon", options, struct muon,
                        .brief = "orthogonalized momentum for matrices, AdamW for the rest",
                        .doc = "In a parameter of rank 3 or more, such as the weights of experts, "
                               "each matrix along the last two axes is orthogonalized separately. "
                               "AdamW updates vectors. An r x c matrix, r <= c, costs iterations * "
                               "(4 r^2 c + 2 r^3) FLOPs per update, whatever the batch.",
                        .paper = "Jordan et al., Muon: An optimizer for hidden layers in neural "
                                 "networks, 2024; Liu et al., Muon is Scalable for LLM Training, "
                                 "2025"),
    .flags = TD_OPTIMIZER_WHOLE_MATRIX,
    .build = build,
};

TD_MODULE("muon", "1.0", "tandem", "MIT", &muon.plugin)
