/* batch.h - making, reusing and checking batches (tandem/kind/batch.h). */
#ifndef TD_MODEL_BATCH_H
#define TD_MODEL_BATCH_H

#include "tandem/kind/architecture.h"

/* NULL without memory. */
td_batch *td_batch_new(void);
void      td_batch_free(td_batch *);
/* Drop the arrays; their memory is reused by the next ones, so a feed allocates nothing once it is
 * running. */
void      td_batch_clear(td_batch *);

/* Check a batch that does not come from our own plugins: ids lie in [0, vocab), and labels where
 * their weight is not 0; weights are finite; the arrays that the loss reads exist and have the same
 * shape. */
int td_batch_check(const td_batch *, int64_t vocab, td_error *error);

/* The sum of loss_weights: the divisor of the loss. */
double  td_batch_weight(const td_batch *);
/* Real tokens, without padding: those with a weight, and all those read (non-zero segments). */
int64_t td_batch_targets(const td_batch *);
int64_t td_batch_tokens(const td_batch *);

/* Bytes of its arrays. */
size_t td_batch_bytes(const td_batch *);

/* Names and shapes as text, the key of the plans made for them. Text that does not fit in `size`
 * is cut off. */
void td_batch_key(const td_batch *, char *out, size_t size);

#endif
