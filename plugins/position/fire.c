/* fire.c - a learned function of distance relative to the query's position. Paper: Li et al. 2023
 * (FIRE: Functional Interpolation for Relative Positions).
 *
 *     b(i, j) = f( psi(i - j) / psi(max(L, i)) ),   psi(x) = log(|c| x + 1)
 *
 * The quotient, the "share", lies between 0 and 1 at any length, so f interpolates where other
 * schemes extrapolate. f is a small network, 1 -> hidden -> heads; c, L and f are learned, one set
 * per stack, like the biases of T5.
 *
 * The paper's FIRE is causal. Here, a key ahead of its query has the distance |i - j| and a
 * negative share, so that f can tell the sides apart, and max(L, i, j) replaces max(L, i), so that
 * shares stay between -1 and 1. For keys behind, the formula is the paper's.
 *
 * The bias is a dense [B, H, T, T], and the network's inner layer is [B, T, T, hidden]. For long
 * sequences, use small micro-batches and train.recompute. */
#include "tandem/kind/position.h"

struct fire {
    int64_t hidden;
    double  c, threshold;
};

static const td_option options[] = {
    TD_OPTION_INT(struct fire, hidden, 32, 1, 4096, "width of the inner layer of the network"),
    TD_OPTION_FLOAT(struct fire, c, 0.1, 1e-6, 1e6,
                    "initial c; the larger, the sooner distances blur"),
    TD_OPTION_FLOAT(struct fire, threshold, 512, 1, 1e9,
                    "initial L; up to this position, distances are not relative to the position"),
    TD_OPTION_END
};

/* A learned scalar that stays positive and starts at `first`: |w| first, w = 1. An optimizer's
 * steps are then relative to it, and L is 512 where other parameters are about 1. */
static td_tensor *positive(td_graph *g, const char *name, double first)
{
    int64_t one = 1;
    return td_scale(td_abs(td_param(g, name, &one, 1, td_ones())), first);
}

/* Positions [B, T] as real [B, T, 1] or [B, 1, T]. */
static td_tensor *along(td_tensor *position, bool keys)
{
    int64_t t = td_dim(position, 1), dims[] = { td_dim(position, 0), keys ? 1 : t, keys ? t : 1 };
    return td_reshape(td_cast(position, TD_REAL), dims, 3);
}

/* psi(x) = log(c x + 1): near distances differ more than far ones */
static td_tensor *psi(td_tensor *x, td_tensor *c) { return td_log(td_affine(td_mul(x, c), 1, 1)); }

/* Distances as signed shares: [B, Tq, Tk]. Call it in the scope of c and threshold. */
static td_tensor *shares(const struct fire *f, const td_bias_in *in)
{
    td_graph  *g = in->graph;
    td_tensor *c = positive(g, "c", f->c), *threshold = positive(g, "threshold", f->threshold);
    td_tensor *q = along(in->q_position, false), *k = along(in->k_position, true);
    td_tensor *distance = td_sub(q, k), *reach = td_maximum(td_maximum(q, k), threshold);
    return td_mul(td_sign(distance), td_div(psi(td_abs(distance), c), psi(reach, c)));
}

/* f of every share: [B, H, Tq, Tk] */
static td_tensor *network(const struct fire *f, td_tensor *x, int64_t heads)
{
    int64_t    dims[] = { td_dim(x, 0), td_dim(x, 1), td_dim(x, 2), 1 };
    td_tensor *y = td_linear_with("inner", td_reshape(x, dims, 4), f->hidden, true, td_normal(1));
    y = td_linear_with("outer", td_activate(y, TD_RELU), heads, true,
                       td_normal(1 / sqrt((double)f->hidden)));
    return td_permute(y, (const int[]){ 0, 3, 1, 2 });
}

static void bias(const void *config, const td_bias_in *in, td_bias_out *out)
{
    if (in->role == TD_ROLE_CROSS)
        return;
    /* the scope is the stack's, not the layer's: every layer fetches the same parameters */
    td_push_shared(in->graph, "relative_bias", in->stack);
    td_push(in->graph, "fire");
    out->dense = network(config, shares(config, in), in->heads);
    td_pop(in->graph);
    td_pop(in->graph);
}

static const td_position fire = {
    .plugin =
        TD_PLUGIN(td_position, TD_POSITION_KIND, "fire", options, struct fire,
                  .brief = "a learned function of distance over position, in self-attention",
                  .paper = "Li et al., Functional Interpolation for Relative Positions, 2023"),
    .bias = bias,
};

TD_MODULE("fire", "1.0", "tandem", "MIT", &fire.plugin)
