/* run.c - `tandem study run`. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "guard.h"
#include "report/report.h"
#include "study/child.h"
#include "study/mark.h"
#include "study/request.h"
#include "study/run.h"
#include "study/view.h"

/* ---- run -------------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught, times;

/* What to print when a signal ends the program at once, which it does while no cell runs, since
 * measuring and plotting may take long. NULL: cells must save first. */
static const char *volatile at_once;
static char made[4096], lock_made[4200]; /* for this study, which has no cells yet; "": it had */

static const char before_cells[] = "tandem study run: stopped before a cell was started: the same "
                                   "command begins again\n";
static const char before_report[] = "tandem study run: stopped before the report was written: "
                                    "`tandem report` with the study's directory writes it\n";

/* A directory that has been a study's stays one. */
static void note_made(const td_matrix *m)
{
    char *cells = td_path_join(m->directory, "cells.json");
    *made = 0;
    if (cells && !td_file_exists(cells) && strlen(m->directory) < sizeof made) {
        strcpy(made, m->directory);
        snprintf(lock_made, sizeof lock_made, "%s/.lock", made);
    }
    free(cells);
}

static int exit_code(int number)
{
    return number == SIGINT   ? TD_EXIT_INTERRUPTED
           : number == SIGHUP ? 128 + SIGHUP
                              : TD_EXIT_REQUEUE;
}

/* Removes the directory if it was made for this study and is still empty. Only calls that a handler
 * may make. */
static void unmake(void)
{
    if (*made && !unlink(lock_made))
        rmdir(made); /* fails if it has anything else */
}

static void end_at_once(int number)
{
    unmake();
    if (write(STDERR_FILENO, at_once, strlen(at_once)) < 0)
        number = SIGHUP; /* nobody reads it */
    _exit(td_guard_end(exit_code(number)));
}

static void on_signal(int number)
{
    if (at_once)
        end_at_once(number);
    caught = number;
    times++;
}

/* The same as for `tandem train`. */
static void catch_signals(void)
{
    static const int numbers[] = { SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP };
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        if (!sigaction(numbers[k], NULL, &before) && before.sa_handler != SIG_IGN)
            sigaction(numbers[k], &action, NULL);
}

static td_stop tick(void *arg, const td_cell_progress *rows, size_t n)
{
    td_view *v = arg;
    td_view_show(v, rows, n, false);
    return times > 1 ? TD_STOP_AT_ONCE : times ? TD_STOP : TD_GO_ON;
}

static void print_outcome(const td_view *v, const td_study_outcome *o, const td_matrix *m)
{
    char time[32];
    if (o->stopped)
        td_log_line(v->log, TD_LOG_INFO, "stopped: the same command continues the study in '%s'",
                    m->directory);
    else if (o->failed)
        td_log_line(v->log, TD_LOG_ERROR,
                    "%zu of %zu cells failed, %zu were skipped; the same command tries "
                    "them again",
                    o->failed, m->n, o->skipped);
    else
        td_log_line(v->log, TD_LOG_INFO, "%zu cells done in '%s', %zu of them now, in %s", o->done,
                    m->directory, o->made, td_human_time(time, td_now() - v->start));
}

static int run_cells(td_tool *t, td_matrix *m, const td_study_running *asked, td_view *v)
{
    td_study_running options = *asked;
    td_study_outcome outcome;
    td_error         e = { 0 };
    options.log = v->log;
    options.tick = tick;
    options.arg = v;
    if (td_study_run(m, &options, &outcome, &e))
        return td_tool_fail(t, &e);
    print_outcome(v, &outcome, m);
    return outcome.stopped ? exit_code(caught) : outcome.failed ? TD_EXIT_FAILED : TD_EXIT_OK;
}

static bool all_done(const td_matrix *m)
{
    for (size_t k = 0; k < m->n; k++)
        if (m->cells[k].cell.state != TD_CELL_DONE)
            return false;
    return true;
}

/* The matrix is printed first, and written before anything runs. */
static int write_matrix(td_tool *t, td_matrix *m)
{
    td_error e = { 0 };
    int      code = td_study_measure(t, m);
    if (code)
        return code;
    td_study_print(t, m, t->json ? stdout : stderr);
    if (td_matrix_write(m, m->directory, &e) || td_times_save(&m->times, &e))
        return td_tool_fail(t, &e);
    return TD_EXIT_OK;
}

