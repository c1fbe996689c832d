/* causal-lm.c - predict every token from those before it. */
#include "cross-entropy.h"

struct causal_lm {
    double z_loss, label_smoothing;
};

static const td_option options[] = { CROSS_ENTROPY_OPTIONS(struct causal_lm), TD_OPTION_END };

/* A pair becomes one run of tokens, inputs and then targets, and inputs are predicted too. Only
 * this needs a copy: running text is passed on unchanged. */
static int join(const td_record *r, const td_split_in *in, td_example *out, td_error *error)
{
    size_t n_inputs = (size_t)r->n_inputs, n_targets = (size_t)r->n_targets,
           n = n_inputs + n_targets;
    int32_t *tokens = in->allocate(in->arena, n * sizeof *tokens);
    float   *weights = r->weights ? in->allocate(in->arena, n * sizeof *weights) : NULL;

    if (!tokens || (r->weights && !weights))
        return td_fail(error, TD_ENOMEM,
                       "loss 'causal-lm': out of memory for an example of %zu tokens", n);
    memcpy(tokens, r->inputs, n_inputs * sizeof *tokens);
    if (n_targets)
        memcpy(tokens + n_inputs, r->targets, n_targets * sizeof *tokens);
    /* a record's weights are those of its targets */
    if (weights) {
        for (size_t k = 0; k < n_inputs; k++)
            weights[k] = 1;
        memcpy(weights + n_inputs, r->weights, n_targets * sizeof *weights);
    }
    out->predicted = tokens;
    out->n_predicted = (int64_t)n;
    out->weights = weights;
    out->predicted_documents = NULL;
    return 0;
}

/* Nothing is given: all tokens are predicted. */
static int split(const void *config, const td_record *r, const td_split_in *in, td_example *out,
                 td_error *error)
{
    memset(out, 0, sizeof *out);
    out->source = r->source;
    out->id = r->id;
    /* n_inputs is meaningless where inputs is NULL */
    if (r->n_inputs < 0 || r->n_targets < 0 || (r->inputs ? r->n_inputs : 0) + r->n_targets < 1)
        return td_fail(error, TD_EFORMAT, "loss 'causal-lm': record %llu has no token to predict",
                       (unsigned long long)r->id);
    if (r->inputs && r->n_inputs)
        return join(r, in, out, error);
    out->predicted = r->targets;
    out->n_predicted = r->n_targets;
    out->weights = r->weights;
    out->predicted_documents = r->documents;
    return 0;
}

/* A row of T tokens predicts T: its input begins with <s>, which is not a token of the text. */
static td_bounds bounds(const void *config, int64_t length)
{
    return (td_bounds){ length, 0, length, length };
}

static void build(const void *config, const td_loss_in *in, td_loss_out *out)
{
    const struct causal_lm *c = config;
    cross_entropy_build(in, c->z_loss, c->label_smoothing, out);
}

static const td_loss causal_lm = {
    .plugin = TD_PLUGIN(td_loss, TD_LOSS_KIND, "causal-lm", options, struct causal_lm,
                        .brief = "predict every token from those before it"),
    .flags = TD_LOSS_NOTHING_GIVEN | TD_LOSS_CAPS,
    .split = split,
    .bounds = bounds,
    .build = build,
};

TD_MODULE("causal-lm", "1.0", "tandem", "MIT", &causal_lm.plugin)
