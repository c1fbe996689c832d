/* feed.h - training batches, made ahead of time by a background thread.
 *
 * What a step reads is a function of the index of its first record alone, so a resumed run reads
 * what the uninterrupted one would have read.
 */
#ifndef TD_TRAIN_FEED_H
#define TD_TRAIN_FEED_H

#include "model/arrange.h"

/* All of one step. */
typedef struct td_feed_step {
    td_batch **micro; /* [n_micro] */
    /* per micro-batch and row: the record's number in the step, for dropout; no meaning if
     * packed */
    int32_t  **examples;
    int64_t    n_micro;
    double     weight; /* sum of loss weights: the divisor */
    int64_t    tokens, targets, records;
    uint64_t   next; /* first record of the step after it */
} td_feed_step;

typedef struct td_feed td_feed;

/* Starts reading at record `first`. */
td_feed            *td_feed_open(const td_arrange_spec *, uint64_t first, td_error *error);
void                td_feed_close(td_feed *);
/* What the batches that it makes ahead take, if each is like `shape`. */
size_t              td_feed_bytes(const td_arrange_spec *, const td_batch *shape);
/* The next step, valid until the next call. NULL with `error`. */
const td_feed_step *td_feed_next(td_feed *, td_error *error);

#endif
