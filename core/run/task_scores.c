/* task_scores.c - the scores of tasks as embed.h shows them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run/tasks.h"

/* "acc" of "acc,none", "exact_match,strict-match" as it is; NULL without memory. */
static char *short_key(const char *key)
{
    size_t n = strlen(key), m = strlen(",none");
    return n > m && !strcmp(key + n - m, ",none") ? strndup(key, n - m) : strdup(key);
}

static void add(td_task_scores *out, const char *task, char *key, td_task_score score)
{
    score.task = strdup(task);
    score.key = key;
    out->at[out->count++] = score;
}

static void add_task(const td_answers *a, td_task_scores *out)
{
    for (size_t k = 0; k < a->n_lines; k++) {
        const td_score_line *l = &a->lines[k];
        /* the first line is the task's own score, and chance is that of its metric */
        add(out, a->task, short_key(l->key),
            (td_task_score){ .own = !k,
                             .percent = l->percent,
                             .lower_is_better = td_answers_lower_is_better(l->key),
                             .score = l->score,
                             .error = l->error,
                             .chance = k ? (double)NAN : a->chance,
                             .items = l->items,
                             .shots = a->shots });
    }
}

static void add_group(td_group_score g, td_task_scores *out)
{
    add(out, g.name, strdup("mean"),
        (td_task_score){ .own = true,
                         .score = g.score,
                         .error = g.error,
                         .chance = g.chance,
                         .items = (int64_t)g.tasks });
}

int td_task_scores_get(const td_tasks *t, td_task_scores *out, td_error *error)
{
    size_t n = td_tasks_groups(t);
    bool   failed;
    for (size_t k = 0; k < td_tasks_count(t); k++)
        n += td_tasks_at(t, k)->n_lines;
    *out = (td_task_scores){ .at = calloc(n + 1, sizeof *out->at) };
    failed = !out->at;
    for (size_t k = 0; !failed && k < td_tasks_count(t); k++)
        add_task(td_tasks_at(t, k), out);
    for (size_t k = 0; !failed && k < td_tasks_groups(t); k++)
        add_group(td_tasks_group(t, k), out);
    /* add() leaves NULL where memory was short */
    for (size_t k = 0; k < out->count; k++)
        failed = failed || !out->at[k].task || !out->at[k].key;
    return failed ? td_fail(error, TD_ENOMEM, "out of memory for the scores of tasks") : 0;
}

void td_task_scores_free(td_task_scores *s)
{
    for (size_t k = 0; k < s->count; k++) {
        free((void *)(uintptr_t)s->at[k].task);
        free((void *)(uintptr_t)s->at[k].key);
    }
    free(s->at);
    *s = (td_task_scores){ 0 };
}
