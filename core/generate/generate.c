/* generate.c - the loop over rows: begin, choose a token, step, finish, make room. */
#include "generate/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "generate/beam.h"
#include "generate/text.h"

/* A row at work. */
typedef struct slot {
    int64_t         request; /* -1: idle */
    int32_t        *seen;    /* given tokens, then the answer's */
    int64_t         given, n;
    double          logprob;
    td_detokenizer *text;
    size_t          shown; /* bytes of the text that the caller has */
} slot;

typedef struct job {
    const td_generate_in      *in;
    const td_generate_options *options;
    td_generate_out           *out;
    td_decoder                *decoder;
    td_sampler                *sampler;
    slot                      *slots;
    int64_t                    rows, vocab, next; /* next: request to begin */
    float                     *logits;            /* [rows][vocab] */
    int32_t                   *tokens;            /* [rows] to read next, -1: the row rests */
    int32_t                   *ends;              /* ids that end an answer */
    int64_t                    n_ends;
} job;

/* ---- options --------------------------------------------------------------------------------- */

static int check_lengths(const td_generate_options *o, td_error *error)
{
    if (o->max_tokens < 1)
        return td_fail(error, TD_ECONFIG, "at most %lld new tokens: it must be 1 or more",
                       (long long)o->max_tokens);
    if (o->min_tokens < 0 || o->min_tokens > o->max_tokens)
        return td_fail(error, TD_ECONFIG,
                       "at least %lld new tokens: it must lie between 0 and the %lld of the limit",
                       (long long)o->min_tokens, (long long)o->max_tokens);
    return 0;
}

int td_generate_check(const td_generate_options *o, bool tokenizer, td_error *error)
{
    if (check_lengths(o, error) || td_sampling_check(&o->sampling, error))
        return TD_ECONFIG;
    if (o->beams < 1)
        return td_fail(error, TD_ECONFIG, "%lld beams: it must be 1 (no beam search) or more",
                       (long long)o->beams);
    if (o->beams > 1 && o->sampling.temperature > 0)
        return td_fail(error, TD_ECONFIG,
                       "beam search takes the most likely answers and draws nothing: leave out "
                       "the temperature, or take one beam");
    if (o->beams > 1 && o->sampling.repetition_penalty != 1)
        return td_fail(error, TD_ECONFIG,
                       "beam search knows no repetition penalty: leave it out, or take one beam");
    if (o->n_stops && !tokenizer)
        return td_fail(error, TD_ECONFIG, "stop strings need a tokenizer: give stop ids instead");
    for (size_t k = 0; k < o->n_stops; k++)
        if (!*o->stops[k])
            return td_fail(error, TD_ECONFIG, "a stop string is empty, and would stop at once");
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

/* The ids that end an answer: the tokenizer's eos, unless it is ignored, and those asked for. */
static int find_ends(job *j, td_error *error)
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

static int open_decoder(job *j, td_error *error)
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
    j->sampler = td_sampler_new(j->vocab);
    j->logits = malloc((size_t)(j->rows * j->vocab) * sizeof *j->logits);
    j->tokens = malloc((size_t)j->rows * sizeof *j->tokens);
    return j->sampler && j->logits && j->tokens ? 0 : out_of_memory(error);
}

