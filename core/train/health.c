/* health.c - names a rank that is slower than the others, which all wait for it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "train/internal.h"

/* Less time than this says nothing: any rank may have waited for the processor once. */
enum { LEAST = 1 }; /* seconds */

/* A rank's report on the steps since the last comparison. */
typedef struct report {
    double seconds; /* without waiting for other ranks */
    double each;    /* per micro-batch */
    char   host[48];
} report;

static int by_speed(const void *a, const void *b)
{
    double x = ((const report *)a)->each, y = ((const report *)b)->each;
    return (x > y) - (x < y);
}

/* The lower one of an even number: of two ranks the faster. */
static double median_of(const report *r, int n)
{
    report *sorted = malloc((size_t)n * sizeof *sorted);
    double  median = 0;
    if (sorted) {
        memcpy(sorted, r, (size_t)n * sizeof *sorted);
        qsort(sorted, (size_t)n, sizeof *sorted, by_speed);
        median = sorted[(n - 1) / 2].each;
    }
    free(sorted);
    return median;
}

static int slowest_of(const report *r, int n)
{
    int slowest = 0;
    for (int k = 1; k < n; k++)
        if (r[k].each > r[slowest].each)
            slowest = k;
    return slowest;
}

/* Warns once for as long as it is the same rank. */
static void judge(trainer *t, const report *r, int n)
{
    double median = median_of(r, n);
    int    slowest = slowest_of(r, n);
    if (!(median > 0) || r[slowest].each <= t->spec->straggler * median)
        slowest = -1;
    else if (slowest != t->straggler)
        td_log_line(t->spec->log, TD_LOG_WARN,
                    "step %lld: rank %d, on '%s', is slow: %.3g s per micro-batch, %.1f times the "
                    "median rank's; all wait for it (comm.straggler = %g)",
                    (long long)t->progress.step, slowest, r[slowest].host, r[slowest].each,
                    r[slowest].each / median, t->spec->straggler);
    t->straggler = slowest;
}

static report describe(const trainer *t)
{
    report own = { .seconds = t->busy };
    own.each = t->busy / (double)(t->busy_steps * td_trainer_own_micro(t));
    gethostname(own.host, sizeof own.host - 1);
    return own;
}

/* All ranks see all reports, so all decide alike whether they are long enough. */
static void consider(trainer *t, const report *all, int n)
{
    double most = 0;
    for (int k = 0; k < n; k++)
        most = all[k].seconds > most ? all[k].seconds : most;
    if (most < LEAST)
        return;
    if (td_team_leads(t->spec->team))
        judge(t, all, n);
    t->busy = 0;
    t->busy_steps = 0;
}

int td_trainer_check_health(trainer *t, td_error *error)
{
    int    n = td_team_size(t->spec->team), code;
    report own, *all;
    /* all ranks must gather, or none: each of these is equal on all of them */
    if (n == 1 || !(t->spec->straggler > 0) || !t->busy_steps ||
        !td_trainer_every(t->progress.step, t->options->log_every))
        return 0;
    own = describe(t);
    all = calloc((size_t)n, sizeof *all);
    code = td_team_agree(t->spec->team,
                         all ? 0 : td_fail(error, TD_ENOMEM, "out of memory for %d ranks", n),
                         error);
    if (!code)
        code = td_team_all_gather(t->spec->team, &own, all, sizeof own, error);
    if (!code)
        consider(t, all, n);
    free(all);
    return code;
}
