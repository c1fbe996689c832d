/* run.c - runs the cells of a study. */
#include "study/run.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/machine.h"
#include "base/threads.h"
#include "study/child.h"
#include "study/mark.h"
#include "study/tail.h"

/* Codes with which `tandem train` says that it has saved and can be resumed (docs/config.md). */
static bool is_saved(int code) { return code == 75 || code == 129 || code == 130 || code == 141; }

typedef struct job {
    pid_t   pid;     /* 0: not running */
    size_t  command; /* of the cell's commands */
    double  started;
    int64_t first; /* the step from which this part of the run began; -1: not known yet */
    int     threads;
    char   *log; /* its path */
    char   *note;
} job;

typedef struct running {
    td_matrix              *m;
    const td_study_running *options;
    td_cell_progress       *rows; /* [m->n] */
    job                    *jobs; /* [m->n] */
    int64_t                 processors;
    double                  memory; /* that all cells together may use */
    td_study_outcome       *outcome;
} running;

/* ---- what runs, and what could --------------------------------------------------------------- */

static td_cell_state *state_of(running *r, size_t k) { return &r->m->cells[k].cell.state; }

static size_t count_running(const running *r)
{
    size_t n = 0;
    for (size_t k = 0; k < r->m->n; k++)
        n += r->jobs[k].pid > 0;
    return n;
}

static int64_t used_threads(const running *r)
{
    int64_t n = 0;
    for (size_t k = 0; k < r->m->n; k++)
        n += r->jobs[k].pid > 0 ? r->jobs[k].threads : 0;
    return n;
}

static double used_memory(const running *r)
{
    double bytes = 0;
    for (size_t k = 0; k < r->m->n; k++)
        bytes += r->jobs[k].pid > 0 ? r->m->cells[k].cell.memory : 0;
    return bytes;
}

/* A cell needs at most one other cell, which comes before it. */
static bool is_ready(running *r, size_t k)
{
    size_t of = r->m->cells[k].of;
    return *state_of(r, k) == TD_CELL_WAITING &&
           (of == TD_NO_CELL || *state_of(r, of) == TD_CELL_DONE);
}

/* Whatever ran beside it would be measured too. */
static bool runs_alone(const running *r, size_t k)
{
    return r->m->cells[k].point.reads == TD_STUDY_BENCH;
}

static bool one_runs_alone(const running *r)
{
    for (size_t k = 0; k < r->m->n; k++)
        if (r->jobs[k].pid > 0 && runs_alone(r, k))
            return true;
    return false;
}

/* How many could run beside each other. */
static size_t count_ready(running *r)
{
    size_t n = 0;
    for (size_t k = 0; k < r->m->n; k++)
        n += is_ready(r, k) && !runs_alone(r, k);
    return n;
}

/* On a backend other than the host's default, cells would share a device whose memory is not
 * counted here. */
static bool has_device(const td_matrix *m)
{
    for (size_t k = 0; k < m->n; k++)
        if (m->cells[k].figures.device)
            return true;
    return false;
}

static int64_t most_jobs(const running *r)
{
    if (r->options->jobs > 0)
        return r->options->jobs;
    if (has_device(r->m))
        return 1;
    return r->options->threads > 0 && r->options->threads < r->processors
               ? r->processors / r->options->threads
           : r->options->threads > 0 ? 1
                                     : r->processors;
}

/* The threads that it has even while other cells run. */
static int64_t least_threads(const running *r, size_t k)
{
    int64_t each = r->options->threads > 0 ? r->options->threads : 1;
    return each * r->m->cells[k].cell.processes;
}

/* Small models gain little from a second thread, so each cell gets a processor first; the last
 * cells to start share those left over. Results do not depend on this. */
static int64_t threads_for(running *r, size_t k)
{
    int64_t slots = most_jobs(r) - (int64_t)count_running(r), ready = (int64_t)count_ready(r);
    int64_t free = r->processors - used_threads(r), own, least = least_threads(r, k);
    if (r->options->threads > 0)
        return least;
    if (runs_alone(r, k))
        return r->processors;
    slots = ready < slots ? ready : slots;
    own = free / (slots > 0 ? slots : 1);
    return own > least ? own : least;
}

/* ---- beginning and ending -------------------------------------------------------------------- */

