/* kind/loss.h - a training objective: which tokens are given, which are predicted, and the scalar
 * to minimize. Stateless.
 *
 * A loss knows nothing about architectures. `split` cuts a record (kind/batch.h) into given and
 * predicted tokens; the architecture decides how to read them; `build` turns its hidden states into
 * the scalar that is minimized. So one objective trains decoder-only and encoder-decoder models
 * alike.
 *
 * Per record: the feed calls `split` on its own threads, ahead of the training step, and packs the
 * examples into batches. Batches are sized before the first step from `bounds`, which states upper
 * limits on what `split` produces. Per batch shape: `build`, once.
 *
 * Randomness comes from td_random_uniform(in->seed, record->id, n) (random.h): the same record is
 * split the same way on any thread and after a restart.
 *
 * Example:
 *
 *     // Causal language modeling: nothing is given, each token is predicted from those before it.
 *     static int split(const void *config, const td_record *r, const td_split_in *in,
 *                      td_example *out, td_error *error)
 *     {
 *         td_example e = { 0 };
 *         (void)config;
 *         (void)in;
 *         if (r->inputs || r->n_targets < 1)
 *             return td_fail(error, TD_EFORMAT, "record %llu is not running text",
 *                            (unsigned long long)r->id);
 *         e.predicted = r->targets;
 *         e.n_predicted = r->n_targets;
 *         e.weights = r->weights;
 *         e.predicted_documents = r->documents;
 *         e.source = r->source;
 *         e.id = r->id;
 *         *out = e;
 *         return 0;
 *     }
 *
 *     static td_bounds bounds(const void *config, int64_t length)
 *     {
 *         td_bounds b = { .raw = length, .given = 0, .predicted = length, .total = length };
 *         (void)config;
 *         return b;
 *     }
 *
 *     static void build(const void *config, const td_loss_in *in, td_loss_out *out)
 *     {
 *         int64_t n = td_count(in->labels), flat[] = { n, td_dim(in->hidden, -1) };
 *         (void)config;
 *         out->loss = td_cross_entropy(td_reshape(in->hidden, flat, 2), in->embedding,
 *                                      td_reshape(in->labels, &n, 1),
 *                                      td_reshape(in->weights, &n, 1), in->divisor,
 *                                      in->logit_scale, 0, 0);
 *         out->sum = td_output(out->loss, TD_CE_SUM);
 *         out->nll = td_output(out->loss, TD_CE_NLL);
 *     }
 *
 *     static const td_loss plain = {
 *         .plugin = TD_PLUGIN(td_loss, TD_LOSS_KIND, "plain", NULL, char,
 *                             .brief = "every token is predicted from those before it"),
 *         .flags = TD_LOSS_NOTHING_GIVEN,
 *         .split = split,
 *         .bounds = bounds,
 *         .build = build,
 *     };
 */
#ifndef TANDEM_KIND_LOSS_H
#define TANDEM_KIND_LOSS_H

#include "../layers.h"
#include "../random.h"
#include "batch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_LOSS_KIND "loss/1"

/* Tools for `split` and data sources. */
typedef struct td_split_in {
    td_special special; /* the tokenizer's: sentinels, modes, pad, eos */
    uint64_t   seed;    /* of random numbers: td_random_uniform(seed, record->id, n) */
    /* allocate(arena, bytes): memory that lives as long as the example and need not be freed; NULL
     * if memory ran out, which must be handled. */
    void *(*allocate)(void *arena, size_t bytes);
    void *arena;
} td_split_in;

/* The architecture's result for a batch: U predicted positions per row, padding among them. */
typedef struct td_loss_in {
    td_tensor *hidden;    /* [B, U, D] */
    td_tensor *embedding; /* [V, D] */
    td_tensor *labels;    /* i32 [B, U] */
    td_tensor *weights;   /* real [B, U]; 0 for padding and for tokens that are not predicted */
    /* scalar: the sum of weights over all micro-batches and ranks of the update. Divide by it, not
     * by this batch's own sum: then splitting a batch into pieces changes nothing. */
    td_tensor *divisor;
    double     logit_scale; /* logits are td_cap(logit_scale * hidden embedding^T, logit_cap) */
    double     logit_cap;   /* 0: none; above 0 only for a loss with TD_LOSS_CAPS */
} td_loss_in;

/* Training minimizes `loss`. Evaluation reads `nll`, plain cross-entropies, so that models are
 * compared in the same units whatever loss they were trained with. */
typedef struct td_loss_out {
    td_tensor *loss; /* scalar: this batch's share of the loss, divided by in->divisor */
    /* scalar: sum of weight times cross-entropy, without z-loss and smoothing, not divided */
    td_tensor *sum;
    td_tensor *nll; /* [B * U]: cross-entropy of each token, in nats */
} td_loss_out;

/* What a loss guarantees for every example. With NOTHING_GIVEN an architecture that has an encoder
 * is refused, as there is nothing to encode. Without CAPS a model that caps its logits is refused:
 * the loss would be that of another model. */
enum {
    TD_LOSS_NEEDS_GIVEN = 1,   /* at least one token is given */
    TD_LOSS_NOTHING_GIVEN = 2, /* no token is given */
    TD_LOSS_CAPS = 4           /* logits are capped by in->logit_cap (td_cross_entropy_capped) */
};

typedef struct td_loss {
    td_plugin plugin;
    uint64_t  flags; /* TD_LOSS_.. */
    /* Cut a record into an example. The example's arrays may point into the record or come from
     * in->allocate. A record that is too short to cut is refused with a message. [worker] */
    int (*split)(const void *config, const td_record *, const td_split_in *, td_example *out,
                 td_error *error);
    /* For sequences of `length` tokens: how many raw tokens to take for one record, and the largest
     * numbers of tokens that `split` then gives and predicts. A plugin that exceeds them is in
     * error. [any] */
    td_bounds (*bounds)(const void *config, int64_t length);
    /* Emit the loss. All three outputs must be set. [build] */
    void (*build)(const void *config, const td_loss_in *in, td_loss_out *out);
} td_loss;

#ifdef __cplusplus
}
#endif
#endif
