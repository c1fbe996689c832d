/* tasks.c - `tandem evaluate --tasks`: scores downstream tasks, as a table. */
#include "tasks.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "run/results.h"
#include "run/tasks.h"
#include "run/tasks_name.h"

/* ---- the list -------------------------------------------------------------------------------- */

static void print_task(void *arg, const td_task *t)
{
    td_text groups = { 0 };
    (void)arg;
    for (size_t k = 0; k < t->options.groups.count; k++)
        td_text_print(&groups, "%s%s", k ? ", " : "", t->options.groups.at[k]);
    printf("%-34s %-20s %s\n", t->options.name, td_text_get(&groups), t->options.brief);
    td_text_free(&groups);
}

int td_tool_list_tasks(td_tool *t)
{
    char        *configs = td_tool_configs();
    td_registry *registry = td_tool_registry(t);
    td_task_spec spec = { registry, configs };
    td_errors    errors = { 0 };
    td_error     e = { 0 };
    int          code = registry ? TD_EXIT_OK : TD_EXIT_FAILED;
    if (registry) {
        printf("%-34s %-20s %s\n", "task", "groups", "");
        if (td_tasks_list(&spec, print_task, NULL, &errors, &e))
            code = td_tool_fail(t, &e);
    }
    /* those of some tasks, after the list of the others */
    if (errors.count) {
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
        code = TD_EXIT_USAGE;
    }
    td_errors_free(&errors);
    free(configs);
    return code;
}

/* ---- progress -------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

typedef struct meter {
    td_tool *tool;
    double   start;
} meter;

/* Estimates the remaining time from the finished items; it jumps at tasks with long answers. */
static int show_progress(void *arg, const char *task, int64_t done, int64_t all)
{
    const meter *m = arg;
    double       spent = td_now() - m->start;
    char         left[32] = "";
    /* unknown before the first item */
    if (done)
        td_human_time(left, spent / (double)done * (double)(all - done));
    td_log_progress(m->tool->log, done == all, "%s, %" PRId64 "/%" PRId64 " items%s%s", task, done,
                    all, done ? ", left " : "", left);
    return interrupted;
}

/* ---- the table ------------------------------------------------------------------------------- */

static void print_line(const char *name, const char *key, double score, double error, double chance,
                       bool percent)
{
    int digits = percent ? 2 : 4;
    printf("%-34s %-24s %8.*f ", name, key, digits, score);
    if (isfinite(error))
        printf("%8.*f ", digits, error);
    else
        printf("%8s ", "-");
    printf("%8.*f ", digits, chance);
}

/* Shortens "acc,none" to "acc"; keeps "exact_match,strict-match". */
static void name_score(const char *key, char out[64])
{
    size_t n = strlen(key);
    bool   plain = n > 5 && !strcmp(key + n - 5, ",none");
    snprintf(out, 64, "%.*s", (int)(plain ? n - 5 : n), key);
}

static void print_table(const td_tasks *t)
{
    printf("%-34s %-24s %8s %8s %8s %7s %5s\n", "task", "score", "", "error", "chance", "items",
           "shots");
    for (size_t k = 0; k < td_tasks_count(t); k++) {
        const td_answers    *a = td_tasks_at(t, k);
        const td_score_line *own = a->lines;
        char                 key[64];
        /* the first score stands for the task; all are in the file */
        name_score(own->key, key);
        print_line(a->task, key, own->score, own->error, a->chance, own->percent);
        printf("%7" PRId64 " %5" PRId64 "\n", a->items, a->shots);
    }
    for (size_t k = 0; k < td_tasks_groups(t); k++) {
        td_group_score g = td_tasks_group(t, k);
        char           of[32];
        snprintf(of, sizeof of, "mean of %zu", g.tasks);
        print_line(g.name, of, g.score, g.error, g.chance, false);
        putchar('\n');
    }
}

