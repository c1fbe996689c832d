/* generate.c - the loop over rows: begin, choose a token, step, finish, begin the next prompt. */
#include "generate/generate_job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "generate/logits.h"
#include "generate/text.h"

/* ---- options --------------------------------------------------------------------------------- */

static int check_lengths(const td_generate_options *o, td_error *error)
{
    if (o->max_tokens < 1)
        return td_fail(error, TD_ECONFIG, "the maximum of new tokens is %lld: it must be 1 or more",
                       (long long)o->max_tokens);
    if (o->min_tokens < 0 || o->min_tokens > o->max_tokens)
        return td_fail(
            error, TD_ECONFIG,
            "the minimum of new tokens is %lld: it must lie between 0 and the maximum, %lld",
            (long long)o->min_tokens, (long long)o->max_tokens);
    return 0;
}

int td_generate_check(const td_generate_options *o, bool tokenizer, td_error *error)
{
    if (check_lengths(o, error) || td_sampling_check(&o->sampling, error))
        return TD_ECONFIG;
    if (o->beams < 1)
        return td_fail(error, TD_ECONFIG,
                       "the number of beams is %lld: it must be 1 (no beam search) or more",
                       (long long)o->beams);
    /* options that beam search would ignore are refused */
    if (o->beams > 1 && o->sampling.temperature > 0)
        return td_fail(error, TD_ECONFIG,
                       "beam search takes the most likely answers and draws nothing: remove the "
                       "temperature, or use one beam");
    if (o->beams > 1 && o->sampling.repetition_penalty != 1)
        return td_fail(error, TD_ECONFIG,
                       "beam search has no repetition penalty: remove it, or use one beam");
    if (o->n_stops && !tokenizer)
        return td_fail(error, TD_ECONFIG, "stop strings need a tokenizer: give stop ids instead");
    for (size_t k = 0; k < o->n_stops; k++)
        if (!*o->stops[k])
            return td_fail(error, TD_ECONFIG,
                           "a stop string is empty, which would stop every "
                           "answer at once");
    if (o->beams > 1 && o->n_stops)
        return td_fail(error, TD_ECONFIG,
                       "beam search ends answers by ids only: give stop ids instead of strings");
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while generating");
}

/* The ids that end an answer: the tokenizer's eos, unless it is ignored, and the requested ones. */
static int find_ends(td_generate_job *j, td_error *error)
{
    int32_t eos = j->in->decoder->special.eos;
    j->ends = malloc((j->options->n_stop_ids + 1) * sizeof *j->ends);
    if (!j->ends)
        return out_of_memory(error);
    if (eos >= 0 && !j->options->ignore_eos)
        j->ends[j->n_ends++] = eos;
    for (size_t k = 0; k < j->options->n_stop_ids; k++)
        j->ends[j->n_ends++] = j->options->stop_ids[k];
    return 0;
}

static int64_t longest_prompt(const td_generate_in *in)
{
    int64_t most = 0;
    for (int64_t k = 0; k < in->count; k++)
        most = in->requests[k].n > most ? in->requests[k].n : most;
    return most;
}

static const td_services *services_of(const td_generate_job *j)
{
    return j->in->decoder->device->services;
}

static int open_decoder(td_generate_job *j, td_error *error)
{
    td_decoder_options o = *j->in->decoder;
    if (j->options->beams > 1)
        o.rows = j->options->beams;
    else if (o.rows > j->in->count)
        o.rows = j->in->count; /* rows without a prompt would only cost memory */
    o.given = longest_prompt(j->in);
    o.answer = j->options->max_tokens;
    j->rows = o.rows;
    j->decoder = td_decoder_open(&o, error);
    if (!j->decoder)
        return td_failed(error, TD_EGRAPH);
    j->vocab = td_decoder_vocab(j->decoder);
    j->samplers = td_samplers_new(services_of(j)->threads, j->vocab);
    j->logits = malloc((size_t)(j->rows * j->vocab) * sizeof *j->logits);
    j->tokens = malloc((size_t)j->rows * sizeof *j->tokens);
    j->drawn = malloc((size_t)j->rows * sizeof *j->drawn);
    j->logprobs = malloc((size_t)j->rows * sizeof *j->logprobs);
    return j->samplers && j->logits && j->tokens && j->drawn && j->logprobs ? 0
                                                                            : out_of_memory(error);
}

