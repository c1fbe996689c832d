/* generate.h - prompts in, answers out: rows that finish make room for new ones.
 *
 * Random numbers are functions of the seed, the prompt's number and the token's, so an answer does not
 * depend on its company. One thing still does: the cpu backend computes products of fewer than 8
 * rows by another kernel, so logits of small and large batches agree to rounding only.
 */
#ifndef TD_GENERATE_GENERATE_H
#define TD_GENERATE_GENERATE_H

#include "generate/decode.h"
#include "generate/sample.h"
#include "tandem/kind/tokenizer.h"

typedef struct td_generate_options {
    td_sampling        sampling;
    int64_t            max_tokens, min_tokens; /* of an answer, its end token included */
    int64_t            beams;                  /* 1: no beam search */
    double             length_penalty;         /* of beam search (beam.h) */
    const int32_t     *stop_ids;               /* besides the tokenizer's eos */
    size_t             n_stop_ids;
    const char *const *stops; /* texts that end an answer, which needs a tokenizer */
    size_t             n_stops;
    bool               ignore_eos;
} td_generate_options;

/* 0, or TD_ECONFIG with a message. */
int td_generate_check(const td_generate_options *, bool tokenizer, td_error *error);

typedef struct td_request {
    const int32_t *ids; /* [n] given tokens */
    int64_t        n;
    uint64_t       number; /* the stream of its random numbers: two equal prompts differ by it */
} td_request;

typedef enum td_finish { TD_FINISH_STOP, TD_FINISH_LENGTH } td_finish;

/* An answer; the pointers are valid during the callback. */
typedef struct td_reply {
    int64_t        request; /* index of the request */
    int64_t        rank, ranks; /* which of how many answers to it: beams give several, best first */
    const int32_t *ids;     /* [n] new tokens, without a stop */
    int64_t        n;
    const char    *text;    /* their text, cut at a stop string; NULL: there is no tokenizer */
    double         logprob; /* sum over the new tokens and the end token, by the model itself */
    td_finish      finish;
} td_reply;

typedef struct td_generate_in {
    const td_decoder_options  *decoder; /* rows: answers at the same time; lengths are set here */
    const td_generate_options *options;
    const td_tokenizer        *tokenizer; /* NULL: ids only */
    void                      *tokenizer_state;
    const td_request          *requests;
    int64_t                    count;
    /* New text that no later token takes back; beams have none. NULL: nobody listens. */
    void (*text)(void *arg, int64_t request, const char *text, size_t size);
    /* Answers, in the order in which they are finished, all of a request one after the other. */
    void (*done)(void *arg, const td_reply *);
    /* Nonzero ends it after the current token, with that code. NULL: never. */
    int (*stop)(void *arg);
    void *arg;
} td_generate_in;

typedef struct td_generate_out {
    int64_t given, generated; /* tokens */
    double  prefill, decode;  /* seconds */
    size_t  cache, arena, plans;
} td_generate_out;

/* 0; the code of `stop`; or another negative code with `error`. */
int td_generate(const td_generate_in *, td_generate_out *out, td_error *error);

#endif
