/* training_tasks.h - the tasks that a run scores while it trains (tasks.names, train.score_every). */
#ifndef TD_RUN_TRAINING_TASKS_H
#define TD_RUN_TRAINING_TASKS_H

#include "run/tasks.h"
#include "train/trainer.h"

typedef struct td_training_tasks {
    td_tasks      *tasks;   /* NULL: the config names none, or never scores them */
    td_task_scores scores;  /* the last ones */
    td_metric     *metrics; /* [n_metrics] of `scores`; their names are owned */
    size_t         n_metrics;
    td_text        text; /* of the tasks' own scores, for the log */
    char          *best; /* the metric of train.best; NULL: the held-out NLL */
    bool           lower_is_better;
} td_training_tasks;

/* Read the tasks, and find what train.best names among their scores. Close it after a failure,
 * too. */
int       td_training_tasks_open(td_training_tasks *, td_session *, td_error *error);
void      td_training_tasks_close(td_training_tasks *);
/* For the trainer; it points to the tasks. */
td_scorer td_training_tasks_scorer(td_training_tasks *);

#endif
