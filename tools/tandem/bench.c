/* bench.c - `tandem bench`: measures training steps relative to the machine's rate of matrix
 * products, and generation relative to its rates of products and of memory reads. */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/file.h"
#include "run/benchmark.h"
#include "run/results.h"
#include "work.h"

/* The largest resident size of this process. */
static size_t peak_memory(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (size_t)use.ru_maxrss * 1024;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *json_of_profile(const td_profile_row *rows, size_t n, int64_t profiled)
{
    json_t *list = json_array();
    double  steps = (double)profiled;
    for (size_t i = 0; i < n; i++) {
        const td_profile_row *r = &rows[i];
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
    json_t *j = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:i, s:I, s:f}", "run",
                          s->x->run.name, "seconds_per_step", b->seconds, "tokens_per_second",
                          (double)b->tokens / b->seconds, "examples_per_second",
                          (double)b->examples / b->seconds, "flops_per_step", b->flops,
                          "flops_per_second", rate, "peak_flops_per_second", b->peak,
                          "share_of_peak", b->peak > 0 ? rate / b->peak : 0.0, "steps",
                          (json_int_t)b->steps, "threads", s->services->threads, "peak_memory",
                          (json_int_t)peak_memory(), "planning_seconds", b->planning);
    if (b->processes > 1)
        json_object_set_new(j, "processes", json_integer(b->processes));
    /* only a device has a queue to launch into */
    if (b->launches > 0)
        json_object_set_new(j, "launches_per_step", json_real(b->launches));
    if (b->n_profile)
        json_object_set_new(j, "profile", json_of_profile(b->profile, b->n_profile, b->profiled));
    td_work_print_json(j, JSON_INDENT(2));
}

/* ---- as text --------------------------------------------------------------------------------- */

static void print_profile(const td_profile_row *rows, size_t n, int64_t profiled)
{
    double all = 0, steps = (double)profiled;
    for (size_t i = 0; i < n; i++)
        all += rows[i].seconds;
    printf("\n%-20s %8s %10s %7s %10s %10s\n", "op", "calls", "ms/step", "share", "GFLOP/s",
           "GB/s");
    for (size_t i = 0; i < n; i++) {
        const td_profile_row *r = &rows[i];
        printf("%-20s %8" PRId64 " %10.3f %6.1f%% %10.1f %10.1f\n", r->op, r->calls / profiled,
               r->seconds * 1e3 / steps, 100 * r->seconds / all, r->flops / r->seconds * 1e-9,
               r->bytes / r->seconds * 1e-9);
    }
}

static void print(const td_session *s, const td_benchmark *b)
{
    double rate = b->flops / b->seconds;
    printf("%s: %.2f ms per step (median of %" PRId64 "), %.0f tokens/s, %.4g examples/s, ",
           s->x->run.name, b->seconds * 1e3, b->steps, (double)b->tokens / b->seconds,
           (double)b->examples / b->seconds);
    if (b->processes > 1)
        printf("%d processes of ", b->processes);
    printf("%d threads\n", s->services->threads);
    printf("%.1f GFLOP/s of matrix products, masked scores not counted", rate * 1e-9);
    /* 0: the backend does not know it */
    if (b->peak > 0)
        printf(": %.0f%% of the machine's %.1f", 100 * rate / b->peak, b->peak * 1e-9);
    printf("\npeak memory %.0f MiB, planning %.1f ms for %zu plans\n",
           (double)peak_memory() / (1024 * 1024), b->planning * 1e3, b->plans);
    if (b->launches > 0)
        printf("%.1f launches on the device per step\n", b->launches);
    if (b->n_profile)
        print_profile(b->profile, b->n_profile, b->profiled);
}

/* ---- generation ------------------------------------------------------------------------------ */

static double share(double of, double whole) { return whole > 0 ? of / whole : 0; }

static double prefill_rate(const td_generation_benchmark *b)
{
    return b->prefill_cost.flops / b->prefill;
}

/* Rate of complete answers: prompts are read one after the other, then all rows step together. */
static double examples_per_second(const td_generation_benchmark *b)
{
    double rows = (double)b->rows;
    return rows / (rows * b->prefill + (double)(b->answer - 1) * b->step);
}

