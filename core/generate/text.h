/* text.h - decodes tokens as they are generated: returns text that may be shown, finds stop strings
 * across token borders, and never splits a UTF-8 character.
 *
 * A tokenizer decodes a list of ids, and the text of a token may depend on its neighbours (a space
 * that SentencePiece drops at the start, the bytes of one character in several tokens). So each new
 * token is decoded together with a few before it, and only the text that it adds is taken, once it
 * ends in whole characters.
 */
#ifndef TD_GENERATE_TEXT_H
#define TD_GENERATE_TEXT_H

#include "base/text.h"
#include "tandem/kind/tokenizer.h"

typedef struct td_detokenizer td_detokenizer;

/* `stops`: texts that end an answer, none empty; they outlive it. NULL: out of memory. */
td_detokenizer *td_detokenizer_new(const td_tokenizer *, void *state, const char *const *stops,
                                   size_t n_stops);
void            td_detokenizer_free(td_detokenizer *);
/* Forget all tokens, for another answer. */
void            td_detokenizer_clear(td_detokenizer *);

/* Add a token. Returns 0; TD_EEND when a stop string is complete, where the text then ends, without
 * it; or another negative code with `error`. */
int td_detokenizer_add(td_detokenizer *, int32_t id, td_error *error);
/* End the text: whatever was held back is added, invalid bytes as U+FFFD. */
int td_detokenizer_finish(td_detokenizer *, td_error *error);

/* All text so far, and the length of the part that no later token can change: the start of a
 * stop string or of a character is not final. */
const char *td_detokenizer_text(const td_detokenizer *, size_t *settled);

#endif
