/* rows.h - the rows of a cache in use: memory, where the next tokens go, and moving rows.
 *
 * graph/cache.h says what a cache is.
 */
#ifndef TD_PLAN_ROWS_H
#define TD_PLAN_ROWS_H

#include "graph/cache.h"
#include "plan/plan.h"

/* Allocate zeroed memory for the states that the graphs so far have requested. */
int    td_cache_allocate(td_cache *, const td_device *, td_error *error);
void   td_cache_release(td_cache *, const td_device *);
/* Bytes of its states on the device. */
size_t td_cache_bytes(const td_cache *, const td_device *);

/* Set the inputs of a plan that say where its `tokens` new tokens go: row r holds lengths[r] tokens
 * and gets counts[r] more, which is at most `tokens`. Before each run. TD_ERANGE, with the row, if
 * they do not fit. */
int td_cache_place(const td_cache *, td_plan *, int64_t tokens, const int32_t *lengths,
                   const int32_t *counts, td_error *error);

/* Moving rows: several beams continue from one of them; a new prompt that was read in a small
 * cache is admitted to a large one. The plan is made once for a pair of caches, and can be run any
 * number of times. */
typedef struct td_row_gather td_row_gather;

/* From the rows of `from` to those of `to`, which may be the same cache. Both keep the same
 * tensors, in buffers of the same capacity; a cache that keeps nothing yet is given the same ones.
 * The states of both are allocated, and outlive it. NULL with `error`. */
td_row_gather *td_row_gather_new(td_cache *to, td_cache *from, const td_device *, td_error *error);
/* Row r of `to` becomes row rows[r] of `from`, with everything that is kept for it; -1: it stays as
 * it is. All rows are read before any is written. The caller moves their lengths. */
int            td_row_gather_run(td_row_gather *, const int32_t *rows, td_error *error);
void           td_row_gather_free(td_row_gather *);

#endif
