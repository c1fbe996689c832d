/* span-corruption.c - random spans are taken out of a text and predicted. Paper: Raffel et al.
 * 2020. */
#include "spans.h"

struct span_corruption {
    double z_loss, label_smoothing, noise_density, mean_span;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct span_corruption, z_loss, 1e-4, 0, 1, "weight of (log Z)^2"),
    TD_OPTION_FLOAT(struct span_corruption, label_smoothing, 0, 0, 0.999,
                    "share of the target spread over the other tokens"),
    TD_OPTION_FLOAT(struct span_corruption, noise_density, 0.15, 0.001, 0.999,
                    "share of the tokens that is taken out"),
    TD_OPTION_FLOAT(struct span_corruption, mean_span, 3, 1, 1e6,
                    "mean length of what is taken out at a place, in tokens"),
    TD_OPTION_END
};

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
                        .brief = "random spans are taken out of a text and predicted",
                        .doc = "The tokenizer must have sentinels: tokenizer.sentinels. "
                               "train.length is inputs and targets together. Evaluation still "
                               "gives a text's beginning and scores the rest, which such a model "
                               "has not practised.",
                        .paper = "Raffel et al., Exploring the Limits of Transfer Learning, 2020"),
    .flags = TD_LOSS_NEEDS_GIVEN,
    .split = split,
    .bounds = bounds,
    .build = build,
};

TD_MODULE("span-corruption", "1.0", "tandem", "MIT", &span_corruption.plugin)
