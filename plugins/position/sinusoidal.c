/* sinusoidal.c - fixed sine and cosine waves, added to the embeddings. Paper: Vaswani et al. 2017.
 * Angles are linear in the position, so a shift rotates each pair: a linear map, which a layer can
 * learn. */
#include "tandem/kind/position.h"

struct sinusoidal {
    double base;
};

enum { MAX_WIDTH = 1 << 16 };

static const td_option options[] = {
    TD_OPTION_FLOAT(struct sinusoidal, base, 10000, 1, 1e12,
                    "ratio of the longest to the shortest wavelength"),
    TD_OPTION_END
};

/* p base^(-2i/d) for every position p and wave i: [B, T, ceil(d/2)] */
static td_tensor *angles(const struct sinusoidal *c, td_tensor *position, int64_t width)
{
    double     frequency[MAX_WIDTH / 2];
    int64_t    half = (width + 1) / 2, column[] = { td_dim(position, 0), td_dim(position, 1), 1 };
    td_tensor *p = td_reshape(td_cast(position, TD_REAL), column, 3);
    for (int64_t i = 0; i < half; i++)
        frequency[i] = pow(c->base, -2.0 * (double)i / (double)width);
    return td_mul(p, td_constant(position->graph, TD_REAL, &half, 1, frequency));
}

/* PE[p, 2i] = sin(angle), PE[p, 2i+1] = cos(angle); an odd width ends with a sine. */
static td_tensor *embed(const void *config, td_tensor *x, td_tensor *position)
{
    int64_t    width = td_dim(x, -1), half = (width + 1) / 2;
    int64_t    pair[] = { td_dim(position, 0), td_dim(position, 1), half, 1 };
    int64_t    joined[] = { pair[0], pair[1], 2 * half };
    td_tensor *a, *waves[2];

    if (width > MAX_WIDTH)
        return td_graph_fail(x->graph, "position 'sinusoidal' supports d_model up to %d, not %lld",
                             MAX_WIDTH, (long long)width);
    /* sine and cosine interleaved by joining them on a last axis of 2 */
    a = angles(config, position, width);
    waves[0] = td_reshape(td_sin(a), pair, 4);
    waves[1] = td_reshape(td_cos(a), pair, 4);
    a = td_reshape(td_concat(waves, 2, 3), joined, 3);
    return td_add(x, td_slice(a, -1, 0, width));
}

static const td_position sinusoidal = {
    .plugin = TD_PLUGIN(td_position, TD_POSITION_KIND, "sinusoidal", options, struct sinusoidal,
                        .brief = "fixed sine and cosine waves, added to the embeddings",
                        .paper = "Vaswani et al., Attention Is All You Need, 2017"),
    .embed = embed,
};

TD_MODULE("sinusoidal", "1.0", "tandem", "MIT", &sinusoidal.plugin)
