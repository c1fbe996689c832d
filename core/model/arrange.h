/* arrange.h - records to examples to batches: what training, evaluation and `data show` do alike.
 *
 * The loss splits a record into given and predicted tokens (an example); the architecture arranges
 * examples as the arrays that its graph reads. Lengths are rounded up to buckets, so that few shapes
 * occur and each is planned once.
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
    const td_data *data;
    void          *data_state;
    td_special     special;
    int64_t        length; /* tokens of one sequence */
    int64_t        batch, micro_batch;
    int64_t        bucket; /* lengths are rounded up to a multiple */
    bool           pack;   /* several examples in one row */
    uint64_t       seed;   /* of the loss's random numbers */
} td_arrange_spec;

/* The largest shapes that a micro-batch can have, as arrays without meaning: for planning. */
int td_arrange_shape(const td_arrange_spec *, td_batch *out, td_error *error);

/* The shapes that `rows` examples of so many given and predicted tokens have when they are laid
 * out. */
int td_arrange_shape_of(const td_arrange_spec *, int64_t rows, int64_t given, int64_t predicted,
                        td_batch *out, td_error *error);

/* What the hooks that make examples get: special ids, seed, and memory of `arena`, in which
 * examples live until it is reset. */
td_split_in td_arrange_split_in(const td_arrange_spec *, td_arena *arena);

/* A record as the loss splits it. */
int td_arrange_split(const td_arrange_spec *, const td_record *, td_arena *arena, td_example *out,
                     td_error *error);

/* Training record `index`, split. */
int td_arrange_fetch(const td_arrange_spec *, uint64_t index, td_arena *arena, td_example *out,
                     td_error *error);

/* Lay `count` examples out, one per row: what evaluation and `data show` use. */
int td_arrange_examples(const td_arrange_spec *, const td_example *, int64_t count, td_batch *out,
                        td_error *error);

/* ---- for those that fill rows themselves ------------------------------------------------------- */

/* The longest row that training can have. */
td_extent td_arrange_limit(const td_arrange_spec *);
/* What one example takes of a row. */
td_extent td_arrange_extent(const td_arrange_spec *, const td_example *);
/* `n` rounded up to a multiple of `to`, but no more than `most`. */
int64_t   td_arrange_rounded(int64_t n, int64_t to, int64_t most);
/* Lay examples out on the rows that they name. */
int       td_arrange_rows(const td_arrange_spec *, const td_example *, int64_t count, int64_t rows,
                          td_extent, td_batch *out, td_error *error);

#endif
