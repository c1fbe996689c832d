/* history.h - what metrics.jsonl says about a run: its losses and rates by step. */
#ifndef TD_REPORT_HISTORY_H
#define TD_REPORT_HISTORY_H

#include <stdint.h>

#include "tandem/error.h"

/* A line of training metrics, or of an evaluation during training. NaN: unknown. */
typedef struct td_history_point {
    int64_t step;
    double  tokens, flops; /* of training so far */
    double  loss;          /* training: cross-entropy; evaluation: held-out NLL; nats per token */
    double  rate;          /* training: tokens per second */
    double  hash;          /* of the parameters */
} td_history_point;

typedef struct td_history {
    td_history_point *training, *evaluations; /* [n_training], [n_evaluations], by step */
    size_t            n_training, n_evaluations;
    int64_t           damaged; /* lines that are not JSON objects with a step, or lack their loss */
    int64_t           first_damaged; /* the number of the first of them, from 1 */
    int64_t           again;         /* lines whose step is earlier than the one before; left out */
} td_history;

/* Read RUN/metrics.jsonl; damaged lines are counted and left out, and without the file there is
 * no history. Free the result even after a failure. */
int  td_history_read(const char *run, td_history *, td_error *error);
/* The same for the file's text [size], followed by a 0; the text is modified. `path` is for
 * messages. */
int  td_history_parse(char *text, size_t size, const char *path, td_history *, td_error *error);
void td_history_free(td_history *);

/* The median rate; NaN: unknown. */
double td_history_rate(const td_history *);

#endif
