/* relu.c - two matrices with ReLU between. Paper: Vaswani et al. 2017. */
#include "ffn.h"

static td_tensor *build(const void *config, const td_ffn_in *in)
{
    return ffn_plain(config, in, TD_RELU);
}

static const td_ffn relu = {
    .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "relu", ffn_options, struct ffn,
                        .brief = "two matrices with ReLU between",
                        .paper = "Vaswani et al., Attention Is All You Need, 2017"),
    .build = build,
};

TD_MODULE("relu", "1.0", "tandem", "MIT", &relu.plugin)
