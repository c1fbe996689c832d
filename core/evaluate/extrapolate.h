/* extrapolate.h - the loss at and beyond the training length, by total length and by position
 * (td_extrapolation, tandem/embed.h). */
#ifndef TD_EVALUATE_EXTRAPOLATE_H
#define TD_EVALUATE_EXTRAPOLATE_H

#include "evaluate/perplexity.h"

typedef struct td_extrapolate_spec {
    /* its length: the longest total; its prefix is ignored; its team divides the sequences */
    td_evaluate_spec evaluate;
    int64_t          trained; /* the training length */
    const int64_t   *lengths, *prefixes;
    size_t           n_lengths, n_prefixes;
    int64_t          bin; /* width of a bin of the curve by position, in tokens */
} td_extrapolate_spec;

/* Lengths may come in any order, each longer than every prefix; prefixes are 1 or more.
 * Sequences are spread evenly over a source's held-out records. Always free `out`. TD_EEND:
 * `progress` ended it. */
int  td_extrapolate(td_engine *, const td_extrapolate_spec *, td_evaluation_progress *, void *arg,
                    td_extrapolation *out, td_error *error);
void td_extrapolation_free(td_extrapolation *);

#endif