static double read_rate(const td_generation_benchmark *b)
{
    return (b->step_cost.parameters + b->step_cost.cache) / b->step;
}

/* Units are those of one second and one byte, so that no reader has to parse a unit. */
static json_t *json_of_generation(const td_session *s, const td_generation_benchmark *b)
{
    json_t *prefill = json_pack("{s:f, s:f, s:f, s:f}", "seconds_per_prompt", b->prefill,
                                "tokens_per_second", (double)b->given / b->prefill,
                                "flops_per_second", prefill_rate(b), "share_of_peak",
                                share(prefill_rate(b), b->peak));
    json_t *decode = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "seconds_per_step",
                               b->step, "tokens_per_second", (double)b->rows / b->step,
                               "parameter_bytes_per_step", b->step_cost.parameters,
                               "cache_bytes_per_step", b->step_cost.cache, "flops_per_step",
                               b->step_cost.flops, "bytes_per_second", read_rate(b),
                               "share_of_read_rate", share(read_rate(b), b->read_rate), "steps",
                               (json_int_t)b->steps);
    json_t *j = json_pack("{s:s, s:i, s:I, s:I, s:I, s:f, s:o, s:o, s:f, s:f, s:I, s:I, s:I, s:I}",
                          "run", s->x->run.name, "threads", s->services->threads, "rows",
                          (json_int_t)b->rows, "prompt_tokens", (json_int_t)b->given, "new_tokens",
                          (json_int_t)b->answer, "examples_per_second", examples_per_second(b),
                          "prefill", prefill, "decode", decode, "peak_flops_per_second", b->peak,
                          "read_bytes_per_second", b->read_rate, "cache_bytes",
                          (json_int_t)b->cache, "layout_bytes", (json_int_t)b->layouts, "plans",
                          (json_int_t)b->plans, "peak_memory", (json_int_t)peak_memory());
    if (b->n_profile)
        json_object_set_new(j, "profile", json_of_profile(b->profile, b->n_profile, b->profiled));
    return j;
}

/* Where `tandem report` looks for latency. */
static int keep(const td_session *s, const td_generation_benchmark *b, const char *directory,
                td_error *error)
{
    json_t *j = json_of_generation(s, b);
    int     code = td_make_writable(directory, error)
                       ? td_failed(error, TD_EIO)
                       : td_results_save(j, directory, "bench-generate", error);
    json_decref(j);
    return code;
}

static void print_generation(const td_session *s, const td_generation_benchmark *b)
{
    int threads = s->services->threads;
    printf("%s: %" PRId64 " row%s, prompts of %" PRId64 " token%s, %d thread%s\n", s->x->run.name,
           b->rows, b->rows == 1 ? "" : "s", b->given, b->given == 1 ? "" : "s", threads,
           threads == 1 ? "" : "s");
    printf("prefill  %10.2f ms per prompt, %.0f tokens/s; %.1f GFLOP/s", b->prefill * 1e3,
           (double)b->given / b->prefill, prefill_rate(b) * 1e-9);
    /* a backend may not know its rates */
    if (b->peak > 0)
        printf(": %.0f%% of the machine's %.1f", 100 * prefill_rate(b) / b->peak, b->peak * 1e-9);
    printf("\ndecode   %10.2f ms per step, %.1f tokens/s; %.1f GB/s", b->step * 1e3,
           (double)b->rows / b->step, read_rate(b) * 1e-9);
    if (b->read_rate > 0)
        printf(": %.0f%% of the machine's %.1f", 100 * read_rate(b) / b->read_rate,
               b->read_rate * 1e-9);
    printf("\n%.4g examples/s with answers of %" PRId64 " tokens", examples_per_second(b),
           b->answer);
    printf("\na step reads %.1f MiB of parameters and %.1f MiB of cache, and takes %.3f GFLOP of "
           "products\n",
           b->step_cost.parameters / 0x1p20, b->step_cost.cache / 0x1p20,
           b->step_cost.flops * 1e-9);
    printf("peak memory %.0f MiB: cache %.1f, parameters laid out for reading %.0f; %zu plans\n",
           (double)peak_memory() / 0x1p20, (double)b->cache / 0x1p20, (double)b->layouts / 0x1p20,
           b->plans);
    if (b->n_profile)
        print_profile(b->profile, b->n_profile, b->profiled);
}