static int open_slots(td_generate_job *j, td_error *error)
{
    /* the longest prompt with the longest answer: no step allocates */
    size_t room = (size_t)(longest_prompt(j->in) + j->options->max_tokens);
    j->slots = calloc((size_t)j->rows, sizeof *j->slots);
    if (!j->slots)
        return out_of_memory(error);
    for (int64_t r = 0; r < j->rows; r++) {
        td_generate_slot *s = &j->slots[r];
        s->request = -1;
        s->seen = malloc(room * sizeof *s->seen);
        if (j->in->tokenizer)
            s->text = td_detokenizer_new(j->in->tokenizer, j->in->tokenizer_state,
                                         j->options->stops, j->options->n_stops);
        if (!s->seen || (j->in->tokenizer && !s->text))
            return out_of_memory(error);
    }
    return 0;
}

static void close_job(td_generate_job *j)
{
    for (int64_t r = 0; j->slots && r < j->rows; r++) {
        free(j->slots[r].seen);
        td_detokenizer_free(j->slots[r].text);
    }
    td_decoder_close(j->decoder);
    td_samplers_free(j->samplers, services_of(j)->threads);
    free(j->drawn);
    free(j->logprobs);
    free(j->slots);
    free(j->logits);
    free(j->tokens);
    free(j->ends);
}

/* ---- one row --------------------------------------------------------------------------------- */

static bool is_end(const td_generate_job *j, int32_t token)
{
    for (int64_t k = 0; k < j->n_ends; k++)
        if (j->ends[k] == token)
            return true;
    return false;
}

static void finish(td_generate_job *j, td_generate_slot *s, td_finish why)
{
    td_reply r = { .request = s->request,
                   .ranks = 1,
                   .ids = s->seen + s->given,
                   .n = s->n - s->given,
                   .logprob = s->logprob,
                   .finish = why };
    if (s->text)
        r.text = td_detokenizer_text(s->text, NULL);
    j->in->done(j->in->arg, &r);
    s->request = -1;
}

/* Passes on text that later tokens cannot change, to a caller who shows it as it is generated. */
static void show(td_generate_job *j, td_generate_slot *s)
{
    size_t      settled;
    const char *text = s->text ? td_detokenizer_text(s->text, &settled) : NULL;
    if (!text || !j->in->text || settled == s->shown)
        return;
    j->in->text(j->in->arg, s->request, text + s->shown, settled - s->shown);
    s->shown = settled;
}

/* Adds a token, which is not the end, to the answer. TD_EEND: its text completes a stop string. */
static int add_text(td_generate_job *j, td_generate_slot *s, int32_t token, td_error *error)
{
    int code = s->text ? td_detokenizer_add(s->text, token, error) : 0;
    if (!code || code == TD_EEND)
        show(j, s);
    return code;
}

static int end_text(td_generate_job *j, td_generate_slot *s, td_error *error)
{
    int code = s->text ? td_detokenizer_finish(s->text, error) : 0;
    if (code && code != TD_EEND)
        return code;
    show(j, s);
    return 0;
}

/* A model may have more rows in its table than the tokenizer has ids; the extra rows are never
 * drawn. */
void td_generate_ban_unknown(const td_generate_job *j, float *logits)
{
    int32_t ids = j->in->decoder->special.vocab_size; /* 0 without a tokenizer */
    for (int64_t k = ids; ids > 0 && k < j->vocab; k++)
        logits[k] = -INFINITY;
}

static void ban_early_ends(const td_generate_job *j, const td_generate_slot *s, float *logits)
{
    if (s->n - s->given + 1 < j->options->min_tokens)
        for (int64_t k = 0; k < j->n_ends; k++)
            logits[j->ends[k]] = -INFINITY;
}

/* Continues the row's answer with this token, or ends it. */
static int take(td_generate_job *j, int64_t r, int32_t token, td_error *error)
{
    td_generate_slot *s = &j->slots[r];
    int               code;
    j->tokens[r] = -1;
    if (is_end(j, token)) {
        code = end_text(j, s, error);
        finish(j, s, TD_FINISH_STOP);
        return code;
    }
    s->seen[s->n++] = token;
    code = add_text(j, s, token, error);
    if (code == TD_EEND) {
        finish(j, s, TD_FINISH_STOP);
        return 0;
    }
    /* the last token is not read, as nothing follows it */
    if (!code && s->n - s->given == j->options->max_tokens) {
        code = end_text(j, s, error);
        finish(j, s, TD_FINISH_LENGTH);
        return code;
    }
    j->tokens[r] = token;
    return code;
}

/* Draws a token from the row's logits. Rows are independent, so threads share them. */
static void draw(void *arg, int64_t r, int thread)
{
    td_generate_job  *j = arg;
    td_generate_slot *s = &j->slots[r];
    float            *logits = j->logits + r * j->vocab;
    td_draw           by = { logits, s->seen, s->n, 0, (uint64_t)(s->n - s->given) };

    if (s->request < 0)
        return;
    by.stream = j->in->requests[s->request].number;
    td_generate_ban_unknown(j, logits);
    ban_early_ends(j, s, logits);
    j->drawn[r] = td_sample(j->samplers[thread], &j->options->sampling, &by, &j->logprobs[r]);
}

