/* loss-@NAME@.c - the first part of each text is given, and the rest is predicted. Paper: Raffel et
 * al., Exploring the Limits of Transfer Learning, 2020 (there: prefix LM).
 *
 * The contract: tandem/kind/loss.h; records, examples and bounds: tandem/kind/batch.h. */
#include <string.h>

#include "tandem/kind/loss.h"

struct @IDENT@_config {
    double given, z_loss;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct @IDENT@_config, given, 0.25, 0.001, 0.999,
                    "fraction of a text that is given: at least one token, at most all but one"),
    TD_OPTION_FLOAT(struct @IDENT@_config, z_loss, 1e-4, 0, 1, "weight of (log Z)^2"), TD_OPTION_END
};

/* The number of given tokens of a text of `length` >= 2. */
static int64_t tokens_given(const struct @IDENT@_config *c, int64_t length)
{
    int64_t k = (int64_t)(c->given * (double)length);
    return k < 1 ? 1 : k > length - 1 ? length - 1 : k;
}

/* Running text needs at least two tokens, one given and one predicted; a pair needs one of each. */
static int check_record(const td_record *r, td_error *error)
{
    if (!r->inputs && r->n_targets < 2)
        return td_fail(error, TD_EFORMAT,
                       "loss '@NAME@': record %llu has %lld tokens; it needs at least one to give "
                       "and one to predict",
                       (unsigned long long)r->id, (long long)r->n_targets);
    if (r->inputs && (r->n_inputs < 1 || r->n_targets < 1))
        return td_fail(error, TD_EFORMAT,
                       "loss '@NAME@': record %llu has %lld inputs and %lld targets; it needs at "
                       "least one of each",
                       (unsigned long long)r->id, (long long)r->n_inputs, (long long)r->n_targets);
    return 0;
}

/* [worker]: called on several threads, for any record in any order, so it keeps no state; for
 * anything random use td_random_uniform(in->seed, record->id, n). `out` may point into the record;
 * new memory comes from in->allocate(in->arena, bytes), lives as long as the example, and is never
 * freed here.
 *
 * A record is either running text (only `targets`) or a pair, whose inputs are given. */
static int split(const void *config, const td_record *r, const td_split_in *in, td_example *out,
                 td_error *error)
{
    int64_t k = 0; /* targets that are given */
    (void)in;
    if (check_record(r, error))
        return TD_EFORMAT;
    memset(out, 0, sizeof *out);
    out->source = r->source;
    out->id = r->id; /* must always be passed on */
    if (r->inputs) {
        out->given = r->inputs;
        out->n_given = r->n_inputs;
    } else {
        k = tokens_given(config, r->n_targets);
        out->given = r->targets;
        out->n_given = k;
        out->given_documents = r->documents;
        out->predicted_documents = r->documents ? r->documents + k : NULL;
    }
    out->predicted = r->targets + k;
    out->n_predicted = r->n_targets - k;
    out->weights = r->weights ? r->weights + k : NULL; /* NULL: all 1 */
    return 0;
}

/* [any]: the largest sizes that `split` can make of a text of `length` tokens. Batches are made
 * for these; a larger example is an error. */
static td_bounds bounds(const void *config, int64_t length)
{
    int64_t k = length < 2 ? 0 : tokens_given(config, length);
    return (td_bounds){ .raw = length, .given = k, .predicted = length - k, .total = length };
}

/* [build]: hidden [B, U, D] to scalars. The loss is divided by in->divisor, the sum of the weights
 * of the whole batch and not of this micro-batch, so splitting a batch into micro-batches changes
 * nothing. Metrics and evaluation read `sum` and `nll`: plain cross-entropy.
 *
 *     sum_n w_n (log Z - z_y + z_loss (log Z)^2) / divisor */
static void build(const void *config, const td_loss_in *in, td_loss_out *out)
{
    const struct @IDENT@_config *c = config;
    int64_t                   n = td_count(in->labels), dims[] = { n, td_dim(in->hidden, -1) };

    /* fused with the projection to the vocabulary, so the logits [B U, V] never exist as a whole */
    out->loss = td_cross_entropy_capped(td_reshape(in->hidden, dims, 2), in->embedding,
                                        td_reshape(in->labels, &n, 1),
                                        td_reshape(in->weights, &n, 1), in->divisor,
                                        in->logit_scale, in->logit_cap, c->z_loss, 0);
    out->sum = td_output(out->loss, TD_CE_SUM);
    out->nll = td_output(out->loss, TD_CE_NLL);
}

static const td_loss @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_loss, TD_LOSS_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "the first part of each text is given, and the rest is predicted",
                        .paper = "Raffel et al., Exploring the Limits of Transfer Learning, 2020"),
    /* promises: every example has a given token, and logits are capped where the model caps them */
    .flags = TD_LOSS_NEEDS_GIVEN | TD_LOSS_CAPS,
    .split = split,
    .bounds = bounds,
    .build = build,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
