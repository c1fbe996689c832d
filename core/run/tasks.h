/* tasks.h - downstream tasks of a session: selects them, runs them one after the other, and writes
 * their results.
 *
 *     td_tasks *t = td_tasks_open(session, &options, &errors, &error);
 *     td_tasks_run(t, progress, arg, &error);
 *     for (k = 0; k < td_tasks_count(t); k++)
 *         ..td_tasks_at(t, k)->score..
 *     td_tasks_write(t, directory, name, &error);
 *     td_tasks_close(t);
 *
 * NAME.json has the keys of lm-evaluation-harness, NAME.samples_TASK.jsonl each prompt as the model
 * saw it, and its answer.
 */
#ifndef TD_RUN_TASKS_H
#define TD_RUN_TASKS_H

#include <jansson.h>

#include "evaluate/answers.h"
#include "run/session.h"

typedef struct td_tasks_request {
    const char *const *names; /* [count] names of tasks or groups, or task files (.cfg) */
    size_t             count;
    const char        *data;  /* directory of the data sets; NULL: tasks.data */
    int64_t            shots; /* -1: the task's number */
    int64_t            limit; /* most items per task; 0: all */
    int64_t            batch; /* answers at the same time; 0: a good default */
    int64_t            seed;  /* seed for drawn exemplars */
    bool               generate;
    bool               chat; /* prompts are written as turns, by the data's chat template */
} td_tasks_request;

typedef struct td_tasks td_tasks;

/* The options that the group `tasks` of the session's config sets. */
td_tasks_request td_tasks_configured(const td_session *);

/* The tasks, with their items read, for a session that was opened for generation. NULL after
 * `errors` of task files, or with `error`. */
td_tasks *td_tasks_open(td_session *, const td_tasks_request *, td_errors *errors, td_error *error);
void      td_tasks_close(td_tasks *);

size_t         td_tasks_opened(const td_tasks *);
const td_task *td_tasks_task(const td_tasks *, size_t k);
const char    *td_tasks_group_name(const td_tasks *, size_t k); /* of td_tasks_groups */
/* The keys of the scores that task k will have (td_answers_keys). */
int td_tasks_keys(const td_tasks *, size_t k, td_answers_visit *, void *arg, td_error *error);
/* Lay out all prompts and plan their scores on the session's engine (td_answers_plan). */
int td_tasks_plan(const td_tasks *, td_footprint *, td_error *error);

/* A session that has joined other processes divides the items among them; all get all answers.
 * TD_EEND without a message: `progress` ended it. What was finished by then can be written. */
int td_tasks_run(td_tasks *, td_task_progress *, void *arg, td_error *error);

size_t            td_tasks_count(const td_tasks *); /* the number of finished tasks */
const td_answers *td_tasks_at(const td_tasks *, size_t k);

/* The unweighted mean over the tasks of a requested group. */
typedef struct td_group_score {
    const char *name;
    double      score, error, chance; /* in [0, 1]: percents are divided by 100 */
    size_t      tasks;
} td_group_score;
size_t         td_tasks_groups(const td_tasks *);
td_group_score td_tasks_group(const td_tasks *, size_t k);

/* Every score as embed.h shows it, each task's own first, then the groups'. */
int  td_task_scores_get(const td_tasks *, td_task_scores *out, td_error *error);
void td_task_scores_free(td_task_scores *);

/* {"results": {..}, "groups": {..}, "configs": {..}, "versions": {..}, "n-shot": {..}, ..}. */
json_t *td_tasks_results(const td_tasks *);
/* Write the samples, then DIRECTORY/NAME.json; neither ever appears incomplete. */
int     td_tasks_write(const td_tasks *, const char *directory, const char *name, td_error *error);

/* A name for the results of a request: "boolq+mmlu-5-shot-generated-first-100"; free() it. A task file
 * "dir/x.cfg" is called x, or x.cfg if a shipped task is. */
char       *td_tasks_name(const td_session *, const td_tasks_request *);
/* The file of a request that is called x.cfg for that reason; NULL: there is none. */
const char *td_tasks_shadowed(const td_session *, const td_tasks_request *);

/* The list of shipped tasks, each with its groups and description. */
typedef void td_tasks_visit(void *arg, const td_task *);
int          td_tasks_list(const td_task_spec *, td_tasks_visit *, void *arg, td_errors *errors,
                           td_error *error);

#endif
