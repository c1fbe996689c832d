/* relu2.c - two matrices with squared ReLU between. Paper: So et al. 2021. */
#include "ffn.h"

static td_tensor *build(const void *config, const td_ffn_in *in)
{
    return ffn_plain(config, in, TD_RELU2);
}

static const td_ffn relu2 = {
    .plugin = TD_PLUGIN(td_ffn, TD_FFN_KIND, "relu2", ffn_options, struct ffn,
                        .brief = "two matrices with squared ReLU between",
                        .paper = "So et al., Primer: Searching for Efficient Transformers, 2021"),
    .build = build,
};

TD_MODULE("relu2", "1.0", "tandem", "MIT", &relu2.plugin)
