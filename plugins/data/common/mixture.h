/* mixture.h - several sources as one sequence of records: each has its share, by a rate or by its
 * size. */
#ifndef TD_DATA_COMMON_MIXTURE_H
#define TD_DATA_COMMON_MIXTURE_H

#include "order.h"
#include "source.h"

typedef struct mixed_source {
    data_source from;
    double      rate; /* share of the training records; 0 in all sources: proportional to size */
} mixed_source;

/* Option rows of a struct whose first member is a mixed_source. */
#define MIXED_SOURCE_OPTIONS(kinds)                                                            \
    SOURCE_OPTIONS(kinds), TD_OPTION_FLOAT(mixed_source, rate, 0, 0, 1e9,                      \
                                           "share of the training records, relative to other " \
                                           "sources; 0 for all sources: by size")

typedef struct mixture {
    int64_t       count;
    int64_t      *ends, *counts; /* end and size of each source's share of a block of records */
    order_pattern pattern;
} mixture;

/* Source i of a list of structs that begin with a mixed_source and are `stride` bytes apart. */
const mixed_source *mixture_at(td_list sources, size_t stride, size_t i);
/* Option rules of all sources: names, files, and rates in all of them or in none. */
int                 mixture_check(td_list sources, size_t stride, td_error *error);

/* sizes[i]: the weight of source i if there are no rates. Close it after a failure, too. */
int  mixture_open(mixture *, td_list sources, size_t stride, const double *sizes, uint64_t seed,
                  const td_services *, td_error *error);
void mixture_close(mixture *);

/* The source of training record `index`. *ordinal: which record of that source it is, counted from
 * 0 without end. */
static inline int64_t mixture_source(const mixture *m, uint64_t index, uint64_t *ordinal)
{
    return order_source(&m->pattern, m->counts, index, ordinal);
}

#endif
