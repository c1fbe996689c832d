/* bench.c - `tandem bench`: the rate of training steps, as a share of the machine's own matrix
 * products. */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "run/benchmark.h"
#include "work.h"

/* The largest resident size of this process. */
static size_t peak_memory(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (size_t)use.ru_maxrss * 1024;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *json_of_profile(const td_benchmark *b)
{
    json_t *list = json_array();
    double  steps = (double)b->profiled;
    for (size_t i = 0; i < b->n_profile; i++) {
        const td_profile_row *r = &b->profile[i];
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f, s:f}", "op", r->op,
                                              "calls_per_step", (double)r->calls / steps,
                                              "seconds_per_step", r->seconds / steps,
                                              "flops_per_second", r->flops / r->seconds,
                                              "bytes_per_second", r->bytes / r->seconds));
    }
    return list;
}

static void print_json(const td_session *s, const td_benchmark *b)
{
    double  rate = b->flops / b->seconds;
    json_t *j = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:i, s:I, s:f}", "run",
                          s->x->run.name, "seconds_per_step", b->seconds, "tokens_per_second",
                          (double)b->tokens / b->seconds, "flops_per_step", b->flops,
                          "flops_per_second", rate, "peak_flops_per_second", b->peak,
                          "share_of_peak", b->peak > 0 ? rate / b->peak : 0.0, "steps",
                          (json_int_t)b->steps, "threads", s->services->threads, "peak_memory",
                          (json_int_t)peak_memory(), "planning_seconds", b->planning);
    if (b->n_profile)
        json_object_set_new(j, "profile", json_of_profile(b));
    td_work_print_json(j, JSON_INDENT(2));
}

/* ---- as text --------------------------------------------------------------------------------- */

static void print_profile(const td_benchmark *b)
{
    double all = 0, steps = (double)b->profiled;
    for (size_t i = 0; i < b->n_profile; i++)
        all += b->profile[i].seconds;
    printf("\n%-20s %8s %10s %7s %10s %10s\n", "op", "calls", "ms/step", "share", "GFLOP/s",
           "GB/s");
    for (size_t i = 0; i < b->n_profile; i++) {
        const td_profile_row *r = &b->profile[i];
        printf("%-20s %8" PRId64 " %10.3f %6.1f%% %10.1f %10.1f\n", r->op, r->calls / b->profiled,
               r->seconds * 1e3 / steps, 100 * r->seconds / all, r->flops / r->seconds * 1e-9,
               r->bytes / r->seconds * 1e-9);
    }
}

static void print(const td_session *s, const td_benchmark *b)
{
    double rate = b->flops / b->seconds;
    printf("%s: %.2f ms per step (median of %" PRId64 "), %.0f tokens/s, %d threads\n",
           s->x->run.name, b->seconds * 1e3, b->steps, (double)b->tokens / b->seconds,
           s->services->threads);
    printf("%.1f GFLOP/s of matrix products, masked scores not counted", rate * 1e-9);
    if (b->peak > 0)
        printf(": %.0f%% of the machine's %.1f", 100 * rate / b->peak, b->peak * 1e-9);
    printf("\npeak memory %.0f MiB, planning %.1f ms for %zu plans\n",
           (double)peak_memory() / (1024 * 1024), b->planning * 1e3, b->plans);
    if (b->n_profile)
        print_profile(b);
}

/* ---- the command ----------------------------------------------------------------------------- */

static int bench(td_tool *t, td_session *s, double seconds)
{
    td_benchmark b;
    td_error     e = { 0 };
    if (td_session_benchmark(s, seconds, td_tool_option(t, "--profile"), &b, &e))
        return td_tool_fail(t, &e);
    t->json ? print_json(s, &b) : print(s, &b);
    return TD_EXIT_OK;
}

static const td_flag flags[] = { { "--seconds", "S", "how long to measure (5)" },
                                 { "--profile", 0, "time and rate per op" },
                                 { 0, 0, 0 } };

const td_usage td_usage_bench = {
    .name = "bench",
    .arguments = "[--seconds S] [--profile]",
    .brief =
        "Time training steps of train.micro_batch random sequences: tokens/s, and the share of "
        "the machine's matmul rate.",
    .example = "tandem bench -c nano/redllm.cfg --profile",
    .flags = flags,
    .config = true,
    .json = true
};

int td_command_bench(td_tool *t, int argc, char **argv)
{
    const char *seconds;
    td_session *s;
    char       *end = NULL;
    double      limit;
    int         code;

    if (!td_tool_parse(t, &td_usage_bench, argc, argv, &code))
        return code;
    seconds = td_tool_option(t, "--seconds");
    limit = seconds ? strtod(seconds, &end) : 5;
    /* written so that NaN is refused, too */
    if (seconds && (end == seconds || *end || !(limit > 0 && limit < 1e6)))
        return td_tool_usage_error(t, "--seconds takes a number above 0, not '%s'", seconds);
    s = td_work_open(t, TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_OPTIMIZER | TD_NEED_SCHEDULE, &code);
    if (!s)
        return code;
    code = bench(t, s, limit);
    td_session_close(s);
    return code;
}
