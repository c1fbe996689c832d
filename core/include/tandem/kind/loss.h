/* kind/loss.h - a training objective: which tokens are given, which are predicted, and the scalar.
 * Stateless. */
#ifndef TANDEM_KIND_LOSS_H
#define TANDEM_KIND_LOSS_H

#include "../layers.h"
#include "../random.h"
#include "batch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_LOSS_KIND "loss/1"

typedef struct td_split_in {
    td_special special;
    uint64_t   seed; /* random numbers: td_random_uniform(seed, record->id, n) */
    /* Memory that lives as long as the example, or NULL. */
    void *(*allocate)(void *arena, size_t bytes);
    void *arena;
} td_split_in;

typedef struct td_loss_in {
    td_tensor *hidden;    /* [B, U, D] */
    td_tensor *embedding; /* [V, D] */
    td_tensor *labels;    /* i32 [B, U] */
    td_tensor *weights;   /* real [B, U] */
    td_tensor *divisor;   /* scalar: the global sum of weights over micro-batches and ranks */
    double     logit_scale;
} td_loss_in;

/* Training follows `loss`. Evaluation reads the cross-entropies of a given and a scored part, the same
 * for every loss: its own weights and extra terms count in training only. */
typedef struct td_loss_out {
    td_tensor *loss; /* scalar: this batch's share of the loss, divided by the divisor */
    /* scalar: sum of weights times cross-entropy, without z-loss and smoothing, not divided */
    td_tensor *sum;
    td_tensor *nll; /* [B * U] cross-entropy per token */
} td_loss_out;

/* What a loss promises of its examples. The host reads NOTHING_GIVEN, to refuse an architecture
 * with an encoder; NEEDS_GIVEN is for whoever chooses among losses. */
enum {
    TD_LOSS_NEEDS_GIVEN = 1 /* some tokens are always given */,
    TD_LOSS_NOTHING_GIVEN = 2 /* never any */
};

typedef struct td_loss {
    td_plugin plugin;
    uint64_t  flags;
    /* Record to example. Arrays may point into the record. [worker] */
    int (*split)(const void *config, const td_record *, const td_split_in *, td_example *out,
                 td_error *error);
    /* What a sequence of `length` tokens can come to. [any] */
    td_bounds (*bounds)(const void *config, int64_t length);
    /* [build] */
    void (*build)(const void *config, const td_loss_in *in, td_loss_out *out);
} td_loss;

#ifdef __cplusplus
}
#endif
#endif
