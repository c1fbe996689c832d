/* benchmark.c - timing training steps.
 *
 * The plans, kernels and update of training, on random tokens. FLOPs are those of matrix products,
 * without masked attention scores; the peak is the rate that the same machine reaches when it does
 * nothing else.
 */
#include "run/benchmark.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "plugin/hook.h"
#include "train/rate.h"
#include "train/reduce.h"

enum { MOST = 4096, LEAST = 3, WARM = 2, PROFILED = 5 }; /* steps */
enum { PEAKS = 4 };                                      /* measurements of the peak */

/* What a step is made of. */
typedef struct work {
    td_session     *session;
    const td_batch *batch;
    td_reduction   *reduction; /* NULL: there is one process */
} work;

/* One micro-batch of a batch that has one for each process. */
static int compute(const work *w, int64_t k, double *flops, td_error *error)
{
    td_session  *s = w->session;
    double       weight = td_batch_weight(w->batch) * td_team_size(s->team);
    td_micro     micro = { .batch = w->batch, .divisor = weight, .step = (int32_t)k };
    td_micro_out out;
    int          code = td_engine_gradient(s->engine, &micro, &out, error);
    *flops = out.flops;
    if (!w->reduction)
        return code;
    if (!code)
        code = td_reduction_put(w->reduction, td_team_rank(s->team), error);
    /* as in training: a rank that fails must not leave the others waiting */
    return td_team_agree(s->team, code, error);
}

/* If the update is sharded, the norm is that of all ranks' gradients. */
static int sum_squares(td_session *s, td_error *error)
{
    double *squares;
    int64_t count;
    int     code = td_engine_square(s->engine, &squares, &count, error);
    if (td_team_sum(s->team, squares, count, error))
        return td_failed(error, TD_EIO);
    return td_team_agree(s->team, code, error);
}

static int update(td_session *s, int64_t k, td_error *error)
{
    bool          shared = td_engine_model(s->engine)->shard.size > 1;
    td_update_out u;
    double        rate;
    int           code = td_rate_of_step(&s->x->schedule, k, &rate, error);
    if (shared && !code)
        code = sum_squares(s, error);
    /* no limit: a skipped update would make steps cheaper */
    if (!code)
        code = td_engine_update(s->engine, rate, k + 1, (double)INFINITY, &u, error);
    code = td_team_agree(s->team, code, error);
    if (code || !shared)
        return code;
    return td_team_agree(s->team, td_team_share_owned(s->team, s->engine, error), error);
}

