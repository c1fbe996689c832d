/* encode.h - texts as tokens: prompts, and the answers that are scored after them. */
#ifndef TD_GENERATE_ENCODE_H
#define TD_GENERATE_ENCODE_H

#include "tandem/kind/tokenizer.h"

/* A tokenizer, open. */
typedef struct td_encoder {
    const td_tokenizer *tokenizer;
    void               *state;
} td_encoder;

/* The tokens of a text, in a buffer with space for one more; free() it, in any case. */
int td_encode(const td_encoder *, const char *text, size_t size, int32_t **ids, int64_t *n,
              td_error *error);

/* The length of the part of a prompt that is encoded as `given` if an answer follows it: trailing
 * white space is left to the answer, because tokenizers join it to the next word. */
size_t td_encode_kept(const char *prompt);
/* The tokens that the answer adds to `given`. `both` is the prompt and the answer; `given` has the
 * tokens of its first `keep` bytes. If the tokenizer merges across the border, the answer is
 * encoded alone, because the prompt must be the same for all answers. free() *ids in any case. */
int    td_encode_answer(const td_encoder *, const char *both, size_t size, size_t keep,
                        const int32_t *given, int64_t n_given, int32_t **ids, int64_t *n,
                        td_error *error);
/* End a prompt, whose buffer has space for one more token: add the eos that training put after
 * inputs or, if the prompt is empty, the token that begins a text. */
void   td_encode_end(const td_special *, bool inputs_end, int32_t *ids, int64_t *n);

#endif
