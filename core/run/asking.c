/* asking.c - tasks and comparisons for a program that embeds the library. */
#include <stdlib.h>

#include "run/comparison.h"
#include "run/tasks.h"

/* ---- tasks ----------------------------------------------------------------------------------- */

/* Applied over the config's settings; zeros leave them as they are. */
static td_tasks_request request_of(const td_session *s, const td_asking *a)
{
    td_tasks_request r = td_tasks_configured(s);
    if (a->n_tasks) {
        r.names = a->tasks;
        r.count = a->n_tasks;
    }
    r.data = a->data;
    r.batch = a->batch;
    if (a->shots)
        r.shots = a->shots == TD_NO_SHOTS ? 0 : a->shots;
    if (a->limit)
        r.limit = a->limit;
    r.generate = r.generate || a->generate;
    r.chat = r.chat || a->chat;
    return r;
}

static int check(const td_asking *a, const td_tasks_request *r, td_error *error)
{
    /* a program may have been compiled for another version, whose struct differs */
    if (a->size != sizeof *a)
        return td_fail(error, TD_ECONFIG,
                       "td_asking.size is %zu: set it to sizeof(td_asking), which is %zu in this "
                       "library",
                       a->size, sizeof *a);
    if (a->shots < TD_NO_SHOTS || a->limit < 0 || a->batch < 0)
        return td_fail(
            error, TD_ECONFIG,
            "td_asking: shots %lld, limit %lld, batch %lld: none of them can be negative "
            "(shots: TD_NO_SHOTS for none)",
            (long long)a->shots, (long long)a->limit, (long long)a->batch);
    return r->count
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "there is no task to score: name one or more in td_asking.tasks or in "
                         "tasks.names of the config");
}

static int keep(td_session *s, const td_asking *a, const td_tasks *t, const td_tasks_request *r,
                td_error *error)
{
    char *named = NULL;
    int   code = td_task_scores_get(t, &s->tasks, error);
    if (code || !a->directory)
        return code;
    named = a->name ? NULL : td_tasks_name(s, r);
    if (!a->name && !named)
        return td_fail(error, TD_ENOMEM, "out of memory for the scores of tasks");
    code = td_tasks_write(t, a->directory, a->name ? a->name : named, error);
    free(named);
    return code;
}

/* NULL with `error`, which has the errors of task files as well. */
static td_tasks *open_tasks(td_session *s, const td_tasks_request *r, td_error *error)
{
    td_errors errors = { 0 };
    td_tasks *t = td_tasks_open(s, r, &errors, error);
    if (errors.count)
        td_fail(error, TD_ECONFIG, "%.1900s", td_text_get(&errors.text));
    td_errors_free(&errors);
    return t;
}

int td_session_ask(td_session *s, const td_asking *a, const td_task_scores **out, td_error *error)
{
    td_tasks_request r = request_of(s, a);
    td_tasks        *t = NULL;
    int              code = check(a, &r, error);

    *out = NULL;
    td_task_scores_free(&s->tasks);
    if (!code) {
        t = open_tasks(s, &r, error);
        code = t ? 0 : td_failed(error, TD_ECONFIG);
    }
    if (!code)
        code = td_session_open_special(s, error);
    if (!code)
        code = td_session_hold(s, error);
    if (!code)
        code = td_tasks_run(t, a->progress, a->arg, error);
    /* the caller's own progress callback ended it, which set no message */
    if (code == TD_EEND)
        td_fail(error, TD_EEND, "the scoring of tasks was stopped");
    if (!code)
        code = keep(s, a, t, &r, error);
    td_tasks_close(t);
    if (!code)
        *out = &s->tasks;
    return td_session_result(code, error);
}

/* ---- comparing ------------------------------------------------------------------------------- */

const char *td_session_compare(td_session *s, const td_comparing *c, td_error *error)
{
    td_compare_options o = { .runs = c->runs,
                             .count = c->n_runs,
                             .by_run = c->by_run,
                             .draws = c->draws,
                             .seed = c->seed ? c->seed : 1 };
    td_comparison      out = { 0 };
    json_t            *j = NULL;
    char              *text = NULL;
    if (c->size != sizeof *c || c->n_runs < 2)
        td_fail(
            error, TD_ECONFIG,
            "td_comparing.size is %zu and n_runs %zu: set size to sizeof(td_comparing), which is "
            "%zu in this library, and name two runs or more",
            c->size, c->n_runs, sizeof *c);
    else if (!td_compare(&o, &out, error))
        j = td_comparison_json(&out);
    td_comparison_free(&out);
    text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    /* the session owns the text until the next call, so that callers free nothing */
    td_text_free(&s->text);
    if (text)
        td_text_print(&s->text, "%s\n", text);
    else
        td_fail(error, TD_ENOMEM, "out of memory while comparing runs");
    free(text);
    return s->text.size ? td_text_get(&s->text) : NULL;
}
