/* norm-@NAME@.c - root-mean-square normalization whose gain is 1 plus a learned weight.
 * Paper: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.
 *
 * The contract: tandem/kind/norm.h. */
#include "tandem/kind/norm.h"

struct @IDENT@_config {
    double eps;
    bool   gain, centre;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct @IDENT@_config, eps, 1e-6, 0, 1, "added to the mean square"),
    TD_OPTION_BOOL(struct @IDENT@_config, gain, true,
                   "learned gain; stored as its distance from 1, so that weight decay pulls it "
                   "towards 1 instead of 0"),
    TD_OPTION_BOOL(struct @IDENT@_config, centre, false, "subtract the mean first"), TD_OPTION_END
};

/* [build]: x [.., D] of any rank, to the same dims. A token may depend only on itself: reduce over
 * the last axis and no other.
 *
 *     y = x / sqrt(mean(x^2) + eps) * (1 + weight) */
static td_tensor *build(const void *config, td_tensor *x)
{
    const struct @IDENT@_config *c = config;
    int64_t                   width = td_dim(x, -1);
    td_tensor                *gain = NULL; /* NULL: none */

    if (c->centre)
        x = td_sub(x, td_mean(x, -1)); /* [.., D] - [.., 1] */
    if (c->gain)
        gain = td_affine(td_param(x->graph, "weight", &width, 1, td_zeros()), 1, 1); /* [D] */
    return td_rms_norm(x, gain, c->eps);
}

static const td_norm @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_norm, TD_NORM_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "root-mean-square normalization with a gain of 1 + weight",
                        .paper = "Zhang and Sennrich, Root Mean Square Layer Normalization, 2019"),
    .build = build,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
