/* rope.c - rotary position embedding, half-split layout, with length scalings. Papers: Su et al.
 * 2021 (RoPE); Chen et al. 2023 (linear: position interpolation); Peng et al. 2023 (ntk, yarn).
 *
 *     (x_j, x_{j+E/2}) -> rotated by p theta_j,   theta_j = base^(-2j/E)
 *
 * so that q . k depends on the distance of the two positions p alone. The scalings stretch the
 * waves so that a model can read beyond its training length: linear all of them, ntk the slow
 * ones by a larger base, yarn each by the number of turns it made in training. Values agree with
 * Hugging Face's. */
#include "tandem/kind/position.h"

struct rope {
    double  base, factor, beta_fast, beta_slow;
    int64_t scaling, original_length;
};

enum { NONE, LINEAR, NTK, YARN };
enum { MAX_HEAD = 4096 };

static const char *const scalings[] = { "none", "linear", "ntk", "yarn", 0 };

static const td_option options[] = {
    TD_OPTION_FLOAT(struct rope, base, 10000, 1, 1e12,
                    "ratio of the longest to the shortest wavelength"),
    TD_OPTION_CHOICE(struct rope, scaling, NONE, scalings,
                     "how to stretch the waves beyond the training length"),
    TD_OPTION_FLOAT(struct rope, factor, 1, 1, 1e6, "multiple of the training length to reach"),
    TD_OPTION_INT(struct rope, original_length, 2048, 1, 1 << 30, "training length; yarn needs it"),
    TD_OPTION_FLOAT(struct rope, beta_fast, 32, 0.001, 1e6,
                    "yarn: waves with at least this many turns in original_length are kept"),
    TD_OPTION_FLOAT(struct rope, beta_slow, 1, 0.001, 1e6,
                    "yarn: waves with fewer turns than this are interpolated"),
    TD_OPTION_END
};

/* The index j, not an integer, of the wave that turns `turns` times over the original length: the
 * solution of L theta_j = 2 pi turns. */
static double wave_of(const struct rope *c, double turns, double width)
{
    return width * log((double)c->original_length / (turns * 2 * 3.14159265358979323846)) /
           (2 * log(c->base));
}

/* The degree to which wave j is interpolated: 0 for fast waves, 1 for slow ones, a ramp between.
 * 0.001 avoids a division by 0 if both ends fall on one wave, as in the authors' code. */
static double yarn_share(const struct rope *c, int64_t j, double width)
{
    double low = fmax(floor(wave_of(c, c->beta_fast, width)), 0);
    double high = fmin(ceil(wave_of(c, c->beta_slow, width)), width - 1);
    return fmin(fmax(((double)j - low) / fmax(high - low, 0.001), 0), 1);
}

/* theta_j, scaled. ntk: the base that leaves wave 0 alone and slows the last by `factor`; a head of
 * width 2 has one wave, hence fmax. */
static double frequency(const struct rope *c, int64_t j, double width)
{
    double share, theta = pow(c->base, -2 * (double)j / width);
    switch (c->scaling) {
    case LINEAR:
        return theta / c->factor;
    case NTK:
        return pow(c->base * pow(c->factor, width / fmax(width - 2, 1)), -2 * (double)j / width);
    case YARN:
        /* slow waves, which never completed a turn in training, are interpolated as by `linear` */
        share = yarn_share(c, j, width);
        return share * theta / c->factor + (1 - share) * theta;
    default:
        return theta;
    }
}

/* position times frequency: [B, T, E/2]. Frequencies are computed here in double and rounded once,
 * to the graph's reals. */
static td_tensor *angles(const struct rope *c, td_tensor *position, int64_t width)
{
    double  table[MAX_HEAD / 2];
    int64_t half = width / 2, column[] = { td_dim(position, 0), td_dim(position, 1), 1 };
    for (int64_t j = 0; j < half; j++)
        table[j] = frequency(c, j, (double)width);
    return td_mul(td_reshape(td_cast(position, TD_REAL), column, 3),
                  td_constant(position->graph, TD_REAL, &half, 1, table));
}

/* The check is repeated here: check_head runs for configs, not for graphs built by other
 * programs. */
static td_tensor *rotate(const void *config, const td_rotate_in *in)
{
    const struct rope *c = config;
    /* yarn sharpens the softmax: scores grow by the square of this, through q and k both */
    double             grow = c->scaling == YARN ? 0.1 * log(c->factor) + 1 : 1;
    td_tensor         *a;

    if (td_dim(in->x, -1) % 2 || td_dim(in->x, -1) > MAX_HEAD)
        return td_graph_fail(in->x->graph, "position 'rope' needs an even head_dim up to %d",
                             MAX_HEAD);
    a = angles(c, in->position, td_dim(in->x, -1));
    return td_rope(in->x, td_scale(td_cos(a), grow), td_scale(td_sin(a), grow));
}

static int check_head(const void *config, int64_t head_dim, td_error *error)
{
    if (head_dim % 2 || head_dim > MAX_HEAD)
        return td_fail(error, TD_ECONFIG,
                       "position 'rope' rotates pairs: head_dim = %lld must be even and at most %d",
                       (long long)head_dim, MAX_HEAD);
    return 0;
}

static int check(const void *config, td_error *error)
{
    const struct rope *c = config;
    if (c->scaling == NONE && c->factor != 1)
        return td_fail(
            error, TD_ECONFIG,
            "factor = %g has no effect without scaling: set scaling to linear, ntk or yarn",
            c->factor);
    if (c->scaling != NONE && c->factor == 1)
        return td_fail(
            error, TD_ECONFIG,
            "scaling = \"%s\" has no effect with factor = 1: set factor to the multiple of the "
            "training length to reach, or scaling to none",
            scalings[c->scaling]);
    /* base 1 has one wavelength only, and no ramp between fast and slow */
    if (c->scaling == YARN && (c->base <= 1 || c->beta_fast <= c->beta_slow))
        return td_fail(
            error, TD_ECONFIG,
            "yarn needs base > 1 and beta_fast > beta_slow, but base = %g, beta_fast = %g and "
            "beta_slow = %g",
            c->base, c->beta_fast, c->beta_slow);
    return 0;
}

static const td_position rope = {
    .plugin = TD_PLUGIN(td_position, TD_POSITION_KIND, "rope", options, struct rope,
                        .brief = "rotary positions, with linear, NTK and YaRN scaling",
                        .paper = "Su et al., RoFormer, 2021", .check = check),
    .rotate = rotate,
    .check_head = check_head,
};

TD_MODULE("rope", "1.0", "tandem", "MIT", &rope.plugin)
