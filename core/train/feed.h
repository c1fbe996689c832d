/* feed.h - training batches, made ahead of time by a background thread.
 *
 * What a step reads is a function of the index of its first record alone, so a resumed run reads
 * what the uninterrupted one would have read.
 */
#ifndef TD_TRAIN_FEED_H
#define TD_TRAIN_FEED_H

#include "base/arena.h"
#include "tandem/kind/architecture.h"
#include "tandem/kind/data.h"
#include "tandem/kind/loss.h"
#include "train/batch.h"

typedef struct td_feed_spec {
    td_part        architecture, loss;
    const td_data *data;
    void          *data_state;
    td_special     special;
    int64_t        length; /* tokens of one sequence */
    int64_t        batch, micro_batch;
    int64_t        bucket; /* lengths are rounded up to a multiple */
    bool           pack;   /* several examples in one row */
    uint64_t       seed;   /* of the loss's random numbers */
} td_feed_spec;

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
td_feed            *td_feed_open(const td_feed_spec *, uint64_t first, td_error *error);
void                td_feed_close(td_feed *);
/* What the batches that it makes ahead take, if each is like `shape`. */
size_t              td_feed_bytes(const td_feed_spec *, const td_batch *shape);
/* The next step, valid until the next call. NULL with `error`. */
const td_feed_step *td_feed_next(td_feed *, td_error *error);

/* The largest shapes that a micro-batch can have, as arrays without meaning: for planning. */
int td_feed_shape(const td_feed_spec *, td_batch *out, td_error *error);

/* The shapes that `rows` examples of so many given and predicted tokens have when they are laid
 * out. */
int td_feed_shape_of(const td_feed_spec *, int64_t rows, int64_t given, int64_t predicted,
                     td_batch *out, td_error *error);

/* What the hooks that make examples get: special ids, seed, and memory of `arena`, in which
 * examples live until it is reset. */
td_split_in td_feed_split_in(const td_feed_spec *, td_arena *arena);

/* A record as the loss splits it. */
int td_feed_split(const td_feed_spec *, const td_record *, td_arena *arena, td_example *out,
                  td_error *error);

/* Training record `index`, split. */
int td_feed_fetch(const td_feed_spec *, uint64_t index, td_arena *arena, td_example *out,
                  td_error *error);

/* Lay `count` examples out, one per row: what evaluation and `data show` use. */
int td_feed_arrange(const td_feed_spec *, const td_example *, int64_t count, td_batch *out,
                    td_error *error);

#endif