/* Continues with the drawn token. Afterwards tokens[row] is the token to read next, or -1: the
 * answer is complete. */
static int accept(td_generate_job *j, int64_t r, td_error *error)
{
    td_generate_slot *s = &j->slots[r];
    if (j->drawn[r] < 0)
        return td_fail(error, TD_EDIVERGED,
                       "prompt %lld: the logits of new token %lld contain NaN: check whether the "
                       "parameters do",
                       (long long)s->request + 1, (long long)(s->n - s->given) + 1);
    s->logprob += j->logprobs[r];
    j->out->generated++;
    return take(j, r, j->drawn[r], error);
}

static int begin(td_generate_job *j, int64_t r, td_error *error)
{
    td_generate_slot *s = &j->slots[r];
    const td_request *q = &j->in->requests[j->next];
    double            start = td_now();
    int               code;

    s->request = j->next;
    j->next += j->stride;
    s->given = q->n;
    s->n = q->n;
    s->logprob = 0;
    s->shown = 0;
    if (q->n)
        memcpy(s->seen, q->ids, (size_t)q->n * sizeof *q->ids);
    if (s->text)
        td_detokenizer_clear(s->text);
    code = td_decoder_begin(j->decoder, r, q->ids, q->n, j->options->max_tokens,
                            j->logits + r * j->vocab, error);
    j->out->prefill += td_now() - start;
    j->out->given += q->n;
    if (code)
        return code;
    /* reading the prompt has already computed the logits of the first new token */
    draw(j, r, 0);
    return accept(j, r, error);
}

/* ---- all rows -------------------------------------------------------------------------------- */

int td_generate_stopped(const td_generate_job *j)
{
    return j->in->stop ? j->in->stop(j->in->arg) : 0;
}

/* Waiting prompts take the idle rows; some are complete after their first token. */
static int fill_rows(td_generate_job *j, td_error *error)
{
    for (int64_t r = 0; r < j->rows; r++)
        while (j->slots[r].request < 0 && j->next < j->in->count) {
            int code = td_generate_stopped(j);
            if (!code)
                code = begin(j, r, error);
            if (code)
                return code;
        }
    return 0;
}

static bool any_active(const td_generate_job *j)
{
    for (int64_t r = 0; r < j->rows; r++)
        if (j->slots[r].request >= 0)
            return true;
    return false;
}

static int step(td_generate_job *j, td_error *error)
{
    double start = td_now();
    int    code;
    for (int64_t r = 0; r < j->rows; r++)
        if (j->slots[r].request < 0)
            j->tokens[r] = -1;
    code = td_decoder_step(j->decoder, j->tokens, j->logits, error);
    /* Draws are independent; accept calls the program back, so it is left to this thread, in the
     * order of rows. */
    if (!code)
        td_parallel(services_of(j), j->rows, draw, j);
    for (int64_t r = 0; !code && r < j->rows; r++)
        if (j->slots[r].request >= 0)
            code = accept(j, r, error);
    j->out->decode += td_now() - start;
    return code;
}

static int answer_all(td_generate_job *j, td_error *error)
{
    int code = fill_rows(j, error);
    while (!code && any_active(j)) {
        code = td_generate_stopped(j);
        if (!code)
            code = step(j, error);
        if (!code)
            code = fill_rows(j, error);
    }
    return code;
}

int td_generate(const td_generate_in *in, td_generate_out *out, td_error *error)
{
    td_generate_job j = { .in = in,
                          .options = in->options,
                          .out = out,
                          .next = in->rank,
                          .stride = in->ranks > 1 ? in->ranks : 1 };
    int             code = td_generate_check(in->options, in->tokenizer != NULL, error);

    *out = (td_generate_out){ 0 };
    if (code || !in->count)
        return code;
    /* close_job releases everything opened, wherever this ends */
    code = find_ends(&j, error);
    if (!code)
        code = open_decoder(&j, error);
    if (!code)
        code = open_slots(&j, error);
    if (!code)
        code = in->options->beams > 1 ? td_generate_beams(&j, error) : answer_all(&j, error);
    if (j.decoder) {
        out->cache = td_decoder_cache_bytes(j.decoder);
        out->arena = td_decoder_arena_bytes(j.decoder);
        out->layouts = td_decoder_layout_bytes(j.decoder);
        out->plans = td_decoder_plans(j.decoder);
    }
    close_job(&j);
    return code;
}
