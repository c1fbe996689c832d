/* reduce.h - the gradient of a step as the sum over its micro-batches, on any number of ranks.
 *
 *     td_reduction_share(r, n_micro, &first, &end);         those of this rank
 *     for (m = first; m < end; m++) {
 *         compute the gradient of micro-batch m; `td_reduction_adds(r, m)`: on top of the last
 *         td_reduction_put(r, m, &error);
 *     }
 *     td_reduction_finish(r, &error);                       now all ranks have the sum, or,
 *                                                           sharded, each that of its own
 *
 * "fast" adds in the order of micro-batches on each rank, then across the ranks through the comm.
 * "exact" adds along a tree over the indices of the micro-batches: [0, n) is split at the largest
 * power of two below n, and so on. It is the same tree on any number of ranks, so the sum has the
 * same bits; it needs copies of the gradients, at most 1 + log2 of a rank's micro-batches, and none
 * for one. The two differ by rounding, with more than one micro-batch.
 *
 * If the update is sharded (model/shard.h), a rank gets the sums of the gradients that it owns; the
 * others are left as they are.
 */
#ifndef TD_TRAIN_REDUCE_H
#define TD_TRAIN_REDUCE_H

#include "team/team.h"

typedef struct td_reduction td_reduction;

/* The values of train.reduce, in the order of their names in run/experiment.c. */
typedef enum td_reduce { TD_REDUCE_FAST, TD_REDUCE_EXACT } td_reduce;

/* The gradients of each owner one after another, in the order of declaration; free() it. NULL with
 * `error`. */
td_variable **td_gradients_by_owner(td_engine *, size_t *count, td_error *error);

/* malloc() of a product of sizes, which may be larger than any size_t. */
bool td_take_bytes(char **out, double bytes);

/* Allocates all the memory that steps of `n_micro` micro-batches need. NULL with `error`. */
td_reduction *td_reduction_new(td_engine *, td_team *, td_reduce, int64_t n_micro, td_error *error);
void          td_reduction_free(td_reduction *);
/* What determines the memory that it takes. */
typedef struct td_reduction_spec {
    td_reduce how;
    int64_t   n_micro;
    bool      shared;   /* the update is sharded */
    bool      attached; /* devices are connected, so the buffers are in their memory */
} td_reduction_spec;

/* Bytes that it takes on rank `rank` of `size` besides the gradients, which take `gradients` bytes:
 * of their copies, and of data in transit between devices. */
size_t td_reduction_bytes(int rank, int size, const td_reduction_spec *, size_t gradients);

/* This rank computes micro-batches [*first, *end), at least one. */
void td_reduction_share(const td_reduction *, int64_t *first, int64_t *end);
/* Whether the gradient of micro-batch m is to be added to what the variables hold. */
bool td_reduction_adds(const td_reduction *, int64_t m);
int  td_reduction_put(td_reduction *, int64_t m, td_error *error);
/* Succeeds or fails on all ranks. */
int  td_reduction_finish(td_reduction *, td_error *error);

#endif