static int view_and_run(td_tool *t, td_matrix *m, const td_study_running *asked)
{
    td_view  v;
    td_error e = { 0 };
    char    *log = td_path_join(m->directory, "log.txt");
    int code = td_view_open(&v, t, m->design->name, log, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    free(log);
    if (code)
        return code;
    *made = 0;
    at_once = NULL;
    code = run_cells(t, m, asked, &v);
    td_view_close(&v);
    return code;
}

/* For the cells that are still to be run. */
static int check_launcher(td_tool *t, const td_matrix *m)
{
    td_error e = { 0 };
    for (size_t k = 0; k < m->n; k++) {
        const td_cell *c = &m->cells[k].cell;
        if (c->processes > 1 && c->state != TD_CELL_DONE)
            return td_launcher_check(c->processes, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    }
    return TD_EXIT_OK;
}

/* All checks come before the first change. If everything is done, nothing needs planning. */
static int prepare(td_tool *t, td_matrix *m)
{
    bool restart = td_tool_option(t, "--restart") != NULL;
    int  code = td_study_look(t, m, false, restart ? TD_PASS : TD_REFUSE);
    if (!code)
        code = check_launcher(t, m);
    if (!code && !all_done(m))
        code = td_study_plan(m);
    if (!code && restart)
        code = td_study_look(t, m, true, TD_REFUSE);
    return code || all_done(m) ? code : write_matrix(t, m);
}

/* Its three sentences; an existing report is not read. */
static void print_answer(const td_tool *t, const json_t *summary)
{
    size_t  k;
    json_t *sentence;
    json_array_foreach(json_object_get(summary, "answer"), k, sentence)
        fprintf(t->json ? stderr : stdout, "%s%s\n", k ? "" : "\n", json_string_value(sentence));
}

/* An existing report is named; if the study has changed, the report is written again. */
static int report(td_tool *t, td_matrix *m, bool changed, int code)
{
    char             *directory = td_path_join(m->directory, "report");
    char             *page = directory ? td_path_join(directory, "index.html") : NULL;
    td_report_options o = { .study = m->directory,
                            .directory = directory,
                            .plugin_paths = m->composer.plugin_paths,
                            .trust = t->trust,
                            .log = t->log };
    json_t           *summary = NULL;
    td_error          e = { 0 };
    int               failed = TD_EXIT_OK;
    at_once = before_report;
    /* nothing ran: a report that exists is still right */
    if (page && (changed || !td_file_exists(page)) && td_report_write(&o, &summary, &e))
        failed = td_tool_fail(t, &e);
    else if (page) {
        print_answer(t, summary);
        fprintf(t->json ? stderr : stdout, "%sreport: %s\n", summary ? "\n" : "", page);
    }
    json_decref(summary);
    free(page);
    free(directory);
    return code ? code : failed;
}

static int run_matrix(td_tool *t, td_matrix *m, const td_study_running *asked)
{
    td_error e = { 0 };
    bool     changed;
    int      lock, code;
    if (td_make_writable(m->directory, &e) || (lock = td_study_lock(m->directory, &e)) < 0)
        return td_tool_fail(t, &e);
    note_made(m);
    code = prepare(t, m);
    /* under the lock, or another process could finish cells in between */
    changed = !code && !all_done(m);
    if (!code && !changed)
        td_log_line(t->log, TD_LOG_INFO, "all %zu cells are done in '%s'", m->n, m->directory);
    else if (!code)
        code = view_and_run(t, m, asked);
    if (code == TD_EXIT_OK || code == TD_EXIT_FAILED)
        code = report(t, m, changed, code);
    else
        unmake(); /* refused */
    close(lock);
    return code;
}

static const td_flag run_flags[] = {
    { "--dry-run", NULL, "print the matrix and whatever a run would refuse, and stop" },
    { "--jobs", "N",
      "cells at a time (as many as there are processors; 1 on a backend other than cpu)" },
    { "--threads", "N", "threads of each process (processors are divided among them)" },
    { "--no-measure", NULL, "do not time steps beforehand" },
    { "--restart", NULL, "remove runs whose config has changed, and start them again" },
    { 0, 0, 0 },
};

const td_usage td_usage_study_run = {
    .name = "study run",
    .arguments = "FILE [--dry-run] [--jobs N] [--threads N] [--restart]",
    .brief = "Run the cells of a study that are not done, several at a time, each in a run "
             "directory of its own.",
    .example = "tandem study run studies/quick.cfg",
    .flags = run_flags,
    .config = true,
    .json = true,
    .notes = "Further -c FILEs change the study's base, such as a config that names your "
             "own text. study.KEY=VALUE changes the study, any other key=value all of its "
             "cells.\n\n"
             "Everything is in run.dir/NAME: cells/ has the runs, logs/ what they printed, "
             "cells.json the matrix. The same command continues a study that was stopped, and does "
             "nothing if all is done.\n\n"
             "Exit codes: 0 done, 1 a cell failed, 2 wrong config or usage; stopped, and every "
             "cell saved: 75 after SIGTERM, SIGUSR1 or SIGUSR2, 129 after SIGHUP, 130 after "
             "SIGINT. A second signal ends the cells at once.\n",
};

int td_study_command_run(td_tool *t, int argc, char **argv)
{
    td_study_request q;
    td_study_running asked = { .jobs = 0 };
    td_matrix       *m;
    int              code;
    if (!td_tool_parse(t, &td_usage_study_run, argc, argv, &code) ||
        !td_study_take(t, &q, true, &code))
        return code;
    if (!td_tool_integer(t, "--jobs", 0, 1, 1024, &asked.jobs))
        return TD_EXIT_USAGE;
    asked.threads = q.matrix.threads;
    if (td_tool_option(t, "--dry-run"))
        return td_study_show(t, &q, td_tool_option(t, "--restart") ? TD_PASS : TD_REFUSE);
    /* a dry run may lack measured times; a real one may need them */
    q.matrix.runs = true;
    q.matrix.here = true;
    at_once = before_cells;
    catch_signals();
    m = td_study_matrix(t, &q.matrix, &code);
    if (!m)
        return code;
    code = run_matrix(t, m, &asked);
    td_matrix_free(m);
    return code;
}
