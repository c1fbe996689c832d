/* decode.h - a model that continues texts: rows that begin with a prompt and grow token by token.
 *
 *     td_decoder *d = td_decoder_open(&options, &error);
 *     td_decoder_begin(d, 0, prompt, n, 100, logits, &error);    reads the prompt, in chunks
 *     for (;;) {
 *         tokens[0] = ... chosen by the logits ...
 *         td_decoder_step(d, tokens, logits, &error);
 *     }
 *
 * Rows are independent: each has its own length, may begin and end at any time, and gets the same
 * logits whatever the others do. Memory is allocated when the decoder is opened and in the first
 * pass of each shape; after that a step allocates nothing and makes no plan.
 */
#ifndef TD_GENERATE_DECODE_H
#define TD_GENERATE_DECODE_H

#include "generate/passes.h"

typedef struct td_decoder td_decoder;

typedef struct td_decoder_options {
    const td_model  *model;
    const td_device *device;
    td_variables    *variables; /* the parameters, allocated */
    td_special       special;
    int64_t          rows; /* texts continued at the same time */
    /* the longest text: given tokens, and tokens of its answer */
    int64_t          given, answer;
    int64_t          chunk; /* most columns in one pass; 0: 256 */
    int64_t      scored;    /* most tokens of a continuation to score (td_decoder_score); 0: none */
    bool         whole;     /* no cache: read the whole text again for each token */
    /* Layouts of the parameters that outlive the decoder, for one that is opened again while no
     * parameter changes (plan/prepared.h); NULL: its own, which are freed with it. */
    td_prepared *prepared;
} td_decoder_options;

/* Make the model's parameters known to `variables`, so that they can be allocated and loaded before a
 * decoder is opened: parameters are found by building a graph. */
int td_decoder_declare(const td_model *, const td_special *, td_variables *, td_error *error);

/* Options are copied; the objects that they point to must outlive the decoder. NULL with
 * `error`. */
td_decoder *td_decoder_open(const td_decoder_options *, td_error *error);
void        td_decoder_close(td_decoder *);

/* Rows of the embedding table: the number of logits. */
int64_t td_decoder_vocab(const td_decoder *);
/* Bytes of the cache, and of the arena that passes share. */
size_t  td_decoder_cache_bytes(const td_decoder *);
size_t  td_decoder_arena_bytes(const td_decoder *);
/* Bytes of parameters that are kept a second time, in layouts that kernels read faster. */
size_t  td_decoder_layout_bytes(const td_decoder *);
/* The number of plans, which must not grow with the number of tokens. */
size_t  td_decoder_plans(const td_decoder *);

/* The least work that a pass does. */
typedef struct td_pass_cost {
    double flops;      /* FLOPs of products with parameters */
    double parameters; /* bytes of those parameters */
    double cache;      /* bytes cached for the rows' tokens */
} td_pass_cost;

/* The cost of a step of all rows, and of the last prompt read, without its padding; zeros if there
 * was none. */
td_pass_cost td_decoder_step_cost(const td_decoder *);
td_pass_cost td_decoder_prompt_cost(const td_decoder *);

/* Start or stop timing each op of steps; read the times, as td_plan_profile_rows does. */
void   td_decoder_profile(td_decoder *, bool on);
size_t td_decoder_profile_rows(const td_decoder *, td_profile_row *rows, size_t room);

/* Begin a new text in the row, replacing any other: reads `n` given tokens and writes the logits
 * [vocab] of its answer's first token. At most `answer` tokens will be added. */
int td_decoder_begin(td_decoder *, int64_t row, const int32_t *given, int64_t n, int64_t answer,
                     float *logits, td_error *error);

/* Append one token to each row (-1: the row is idle) and write the logits [rows][vocab] of the next
 * one. The logits of idle rows are left unchanged. */
int td_decoder_step(td_decoder *, const int32_t *tokens, float *logits, td_error *error);

/* Tokens that follow what a row has read, of which all but the first are to be scored: the first is
 * predicted by logits that the caller has. */
typedef struct td_continuation {
    const int32_t *tokens; /* [n]; NULL: the row is idle */
    int64_t        n;      /* at most the answer that the row was begun for */
    double        *nll;    /* [n - 1] in nats: -log p(tokens[k + 1] | all before it) */
    double        *best;   /* [n - 1]: the token with the largest logit in its place */
} td_continuation;

/* Read all but the last token of each row's continuation [rows] in one pass. The rows cannot
 * continue afterwards: begin them again, or move others to them. */
int td_decoder_score(td_decoder *, const td_continuation *, td_error *error);

/* Row i continues from the text that row from[i] has read so far; -1: it is unchanged. */
int td_decoder_gather(td_decoder *, const int32_t *from, td_error *error);

#endif
