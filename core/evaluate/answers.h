/* answers.h - runs a task: answers every item and scores every answer.
 *
 * Scores do not depend on the batch or on the number of threads: a log-likelihood is the same in
 * any batch (score.h), candidates closer than 1e-5 are a tie that the lower index wins, and a text
 * is generated together with at least seven others, real or idle, so that every step uses the same
 * matrix kernels.
 */
#ifndef TD_EVALUATE_ANSWERS_H
#define TD_EVALUATE_ANSWERS_H

#include "evaluate/prompts.h"
#include "evaluate/score.h"
#include "evaluate/scores.h"
#include "generate/decode.h"

typedef struct td_answers_spec {
    td_engine         *engine;  /* has parameters */
    td_score_spec      score;   /* its team divides generated texts, too */
    td_decoder_options decoder; /* rows and lengths are overwritten */
    td_prompts_spec    prompts;
    int64_t            limit; /* most items per task; 0: all */
    int64_t            rows;  /* texts generated at a time; 0: 16 */
    /* also for multiple choice, generate an answer and compare it with the correct choice */
    bool               generate;
} td_answers_spec;

/* Reports progress in items. Return nonzero to end the task. */
typedef int td_answers_progress(void *arg, const char *task, int64_t done, int64_t all);

typedef struct td_answers {
    char          *task;
    json_t        *results; /* {"alias", "acc,none", "acc_stderr,none", ..} */
    json_t        *groups;  /* the same for each `by`, by name; empty without `by` */
    json_t        *samples; /* a list, as lm-evaluation-harness logs them */
    td_score_line *lines;   /* [n_lines]: every score, the task's own first; keys as in `results` */
    size_t         n_lines;
    double         chance;             /* the score of guessing, as the first score */
    int64_t        items, all;         /* asked, and in the data */
    int64_t        shots;              /* the most exemplars of a prompt */
    int64_t        unanswered;         /* texts in which the first filter found no answer */
    int64_t        dropped, shortened; /* exemplars left out, and in how many prompts */
    int64_t        over;               /* items whose question alone exceeds the budget */
    double         seconds;
} td_answers;

/* Call it after the task's items were read. TD_EEND without a message: `progress` ended it. Free
 * `out` even after a failure. */
int  td_answers_get(const td_task *, const td_answers_spec *, td_answers_progress *, void *arg,
                    td_answers *out, td_error *error);
void td_answers_free(td_answers *);

/* Lay out every prompt, and plan its scoring (td_score_plan), without running the model: an error
 * in an item, or a lack of memory, is found before hours of other work. */
int td_answers_plan(const td_task *, const td_answers_spec *, td_footprint *footprint,
                    td_error *error);

/* The number of items of the task that will be scored. */
int64_t td_answers_items(const td_task *, const td_answers_spec *);

/* Visit the keys of the scores that it will have ("acc,none"), the task's own first. */
typedef void td_answers_visit(void *arg, const char *key);
int  td_answers_keys(const td_task *, const td_answers_spec *, td_answers_visit *, void *arg,
                     td_error *error);
/* By the key of a score: true for perplexity and bits per byte. */
bool td_answers_lower_is_better(const char *key);

#endif