static void set_note(job *j, char *text)
{
    free(j->note);
    j->note = text;
}

static int start_command(running *r, size_t k, td_error *error)
{
    job         *j = &r->jobs[k];
    td_arguments a = { .n = 0 };
    int64_t      processes = r->m->cells[k].cell.processes;
    int          code;
    td_cell_command(r->m, &r->m->cells[k], j->command, r->m->directory, j->threads / processes, &a);
    td_arguments_add_paths(&a, r->m);
    code = td_cell_process_start(&a, processes, j->log, &j->pid, error);
    td_arguments_free(&a);
    return code;
}

/* Until they are done again, neither the cell nor those that read its run are: a study that is
 * stopped now must not mistake what an earlier run left for results. */
static int unmark(running *r, size_t k, td_error *error)
{
    int code = td_mark_unset(r->m->directory, r->m->cells[k].cell.name, error);
    for (size_t i = 0; i < r->m->n && !code; i++)
        if (r->m->cells[i].of == k && r->m->cells[i].point.reads != TD_STUDY_PHASES)
            code = td_mark_unset(r->m->directory, r->m->cells[i].cell.name, error);
    return code;
}

static int begin(running *r, size_t k, td_error *error)
{
    td_matrix_cell *c = &r->m->cells[k];
    job            *j = &r->jobs[k];
    int             code;
    j->threads = (int)threads_for(r, k);
    j->command = 0;
    j->started = td_now();
    j->first = -1;
    /* the mark of an earlier success must not outlive this run */
    code = unmark(r, k, error);
    if (!code && c->point.reads == TD_STUDY_PHASES)
        code = td_matrix_begin_cell(r->m, r->m->directory, c, error);
    if (!code)
        code = start_command(r, k, error);
    if (code)
        return code;
    c->cell.state = TD_CELL_RUNNING;
    td_log_line(r->options->log, TD_LOG_INFO, "%s: started on %d thread%s", c->cell.name,
                j->threads, j->threads == 1 ? "" : "s");
    return td_matrix_write_cells(r->m, r->m->directory, error);
}

static int begin_ready(running *r, td_error *error)
{
    for (size_t k = 0; k < r->m->n && (int64_t)count_running(r) < most_jobs(r); k++) {
        /* whatever its demands, a cell may have an idle machine: otherwise it would never run */
        size_t at_work = count_running(r);
        if (one_runs_alone(r))
            break;
        if (!is_ready(r, k) || (at_work && runs_alone(r, k)))
            continue;
        if (at_work && used_memory(r) + r->m->cells[k].cell.memory > r->memory)
            continue;
        if (at_work && used_threads(r) + least_threads(r, k) > r->processors &&
            r->options->jobs <= 0)
            continue;
        if (begin(r, k, error))
            return td_failed(error, TD_EIO);
    }
    return 0;
}

/* Cells that need a failed cell cannot run. Cells come after the cells that they need. */
static void skip_dependents(running *r)
{
    for (size_t k = 0; k < r->m->n; k++) {
        size_t        of = r->m->cells[k].of;
        td_cell_state needed = of == TD_NO_CELL ? TD_CELL_DONE : *state_of(r, of);
        if (*state_of(r, k) == TD_CELL_WAITING &&
            (needed == TD_CELL_FAILED || needed == TD_CELL_SKIPPED)) {
            *state_of(r, k) = TD_CELL_SKIPPED;
            td_log_line(r->options->log, TD_LOG_WARN, "%s: skipped, because '%s' has failed",
                        r->m->cells[k].cell.name, r->m->cells[of].cell.name);
        }
    }
}

static void fail(running *r, size_t k, const char *how)
{
    /* enough to see why without opening the log */
    enum { LINES = 5 };
    const char *name = r->m->cells[k].cell.name;
    char       *tail = td_file_tail(r->jobs[k].log, LINES), *rest = tail, *line;
    *state_of(r, k) = TD_CELL_FAILED;
    td_log_line(r->options->log, TD_LOG_ERROR, "%s: failed: %s; the last lines of '%s':", name, how,
                r->jobs[k].log);
    while (rest && (line = strsep(&rest, "\n")) != NULL)
        if (*line)
            td_log_line(r->options->log, TD_LOG_ERROR, "  %s", line);
    free(tail);
    set_note(&r->jobs[k], td_file_tail(r->jobs[k].log, 1));
    skip_dependents(r);
}

