/* view.c - the live table of a running study. */
#include "study/view.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum { REDRAW = 1, REPRINT = 20 }; /* seconds */

/* ---- the log ---------------------------------------------------------------------------------- */

static void erase(td_view *v)
{
    if (v->drawn)
        fprintf(stderr, "\033[%dA\r\033[J", v->drawn);
    v->drawn = 0;
}

/* The table is drawn again below the line. */
static void write_line(void *arg, int level, const char *line)
{
    static const char *const names[] = { "debug: ", "", "warning: ", "error: " };
    td_view                 *v = arg;
    if (v->quiet && level < TD_LOG_WARN)
        return;
    erase(v);
    fprintf(stderr, "%s%s\n", names[level], line);
    v->shown = 0;
}

int td_view_open(td_view *v, const td_tool *t, const char *study, const char *file, td_error *error)
{
    *v = (td_view){ .study = study, .start = td_now(), .before = -1 };
    v->terminal = isatty(STDERR_FILENO) == 1;
    v->quiet = td_tool_count(t, "--quiet") > 0;
    v->log = td_log_to(write_line, v);
    if (!v->log)
        return td_fail(error, TD_ENOMEM, "out of memory for the log of a study");
    return td_log_open_file(v->log, file, error);
}

void td_view_close(td_view *v) { td_log_free(v->log); }

/* ---- how far the study is --------------------------------------------------------------------- */

/* The share of a cell's training that is done. */
static double share(const td_cell_progress *p)
{
    if (p->state == TD_CELL_DONE)
        return 1;
    return p->steps > 0 ? fmin(1, (double)p->step / (double)p->steps) : 0;
}

typedef struct sums {
    size_t count[TD_CELL_SKIPPED + 1];
    double flops, done; /* of training */
} sums;

static sums add_up(const td_cell_progress *rows, size_t n)
{
    sums s = { .flops = 0 };
    for (size_t k = 0; k < n; k++) {
        double flops = rows[k].cell->cell.flops;
        s.count[rows[k].state]++;
        if (!isfinite(flops))
            continue;
        s.flops += flops;
        s.done += flops * share(&rows[k]);
    }
    return s;
}

/* Estimated from the training done since this call began, which reflects the machine and the
 * number of cells at a time. */
static double left_of(td_view *v, const sums *s)
{
    double made;
    if (v->before < 0)
        v->before = s->done;
    made = s->done - v->before;
    return made > 0.01 * s->flops ? (td_now() - v->start) * (s->flops - s->done) / made
                                  : (double)NAN;
}

static void print_head(td_view *v, const sums *s, size_t n, td_text *out)
{
    char   time[32];
    double left = left_of(v, s);
    td_text_print(out, "%s: %zu of %zu cells done", v->study, s->count[TD_CELL_DONE], n);
    for (int k = 0; k <= TD_CELL_SKIPPED; k++)
        if (s->count[k] && k != TD_CELL_DONE)
            td_text_print(out, ", %zu %s", s->count[k], td_cell_state_name((td_cell_state)k));
    td_text_print(out, ", %s", td_human_time(time, td_now() - v->start));
    if (isfinite(left) && s->count[TD_CELL_DONE] < n)
        td_text_print(out, ", about %s left", td_human_time(time, left));
}

/* ---- on a terminal ---------------------------------------------------------------------------- */

static struct winsize window(void)
{
    struct winsize w = { 0 };
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) || !w.ws_col || !w.ws_row)
        w = (struct winsize){ .ws_row = 24, .ws_col = 80 };
    return w;
}

/* Cut to the width: a line that wraps could not be erased. */
static void draw(td_view *v, const char *line, int width)
{
    fprintf(stderr, "%.*s\n", width - 1, line);
    v->drawn++;
}

static void draw_row(td_view *v, const td_cell_progress *p, int width, int names)
{
    td_text line = { 0 };
    char    time[32];
    td_text_print(&line, "  %-*s %-8s", names, p->cell->cell.name, td_cell_state_name(p->state));
    if (p->steps)
        td_text_print(&line, " %7" PRId64 "/%-7" PRId64, p->step, p->steps);
    if (p->steps && isfinite(p->loss))
        td_text_print(&line, " %8.4f", p->loss);
    if (p->state == TD_CELL_RUNNING && isfinite(p->left))
        td_text_print(&line, "  eta %s", td_human_time(time, p->left));
    else if (p->note && (p->state == TD_CELL_RUNNING ? !p->steps : p->state == TD_CELL_FAILED))
        /* a note is what a process wrote, and a row must stay one line */
        td_text_print(&line, "  %.*s", (int)strcspn(p->note, "\n"), p->note);
    draw(v, td_text_get(&line), width);
    td_text_free(&line);
}

/* All cells if the window is high enough; else those at work, then the failed ones, then the others. */
static int rank(const td_cell_progress *p)
{
    return p->state == TD_CELL_RUNNING   ? 0
           : p->state == TD_CELL_FAILED  ? 1
           : p->state == TD_CELL_WAITING ? 2
                                         : 3;
}

static void draw_rows(td_view *v, const td_cell_progress *rows, size_t n, int room, int width)
{
    int names = 4, worst = 3;
    for (size_t k = 0; k < n; k++)
        names = (int)strlen(rows[k].cell->cell.name) > names ? (int)strlen(rows[k].cell->cell.name)
                                                             : names;
    /* leave out whole ranks, from the last */
    for (size_t shown = n; shown > (size_t)room && worst > 0;) {
        worst--;
        shown = 0;
        for (size_t k = 0; k < n; k++)
            shown += rank(&rows[k]) <= worst;
    }
    for (size_t k = 0; k < n && v->drawn <= room; k++)
        if (rank(&rows[k]) <= worst)
            draw_row(v, &rows[k], width, names);
}

static void draw_table(td_view *v, const td_cell_progress *rows, size_t n, const sums *s)
{
    struct winsize w = window();
    td_text        head = { 0 };
    print_head(v, s, n, &head);
    erase(v);
    draw(v, td_text_get(&head), w.ws_col);
    draw_rows(v, rows, n, w.ws_row - 3, w.ws_col);
    fflush(stderr);
    td_text_free(&head);
}

/* ---- in a log --------------------------------------------------------------------------------- */

static void log_progress(td_view *v, const td_cell_progress *rows, size_t n, const sums *s)
{
    td_text line = { 0 };
    print_head(v, s, n, &line);
    for (size_t k = 0; k < n; k++) {
        const td_cell_progress *p = &rows[k];
        /* a log keeps every line, so only what changes is in it */
        if (p->state != TD_CELL_RUNNING)
            continue;
        td_text_print(&line, "; %s", p->cell->cell.name);
        if (p->step)
            td_text_print(&line, " %" PRId64 "/%" PRId64 " nll %.3f", p->step, p->steps, p->loss);
    }
    td_log_line(v->log, TD_LOG_INFO, "%s", td_text_get(&line));
    td_text_free(&line);
}

void td_view_show(td_view *v, const td_cell_progress *rows, size_t n, bool last)
{
    sums   s = add_up(rows, n);
    double now = td_now();
    left_of(v, &s); /* notes what was done before */
    if (v->quiet || (!last && now - v->shown < (v->terminal ? REDRAW : REPRINT)))
        return;
    if (!v->terminal && !v->shown && !last) { /* the first line after one interval */
        v->shown = now;
        return;
    }
    v->terminal ? draw_table(v, rows, n, &s) : log_progress(v, rows, n, &s);
    v->shown = now;
}
