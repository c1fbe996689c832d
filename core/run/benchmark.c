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

enum { MOST = 4096, LEAST = 3, WARM = 2, PROFILED = 5 }; /* steps */
enum { PEAKS = 4 };                                      /* measurements of the peak */

static int one_step(td_session *s, const td_batch *b, int64_t k, double *flops, td_error *error)
{
    td_micro      micro = { .batch = b, .divisor = td_batch_weight(b), .step = (int32_t)k };
    td_micro_out  out;
    td_update_out u;
    double        rate;
    int           code = td_engine_gradient(s->engine, &micro, &out, error);
    *flops = out.flops;
    if (!code)
        code = td_rate_of_step(&s->x->schedule, k, &rate, error);
    /* no limit: a skipped update would make steps cheaper */
    return code ? code : td_engine_update(s->engine, rate, k + 1, (double)INFINITY, &u, error);
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

static int measure(td_session *s, const td_batch *b, double seconds, td_benchmark *out,
                   td_error *error)
{
    double times[MOST], end, queued;
    int    code = 0;

    /* the first step touches all memory for the first time */
    for (int64_t k = 0; k < WARM && !code; k++)
        code = one_step(s, b, k, &out->flops, error);
    queued = launches(s);
    end = td_now() + seconds;
    while (!code && out->steps < MOST && (out->steps < LEAST || td_now() < end)) {
        double start = td_now();
        code = one_step(s, b, out->steps + WARM, &out->flops, error);
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
static int profile(td_session *s, const td_batch *b, td_benchmark *out, td_error *error)
{
    double flops;
    int    code = 0;
    td_engine_profile(s->engine, true);
    for (int64_t k = 0; k < PROFILED && !code; k++)
        code = one_step(s, b, k, &flops, error);
    out->profiled = PROFILED;
    out->n_profile = td_engine_profile_rows(s->engine, out->profile, TD_BENCHMARK_OPS);
    td_benchmark_sort(out->profile, &out->n_profile);
    return code;
}

static int run(td_session *s, const td_batch *b, double seconds, bool profiled, td_benchmark *out,
               td_error *error)
{
    const td_device *d;
    int              code = td_session_replace(s, true, error);
    if (!code)
        code = td_engine_plan(s->engine, b, NULL, error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    if (!code)
        code = measure(s, b, seconds, out, error);
    if (code)
        return code;
    out->planning = td_engine_planning(s->engine, &out->plans);
    d = td_engine_device(s->engine);
    out->peak = td_benchmark_peak(d, s->x->train.precision);
    return profiled ? profile(s, b, out, error) : 0;
}

int td_session_benchmark(td_session *s, double seconds, bool profiled, td_benchmark *out,
                         td_error *error)
{
    td_batch *b = td_session_random_batch(s, s->x->train.micro_batch, s->x->train.bucket, error);
    int       code;
    memset(out, 0, sizeof *out);
    /* random tokens: no data needs to be prepared, and every run has the same lengths */
    if (!b)
        return td_failed(error, TD_ENOMEM);
    out->examples = s->x->train.micro_batch;
    out->tokens = td_batch_tokens(b);
    code = run(s, b, seconds, profiled, out, error);
    if (code)
        td_session_drop(s);
    td_batch_free(b);
    return code;
}
