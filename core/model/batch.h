/* batch.h - making, keeping and checking batches (tandem/kind/batch.h). */
#ifndef TD_MODEL_BATCH_H
#define TD_MODEL_BATCH_H

#include "tandem/kind/architecture.h"

td_batch *td_batch_new(void);
void      td_batch_free(td_batch *);
/* Forget the arrays; their memory is used again by the next ones. */
void      td_batch_clear(td_batch *);

/* Ids and labels (where the weight is not 0) lie in [0, vocab), weights are finite, the arrays that
 * the loss needs are there and have one shape. */
int td_batch_check(const td_batch *, int64_t vocab, td_error *error);

/* Sum of loss_weights: the divisor of the loss. */
double  td_batch_weight(const td_batch *);
/* Real tokens: those of weight, and all that are read (non-zero segments). */
int64_t td_batch_targets(const td_batch *);
int64_t td_batch_tokens(const td_batch *);

/* What its arrays take. */
size_t td_batch_bytes(const td_batch *);

/* The shapes as text: the key of the plans that were made for them. */
void td_batch_key(const td_batch *, char *out, size_t size);

#endif