static int finish(running *r, size_t k, td_error *error)
{
    td_matrix_cell *c = &r->m->cells[k];
    char            time[32];
    int             code = td_mark_set(r->m->directory, c->cell.name, c->cell.key, error);
    if (!code && c->point.reads == TD_STUDY_PHASES)
        td_matrix_note_text(r->m, c);
    c->cell.state = TD_CELL_DONE;
    r->outcome->made++;
    td_log_line(r->options->log, TD_LOG_INFO, "%s: done in %s", c->cell.name,
                td_human_time(time, td_now() - r->jobs[k].started));
    return code;
}

/* It saved, but not because of our own signal: somebody wants this machine's memory or time
 * back. */
static void describe_end(int code, char *out, size_t size)
{
    if (is_saved(code))
        snprintf(out, size, "stopped from outside; run the study again to continue");
    else if (code > 128)
        snprintf(out, size, "ended by signal %d (%s)", code - 128, strsignal(code - 128));
    else
        snprintf(out, size, code == 3 ? "diverged" : "exit code %d", code);
}

static int end(running *r, size_t k, int code, bool stopping, td_error *error)
{
    job *j = &r->jobs[k];
    char how[120];
    j->pid = 0;
    if (!code && j->command + 1 < td_cell_commands(r->m, &r->m->cells[k]) && !stopping) {
        j->command++;
        return start_command(r, k, error);
    }
    if (!code && !(stopping && j->command + 1 < td_cell_commands(r->m, &r->m->cells[k]))) {
        if (finish(r, k, error))
            return td_failed(error, TD_EIO);
        /* interrupted, not failed: the next call continues it */
    } else if (stopping) {
        *state_of(r, k) = TD_CELL_WAITING;
    } else {
        describe_end(code, how, sizeof how);
        fail(r, k, how);
    }
    return td_matrix_write_cells(r->m, r->m->directory, error);
}

static int reap(running *r, bool stopping, td_error *error)
{
    int code, failed = 0;
    for (size_t k = 0; k < r->m->n; k++)
        if (r->jobs[k].pid > 0 && td_cell_process_ended(r->jobs[k].pid, &code) &&
            end(r, k, code, stopping, error))
            failed = td_failed(error, TD_EIO);
    return failed;
}

/* A launcher that is killed leaves its processes behind; at SIGTERM it kills them. */
static int signal_for(const td_matrix_cell *c, td_stop stop)
{
    if (c->cell.processes > 1)
        return stop == TD_STOP ? TD_LAUNCHER_STOP : SIGTERM;
    return stop == TD_STOP ? SIGTERM : SIGKILL;
}

static void stop_all(running *r, td_stop stop)
{
    for (size_t k = 0; k < r->m->n; k++)
        if (r->jobs[k].pid > 0)
            kill(r->jobs[k].pid, signal_for(&r->m->cells[k], stop));
}

/* ---- how far they are ------------------------------------------------------------------------ */

static void update_row(running *r, size_t k)
{
    td_matrix_cell   *c = &r->m->cells[k];
    td_cell_progress *p = &r->rows[k];
    job              *j = &r->jobs[k];
    bool              trains = c->point.reads == TD_STUDY_PHASES;
    td_last_step      last;
    p->state = c->cell.state;
    p->threads = j->threads;
    p->note = j->note;
    if (!j->pid)
        return;
    p->seconds = td_now() - j->started;
    set_note(j, td_file_tail(j->log, 1));
    p->note = j->note;
    if (!trains)
        return;
    last = td_last_step_of(c->cell.run);
    p->step = last.step;
    p->loss = last.loss;
    p->steps = (int64_t)ceil(td_figures_steps(&c->figures));
    /* steps of earlier parts of the run do not count towards this time */
    if (j->first < 0)
        j->first = p->step;
    p->left = p->step > j->first
                  ? p->seconds / (double)(p->step - j->first) * (double)(p->steps - p->step)
                  : (double)NAN;
}

static void update_rows(running *r)
{
    for (size_t k = 0; k < r->m->n; k++)
        update_row(r, k);
}

