/* decoder-only.c - one causal stack reads given and predicted tokens. Paper: Zhang et al. 2025
 * (arXiv 2510.26622). */
#include "decoder.h"

static int arrange(const void *config, const td_arrange_in *in, td_batch *out, td_error *error)
{
    return decoder_arrange(config, in, false, out, error);
}

static int complete(const void *config, td_batch *batch, td_error *error)
{
    return decoder_complete(config, false, batch, error);
}

static void build(const void *config, const td_architecture_in *in, td_architecture_out *out)
{
    decoder_build(config, in, false, out);
}

static const td_architecture architecture = {
    .plugin = TD_PLUGIN(td_architecture, TD_ARCHITECTURE_KIND, "decoder-only", decoder_options,
                        struct decoder,
                        .brief = "one causal stack reads given and predicted tokens",
                        .check = decoder_check,
                        .paper = "Zhang et al., Encoder-Decoder or Decoder-Only?, 2025"),
    .extent = decoder_extent,
    .check_bounds = decoder_check_bounds,
    .arrays = decoder_arrays,
    .generated = "input_ids",
    .arrange = arrange,
    .complete = complete,
    .build = build,
    .vocab_size = vocab_size,
};

TD_MODULE("decoder-only", "1.0", "tandem", "MIT", &architecture.plugin)
