/* swiglu.c - gated linear unit with SiLU, three matrices. Paper: Shazeer 2020. */
#include "ffn.h"

static td_tensor *build(const void *config, const td_ffn_in *in)
{
    return ffn_gated(config, in, TD_SILU);
}

static const td_ffn swiglu = {
    .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "swiglu", ffn_options, struct ffn,
                        .brief = "gated linear unit with SiLU, three matrices",
                        .paper = "Shazeer, GLU Variants Improve Transformer, 2020"),
    .build = build,
};

TD_MODULE("swiglu", "1.0", "tandem", "MIT", &swiglu.plugin)
