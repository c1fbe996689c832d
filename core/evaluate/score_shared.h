/* score_shared.h - items with the same given tokens: these are read once, whatever the number of
 * targets, as for the choices of a question. */
#ifndef TD_EVALUATE_SCORE_SHARED_H
#define TD_EVALUATE_SCORE_SHARED_H

#include "generate/decode.h"
#include "tandem/embed.h"

/* Set shared[i] for the items [count] that td_score_shared should score: at least two in a row with
 * the same given tokens, if these are enough to be worth it and a target has several tokens
 * (targets of one token share a row of a batch anyway). None if the device is not the host, because
 * batches use it better than one question at a time. */
void td_score_find_shared(const td_decoder_options *, const td_scored *items, int64_t count,
                          bool *shared);

/* Score the items of every `ranks`-th question, beginning with question `rank`. `progress` is called
 * with the items [first, end) of each question; if it returns nonzero, scoring ends with that code. */
int td_score_shared(const td_decoder_options *, td_scored *items, int64_t count, const bool *shared,
                    int rank, int ranks, int (*progress)(void *arg, int64_t first, int64_t end),
                    void *arg, td_error *error);

#endif
