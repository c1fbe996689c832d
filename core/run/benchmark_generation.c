/* benchmark_generation.c - timing generation: random prompts, continued with the most likely
 * tokens. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "generate/sample.h"
#include "plugin/hook.h"
#include "run/benchmark.h"
#include "tandem/random.h"

enum { LEAST_PROMPTS = 3, LEAST_STEPS = 8, WARM_STEPS = 2, MOST_STEPS = 4096, PROFILED = 5 };

typedef struct work {
    td_session                    *s;
    td_decoder                    *decoder;
    td_sampler                   **samplers; /* one per thread */
    const td_generation_benchmark *shape;
    int64_t                        vocab;
    int32_t                       *prompt, *tokens; /* [given], [rows] */
    float                         *logits;          /* [rows][vocab] */
    double                        *times;           /* [rows or steps] */
} work;

/* A different text for each row, because equal rows would read the same lines of the embedding. */
static void draw_prompt(work *w, int64_t row)
{
    for (int64_t i = 0; i < w->shape->given; i++)
        w->prompt[i] = (int32_t)(td_philox(1, (uint64_t)row, (uint64_t)i).v[0] % w->vocab);
}

static void draw(void *arg, int64_t row, int thread)
{
    work       *w = arg;
    td_sampling greedy = td_sampling_greedy();
    double      logprob; /* as in generation */
    td_draw     by = { w->logits + row * w->vocab, NULL, 0, 0, 0 };
    w->tokens[row] = td_sample(w->samplers[thread], &greedy, &by, &logprob);
}

static int check_tokens(const work *w, int64_t first, int64_t count, td_error *error)
{
    for (int64_t r = first; r < first + count; r++)
        if (w->tokens[r] < 0)
            return td_fail(error, TD_EDIVERGED, "the logits contain NaN");
    return 0;
}

/* Reads a prompt into each row, and into the first again if there are few. One is read beforehand,
 * because the first pass makes plans and touches new memory. */
static int prefill(work *w, double *seconds, td_error *error)
{
    const td_generation_benchmark *b = w->shape;
    int64_t                        prompts = b->rows > LEAST_PROMPTS ? b->rows : LEAST_PROMPTS;
    for (int64_t r = -1; r < prompts; r++) {
        int64_t row = (r + prompts) % prompts % b->rows;
        double  start = td_now();
        draw_prompt(w, row);
        if (td_decoder_begin(w->decoder, row, w->prompt, b->given, b->answer,
                             w->logits + row * w->vocab, error))
            return td_failed(error, TD_EGRAPH);
        draw(w, row, 0);
        if (check_tokens(w, row, 1, error))
            return TD_EDIVERGED;
        if (r >= 0)
            w->times[r] = td_now() - start;
    }
    *seconds = td_benchmark_median(w->times, prompts);
    return 0;
}

/* Generates one more token in each row. */
static int step(work *w, td_error *error)
{
    int code = td_decoder_step(w->decoder, w->tokens, w->logits, error);
    if (code)
        return code;
    td_parallel(w->s->services, w->shape->rows, draw, w);
    return check_tokens(w, 0, w->shape->rows, error);
}

static int decode(work *w, double limit, td_generation_benchmark *out, td_error *error)
{
    int64_t n = 0, room = out->answer - 1 - PROFILED;
    int64_t most = room < MOST_STEPS ? room : MOST_STEPS;
    double  end = td_now() + limit;
    while (n < most && (n < LEAST_STEPS || td_now() < end)) {
        double start = td_now();
        if (step(w, error))
            return td_failed(error, TD_EGRAPH);
        w->times[n++] = td_now() - start;
    }
    /* the first steps make plans and touch new memory */
    out->steps = n > WARM_STEPS ? n - WARM_STEPS : n;
    out->step = td_benchmark_median(w->times + (n - out->steps), out->steps);
    return 0;
}

static int allocate(work *w, td_error *error)
{
    size_t rows = (size_t)w->shape->rows, times = rows > MOST_STEPS ? rows : MOST_STEPS;
    w->vocab = td_decoder_vocab(w->decoder);
    w->samplers = td_samplers_new(w->s->services->threads, w->vocab);
    w->prompt = calloc((size_t)w->shape->given + 1, sizeof *w->prompt);
    w->tokens = calloc(rows, sizeof *w->tokens);
    w->logits = calloc(rows * (size_t)w->vocab, sizeof *w->logits);
    w->times = calloc(times, sizeof *w->times);
    if (w->samplers && w->prompt && w->tokens && w->logits && w->times)
        return 0;
    return td_fail(error, TD_ENOMEM, "out of memory for a benchmark of %lld rows",
                   (long long)w->shape->rows);
}

static void release(work *w)
{
    td_decoder_close(w->decoder);
    td_samplers_free(w->samplers, w->s->services->threads);
    free(w->prompt);
    free(w->tokens);
    free(w->logits);
    free(w->times);
}

/* Runs separate steps, because timing each op takes time itself. */
static int profile(work *w, td_generation_benchmark *out, td_error *error)
{
    int code = 0;
    td_decoder_profile(w->decoder, true);
    while (out->profiled < PROFILED && !code) {
        code = step(w, error);
        out->profiled++;
    }
    out->n_profile = td_decoder_profile_rows(w->decoder, out->profile, TD_BENCHMARK_OPS);
    td_benchmark_sort(out->profile, &out->n_profile);
    return code;
}

static int measure(work *w, double seconds, bool profiled, td_generation_benchmark *out,
                   td_error *error)
{
    const td_device   *d = td_engine_device(w->s->engine);
    td_decoder_options o = td_session_decoder(w->s);
    int                code;
    o.rows = out->rows;
    o.given = out->given;
    o.answer = out->answer;
    w->decoder = td_decoder_open(&o, error);
    if (!w->decoder)
        return td_failed(error, TD_EGRAPH);
    code = allocate(w, error);
    if (!code)
        code = prefill(w, &out->prefill, error);
    if (!code)
        code = decode(w, seconds, out, error);
    if (code)
        return code;
    /* now: the plans, on which all of these depend, are made when a pass first needs them */
    out->prefill_cost = td_decoder_prompt_cost(w->decoder);
    out->step_cost = td_decoder_step_cost(w->decoder);
    out->cache = td_decoder_cache_bytes(w->decoder);
    out->arena = td_decoder_arena_bytes(w->decoder);
    out->layouts = td_decoder_layout_bytes(w->decoder);
    out->plans = td_decoder_plans(w->decoder);
    if (profiled)
        code = profile(w, out, error);
    if (code)
        return code;
    out->peak = td_benchmark_peak(d, w->s->x->train.precision);
    out->read_rate = d->backend->read_rate ? TD_HOOK(d->backend, read_rate, d->state) : 0;
    return 0;
}

int td_session_benchmark_generation(td_session *s, double seconds, bool profiled,
                                    td_generation_benchmark *out, td_error *error)
{
    work w = { .s = s, .shape = out };
    int  code = td_session_hold(s, error);
    if (!code)
        code = measure(&w, seconds, profiled, out, error);
    release(&w);
    td_session_drop(s);
    return code;
}
