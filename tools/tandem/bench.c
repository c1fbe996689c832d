/* bench.c - `tandem bench`: the training step's rate, as a share of the machine's own matrix
 * products. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "work.h"

enum { STEPS = 4096, ROWS = 128, PROFILED = 5 };

typedef struct timing {
    double  seconds[STEPS];
    int64_t count;
    /* flops: of one step's matrix products, masked scores not counted */
    double  flops, peak, planning;
    int64_t tokens; /* of one step, inputs and targets, without padding */
    size_t  plans;
} timing;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const timing *t)
{
    double sorted[STEPS];
    memcpy(sorted, t->seconds, (size_t)t->count * sizeof *sorted);
    qsort(sorted, (size_t)t->count, sizeof *sorted, by_value);
    return sorted[t->count / 2];
}

static int one_step(td_work *w, const td_batch *b, int64_t k, double *flops, td_error *error)
{
    const td_schedule *schedule = (const void *)w->x->schedule.plugin;
    td_micro           micro = { .batch = b, .divisor = td_batch_weight(b), .step = (int32_t)k };
    td_micro_out       out;
    td_update_out      u;
    int                code = td_engine_gradient(w->engine, &micro, &out, error);
    *flops = out.flops;
    return code ? code
                : td_engine_update(w->engine, schedule->rate(w->x->schedule.config, k), k + 1,
                                   (double)INFINITY, &u, error);
}

static int measure(td_work *w, const td_batch *b, double seconds, timing *t, td_error *error)
{
    double end;
    int    code = 0;

    for (int64_t k = 0; k < 2 && !code; k++) /* warm up */
        code = one_step(w, b, k, &t->flops, error);
    td_engine_profile(w->engine, false);
    end = td_now() + seconds;
    while (!code && t->count < STEPS && (t->count < 3 || td_now() < end)) {
        double start = td_now();
        code = one_step(w, b, t->count + 2, &t->flops, error);
        t->seconds[t->count++] = td_now() - start;
    }
    t->planning = td_engine_planning(w->engine, &t->plans);
    return code;
}

/* ---- printing -------------------------------------------------------------------------------- */

static int by_seconds(const void *a, const void *b)
{
    double x = ((const td_profile_row *)a)->seconds, y = ((const td_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

/* Where five more steps go, the slowest op first. */
static int profile(td_work *w, const td_batch *b, td_profile_row *rows, size_t *n, td_error *error)
{
    double flops;
    int    code = 0;
    td_engine_profile(w->engine, true);
    for (int64_t k = 0; k < PROFILED && !code; k++)
        code = one_step(w, b, k, &flops, error);
    *n = td_engine_profile_rows(w->engine, rows, ROWS);
    qsort(rows, *n, sizeof *rows, by_seconds);
    while (*n && rows[*n - 1].seconds <= 0)
        --*n;
    return code;
}

static json_t *profile_json(const td_profile_row *rows, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f, s:f}", "op", rows[i].op,
                                              "calls_per_step", (double)rows[i].calls / PROFILED,
                                              "seconds_per_step", rows[i].seconds / PROFILED,
                                              "flops_per_second", rows[i].flops / rows[i].seconds,
                                              "bytes_per_second", rows[i].bytes / rows[i].seconds));
    return list;
}

static void print_profile(const td_profile_row *rows, size_t n)
{
    double all = 0;
    for (size_t i = 0; i < n; i++)
        all += rows[i].seconds;
    printf("\n%-20s %8s %10s %7s %10s %10s\n", "op", "calls", "ms/step", "share", "GFLOP/s",
           "GB/s");
    for (size_t i = 0; i < n; i++)
        printf("%-20s %8lld %10.3f %6.1f%% %10.1f %10.1f\n", rows[i].op,
               (long long)rows[i].calls / PROFILED, rows[i].seconds * 1e3 / PROFILED,
               100 * rows[i].seconds / all, rows[i].flops / rows[i].seconds * 1e-9,
               rows[i].bytes / rows[i].seconds * 1e-9);
}