/* ---- the loop -------------------------------------------------------------------------------- */

enum { POLL = 50, TICK = 5 }; /* milliseconds; polls from tick to tick */

static void rest(void)
{
    /* a signal ends it early, so that a stop is quick */
    nanosleep(&(struct timespec){ .tv_nsec = POLL * 1000000L }, NULL);
}

static int run(running *r, td_error *error)
{
    td_stop stop = TD_GO_ON, asked;
    int     code = 0;
    for (int64_t n = 0; !code || count_running(r); n++) {
        if (!code && !stop)
            code = begin_ready(r, error);
        if (!count_running(r))
            break;
        if (!(n % TICK)) {
            update_rows(r);
            asked = r->options->tick ? r->options->tick(r->options->arg, r->rows, r->m->n) : stop;
            /* an error of our own ends the study like a stop: cells save */
            asked = code && asked < TD_STOP ? TD_STOP : asked;
            if (asked > stop)
                stop_all(r, asked);
            stop = asked > stop ? asked : stop;
        }
        rest();
        if (reap(r, stop != TD_GO_ON, error))
            code = td_failed(error, TD_EIO);
    }
    r->outcome->stopped = stop != TD_GO_ON;
    return code;
}

static void summarize(running *r)
{
    for (size_t k = 0; k < r->m->n; k++) {
        td_cell_state s = *state_of(r, k);
        r->outcome->done += s == TD_CELL_DONE;
        r->outcome->failed += s == TD_CELL_FAILED;
        r->outcome->skipped += s == TD_CELL_SKIPPED;
        r->outcome->waiting += s == TD_CELL_WAITING;
    }
}

/* Otherwise, a cell that can never start would be discovered only after hours. */
static int check_memory(const running *r, td_error *error)
{
    for (size_t k = 0; k < r->m->n; k++) {
        const td_cell *c = &r->m->cells[k].cell;
        char           need[32], have[32];
        if (c->state == TD_CELL_WAITING && c->memory > r->memory && !r->m->cells[k].figures.device)
            return td_fail(error, TD_ECONFIG,
                           "cell '%s' needs %s of memory, and this process may use %s: make "
                           "train.micro_batch smaller, or run the study on another machine (tandem "
                           "study emit)",
                           c->name, td_human_bytes(need, c->memory),
                           td_human_bytes(have, r->memory));
    }
    return 0;
}

static int prepare(running *r, td_error *error)
{
    r->rows = calloc(r->m->n + 1, sizeof *r->rows);
    r->jobs = calloc(r->m->n + 1, sizeof *r->jobs);
    if (!r->rows || !r->jobs)
        return td_fail(error, TD_ENOMEM, "out of memory while running a study");
    for (size_t k = 0; k < r->m->n; k++) {
        td_text         log = { 0 };
        td_matrix_cell *c = &r->m->cells[k];
        td_text_print(&log, "%s/logs/%s.log", r->m->directory, c->cell.name);
        r->jobs[k].log = log.data;
        if (!log.data)
            return td_fail(error, TD_ENOMEM, "out of memory while running a study");
        r->rows[k] = (td_cell_progress){
            .cell = c, .state = c->cell.state, .loss = (double)NAN, .left = (double)NAN
        };
    }
    /* before the first cell starts, not hours later */
    return check_memory(r, error);
}

static void release(running *r)
{
    for (size_t k = 0; r->jobs && k < r->m->n; k++) {
        free(r->jobs[k].log);
        free(r->jobs[k].note);
    }
    free(r->jobs);
    free(r->rows);
}

int td_study_run(td_matrix *m, const td_study_running *options, td_study_outcome *outcome,
                 td_error *error)
{
    running r = { .m = m,
                  .options = options,
                  .processors = td_processors(),
                  .outcome = outcome,
                  .memory = 0.9 * td_memory_limit() };
    int     code;
    *outcome = (td_study_outcome){ 0 };
    code = prepare(&r, error);
    if (!code)
        code = run(&r, error);
    /* once more at the end, or the last change would not be shown */
    if (!code && options->tick) {
        update_rows(&r);
        options->tick(options->arg, r.rows, m->n);
    }
    summarize(&r);
    if (!code)
        code = td_matrix_write_cells(m, m->directory, error);
    release(&r);
    return code;
}
