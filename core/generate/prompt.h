/* prompt.h - a text to be continued, as the arrays that its architecture reads.
 *
 * Architectures lay out whole examples: given and predicted tokens. For generation the predicted
 * ones are not known yet, so a prompt is laid out once with space for its answer. Each token of the
 * answer is filled in when it is known, and passes over the model read ranges of columns. An
 * encoder's input does not grow, and is read only in the first pass.
 */
#ifndef TD_GENERATE_PROMPT_H
#define TD_GENERATE_PROMPT_H

#include "model/model.h"

typedef struct td_prompt {
    td_batch *arrays;  /* one row */
    td_array *ids;     /* the one that the decoder reads */
    int64_t   columns; /* columns of the arrays that grow with the answer */
    int64_t   first;   /* the column at which the answer's first token is predicted */
    int64_t   answer;  /* tokens that fit */
    uint32_t  grows;   /* bit k: array k grows with the answer */
} td_prompt;

/* Lay out `n` given tokens and space for `answer` tokens. 0, or a negative code if tokens are
 * outside the vocabulary or the model has too few positions. Always call td_prompt_close. */
int  td_prompt_open(td_prompt *, const td_model *, const td_special *, const int32_t *given,
                    int64_t n, int64_t answer, td_error *error);
void td_prompt_close(td_prompt *);

/* Make `to` a copy of `from`, for a beam that another one continues. */
int td_prompt_copy(td_prompt *to, const td_prompt *from, td_error *error);

/* Set token k of the answer, 0 <= k < answer, which is read at column first + 1 + k, if there is
 * one. */
void td_prompt_put(td_prompt *, int64_t k, int32_t token);

/* The columns of a row that a pass reads. */
typedef struct td_columns {
    const td_prompt *prompt; /* NULL: the row is idle */
    int64_t          first, count;
} td_columns;

/* Make the batch for a pass over `tokens` columns of each of `rows` rows, padding shorter slices;
 * arrays that do not grow get `source` columns. `like`: any prompt, which supplies names and types
 * where rows are idle. */
int td_prompt_pass(const td_columns *rows, int64_t n_rows, int64_t tokens, int64_t source,
                   const td_prompt *like, td_batch *out, td_error *error);

#endif
