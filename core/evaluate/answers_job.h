/* answers_job.h - a task in progress, for answers.c and answers_score.c. */
#ifndef TD_EVALUATE_ANSWERS_JOB_H
#define TD_EVALUATE_ANSWERS_JOB_H

#include "evaluate/answers.h"
#include "team/pace.h"

/* An item, from its prompt to its score. */
typedef struct td_asked_item {
    td_task_item item;
    td_asked    *asked; /* [n_asked]: one, or one per choice with multiple_inputs */
    size_t       n_asked;
    char        *text; /* the generated text; NULL until it exists */
} td_asked_item;

typedef struct td_answers_job {
    const td_task         *task;
    const td_answers_spec *spec;
    td_answers            *out;
    td_answers_progress   *progress;
    void                  *arg;
    td_prompts            *prompts;
    td_scores             *scores;
    td_asked_item         *items;
    int64_t                count, answered;
    bool                   generates;
    td_scored             *scored; /* every answer of every item, one after the other */
    int64_t                n_scored;
    td_pace                pace; /* of generating */
    int                    stopped;
    bool                   failed; /* a callback ran out of memory */
    /* for TD_LOGLIKELIHOOD */
    double                 logprob, bytes, greedy;
} td_answers_job;

/* Score every item, whose answers are complete, and add its sample to the results. */
int td_answers_score(td_answers_job *, td_error *error);

#endif
