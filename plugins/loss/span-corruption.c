/* span-corruption.c - random spans are removed from a text and predicted. Paper: Raffel et al.
 * 2020. The work is in spans.h, which ul2.c shares. */
#include "spans.h"

struct span_corruption {
    double z_loss, label_smoothing, noise_density, mean_span;
};

static const td_option options[] = { CROSS_ENTROPY_OPTIONS(struct span_corruption),
                                     TD_OPTION_FLOAT(struct span_corruption, noise_density, 0.15,
                                                     0.001, 0.999,
                                                     "fraction of the tokens that is removed"),
                                     TD_OPTION_FLOAT(struct span_corruption, mean_span, 3, 1, 1e6,
                                                     "mean length of a removed span, in tokens"),
                                     TD_OPTION_END };

static int split(const void *config, const td_record *r, const td_split_in *in, td_example *out,
                 td_error *error)
{
    const struct span_corruption *c = config;
    struct spans_in spans = { "span-corruption", r, in, c->noise_density, c->mean_span, -1, 0 };
    memset(out, 0, sizeof *out);
    out->source = r->source;
    out->id = r->id;
    return r->inputs ? split_pair("span-corruption", r, out, error)
                     : spans_split(&spans, out, error);
}

static td_bounds bounds(const void *config, int64_t length)
{
    const struct span_corruption *c = config;
    return spans_bounds(length, c->noise_density, c->mean_span, 0);
}

static void build(const void *config, const td_loss_in *in, td_loss_out *out)
{
    const struct span_corruption *c = config;
    cross_entropy_build(in, c->z_loss, c->label_smoothing, out);
}

static const td_loss span_corruption = {
    .plugin = TD_PLUGIN(td_loss, TD_LOSS_KIND, "span-corruption", options, struct span_corruption,
                        .brief = "random spans are removed from a text and predicted",
                        .doc = "The tokenizer must have sentinels: tokenizer.sentinels. "
                               "train.length covers inputs and targets together. Evaluation still "
                               "gives the beginning of a text and scores the rest, a task that "
                               "such a model has not been trained on.",
                        .paper = "Raffel et al., Exploring the Limits of Transfer Learning, 2020"),
    .flags = TD_LOSS_NEEDS_GIVEN | TD_LOSS_CAPS,
    .split = split,
    .bounds = bounds,
    .build = build,
};

TD_MODULE("span-corruption", "1.0", "tandem", "MIT", &span_corruption.plugin)
