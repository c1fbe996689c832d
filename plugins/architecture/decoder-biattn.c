/* decoder-biattn.c - one stack; given tokens see each other in both directions. Paper: Zhang et al.
 * 2025 (arXiv 2510.26622). */
#include "decoder.h"

static int arrange(const void *config, const td_arrange_in *in, td_batch *out, td_error *error)
{
    return decoder_arrange(config, in, true, out, error);
}

static int complete(const void *config, td_batch *batch, td_error *error)
{
    return decoder_complete(config, true, batch, error);
}

static void build(const void *config, const td_architecture_in *in, td_architecture_out *out)
{
    decoder_build(config, in, true, out);
}

static const td_architecture architecture = {
    .plugin = TD_PLUGIN(td_architecture, TD_ARCHITECTURE_KIND, "decoder-biattn", decoder_options,
                        struct decoder,
                        .brief = "one stack; given tokens see each other in both directions",
                        .check = decoder_check,
                        .paper = "Zhang et al., Encoder-Decoder or Decoder-Only?, 2025"),
    .flags = TD_ARCHITECTURE_WHOLE_PROMPT,
    .extent = decoder_extent,
    .check_bounds = decoder_check_bounds,
    .arrays = decoder_arrays,
    .generated = "input_ids",
    .arrange = arrange,
    .complete = complete,
    .build = build,
    .vocab_size = vocab_size,
    .takes = (const char *const[]){ "decoder-only", NULL },
};

TD_MODULE("decoder-biattn", "1.0", "tandem", "MIT", &architecture.plugin)