/* Notes for the reader of the table: shortened prompts, answers that were not found. */
static void print_notes(const td_tasks *t, const td_session *s, int64_t shots)
{
    for (size_t k = 0; k < td_tasks_count(t); k++) {
        const td_answers *a = td_tasks_at(t, k);
        if (a->shots < shots) /* the name of the results has the number that was asked for */
            printf("%s: %" PRId64 " exemplars per prompt were asked for, and it has only %" PRId64
                   "\n",
                   a->task, shots, a->shots);
        if (a->unanswered)
            printf("%s: in %" PRId64 " of %" PRId64 " texts no answer was found; they count as "
                   "wrong\n",
                   a->task, a->unanswered, a->items);
        if (a->dropped)
            printf("%s: %" PRId64 " exemplars were left out of %" PRId64 " prompts, to keep them "
                   "within %" PRId64 " tokens\n",
                   a->task, a->dropped, a->shortened, s->x->tasks.max_length);
        if (a->over)
            printf("%s: %" PRId64 " questions are longer than tasks.max_length = %" PRId64
                   " even without exemplars; they were not cut\n",
                   a->task, a->over, s->x->tasks.max_length);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

/* The names in all --tasks options, split at commas; free() list and text. */
static const char **split_names(const td_tool *t, char **text, size_t *count)
{
    td_text      all = { 0 };
    const char **names;
    char        *rest = NULL;
    size_t       n = 1;
    for (size_t k = 0; k < td_tool_count(t, "--tasks"); k++)
        td_text_print(&all, "%s%s", k ? "," : "", td_tool_option_at(t, "--tasks", k));
    *text = all.data;
    for (size_t k = 0; k < all.size; k++)
        n += all.data[k] == ',';
    names = calloc(n + 1, sizeof *names);
    *count = 0;
    for (char *name = all.data ? strtok_r(all.data, ",", &rest) : NULL; names && name;
         name = strtok_r(NULL, ",", &rest))
        names[(*count)++] = name;
    return names;
}

/* Applied over the config's settings. */
static bool read_request(td_tool *t, td_tasks_request *r)
{
    r->data = td_tool_option(t, "--data");
    r->generate = r->generate || td_tool_option(t, "--generate");
    r->chat = r->chat || td_tool_option(t, "--chat");
    return td_tool_integer(t, "--shots", r->shots, 0, 1000, &r->shots) &&
           td_tool_integer(t, "--limit", r->limit, 0, INT64_MAX / 2, &r->limit) &&
           td_tool_integer(t, "--batch", 0, 1, 4096, &r->batch) &&
           td_tool_integer(t, "--seed", r->seed, 0, INT64_MAX / 2, &r->seed);
}

/* Writes results to --out, or to the run if the parameters are its own. */
static int keep(td_tool *t, td_session *s, const td_run_place *place, const td_tasks *tasks,
                const td_tasks_request *r, td_error *error)
{
    const char *out = td_tool_option(t, "--out"), *named = td_tool_option(t, "--name");
    char       *directory = out ? strdup(out) : td_results_directory(s);
    char       *kind = named ? strdup(named) : td_tasks_name(s, r);
    char       *name = kind ? td_results_name(kind, place->checkpoint) : NULL;
    int         code = 0;
    /* a file of one's own must not overwrite the results of a shipped task unnoticed */
    const char *shadowed = named ? NULL : td_tasks_shadowed(s, r);
    td_text     task = { 0 };
    if (shadowed)
        td_log_line(t->log, TD_LOG_WARN,
                    "'%s' has the name of a shipped task, so its results are called %s; --name "
                    "sets another name",
                    shadowed, name ? name : "");
    if (directory && name)
        code = td_tasks_write(tasks, directory, name, error);
    td_tasks_append(&task,
                    td_tasks_opened(tasks) == 1 ? td_tasks_task(tasks, 0)->options.name : "TASK");
    if (directory && name && !code)
        td_log_line(t->log, TD_LOG_INFO,
                    "scores in %s/%s.json, prompts and answers in %s.samples_%s.jsonl", directory,
                    name, name, td_text_get(&task));
    td_text_free(&task);
    free(directory);
    free(kind);
    free(name);
    return code;
}

static void print(td_tool *t, td_session *s, const td_tasks *tasks, const td_tasks_request *r)
{
    if (t->json) {
        td_work_result(t, td_tasks_results(tasks));
        return;
    }
    print_table(tasks);
    printf("\nparameters: '%s'\n", td_session_loaded(s));
    print_notes(tasks, s, r->shots);
}

/* An interruption ends the current task; earlier ones are printed and kept. Several processes
 * divide the items, and the first one prints and writes. */
static int run(td_tool *t, td_session *s, const td_run_place *place, td_tasks *tasks,
               const td_tasks_request *r, td_error *error)
{
    meter m = { t, td_now() };
    int   code;
    /* from here on an interruption keeps the finished tasks */
    signal(SIGINT, on_interrupt);
    code = s->team ? td_session_compare_ranks(s, error) : 0;
    if (!code)
        code = td_tasks_run(tasks, show_progress, &m, error);
    if (code && code != TD_EEND)
        return code;
    td_team_begin_solo(s->team);
    if (td_tasks_count(tasks) && td_team_leads(s->team)) {
        print(t, s, tasks, r);
        code = keep(t, s, place, tasks, r, error) ? error->code : code;
    }
    return td_team_end_solo(s->team, code, error);
}

/* Resolves the names before loading the parameters, so that a wrong name is reported at once. */
static int open_all(td_tool *t, td_session *s, const td_run_place *place, int64_t step,
                    const td_tasks_request *r, td_tasks **out, td_errors *errors, td_error *error)
{
    char *weights = NULL;
    int   code = td_work_join(t, s, error);
    if (code)
        return code;
    *out = td_tasks_open(s, r, errors, error);
    code = *out ? 0 : td_failed(error, TD_ECONFIG);
    if (!code && !(weights = td_work_load(t, place, s, step, error)))
        code = td_failed(error, TD_EIO);
    free(weights);
    return td_team_agree(s->team, code, error);
}

int td_tool_run_tasks(td_tool *t, td_session *s, const td_run_place *place, int64_t step)
{
    char            *text = NULL;
    td_tasks_request r = td_tasks_configured(s);
    td_tasks        *tasks = NULL;
    td_errors        errors = { 0 };
    td_error         e = { 0 };
    int              code, exit_code;

    r.names = split_names(t, &text, &r.count);
    if (!read_request(t, &r))
        exit_code = TD_EXIT_USAGE;
    else if (!r.count)
        exit_code = td_tool_usage_error(t, "--tasks is empty; --list shows all tasks");
    else {
        code = open_all(t, s, place, step, &r, &tasks, &errors, &e);
        if (!code)
            code = run(t, s, place, tasks, &r, &e);
        exit_code = !code             ? TD_EXIT_OK
                    : code == TD_EEND ? TD_EXIT_INTERRUPTED
                    /* errors in task files are all printed below */
                    : errors.count ? TD_EXIT_USAGE
                                   : td_work_end(t, s, code, &e);
    }
    if (errors.count && td_team_leads(s->team))
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
    td_tasks_close(tasks);
    td_errors_free(&errors);
    free((void *)(uintptr_t)r.names);
    free(text);
    return exit_code;
}
