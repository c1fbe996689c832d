/* generation.c - continues texts with a session's model; without a tokenizer, ids. */
#include <stdlib.h>
#include <string.h>

#include "generate/encode.h"
#include "generate/generate.h"
#include "plan/prepared.h"
#include "plugin/hook.h"
#include "run/replies.h"
#include "run/session.h"
#include "run/weights.h"
#include "tandem/random.h"
#include "team/pace.h"

enum { MAX_TOKENS = 128, BATCH = 8 }; /* the defaults */

int64_t td_session_vocab(const td_session *s)
{
    const td_architecture *a = (const void *)s->x->model.plugin;
    return TD_HOOK(a, vocab_size, s->x->model.config);
}

td_decoder_options td_session_decoder(const td_session *s)
{
    return (td_decoder_options){ .model = td_engine_model(s->engine),
                                 .device = td_engine_device(s->engine),
                                 .variables = td_engine_variables(s->engine),
                                 .special = s->special };
}

/* ---- prompts --------------------------------------------------------------------------------- */

typedef struct job {
    td_session          *s;
    const td_generation *how;
    td_request          *requests; /* [count] */
    int32_t            **ids;      /* [count] ids of encoded texts, to be freed */
    int64_t              count;
    /* of several processes, which divide the prompts: */
    td_pace              pace;
    int64_t              answered; /* prompts, by this one */
    td_text              own;      /* its answers, as bytes */
} job;

/* A prompt ends like the inputs in training. Unlike a task's, it may be empty. */
static int tokenize(const td_session *s, const char *text, int32_t **out, int64_t *n,
                    td_error *error)
{
    td_encoder e = td_session_encoder(s);
    int        code = td_encode(&e, text, strlen(text), out, n, error);
    if (!code && s->inputs_end && s->special.eos >= 0)
        td_encode_end(&s->special, true, *out, n);
    return code;
}

/* Ids come from the caller, perhaps from a file, so they are checked. */
static int check_ids(const td_session *s, const td_given *p, int64_t index, td_error *error)
{
    int64_t vocab = td_session_vocab(s);
    for (int64_t k = 0; k < p->n; k++)
        if (p->ids[k] < 0 || p->ids[k] >= vocab)
            return td_fail(error, TD_ECONFIG,
                           "prompt %lld: token %lld is %d; ids are integers from 0 to %lld",
                           (long long)index + 1, (long long)k + 1, p->ids[k], (long long)vocab - 1);
    return 0;
}

static int add_request(job *j, const td_given *p, int64_t k, td_error *error)
{
    td_request *r = &j->requests[k];
    int         code;
    /* its own stream of random numbers, so that equal prompts get different answers */
    r->number = (uint64_t)k;
    if (!p->text) {
        r->ids = p->ids;
        r->n = p->n;
        return check_ids(j->s, p, k, error);
    }
    if (!j->s->x->tokenizer.plugin)
        return td_fail(error, TD_ECONFIG,
                       "a prompt of text needs a tokenizer, and the config has none: add the group "
                       "tokenizer, or give token ids");
    code = tokenize(j->s, p->text, &j->ids[k], &r->n, error);
    r->ids = j->ids[k];
    return code;
}

static int make_requests(job *j, const td_given *prompts, td_error *error)
{
    int code = 0;
    j->requests = calloc((size_t)j->count + 1, sizeof *j->requests);
    j->ids = calloc((size_t)j->count + 1, sizeof *j->ids);
    if (!j->requests || !j->ids)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld prompts", (long long)j->count);
    for (int64_t k = 0; k < j->count && !code; k++)
        code = add_request(j, &prompts[k], k, error);
    return code;
}

static void close_job(job *j)
{
    for (int64_t k = 0; j->ids && k < j->count; k++)
        free(j->ids[k]);
    free(j->ids);
    free(j->requests);
    td_text_free(&j->own);
}

/* ---- generating ------------------------------------------------------------------------------ */

