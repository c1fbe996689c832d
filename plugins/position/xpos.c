/* xpos.c - rotary positions whose waves decay with distance, fast ones first. Paper: Sun et al.
 * 2022 (A Length-Extrapolatable Transformer).
 *
 *     q_n -> q_n e^(i n theta_j) zeta_j^(n/s),   k_m -> k_m e^(i m theta_j) zeta_j^(-m/s)
 *     zeta_j = (2j/E + gamma) / (1 + gamma),   s = scale_base
 *
 * so that a score is multiplied by zeta^((n - m)/s). A key's own factor grows with its position: at
 * 100,000 it would be e^244 for the fastest wave, more than f32 can hold. So factors are clamped to
 * e^-75 .. e^75, which the fastest wave reaches at position 60 s (30,000 by default). Up to there,
 * scores are the paper's; beyond, such a wave, which has long vanished at that distance, stops
 * decaying.
 *
 * Decay assumes keys behind their queries. An encoder's keys are on both sides, and those of
 * cross-attention may be, so there queries and keys are only rotated. */
#include "tandem/kind/position.h"

struct xpos {
    double base, scale_base, gamma;
};

enum { MAX_HEAD = 4096 };

/* f32 ends at e^88: a factor of e^75 leaves enough range for the values and for a sum of
 * products */
static const double largest = 75;

static const td_option options[] = {
    TD_OPTION_FLOAT(struct xpos, base, 10000, 1, 1e12,
                    "ratio of the longest to the shortest wavelength"),
    TD_OPTION_FLOAT(struct xpos, scale_base, 512, 1, 1e9,
                    "tokens over which a wave decays by a factor of its zeta"),
    TD_OPTION_FLOAT(struct xpos, gamma, 0.4, 0.001, 1e6,
                    "how evenly waves decay; the fastest has zeta = gamma / (1 + gamma)"),
    TD_OPTION_END
};

static double frequency(const struct xpos *c, int64_t j, double width)
{
    return pow(c->base, -2 * (double)j / width);
}

/* The exponent of fading per position, -log(zeta_j) / scale_base. */
static double fading(const struct xpos *c, int64_t j, double width)
{
    return -log((2 * (double)j / width + c->gamma) / (1 + c->gamma)) / c->scale_base;
}

/* position times rate(j) for every wave j: [B, T, E/2] */
static td_tensor *times(const struct xpos *c, td_tensor *position, int64_t width,
                        double (*rate)(const struct xpos *, int64_t, double))
{
    double  table[MAX_HEAD / 2];
    int64_t half = width / 2, column[] = { td_dim(position, 0), td_dim(position, 1), 1 };
    for (int64_t j = 0; j < half; j++)
        table[j] = rate(c, j, (double)width);
    return td_mul(td_reshape(td_cast(position, TD_REAL), column, 3),
                  td_constant(position->graph, TD_REAL, &half, 1, table));
}

/* zeta^(n/s) for queries, its reciprocal for keys: e^-x and e^x, x clamped. */
static td_tensor *growth(const struct xpos *c, const td_rotate_in *in)
{
    td_tensor *x = times(c, in->position, td_dim(in->x, -1), fading),
              *end = td_scalar(x->graph, largest);
    x = td_where(td_less(x, end), x, end);
    return td_exp(in->is_query ? td_neg(x) : x);
}

static td_tensor *rotate(const void *config, const td_rotate_in *in)
{
    const struct xpos *c = config;
    td_tensor         *a, *cosine, *sine, *grow;

    if (td_dim(in->x, -1) % 2 || td_dim(in->x, -1) > MAX_HEAD)
        return td_graph_fail(in->x->graph, "position 'xpos' needs an even head_dim up to %d",
                             MAX_HEAD);
    a = times(c, in->position, td_dim(in->x, -1), frequency);
    cosine = td_cos(a);
    sine = td_sin(a);
    /* a rotation and a scale of each pair: the scale goes into both sine and cosine */
    if (in->role == TD_ROLE_DECODER) {
        grow = growth(c, in);
        cosine = td_mul(cosine, grow);
        sine = td_mul(sine, grow);
    }
    return td_rope(in->x, cosine, sine);
}

static int check_head(const void *config, int64_t head_dim, td_error *error)
{
    if (head_dim % 2 || head_dim > MAX_HEAD)
        return td_fail(error, TD_ECONFIG,
                       "position 'xpos' rotates pairs: head_dim = %lld must be even and at most %d",
                       (long long)head_dim, MAX_HEAD);
    return 0;
}

static const td_position xpos = {
    .plugin =
        TD_PLUGIN(td_position, TD_POSITION_KIND, "xpos", options, struct xpos,
                  .brief = "rotary positions whose waves decay with distance",
                  .doc = "Waves decay for keys before their query and grow for keys after it. "
                         "'decoder-biattn' has such keys among the given tokens, and so has "
                         "attention 'merged' with model.continuous_positions = false: use "
                         "'rope' there, and also with memory_positions = false in 'merged'.",
                  .paper = "Sun et al., A Length-Extrapolatable Transformer, 2022"),
    .rotate = rotate,
    .check_head = check_head,
};

TD_MODULE("xpos", "1.0", "tandem", "MIT", &xpos.plugin)
