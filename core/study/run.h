/* run.h - runs the cells of a study: several at a time, each as a process, resumable at any point. */
#ifndef TD_STUDY_RUN_H
#define TD_STUDY_RUN_H

#include <sys/types.h>

#include "study/matrix.h"

/* The progress of a cell, for a table. */
typedef struct td_cell_progress {
    const td_matrix_cell *cell;
    td_cell_state         state;
    int64_t               step, steps; /* of training; 0: unknown */
    double                loss;        /* the last logged cross-entropy; NaN: none */
    double                seconds;     /* since it was started */
    double                left;        /* estimated; NaN: unknown */
    int                   threads;
    const char           *note; /* the last line that it printed, or why it failed */
} td_cell_progress;

typedef enum td_stop { TD_GO_ON, TD_STOP, TD_STOP_AT_ONCE } td_stop;

typedef struct td_study_running {
    int64_t     jobs;    /* cells at a time; 0: as many as there are processors */
    int64_t     threads; /* of each; 0: processors are divided among the cells */
    td_journal *log;     /* a line for each cell that begins or ends */
    /* Called a few times a second with all cells. TD_STOP: the cells save and end, and then the
     * study ends; TD_STOP_AT_ONCE: the cells are killed. */
    td_stop (*tick)(void *arg, const td_cell_progress *rows, size_t n);
    void *arg;
} td_study_running;

typedef struct td_study_outcome {
    size_t done, failed, skipped, waiting; /* cells */
    size_t made;                           /* of those done, the cells that this call ran */
    bool   stopped;
} td_study_outcome;

/* Run the cells that are not done. The directory must already be locked, looked at
 * (td_matrix_look) and written (td_matrix_write). A failed cell does not stop the others, and
 * the result is then still 0. [main] */
int td_study_run(td_matrix *, const td_study_running *, td_study_outcome *, td_error *error);

#endif