/* Succeeds or fails on all ranks. */
static int one_step(const work *w, int64_t k, double *flops, td_error *error)
{
    int code = compute(w, k, flops, error);
    if (!code && w->reduction)
        code = td_reduction_finish(w->reduction, error);
    return code ? code : update(w->session, k, error);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double td_benchmark_median(double *times, int64_t n)
{
    qsort(times, (size_t)n, sizeof *times, by_value);
    return times[n / 2];
}

/* What was queued on the device so far. */
static double launches(const td_session *s)
{
    const td_device *d = td_engine_device(s->engine);
    return d->backend->launches ? (double)TD_HOOK_QUICK(d->backend, launches, d->state) : 0;
}

/* The leader decides for all. */
static int ask_to_go_on(td_session *s, const td_benchmark *b, double end, bool *goes_on,
                        td_error *error)
{
    *goes_on = b->steps < MOST && (b->steps < LEAST || td_now() < end);
    return td_team_share(s->team, goes_on, sizeof *goes_on, error);
}

static int measure(const work *w, double seconds, td_benchmark *out, td_error *error)
{
    td_session *s = w->session;
    double      times[MOST], end, queued;
    bool        goes_on = true;
    int         code = 0;

    /* the first step touches all memory for the first time */
    for (int64_t k = 0; k < WARM && !code; k++)
        code = one_step(w, k, &out->flops, error);
    queued = launches(s);
    end = td_now() + seconds;
    while (!code && !(code = ask_to_go_on(s, out, end, &goes_on, error)) && goes_on) {
        double start = td_now();
        code = one_step(w, out->steps + WARM, &out->flops, error);
        times[out->steps++] = td_now() - start;
    }
    if (code)
        return code;
    out->launches = (launches(s) - queued) / (double)out->steps;
    out->seconds = td_benchmark_median(times, out->steps);
    return 0;
}

double td_benchmark_peak(const td_device *d, bool narrow)
{
    double best = 0;
    for (int k = 0; k < PEAKS; k++)
        best = fmax(best, td_device_peak(d, narrow ? TD_BF16 : 0));
    return best;
}

static int by_seconds(const void *a, const void *b)
{
    double x = ((const td_profile_row *)a)->seconds, y = ((const td_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

void td_benchmark_sort(td_profile_row *profile, size_t *n)
{
    qsort(profile, *n, sizeof *profile, by_seconds);
    while (*n && profile[*n - 1].seconds <= 0)
        (*n)--;
}

/* Runs separate steps, because timing each op takes time itself. */
static int profile(const work *w, td_benchmark *out, td_error *error)
{
    td_session *s = w->session;
    double      flops;
    int         code = 0;
    td_engine_profile(s->engine, true);
    for (int64_t k = 0; k < PROFILED && !code; k++)
        code = one_step(w, k, &flops, error);
    out->profiled = PROFILED;
    out->n_profile = td_engine_profile_rows(s->engine, out->profile, TD_BENCHMARK_OPS);
    td_benchmark_sort(out->profile, &out->n_profile);
    return code;
}

/* As at the start of a training run. */
static int open_work(work *w, td_error *error)
{
    td_session *s = w->session;
    int         size = td_team_size(s->team);
    int         code = w->batch ? td_session_replace(s, true, error) : td_failed(error, TD_ENOMEM);
    if (!code && td_engine_exchanges(s->engine))
        code = td_fail(error, TD_ECONFIG,
                       "tandem bench cannot time steps with train.shard = \"parameters\": use "
                       "\"optimizer\", or train a few steps");
    if (!code)
        code = td_engine_plan(s->engine, w->batch, NULL, error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    /* what follows waits for every rank: one that has no memory must not be waited for */
    code = td_team_agree(s->team, code, error);
    if (size == 1 || code)
        return code;
    code = td_team_same(s->team, td_session_config(s), "config", error);
    if (!code)
        code = td_team_attach(s->team, td_engine_device(s->engine), error);
    if (code)
        return code;
    w->reduction = td_reduction_new(s->engine, s->team, (td_reduce)s->x->train.reduce, size, error);
    return td_team_agree(s->team, w->reduction ? 0 : td_failed(error, TD_ENOMEM), error);
}

static int run(work *w, double seconds, bool profiled, td_benchmark *out, td_error *error)
{
    td_session *s = w->session;
    double      processes = td_team_size(s->team);
    int         code = open_work(w, error);
    if (code)
        return code;
    out->processes = td_team_size(s->team);
    out->examples = out->processes * s->x->train.micro_batch;
    out->tokens = out->processes * td_batch_tokens(w->batch);
    code = measure(w, seconds, out, error);
    if (code)
        return code;
    out->planning = td_engine_planning(s->engine, &out->plans);
    out->peak = processes * td_benchmark_peak(td_engine_device(s->engine), s->x->train.precision);
    out->flops *= processes;
    return profiled ? profile(w, out, error) : 0;
}

int td_session_benchmark(td_session *s, double seconds, bool profiled, td_benchmark *out,
                         td_error *error)
{
    /* random tokens: no data needs to be prepared, and every run has the same lengths. A process
     * without memory for them tells the others. */
    td_batch *b = td_session_random_batch(s, s->x->train.micro_batch, s->x->train.bucket, error);
    work      w = { .session = s, .batch = b };
    int       code;
    memset(out, 0, sizeof *out);
    code = run(&w, seconds, profiled, out, error);
    td_reduction_free(w.reduction);
    if (code)
        td_session_drop(s);
    td_batch_free(b);
    return code;
}