static int open_slots(job *j, td_error *error)
{
    size_t room = (size_t)(longest_prompt(j->in) + j->options->max_tokens);
    j->slots = calloc((size_t)j->rows, sizeof *j->slots);
    if (!j->slots)
        return out_of_memory(error);
    for (int64_t r = 0; r < j->rows; r++) {
        slot *s = &j->slots[r];
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

static void close_job(job *j)
{
    for (int64_t r = 0; j->slots && r < j->rows; r++) {
        free(j->slots[r].seen);
        td_detokenizer_free(j->slots[r].text);
    }
    td_decoder_close(j->decoder);
    td_sampler_free(j->sampler);
    free(j->slots);
    free(j->logits);
    free(j->tokens);
    free(j->ends);
}

/* ---- one row --------------------------------------------------------------------------------- */

static bool is_end(const job *j, int32_t token)
{
    for (int64_t k = 0; k < j->n_ends; k++)
        if (j->ends[k] == token)
            return true;
    return false;
}

static void finish(job *j, slot *s, td_finish why)
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

/* What later tokens cannot take back, to a caller who shows it as it comes. */
static void show(job *j, slot *s)
{
    size_t      settled;
    const char *text = s->text ? td_detokenizer_text(s->text, &settled) : NULL;
    if (!text || !j->in->text || settled == s->shown)
        return;
    j->in->text(j->in->arg, s->request, text + s->shown, settled - s->shown);
    s->shown = settled;
}

/* A new token of the answer that is not its end. TD_EEND: its text completes a stop string. */
static int add_text(job *j, slot *s, int32_t token, td_error *error)
{
    int code = s->text ? td_detokenizer_add(s->text, token, error) : 0;
    if (!code || code == TD_EEND)
        show(j, s);
    return code;
}

static int end_text(job *j, slot *s, td_error *error)
{
    int code = s->text ? td_detokenizer_finish(s->text, error) : 0;
    if (code && code != TD_EEND)
        return code;
    show(j, s);
    return 0;
}

/* A model may have more rows in its table than the tokenizer has ids; those mean nothing. */
static void ban_unknown(const job *j, float *logits)
{
    int32_t ids = j->in->decoder->special.vocab_size; /* 0: there is no tokenizer */
    for (int64_t k = ids; ids > 0 && k < j->vocab; k++)
        logits[k] = -INFINITY;
}

static void ban_early_ends(const job *j, const slot *s, float *logits)
{
    if (s->n - s->given + 1 < j->options->min_tokens)
        for (int64_t k = 0; k < j->n_ends; k++)
            logits[j->ends[k]] = -INFINITY;
}

/* Choose the row's next token by its logits. Afterwards tokens[row] is what to read next, or -1: the
 * answer is complete. */
static int choose(job *j, int64_t r, td_error *error)
{
    slot   *s = &j->slots[r];
    float  *logits = j->logits + r * j->vocab;
    td_draw draw = { logits, s->seen, s->n, j->in->requests[s->request].number,
                     (uint64_t)(s->n - s->given) };
    double  logprob;
    int32_t token;
    int     code;

    ban_unknown(j, logits);
    ban_early_ends(j, s, logits);
    token = td_sample(j->sampler, &j->options->sampling, &draw, &logprob);
    if (token < 0)
        return td_fail(error, TD_EDIVERGED,
                       "prompt %lld: the logits of new token %lld contain NaN: do the parameters?",
                       (long long)s->request + 1, (long long)(s->n - s->given) + 1);
    s->logprob += logprob;
    j->tokens[r] = -1;
    j->out->generated++;
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
    if (!code && s->n - s->given == j->options->max_tokens) {
        code = end_text(j, s, error);
        finish(j, s, TD_FINISH_LENGTH);
        return code;
    }
    j->tokens[r] = token;
    return code;
}

static int begin(job *j, int64_t r, td_error *error)
{
    slot             *s = &j->slots[r];
    const td_request *q = &j->in->requests[j->next];
    double            start = td_now();
    int               code;

    s->request = j->next++;
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
    return code ? code : choose(j, r, error);
}

/* ---- all rows -------------------------------------------------------------------------------- */

static int stopped(const job *j) { return j->in->stop ? j->in->stop(j->in->arg) : 0; }

/* Prompts that wait take the rows that are idle; some are answered by their first token. */
static int fill_rows(job *j, td_error *error)
{
    for (int64_t r = 0; r < j->rows; r++)
        while (j->slots[r].request < 0 && j->next < j->in->count) {
            int code = stopped(j);
            if (!code)
                code = begin(j, r, error);
            if (code)
                return code;
        }
    return 0;
}

static bool any_active(const job *j)
{
    for (int64_t r = 0; r < j->rows; r++)
        if (j->slots[r].request >= 0)
            return true;
    return false;
}

static int step(job *j, td_error *error)
{
    double start = td_now();
    int    code;
    for (int64_t r = 0; r < j->rows; r++)
        if (j->slots[r].request < 0)
            j->tokens[r] = -1;
    code = td_decoder_step(j->decoder, j->tokens, j->logits, error);
    for (int64_t r = 0; !code && r < j->rows; r++)
        if (j->slots[r].request >= 0)
            code = choose(j, r, error);
    j->out->decode += td_now() - start;
    return code;
}

static int answer_all(job *j, td_error *error)
{
    int code = fill_rows(j, error);
    while (!code && any_active(j)) {
        code = stopped(j);
        if (!code)
            code = step(j, error);
        if (!code)
            code = fill_rows(j, error);
    }
    return code;
}

/* ---- beam search ----------------------------------------------------------------------------- */

/* The texts of finished hypotheses are made at the end: beams change their past as they go. */
static int report_beams(job *j, int64_t request, const td_beam *b, td_error *error)
{
    int64_t              count;
    const td_hypothesis *h = td_beam_best(b, &count);
    slot                *s = &j->slots[0];
    for (int64_t k = 0; k < count; k++) {
        td_reply r = { request,   k,    count,        h[k].tokens,
                       h[k].n,    NULL, h[k].logprob, h[k].stopped ? TD_FINISH_STOP
                                                                   : TD_FINISH_LENGTH };
        int code = 0;
        if (s->text) {
            td_detokenizer_clear(s->text);
            for (int64_t i = 0; i < h[k].n && !code; i++)
                code = td_detokenizer_add(s->text, h[k].tokens[i], error);
            if (!code)
                code = td_detokenizer_finish(s->text, error);
            r.text = td_detokenizer_text(s->text, NULL);
        }
        if (code)
            return code;
        j->in->done(j->in->arg, &r);
    }
    return 0;
}

static int logprobs_of(job *j, int64_t live, double *out, td_error *error)
{
    for (int64_t r = 0; r < live; r++) {
        float *logits = j->logits + r * j->vocab;
        ban_unknown(j, logits);
        if (!td_log_softmax(logits, j->vocab, out + r * j->vocab))
            return td_fail(error, TD_EDIVERGED,
                           "the logits of a beam contain NaN: do the parameters?");
    }
    return 0;
}

/* Rows become those that the best candidates continue, then read their newest tokens. */
static int step_beams(job *j, const td_beam *b, int32_t *from, td_error *error)
{
    int64_t live = td_beam_live(b);
    for (int64_t r = 0; r < j->rows; r++) {
        from[r] = r < live ? td_beam_parents(b)[r] : -1;
        j->tokens[r] = r < live ? td_beam_tokens(b)[r] : -1;
    }
    if (td_decoder_gather(j->decoder, from, error))
        return td_failed(error, TD_EGRAPH);
    return td_decoder_step(j->decoder, j->tokens, j->logits, error);
}

static int search(job *j, td_beam *b, const td_request *q, double *logprobs, int32_t *from,
                  td_error *error)
{
    double start = td_now();
    int    code = td_decoder_begin(j->decoder, 0, q->ids, q->n, j->options->max_tokens, j->logits,
                                   error);
    j->out->prefill += td_now() - start;
    j->out->given += q->n;
    start = td_now();
    while (!code) {
        code = stopped(j);
        if (!code)
            code = logprobs_of(j, td_beam_live(b), logprobs, error);
        if (!code && !td_beam_advance(b, logprobs))
            code = out_of_memory(error);
        if (code || td_beam_done(b))
            break;
        j->out->generated += td_beam_live(b);
        code = step_beams(j, b, from, error);
    }
    j->out->decode += td_now() - start;
    return code;
}

static int answer_by_beams(job *j, td_error *error)
{
    td_beam_options o = { .beams = j->options->beams,
                          .vocab_size = j->vocab,
                          .max_tokens = j->options->max_tokens,
                          .min_tokens = j->options->min_tokens,
                          .length_penalty = j->options->length_penalty,
                          .stops = j->ends,
                          .n_stops = j->n_ends };
    double  *logprobs = malloc((size_t)(j->rows * j->vocab) * sizeof *logprobs);
    int32_t *from = malloc((size_t)j->rows * sizeof *from);
    int      code = logprobs && from ? 0 : out_of_memory(error);

    for (int64_t k = 0; k < j->in->count && !code; k++) {
        td_beam *b = td_beam_new(&o);
        code = b ? search(j, b, &j->in->requests[k], logprobs, from, error) : out_of_memory(error);
        if (!code)
            code = report_beams(j, k, b, error);
        td_beam_free(b);
    }
    free(logprobs);
    free(from);
    return code;
}

int td_generate(const td_generate_in *in, td_generate_out *out, td_error *error)
{
    job j = { .in = in, .options = in->options, .out = out };
    int code = td_generate_check(in->options, in->tokenizer != NULL, error);

    *out = (td_generate_out){ 0 };
    if (code || !in->count)
        return code;
    code = find_ends(&j, error);
    if (!code)
        code = open_decoder(&j, error);
    if (!code)
        code = open_slots(&j, error);
    if (!code)
        code = in->options->beams > 1 ? answer_by_beams(&j, error) : answer_all(&j, error);
    if (j.decoder) {
        out->cache = td_decoder_cache_bytes(j.decoder);
        out->arena = td_decoder_arena_bytes(j.decoder);
        out->plans = td_decoder_plans(j.decoder);
    }
    close_job(&j);
    return code;
}
