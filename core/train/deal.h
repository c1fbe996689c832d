/* deal.h - the gradients of a step whose parameters are sharded across processes (model/shard.h): they
 * are sent while they are computed, so no rank has more than a slice of their sums.
 *
 * Micro-batches are dealt out in rounds: in round k, rank r of n computes number k n + r.
 *
 *     for (k = 0; k < td_dealing_rounds(d); k++) {
 *         td_dealing_begin(d, k);
 *         m = td_dealing_micro(d);                   -1: this rank serves
 *         .. the plan calls td_dealing_deliver(d, gradient, its elements) ..
 *         td_dealing_end(d);
 *     }
 *     td_dealing_finish(d, &error);                  every owner has the sums of its gradients
 *
 * The gradients of a round belong to neighbouring micro-batches. Of each gradient, every rank adds up one
 * slice: along the tree for "exact", and for "fast" in the order of micro-batches, which is the same on
 * any number of ranks from 2. (A single rank shards nothing: its plan adds within the backward
 * pass.)
 */
#ifndef TD_TRAIN_DEAL_H
#define TD_TRAIN_DEAL_H

#include "train/reduce.h"

typedef struct td_dealing td_dealing;

enum { TD_DEALING_CHUNK = 1 << 22 }; /* for `chunk` */

/* `chunk`: most bytes that go to each rank at a time; the same on all. NULL with `error`. */
td_dealing *td_dealing_new(td_engine *, td_team *, td_reduce, int64_t n_micro, size_t chunk,
                           td_error *error);
void        td_dealing_free(td_dealing *);
/* Bytes of the slices that it keeps on each of `size` ranks, and of data in transit. */
double      td_dealing_bytes(td_engine *, int size, td_reduce, int64_t n_micro, size_t chunk);

int64_t td_dealing_rounds(const td_dealing *);
/* How many micro-batches of a step this rank computes. */
int64_t td_dealing_own(const td_dealing *);
void    td_dealing_begin(td_dealing *, int64_t round);
int64_t td_dealing_micro(const td_dealing *);
int     td_dealing_deliver(td_dealing *, const td_variable *gradient, const void *from,
                           td_error *error);
void    td_dealing_end(td_dealing *);
int     td_dealing_finish(td_dealing *, td_error *error);

#endif