static void print_json(const td_work *w, const timing *t, size_t peak_memory,
                       const td_profile_row *rows, size_t n)
{
    double  step = median(t), rate = t->flops / step;
    json_t *j = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:i, s:I, s:f}", "run",
                          w->x->run.name, "seconds_per_step", step, "tokens_per_second",
                          (double)t->tokens / step, "flops_per_step", t->flops, "flops_per_second",
                          rate, "peak_flops_per_second", t->peak, "share_of_peak",
                          t->peak > 0 ? rate / t->peak : 0.0, "steps", (json_int_t)t->count,
                          "threads", w->services->threads, "peak_memory", (json_int_t)peak_memory,
                          "planning_seconds", t->planning);
    if (n)
        json_object_set_new(j, "profile", profile_json(rows, n));
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

static void print(const td_work *w, const timing *t, const td_profile_row *rows, size_t n)
{
    struct rusage use;
    double        step = median(t), rate = t->flops / step;
    getrusage(RUSAGE_SELF, &use);
    if (w->tool->json) {
        print_json(w, t, (size_t)use.ru_maxrss * 1024, rows, n);
        return;
    }
    printf("%s: %.2f ms per step (median of %lld), %.0f tokens/s, %d threads\n", w->x->run.name,
           step * 1e3, (long long)t->count, (double)t->tokens / step, w->services->threads);
    printf("%.1f GFLOP/s of matrix products, masked scores not counted", rate * 1e-9);
    if (t->peak > 0)
        printf(": %.0f%% of the machine's %.1f", 100 * rate / t->peak, t->peak * 1e-9);
    putchar('\n');
    printf("peak memory %.0f MiB, planning %.1f ms for %zu plans\n", (double)use.ru_maxrss / 1024,
           t->planning * 1e3, t->plans);
    if (n)
        print_profile(rows, n);
}

/* ---- the command ----------------------------------------------------------------------------- */

static int bench(td_work *w, double seconds, bool profiled, td_error *error)
{
    td_profile_row   rows[ROWS];
    size_t           n = 0;
    const td_device *d;
    td_batch        *b = td_work_random(w, w->x->train.micro_batch, w->x->train.bucket, error);
    timing           t = { .count = 0 };
    int              code = b ? td_work_engine(w, error) : error->code;
    if (!code)
        code = td_engine_plan(w->engine, b, NULL, error);
    if (!code)
        code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code) {
        t.tokens = td_batch_tokens(b);
        d = td_engine_device(w->engine);
        code = measure(w, b, seconds, &t, error);
        t.peak = d->backend->peak ? d->backend->peak(d->state) : 0;
    }
    if (!code && profiled)
        code = profile(w, b, rows, &n, error);
    if (!code)
        print(w, &t, rows, n);
    td_batch_free(b);
    return code;
}

static const td_flag flags[] = { { "--seconds", "S", "how long to measure (5)" },
                                 { "--profile", 0, "time and rate per op" },
                                 { 0, 0, 0 } };

const td_usage td_usage_bench = {
    .name = "bench",
    .arguments = "[--seconds S] [--profile]",
    .brief = "Training steps of train.micro_batch random sequences, "
             "timed: tokens/s and the share of the machine's matmul rate.",
    .example = "tandem bench -c nano/redllm.cfg --profile",
    .flags = flags,
    .config = true,
    .json = true
};

int td_command_bench(td_tool *t, int argc, char **argv)
{
    const char *seconds;
    td_work     w;
    td_error    e = { 0 };
    char       *end = NULL;
    double      limit;
    int         code;

    if (!td_tool_parse(t, &td_usage_bench, argc, argv, &code))
        return code;
    seconds = td_tool_option(t, "--seconds");
    limit = seconds ? strtod(seconds, &end) : 5;
    if (seconds && (end == seconds || *end || !(limit > 0 && limit < 1e6)))
        return td_tool_usage_error(t, "--seconds takes a number above 0, not '%s'", seconds);
    if (!td_work_open(&w, t, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_OPTIMIZER | TD_NEED_SCHEDULE,
                      &code))
        return code;
    code = bench(&w, limit, td_tool_option(t, "--profile"), &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    td_work_close(&w);
    return code;
}
