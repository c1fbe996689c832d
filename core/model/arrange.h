/* arrange.h - from records to examples to batches, the same for training, evaluation and `data
 * show`.
 *
 * The loss splits a record into given and predicted tokens (an example); the architecture arranges
 * examples as the arrays that its graph reads. Lengths are rounded up to buckets, so that few
 * shapes occur and each is planned once. A length is rounded by the batch's own examples alone: the
 * input of a step does not depend on earlier steps.
 */
#ifndef TD_MODEL_ARRANGE_H
#define TD_MODEL_ARRANGE_H

#include "base/arena.h"
#include "model/batch.h"
#include "tandem/kind/architecture.h"
#include "tandem/kind/data.h"
#include "tandem/kind/loss.h"

typedef struct td_arrange_spec {
    td_part        architecture, loss;
    const td_data *data; /* NULL: there is none; only shapes and given records are arranged */
    void          *data_state;
    td_special     special;
    int64_t        length; /* tokens of one sequence */
    int64_t        batch, micro_batch;
    int64_t        bucket; /* lengths are rounded up to a multiple */
    bool           pack;   /* several examples in one row */
    uint64_t       seed;   /* of the loss's random numbers */
    td_pair        pair;   /* the largest pair; zeros: records are running text */
} td_arrange_spec;

/* The largest pair of a data source; zeros if it has none or there is no data. */
td_pair   td_arrange_pair(const td_part *data);
/* The largest example: for running text of `length` tokens the loss determines it, for pairs the
 * data. */
td_bounds td_arrange_bounds(const td_part *loss, td_pair, int64_t length);

/* The largest shapes that a micro-batch can have, for planning; the arrays hold zeros. */
int td_arrange_shape(const td_arrange_spec *, td_batch *out, td_error *error);

/* The shapes of `rows` examples with these numbers of given and predicted tokens; the arrays
 * hold zeros. */
int td_arrange_shape_of(const td_arrange_spec *, int64_t rows, int64_t given, int64_t predicted,
                        td_batch *out, td_error *error);

/* The argument of the hooks that make examples: special ids, seed, and memory from `arena`, where
 * examples live until it is reset. */
td_split_in td_arrange_split_in(const td_arrange_spec *, td_arena *arena);

/* Split a record with the loss. */
int td_arrange_split(const td_arrange_spec *, const td_record *, td_arena *arena, td_example *out,
                     td_error *error);

/* Read training record `index` and split it. */
int td_arrange_fetch(const td_arrange_spec *, uint64_t index, td_arena *arena, td_example *out,
                     td_error *error);

/* Arrange `count` examples, one per row: for evaluation and `data show`. */
int td_arrange_examples(const td_arrange_spec *, const td_example *, int64_t count, td_batch *out,
                        td_error *error);

/* ---- for callers that fill rows themselves: the feed ----------------------------------------- */

/* The longest row that training can have. */
td_extent td_arrange_limit(const td_arrange_spec *);
/* The part of a row that one example takes. */
td_extent td_arrange_extent(const td_arrange_spec *, const td_example *);
/* `n` rounded up to a multiple of `to` (0: not rounded), at most `most`. */
int64_t   td_arrange_rounded(int64_t n, int64_t to, int64_t most);
/* Arrange examples on the rows that they name, in arrays of `rows` rows. */
int       td_arrange_rows(const td_arrange_spec *, const td_example *, int64_t count, int64_t rows,
                          td_extent, td_batch *out, td_error *error);

#endif
