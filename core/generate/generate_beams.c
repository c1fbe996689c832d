/* generate_beams.c - answers by beam search. */
#include <stdlib.h>

#include "base/clock.h"
#include "generate/beam.h"
#include "generate/generate_job.h"
#include "generate/logits.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory during beam search");
}

/* The texts of finished hypotheses are decoded at the end: until then a beam may change its
 * past. */
static int report_beams(td_generate_job *j, int64_t request, const td_beam *b, td_error *error)
{
    int64_t              count;
    const td_hypothesis *h = td_beam_best(b, &count);
    td_generate_slot    *s = &j->slots[0];
    for (int64_t k = 0; k < count; k++) {
        td_reply r = {
            request, k,    count,        h[k].tokens,
            h[k].n,  NULL, h[k].logprob, h[k].stopped ? TD_FINISH_STOP : TD_FINISH_LENGTH
        };
        int code = 0;
        /* rows share one detokenizer here, as beams show no text before the end */
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

static int logprobs_of(td_generate_job *j, int64_t live, double *out, td_error *error)
{
    for (int64_t r = 0; r < live; r++) {
        float *logits = j->logits + r * j->vocab;
        td_generate_ban_unknown(j, logits);
        if (!td_log_softmax(logits, j->vocab, out + r * j->vocab))
            return td_fail(error, TD_EDIVERGED,
                           "the logits of a beam contain NaN: check whether the parameters do");
    }
    return 0;
}

/* Moves rows to the hypotheses that the best candidates continue, then reads their newest
 * tokens. */
static int step_beams(td_generate_job *j, const td_beam *b, int32_t *from, td_error *error)
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

static int search(td_generate_job *j, td_beam *b, const td_request *q, double *logprobs,
                  int32_t *from, td_error *error)
{
    double start = td_now();
    int    code = td_decoder_begin(j->decoder, 0, q->ids, q->n, j->options->max_tokens, j->logits,
                                   error);
    j->out->prefill += td_now() - start;
    j->out->given += q->n;
    start = td_now();
    /* after the first step there are as many beams as requested, or as the vocabulary allows */
    while (!code) {
        code = td_generate_stopped(j);
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

int td_generate_beams(td_generate_job *j, td_error *error)
{
    td_beam_options o = { .beams = j->options->beams,
                          .vocab_size = j->vocab,
                          .max_tokens = j->options->max_tokens,
                          .min_tokens = j->options->min_tokens,
                          .length_penalty = j->options->length_penalty,
                          .stops = j->ends,
                          .n_stops = j->n_ends };
    double         *logprobs = malloc((size_t)(j->rows * j->vocab) * sizeof *logprobs);
    int32_t        *from = malloc((size_t)j->rows * sizeof *from);
    int             code = logprobs && from ? 0 : out_of_memory(error);

    /* one prompt at a time: its beams take all rows */
    for (int64_t k = j->next; k < j->in->count && !code; k += j->stride) {
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
