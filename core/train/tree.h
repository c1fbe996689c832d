/* tree.h - the order in which gradients of micro-batches are added: along a tree over their numbers,
 * the same on any number of ranks. [0, n) is split at the largest power of two below n, and so on.
 *
 *     td_partials s = { .n = n_micro };
 *     int merges = td_partials_push(&s, (td_partial){ m, m + 1 });     m, ascending
 *     add the new sum to the one before it, that to the one before, .. `merges` times
 */
#ifndef TD_TRAIN_TREE_H
#define TD_TRAIN_TREE_H

#include "tandem/host.h"

enum { TD_TREE_LEVELS = 64 }; /* its depth, for any number of micro-batches */

/* A node: the sum over micro-batches [lo, hi). */
typedef struct td_partial {
    int64_t lo, hi;
} td_partial;

/* The index at which a node's micro-batches are split: lo + a power of two. */
int64_t td_partial_split(td_partial);

/* The sums that wait for their siblings, from left to right, like the digits of a binary counter. */
typedef struct td_partials {
    int64_t    n; /* all micro-batches */
    td_partial at[TD_TREE_LEVELS];
    int        depth;
} td_partials;

/* Add a node to the right; returns how many merges follow, each with the sum to the left, its
 * sibling. */
int td_partials_push(td_partials *, td_partial);

/* to += more, [count] of dtype TD_F32 or TD_F64; threads divide the elements. */
void td_add_numbers(const td_services *, void *to, const void *more, int64_t count, int dtype);

#endif
