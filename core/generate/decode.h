/* decode.h - a model that continues texts: rows that begin with a prompt and grow token by token.
 *
 *     td_decoder *d = td_decoder_open(&options, &error);
 *     td_decoder_begin(d, 0, prompt, n, 100, logits, &error);    reads the prompt, in chunks
 *     for (;;) {
 *         tokens[0] = ... chosen by the logits ...
 *         td_decoder_step(d, tokens, logits, &error);
 *     }
 *
 * Rows are independent: each has its own length, may begin and end at any time, and reads the same
 * logits whatever the others do. Memory is taken when the decoder is opened and with the first pass
 * of each shape; after that a step allocates nothing and makes no plan.
 */
#ifndef TD_GENERATE_DECODE_H
#define TD_GENERATE_DECODE_H

#include "generate/prompt.h"
#include "plan/plan.h"

typedef struct td_decoder td_decoder;

typedef struct td_decoder_options {
    const td_model  *model;
    const td_device *device;
    td_variables    *variables; /* the parameters; they have memory */
    td_special       special;
    int64_t          rows; /* texts at the same time */
    /* the longest text: given tokens, and those of its answer */
    int64_t          given, answer;
    int64_t          chunk; /* the most columns of one pass; 0: 256 */
    bool             whole; /* keep nothing: read the whole text again for each token */
} td_decoder_options;

/* Make the model's parameters known to `variables`, so that they can be allocated and loaded before a
 * decoder is opened: parameters are found by building a graph. */
int td_decoder_declare(const td_model *, const td_special *, td_variables *, td_error *error);

/* Options are copied; what they point at outlives the decoder. NULL with `error`. */
td_decoder *td_decoder_open(const td_decoder_options *, td_error *error);
void        td_decoder_close(td_decoder *);

/* Rows of the embedding table: how many logits there are. */
int64_t td_decoder_vocab(const td_decoder *);
/* Bytes of the cache, and of the memory that passes share. */
size_t  td_decoder_cache_bytes(const td_decoder *);
size_t  td_decoder_arena_bytes(const td_decoder *);
/* How many plans there are: they must not grow with the number of tokens. */
size_t  td_decoder_plans(const td_decoder *);

/* A new text in the row, whatever was there: reads `n` given tokens, and leaves the logits [vocab] of
 * its answer's first token. At most `answer` tokens will be added. */
int td_decoder_begin(td_decoder *, int64_t row, const int32_t *given, int64_t n, int64_t answer,
                     float *logits, td_error *error);

/* One more token in each row, -1 in rows that rest; then the logits [rows][vocab] of the next one.
 * Those of rows that rest are left alone. */
int td_decoder_step(td_decoder *, const int32_t *tokens, float *logits, td_error *error);

/* Row i goes on from what row from[i] has read so far; -1: it stays. */
int td_decoder_gather(td_decoder *, const int32_t *from, td_error *error);

#endif
