/* sample.h - the next token of a row from its logits: the most likely one, or one drawn after the
 * usual filters.
 *
 * Filters apply in the order of their names here, which is that of Hugging Face's `generate`:
 *
 *     repetition_penalty  logits of tokens seen before are divided by it if positive, multiplied if
 *                         negative (Keskar et al. 2019, arXiv:1909.05858)
 *     temperature         logits are divided by it; 0 takes the most likely token
 *     top_k               keeps only the k most likely tokens
 *     top_p               only the fewest most likely tokens whose probabilities reach p stay
 *                         (Holtzman et al. 2020, arXiv:1904.09751)
 *     min_p               only tokens at least min_p times as likely as the most likely one stay
 *                         (Nguyen et al. 2024, arXiv:2407.01082)
 *
 * A drawn number is a function of (seed, stream, index), so a row's tokens depend neither on the
 * other rows of a batch nor on threads. Ties go to the lower id.
 */
#ifndef TD_GENERATE_SAMPLE_H
#define TD_GENERATE_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "tandem/error.h"

typedef struct td_sampling {
    double   repetition_penalty; /* 1: off */
    double   temperature;
    int64_t  top_k; /* 0: off */
    double   top_p; /* 1: off */
    double   min_p; /* 0: off */
    uint64_t seed;
} td_sampling;

/* Greedy: temperature 0 and every filter off. */
td_sampling td_sampling_greedy(void);
/* 0, or TD_ECONFIG with a message that names the value and its range. */
int         td_sampling_check(const td_sampling *, td_error *error);

/* Scratch memory for one vocabulary. [main] */
typedef struct td_sampler td_sampler;
td_sampler               *td_sampler_new(int64_t vocab_size); /* NULL: out of memory */
void                      td_sampler_free(td_sampler *);
/* One sampler for each of `threads` threads, which may draw at the same time. [main] */
td_sampler **td_samplers_new(int threads, int64_t vocab_size); /* NULL: out of memory */
void         td_samplers_free(td_sampler **, int threads);

/* The context of a draw. */
typedef struct td_draw {
    const float   *logits; /* [vocab_size]; -INFINITY bans a token */
    const int32_t *seen;   /* earlier tokens, for the repetition penalty */
    int64_t        n_seen;
    /* select the random number: the prompt, and the token's index in it */
    uint64_t       stream, index;
} td_draw;

/* The token, or -1 if the logits contain NaN or nothing but -INFINITY. `logprob`, unless NULL,
 * receives its log-probability under the model itself, before any filter. */
int32_t td_sample(td_sampler *, const td_sampling *, const td_draw *, double *logprob);

#endif
