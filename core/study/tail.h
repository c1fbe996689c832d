/* tail.h - how far a cell has got, read from the ends of the files that its processes write. */
#ifndef TD_STUDY_TAIL_H
#define TD_STUDY_TAIL_H

#include <stdint.h>

/* The last `lines` lines of a file; free() it. "" if there is none, NULL when out of memory. */
char *td_file_tail(const char *path, int lines);

/* The last step in a run's metrics.jsonl, and its loss. */
typedef struct td_last_step {
    int64_t step; /* 0: none is logged yet */
    double  loss; /* cross-entropy of training; NaN then */
} td_last_step;
td_last_step td_last_step_of(const char *run);

#endif
