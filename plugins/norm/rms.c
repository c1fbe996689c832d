/* rms.c - root-mean-square normalization: layer normalization without a mean. Paper: Zhang and
 * Sennrich 2019. */
#include "tandem/kind/norm.h"

struct rms {
    double eps;
    bool   scale;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct rms, eps, 1e-6, 0, 1, "added to the mean square"),
    TD_OPTION_BOOL(struct rms, scale, true, "a learnable scale, initially 1"), TD_OPTION_END
};

/* x / sqrt(mean(x^2) + eps) * w over the last axis */
static td_tensor *build(const void *config, td_tensor *x)
{
    const struct rms *c = config;
    int64_t           width = td_dim(x, -1);
    return td_rms_norm(x, c->scale ? td_param(x->graph, "weight", &width, 1, td_ones()) : NULL,
                       c->eps);
}

static const td_norm rms = {
    .plugin = TD_PLUGIN(td_norm, TD_NORM_KIND, "rms", options, struct rms,
                        .brief = "root-mean-square normalization",
                        .paper = "Zhang and Sennrich, Root Mean Square Layer Normalization, 2019"),
    .build = build,
};

TD_MODULE("rms", "1.0", "tandem", "MIT", &rms.plugin)
