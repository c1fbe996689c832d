/* diff.h - where two runs first differ: `tandem report --diff A B`. */
#ifndef TD_REPORT_DIFF_H
#define TD_REPORT_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

typedef struct td_parting {
    td_text differences; /* of their configs: "key: a's -> b's", one per line */
    /* The lines of metrics of the same step, compared number by number, except for clock
     * readings. */
    int64_t lines;       /* that both have */
    int64_t last_same;   /* the last step before they differ at which all are the same; -1: none */
    int64_t first;       /* the first step at which they differ; -1: they never do */
    char    metric[200]; /* the metric that differs there; the parameters' hash, if that differs */
    double  a, b;        /* its values; NaN: not a number in one of them */
    bool    hashed;      /* lines of both have hashes of the parameters */
    /* The checkpoints of the same step. */
    int64_t checkpoints;     /* that both have */
    int64_t checkpoint;      /* the step of the first that differs; -1: none does */
    int64_t checkpoint_same; /* the last before it that is the same; -1: none */
    td_text tensor;          /* the first parameter that differs there */
    int64_t tensors, differ; /* how many parameters both have, and how many differ */
    int64_t damaged;         /* lines of metrics that are not JSON objects with a step */
} td_parting;

/* Compare two runs; free `out` even after a failure. TD_ECONFIG: not a run. */
int  td_parting_find(const char *a, const char *b, td_parting *out, td_error *error);
void td_parting_free(td_parting *);

#endif
