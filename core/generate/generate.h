/* generate.h - continues prompts: rows that finish are reused for waiting prompts.
 *
 * Random numbers are functions of the seed, the prompt's number and the token's, so an answer does
 * not depend on the other prompts. Nor do logits: with AVX2 the cpu backend adds up a row's
 * products in one order, however many rows there are. Without it, OpenBLAS may choose another order
 * for another number of rows, and logits of small and large batches agree only up to rounding.
 */
#ifndef TD_GENERATE_GENERATE_H
#define TD_GENERATE_GENERATE_H

#include "generate/decode.h"
#include "generate/sample.h"
#include "tandem/kind/tokenizer.h"

typedef struct td_generate_options {
    td_sampling        sampling;
    int64_t            max_tokens, min_tokens; /* tokens of an answer, its end token included */
    int64_t            beams;                  /* 1: no beam search */
    double             length_penalty;         /* for beam search (beam.h) */
    const int32_t     *stop_ids;               /* end tokens besides the tokenizer's eos */
    size_t             n_stop_ids;
    const char *const *stops; /* texts that end an answer; need a tokenizer */
    size_t             n_stops;
    bool               ignore_eos;
} td_generate_options;

/* 0, or TD_ECONFIG with a message. */
int td_generate_check(const td_generate_options *, bool tokenizer, td_error *error);

typedef struct td_request {
    const int32_t *ids; /* [n] given tokens */
    int64_t        n;
    uint64_t       number; /* the stream of its random numbers, by which equal prompts differ */
} td_request;

typedef enum td_finish { TD_FINISH_STOP, TD_FINISH_LENGTH } td_finish;

/* An answer; the pointers are valid during the callback. */
typedef struct td_reply {
    int64_t        request;     /* index of the request */
    int64_t        rank, ranks; /* which of its answers, best first: beam search returns several */
    const int32_t *ids;         /* [n] new tokens, without a stop */
    int64_t        n;
    const char    *text;    /* their text, cut at a stop string; NULL without a tokenizer */
    double         logprob; /* summed over the new tokens and the end token, before any filter */
    td_finish      finish;
} td_reply;

typedef struct td_generate_in {
    /* rows: answers at the same time; lengths are overwritten */
    const td_decoder_options  *decoder;
    const td_generate_options *options;
    const td_tokenizer        *tokenizer; /* NULL: works on ids only */
    void                      *tokenizer_state;
    const td_request          *requests;
    int64_t                    count;
    /* Answer only requests rank, rank + ranks, .., of all: the others are other processes'. Decoder and
     * answers are the same as for all requests. 0 ranks: 1. */
    int                        rank, ranks;
    /* Receives new text that no later token changes; beam search does not call it. May be NULL. */
    void (*text)(void *arg, int64_t request, const char *text, size_t size);
    /* Receives answers in the order in which they are finished, those of one request in a row. */
    void (*done)(void *arg, const td_reply *);
    /* A nonzero return ends the generation after the current token, with that code. May be NULL. */
    int (*stop)(void *arg);
    void *arg;
} td_generate_in;

typedef struct td_generate_out {
    int64_t given, generated; /* tokens */
    double  prefill, decode;  /* seconds */
    size_t  cache, arena, layouts, plans;
} td_generate_out;

/* 0; the code of `stop`; or another negative code with `error`. */
int td_generate(const td_generate_in *, td_generate_out *out, td_error *error);

#endif
