/* generate_job.h - prompts that are being answered, for generate.c and generate_beams.c. */
#ifndef TD_GENERATE_GENERATE_JOB_H
#define TD_GENERATE_GENERATE_JOB_H

#include "generate/generate.h"
#include "generate/text.h"

/* A row that generates an answer. */
typedef struct td_generate_slot {
    int64_t         request; /* -1: idle */
    int32_t        *seen;    /* given tokens, then the answer's */
    int64_t         given, n;
    double          logprob;
    td_detokenizer *text;
    size_t          shown; /* bytes of the text that the caller has received */
} td_generate_slot;

typedef struct td_generate_job {
    const td_generate_in      *in;
    const td_generate_options *options;
    td_generate_out           *out;
    td_decoder                *decoder;
    td_sampler               **samplers; /* one per thread */
    td_generate_slot          *slots;
    int64_t                    rows, vocab;
    int64_t  next, stride; /* the request to begin next; the distance to the one after */
    float   *logits;       /* [rows][vocab] */
    int32_t *tokens;       /* [rows] tokens to read next, -1: the row is idle */
    int32_t *drawn;        /* [rows] chosen by the sampler */
    double  *logprobs;
    int32_t *ends; /* ids that end an answer */
    int64_t  n_ends;
} td_generate_job;

/* A model may have more rows in its table than the tokenizer has ids; they are never chosen. */
void td_generate_ban_unknown(const td_generate_job *, float *logits);
/* The code with which the caller ends the generation; 0: it continues. */
int  td_generate_stopped(const td_generate_job *);
/* Answer all prompts, one after the other: the beams of one take all rows. */
int  td_generate_beams(td_generate_job *, td_error *error);

#endif
