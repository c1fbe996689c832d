/* geglu.c - gated linear unit with GELU (tanh form), three matrices. Paper: Shazeer 2020. */
#include "ffn.h"

static td_tensor *build(const void *config, const td_ffn_in *in)
{
    return ffn_gated(config, in, TD_GELU);
}

static const td_ffn geglu = {
    .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "geglu", ffn_options, struct ffn,
                        .brief = "gated linear unit with GELU (tanh form), three matrices",
                        .paper = "Shazeer, GLU Variants Improve Transformer, 2020"),
    .build = build,
};

TD_MODULE("geglu", "1.0", "tandem", "MIT", &geglu.plugin)
