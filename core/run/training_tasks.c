/* training_tasks.c - tasks between the steps of a run: their scores as metrics, and one of them as
 * the judge of checkpoints. */
#include "run/training_tasks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the scores of tasks");
}

/* ---- train.best ------------------------------------------------------------------------------ */

/* The score to find, and the scores that there are. */
typedef struct search {
    td_training_tasks *t;
    const char        *wanted; /* "boolq" or "boolq.acc" */
    const char        *task;
    bool               first; /* the next key is the task's own */
    td_text            known; /* for the message */
} search;

static void find_key(void *arg, const char *key)
{
    search *s = arg;
    size_t  n = strlen(s->task), m = strlen(key);
    /* ",none" means no filter, which goes without saying */
    int     length = (int)(m > 5 && !strcmp(key + m - 5, ",none") ? m - 5 : m);
    char    dotted[400];
    bool    own = s->first && !strcmp(s->wanted, s->task);
    snprintf(dotted, sizeof dotted, "%s.%.*s", s->task, length, key);
    if (!s->t->best && (own || !strcmp(s->wanted, dotted))) {
        td_text name = { 0 };
        td_text_print(&name, "tasks/%s/%s", s->task, dotted + n + 1);
        s->t->best = name.data;
        s->t->lower_is_better = td_answers_lower_is_better(key);
    }
    td_text_print(&s->known, "%stasks.%s", s->known.size ? ", " : "", dotted);
    s->first = false;
}

static int find_best(td_training_tasks *t, const char *best, td_error *error)
{
    search s = { .t = t, .wanted = best + strlen("tasks.") };
    int    code = 0;
    if (!*best)
        return 0;
    /* the search does not end at a match: `known` collects all names for the message */
    for (size_t k = 0; k < td_tasks_opened(t->tasks) && !code; k++) {
        s.task = td_tasks_task(t->tasks, k)->options.name;
        s.first = true;
        code = td_tasks_keys(t->tasks, k, find_key, &s, error);
    }
    for (size_t k = 0; k < td_tasks_groups(t->tasks) && !code; k++) {
        s.task = td_tasks_group_name(t->tasks, k);
        s.first = true;
        find_key(&s, "mean");
    }
    if (!code && !t->best)
        code = td_fail(error, TD_ECONFIG,
                       "train.best = \"%s\" is not a score of tasks.names; there are %.1500s", best,
                       td_text_get(&s.known));
    td_text_free(&s.known);
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

int td_training_tasks_open(td_training_tasks *t, td_session *s, td_error *error)
{
    td_tasks_request request = td_tasks_configured(s);
    td_errors        errors = { 0 };
    *t = (td_training_tasks){ 0 };
    if (!request.count || s->x->train.score_every < 0)
        return 0;
    t->tasks = td_tasks_open(s, &request, &errors, error);
    if (errors.count)
        td_fail(error, TD_ECONFIG, "%.1900s", td_text_get(&errors.text));
    td_errors_free(&errors);
    return t->tasks ? find_best(t, s->x->train.best, error) : td_failed(error, TD_ECONFIG);
}

static void free_metrics(td_training_tasks *t)
{
    for (size_t k = 0; k < t->n_metrics; k++)
        free((void *)(uintptr_t)t->metrics[k].name);
    free(t->metrics);
    t->metrics = NULL;
    t->n_metrics = 0;
}

void td_training_tasks_close(td_training_tasks *t)
{
    td_tasks_close(t->tasks);
    td_task_scores_free(&t->scores);
    free_metrics(t);
    td_text_free(&t->text);
    free(t->best);
    *t = (td_training_tasks){ 0 };
}

/* ---- scoring --------------------------------------------------------------------------------- */

static int add_metric(td_training_tasks *t, const td_task_score *s, const char *what, double value,
                      td_error *error)
{
    td_text name = { 0 };
    size_t  n = strcspn(s->key, ",");
    td_text_print(&name, "tasks/%s/%.*s%s%s", s->task, (int)n, s->key, what, s->key + n);
    if (name.failed) {
        td_text_free(&name);
        return out_of_memory(error);
    }
    t->metrics[t->n_metrics++] = (td_metric){ name.data, value, false };
    return 0;
}

/* "tasks/boolq/acc" and "tasks/boolq/acc_stderr". */
static int make_metrics(td_training_tasks *t, td_error *error)
{
    int code;
    free_metrics(t);
    t->metrics = calloc(2 * t->scores.count + 1, sizeof *t->metrics);
    code = t->metrics ? 0 : out_of_memory(error);
    for (size_t k = 0; k < t->scores.count && !code; k++) {
        const td_task_score *s = &t->scores.at[k];
        code = add_metric(t, s, "", s->score, error);
        if (!code && isfinite(s->error))
            code = add_metric(t, s, "_stderr", s->error, error);
    }
    return code;
}

enum { SHOWN = 6 }; /* more would not fit on a line */

/* Those of groups, which were asked for, in place of those of their tasks. */
static void describe(td_training_tasks *t)
{
    bool   groups = td_tasks_groups(t->tasks) > 0;
    size_t n = 0;
    td_text_free(&t->text);
    for (size_t k = 0; k < t->scores.count; k++) {
        const td_task_score *s = &t->scores.at[k];
        if (!s->own || (groups && strcmp(s->key, "mean") != 0) || n++ >= SHOWN)
            continue;
        td_text_print(&t->text, "%s%s %s %.4f", n > 1 ? ", " : "", s->task, s->key, s->score);
        if (isfinite(s->error))
            td_text_print(&t->text, " +- %.4f", s->error);
    }
    if (n > SHOWN)
        td_text_print(&t->text, ", and %zu more", n - SHOWN);
}

static int score(void *arg, td_task_progress *progress, void *progress_arg, td_scoring *out,
                 td_error *error)
{
    td_training_tasks *t = arg;
    int                code = td_tasks_run(t->tasks, progress, progress_arg, error);
    if (code)
        return code;
    td_task_scores_free(&t->scores);
    code = td_task_scores_get(t->tasks, &t->scores, error);
    if (!code)
        code = make_metrics(t, error);
    if (!code)
        describe(t);
    *out = (td_scoring){ t->metrics, t->n_metrics, td_text_get(&t->text) };
    return code;
}

td_scorer td_training_tasks_scorer(td_training_tasks *t)
{
    return (td_scorer){ .score = t->tasks ? score : NULL,
                        .arg = t,
                        .best = t->best,
                        .lower_is_better = t->lower_is_better };
}