/* Replaces zeros with the defaults; other values are copied. */
static td_generate_options options_of(const td_generation *g)
{
    td_generate_options o = { .sampling = td_sampling_greedy(),
                              .max_tokens = g->max_tokens ? g->max_tokens : MAX_TOKENS,
                              .min_tokens = g->min_tokens,
                              .beams = g->beams ? g->beams : 1,
                              .length_penalty = g->length_penalty,
                              .stop_ids = g->stop_ids,
                              .n_stop_ids = g->n_stop_ids,
                              .stops = g->stops,
                              .ignore_eos = g->ignore_eos };
    o.sampling.temperature = g->temperature;
    o.sampling.top_k = g->top_k;
    o.sampling.top_p = g->top_p == 0 ? 1 : g->top_p;
    o.sampling.min_p = g->min_p;
    o.sampling.repetition_penalty = g->repetition_penalty == 0 ? 1 : g->repetition_penalty;
    o.sampling.seed = g->seed;
    while (g->stops && g->stops[o.n_stops])
        o.n_stops++;
    return o;
}

int td_session_check_generation(const td_session *s, const td_generation *g, td_error *error)
{
    td_generate_options o;
    /* a program may have been compiled for another version, whose struct differs */
    if (g->size != sizeof *g)
        return td_fail(error, TD_ECONFIG,
                       "td_generation.size is %zu: set it to sizeof(td_generation), which is %zu "
                       "in this library",
                       g->size, sizeof *g);
    if (g->batch < 0)
        return td_fail(error, TD_ECONFIG, "the batch is %lld prompts: it must be 1 or more",
                       (long long)g->batch);
    o = options_of(g);
    for (size_t k = 0; k < g->n_stop_ids; k++)
        if (g->stop_ids[k] < 0 || g->stop_ids[k] >= td_session_vocab(s))
            return td_fail(error, TD_ECONFIG, "stop id %d: ids are integers from 0 to %lld",
                           g->stop_ids[k], (long long)td_session_vocab(s) - 1);
    return td_generate_check(&o, s->x->tokenizer.plugin != NULL, error);
}

static void forward_text(void *arg, int64_t request, const char *text, size_t size)
{
    const job *j = arg;
    j->how->text(j->how->arg, request, text, size);
}

static void forward_answer(void *arg, const td_reply *r)
{
    const job  *j = arg;
    td_answered a = { .prompt = r->request,
                      .rank = r->rank,
                      .ranks = r->ranks,
                      .ids = r->ids,
                      .n = r->n,
                      .text = r->text,
                      .logprob = r->logprob,
                      .stopped = r->finish == TD_FINISH_STOP };
    if (j->how->answer)
        j->how->answer(j->how->arg, &a);
}

static int forward_stop(void *arg)
{
    job    *j = arg;
    int64_t done;
    int     code = td_pace_tick(&j->pace, j->answered, &done);
    return code || (j->how->stop && j->how->stop(j->how->arg)) ? TD_EEND : 0;
}

/* Of several processes: every answer goes to all of them, once all are there. */
static void keep_answer(void *arg, const td_reply *r)
{
    job *j = arg;
    td_replies_put(r, &j->own);
    j->answered += r->rank + 1 == r->ranks;
}

/* A conversation generates once for each line, and laying out the parameters takes longer than reading
 * it. A session that trains may generate between two steps: it keeps none. NULL: the decoder makes its
 * own, and reports if memory is short. */
static td_prepared *layouts_of(td_session *s)
{
    bool trains = (s->needs & TD_NEED_OPTIMIZER) != 0;
    if (!s->layouts && !trains)
        s->layouts = td_prepared_new(td_engine_device(s->engine));
    return s->layouts;
}

/* ---- several processes ----------------------------------------------------------------------- */

