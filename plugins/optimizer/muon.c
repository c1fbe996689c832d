/* muon.c - momentum whose singular values are all made about 1, for matrices; AdamW for the rest.
 * Papers: Jordan et al. 2024; Liu et al. 2025 (arXiv 2502.16982). */
#include "tandem/kind/optimizer.h"

struct muon {
    double     momentum, weight_decay, eps, adamw_rate, beta1, beta2, adamw_eps;
    bool       nesterov;
    int64_t    iterations, scale;
    td_strings adamw;
};

enum { RMS, SHAPE };

static const char *const scales[] = { "rms", "shape", 0 };

static const td_option options[] = {
    TD_OPTION_FLOAT(struct muon, momentum, 0.95, 0, 0.999999, "share of the momentum that is kept"),
    TD_OPTION_BOOL(struct muon, nesterov, true, "look ahead along the momentum"),
    TD_OPTION_INT(struct muon, iterations, 5, 1, 50,
                  "Newton-Schulz iterations: singular values come to about 0.7 .. 1.2"),
    TD_OPTION_CHOICE(struct muon, scale, RMS, scales,
                     "how long the update of a matrix is: 0.2 sqrt(max(rows, columns)), as long as "
                     "AdamW's (Liu et al.), or sqrt(max(1, rows / columns)) (Jordan et al.)"),
    TD_OPTION_FLOAT(struct muon, weight_decay, 0.1, 0, 1,
                    "decoupled, on tensors of rank 2 and more, times the rate"),
    TD_OPTION_FLOAT(struct muon, eps, 1e-7, 1e-30, 1, "added to the norm of the momentum"),
    TD_OPTION_STRINGS(
        struct muon, adamw,
        "parameters of rank 2 and more that AdamW updates, too, by name with * and ?; "
        "empty: *embed*, *lm_head* and *relative_attention_bias*"),
    TD_OPTION_FLOAT(struct muon, adamw_rate, 1, 0, 1e6, "times the rate, where AdamW updates"),
    TD_OPTION_FLOAT(struct muon, beta1, 0.9, 0, 0.999999, "AdamW's decay of the first moment"),
    TD_OPTION_FLOAT(struct muon, beta2, 0.95, 0, 0.999999, "AdamW's decay of the second moment"),
    TD_OPTION_FLOAT(struct muon, adamw_eps, 1e-8, 0, 1,
                    "added to the root of AdamW's second moment"),
    TD_OPTION_END
};

/* ---- which parameters ------------------------------------------------------------------------ */

/* Tables that are looked up, and the projection to the vocabulary. */
static const char *const tables[] = { "*embed*", "*lm_head*", "*relative_attention_bias*" };

static bool matches(const char *pattern, const char *name)
{
    for (; *pattern && *pattern != '*'; pattern++, name++)
        if (!*name || (*pattern != '?' && *pattern != *name))
            return false;
    if (!*pattern)
        return !*name;
    while (pattern[1] == '*')
        pattern++;
    for (; *name; name++)
        if (matches(pattern + 1, name))
            return true;
    return !pattern[1];
}

static bool is_adamws(const struct muon *c, const td_optimizer_in *in)
{
    td_strings names = c->adamw.count ? c->adamw
                                      : (td_strings){ tables, sizeof tables / sizeof *tables };
    for (size_t k = 0; k < names.count; k++)
        if (matches(names.at[k], in->name))
            return true;
    return in->param->rank < 2;
}

static td_tensor *adamw(const struct muon *c, const td_optimizer_in *in, double decay)
{
    td_tensor *p = in->param;
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

/* One iteration on X, no more rows than columns: a X + (b A + c A^2) X with A = X X^T. */
static td_tensor *iterate(td_tensor *x)
{
    td_tensor *a = td_matmul(x, td_transpose(x, -1, -2));
    td_tensor *b = td_add(td_scale(a, -4.7750), td_scale(td_matmul(a, a), 2.0315));
    return td_add(td_scale(x, 3.4445), td_matmul(b, x));
}

/* U V^T of x = U S V^T, roughly, along the last two axes: each matrix by itself. */
static td_tensor *orthogonal(const struct muon *c, td_tensor *x)
{
    bool       tall = td_dim(x, -2) > td_dim(x, -1);
    int64_t    both = (int64_t)3 << (x->rank - 2);
    td_tensor *norm = td_sqrt(td_sum_axes(td_mul(x, x), both));

    x = td_div(x, td_affine(norm, 1, c->eps));
    x = tall ? td_transpose(x, -1, -2) : x;
    for (int64_t k = 0; k < c->iterations; k++)
        x = iterate(x);
    return tall ? td_transpose(x, -1, -2) : x;
}

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
    move = td_add(td_scale(m, c->momentum), g);
    td_assign(m, move, in->gate);
    if (c->nesterov)
        move = td_add(g, td_scale(move, c->momentum));
    move = td_scale(orthogonal(c, move), scale_of(c, p));
    if (decay > 0)
        move = td_add(move, td_scale(p, decay));
    return td_sub(p, td_mul(move, in->rate));
}

static const td_optimizer muon = {
    .plugin = TD_PLUGIN(td_optimizer, TD_OPTIMIZER_KIND, "muon", options, struct muon,
                        .brief = "orthogonalized momentum for matrices, AdamW for the rest",
                        .doc = "Of a parameter of rank 3 and more each matrix along its last two "
                               "axes is made orthogonal by itself, as experts are. Vectors are "
                               "AdamW's. A matrix of r x c, r <= c, takes iterations (4 r^2 c + "
                               "2 r^3) FLOPs at each update, whatever the batch.",
                        .paper = "Jordan et al., Muon: An optimizer for hidden layers in neural "
                                 "networks, 2024; Liu et al., Muon is Scalable for LLM Training, "
                                 "2025"),
    .flags = TD_OPTIMIZER_WHOLE_MATRIX,
    .build = build,
};

TD_MODULE("muon", "1.0", "tandem", "MIT", &muon.plugin)
