/* feed.h - training batches, made ahead of time by a background thread.
 *
 * A step's batch is a function of the index of its first record alone, so a resumed run reads the
 * same records as an uninterrupted one, however far the thread was ahead when it was stopped.
 */
#ifndef TD_TRAIN_FEED_H
#define TD_TRAIN_FEED_H

#include "model/arrange.h"

/* Everything that one step reads. */
typedef struct td_feed_batch {
    td_batch **micro; /* [n_micro] */
    /* per micro-batch and row: the example's number in the step, which keys its dropout; undefined
     * if rows are packed */
    int32_t  **examples;
    int64_t    n_micro;
    double     weight; /* sum of loss weights: the divisor */
    int64_t    tokens, targets, records;
    uint64_t   next; /* first record of the step after it */
} td_feed_batch;

typedef struct td_feed td_feed;

/* Start reading at record `first`. NULL with `error`. [main] */
td_feed             *td_feed_open(const td_arrange_spec *, uint64_t first, td_error *error);
/* Waits for the thread, which finishes its current batch. [main] */
void                 td_feed_close(td_feed *);
/* The batch of the next step, valid until the next call. NULL with `error`. [main] */
const td_feed_batch *td_feed_next(td_feed *, td_error *error);

/* Bytes of the batches that a feed holds, if each micro-batch is like `shape`. */
size_t td_feed_bytes(const td_arrange_spec *, const td_batch *shape);

#endif