/* Other prompts, or other options, on another rank would give answers to something else. */
static int compare_requests(const job *j, td_error *error)
{
    const td_generation *g = j->how;
    td_text              text = { 0 };
    int                  code;
    /* all that decides an answer; 17 digits tell any two doubles apart */
    td_text_print(&text,
                  "%lld %lld %lld %lld %lld %d %d %llu %.17g %.17g %.17g %.17g %.17g %lld prompts:",
                  (long long)g->max_tokens, (long long)g->min_tokens, (long long)g->beams,
                  (long long)g->batch, (long long)g->top_k, g->ignore_eos, g->no_cache,
                  (unsigned long long)g->seed, g->temperature, g->top_p, g->min_p,
                  g->repetition_penalty, g->length_penalty, (long long)j->count);
    for (size_t k = 0; k < g->n_stop_ids; k++)
        td_text_print(&text, " %d", g->stop_ids[k]);
    for (size_t k = 0; g->stops && g->stops[k]; k++)
        td_text_print(&text, " '%s'", g->stops[k]);
    for (int64_t k = 0; k < j->count; k++)
        td_text_print(&text, " %llx",
                      (unsigned long long)td_hash(0, j->requests[k].ids,
                                                  (size_t)j->requests[k].n * sizeof(int32_t)));
    code = td_team_agree(j->s->team,
                         text.failed ? td_fail(error, TD_ENOMEM, "out of memory for prompts") : 0,
                         error);
    if (!code)
        code = td_team_same(j->s->team, td_text_get(&text), "set of prompts or options", error);
    td_text_free(&text);
    return code;
}

/* The tokens of all ranks; the times and sizes are this rank's. */
static int add_counts(const job *j, td_generate_out *o, td_error *error)
{
    double tokens[] = { (double)o->given, (double)o->generated };
    int    code = td_team_sum(j->s->team, tokens, 2, error);
    o->given = (int64_t)tokens[0];
    o->generated = (int64_t)tokens[1];
    return code;
}

/* After generating, with this code: all ranks pass on the answers of all. */
static int exchange(job *j, int code, td_generate_out *o, td_error *error)
{
    td_text all = { 0 };
    if (j->own.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for answers");
    code = td_pace_end(&j->pace, j->answered, code, error);
    if (code || td_team_size(j->s->team) == 1)
        return code;
    code = add_counts(j, o, error);
    if (!code)
        code = td_team_collect(j->s->team, td_text_get(&j->own), j->own.size, &all, error);
    if (!code)
        code = td_team_agree(j->s->team, td_replies_visit(&all, forward_answer, j, error), error);
    td_text_free(&all);
    return code;
}

/* ---- one call -------------------------------------------------------------------------------- */

static int run(job *j, td_generated *out, td_error *error)
{
    td_session         *s = j->s;
    td_generate_options options = options_of(j->how);
    td_decoder_options  decoder = td_session_decoder(s);
    td_generate_in      in = { .decoder = &decoder,
                               .options = &options,
                               .tokenizer = (const void *)s->x->tokenizer.plugin,
                               .tokenizer_state = s->tokenizer,
                               .requests = j->requests,
                               .count = j->count,
                               .rank = td_team_rank(s->team),
                               .ranks = td_team_size(s->team),
                               .text = j->how->text ? forward_text : NULL,
                               .done = td_team_size(s->team) > 1 ? keep_answer : forward_answer,
                               .stop = forward_stop,
                               .arg = j };
    td_generate_out     o;
    int                 code;
    decoder.rows = j->how->batch ? j->how->batch : BATCH;
    decoder.whole = j->how->no_cache;
    decoder.prepared = layouts_of(s);
    j->pace.team = s->team;
    code = exchange(j, td_generate(&in, &o, error), &o, error);
    /* a caller who stopped also learns what was done until then */
    if (out)
        *out = (td_generated){ o.given, o.generated, o.prefill, o.decode,
                               o.cache, o.layouts,   o.plans };
    return code == TD_EEND ? td_fail(error, TD_EEND, "generation was stopped") : code;
}

int td_session_generate(td_session *s, const td_generation *how, const td_given *prompts,
                        int64_t count, td_generated *out, td_error *error)
{
    job j = { .s = s, .how = how, .count = count };
    int code = td_session_check_generation(s, how, error);
    if (!code)
        code = td_session_hold(s, error);
    if (!code)
        code = td_session_open_special(s, error);
    if (!code)
        code = make_requests(&j, prompts, error);
    code = td_team_agree(s->team, code, error);
    if (!code && td_team_size(s->team) > 1)
        code = td_session_compare_ranks(s, error);
    if (!code && td_team_size(s->team) > 1)
        code = compare_requests(&j, error);
    if (!code)
        code = run(&j, out, error);
    close_job(&j);
    return td_session_result(code, error);
}
