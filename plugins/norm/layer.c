/* layer.c - layer normalization. Paper: Ba et al. 2016. */
#include "tandem/kind/norm.h"

struct layer {
    double eps;
    bool   bias;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct layer, eps, 1e-6, 0, 1, "added to the variance"),
    TD_OPTION_BOOL(struct layer, bias, true, "a learnable bias in addition to the scale"),
    TD_OPTION_END
};

/* (x - mean) / sqrt(variance + eps) * w + b over the last axis, with the biased variance */
static td_tensor *build(const void *config, td_tensor *x)
{
    const struct layer *c = config;
    int64_t             width = td_dim(x, -1);
    td_tensor          *w = td_param(x->graph, "weight", &width, 1, td_ones());
    return td_layer_norm(x, w, c->bias ? td_param(x->graph, "bias", &width, 1, td_zeros()) : NULL,
                         c->eps);
}

static const td_norm layer = {
    .plugin = TD_PLUGIN(td_norm, TD_NORM_KIND, "layer", options, struct layer,
                        .brief = "layer normalization",
                        .paper = "Ba et al., Layer Normalization, 2016"),
    .build = build,
};

TD_MODULE("layer", "1.0", "tandem", "MIT", &layer.plugin)