/* ---- the command ----------------------------------------------------------------------------- */

static const char *const of_generation[] = { "--batch", "--prompt-tokens", "--max-new-tokens",
                                             "--out", NULL };

/* The first option that only --generate takes; NULL: there is none. */
static const char *only_of_generation(const td_tool *t)
{
    const char *const *o = of_generation;
    while (*o && !td_tool_option(t, *o))
        o++;
    return *o;
}

static int bench(td_tool *t, td_session *s, double seconds)
{
    td_benchmark b;
    td_error     e = { 0 };
    int          code = td_work_join(t, s, &e);
    if (!code)
        code = td_session_benchmark(s, seconds, td_tool_option(t, "--profile"), &b, &e);
    if (!code && td_team_leads(s->team))
        t->json ? print_json(s, &b) : print(s, &b);
    return td_work_end(t, s, code, &e);
}

static int bench_generation(td_tool *t, td_session *s, double seconds)
{
    td_generation_benchmark b = { 0 };
    td_error                e = { 0 };
    const char             *out = td_tool_option(t, "--out");
    /* 16 new tokens are the fewest that leave steps to warm up, to time and to profile */
    if (!td_tool_integer(t, "--batch", 1, 1, 4096, &b.rows) ||
        !td_tool_integer(t, "--prompt-tokens", 128, 1, 1 << 24, &b.given) ||
        !td_tool_integer(t, "--max-new-tokens", 1024, 16, 1 << 24, &b.answer))
        return TD_EXIT_USAGE;
    if (td_session_benchmark_generation(s, seconds, td_tool_option(t, "--profile"), &b, &e))
        return td_tool_fail(t, &e);
    if (t->json)
        td_work_print_json(json_of_generation(s, &b), JSON_INDENT(2));
    else
        print_generation(s, &b);
    return out && keep(s, &b, out, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

static const td_flag flags[] = {
    { "--seconds", "S", "how long to measure (5)" },
    { "--profile", 0, "time and rate per op" },
    { "--every-rank", 0, "let every process write its log, not only the first" },
    { "--generate", 0, "time generation instead: reading prompts, then new tokens" },
    { "--batch", "N", "with --generate: rows generated at the same time (1)" },
    { "--prompt-tokens", "N", "with --generate: tokens per prompt (128)" },
    { "--max-new-tokens", "N", "with --generate: tokens per answer (1024)" },
    { "--out", "DIR", "with --generate: also write the results to DIR/bench-generate.json" },
    { 0, 0, 0 }
};

const td_usage td_usage_bench = {
    .name = "bench",
    .arguments = "[RUN] [--seconds S] [--profile | --generate .. [--out DIR]]",
    .brief =
        "Time training steps of train.micro_batch random sequences, in tokens/s and as a share of "
        "the machine's matmul rate; or generation, also as a share of the memory's read rate.",
    .example = "tandem bench -c nano/redllm.cfg --profile",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 1,
    .json = true,
    .plain = 1
};

int td_command_bench(td_tool *t, int argc, char **argv)
{
    const char  *seconds;
    td_run_place place;
    td_session  *s = NULL;
    char        *end = NULL;
    double       limit;
    bool         generates;
    int          code;

    if (!td_tool_parse(t, &td_usage_bench, argc, argv, &code))
        return code;
    seconds = td_tool_option(t, "--seconds");
    limit = seconds ? strtod(seconds, &end) : 5;
    /* written so that NaN is refused, too */
    if (seconds && (end == seconds || *end || !(limit > 0 && limit < 1e6)))
        return td_tool_usage_error(t, "--seconds takes a number above 0, not '%s'", seconds);
    td_work_follows(t);
    generates = td_tool_option(t, "--generate") != NULL;
    if (!generates && only_of_generation(t))
        return td_tool_usage_error(t, "%s is an option of `tandem bench --generate`",
                                   only_of_generation(t));
    td_work_take_run(t, &place);
    if (td_work_has_model(t, &place, &code))
        s = td_work_open_run(t, &place,
                             generates ? TD_NEED_MODEL
                                       : TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_OPTIMIZER |
                                             TD_NEED_SCHEDULE,
                             &code);
    if (s)
        code = generates ? bench_generation(t, s, limit) : bench(t, s, limit);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}
