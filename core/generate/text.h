/* text.h - the text of tokens as they come: pieces that may be shown, stop strings found across
 * token borders, UTF-8 never cut.
 *
 * A tokenizer decodes a list of ids, and the text of a token may depend on its neighbours (a space
 * that SentencePiece drops at the start, the bytes of one character in several tokens). So each new
 * token is decoded together with a few before it, and only what the longer list adds is taken, once
 * it ends in whole characters.
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

/* One more token. 0; TD_EEND when a stop string is complete, which then is the end of the text and
 * not part of it; or another negative code with `error`. */
int td_detokenizer_add(td_detokenizer *, int32_t id, td_error *error);
/* No more tokens come: what was held back becomes text, bytes that are no character as U+FFFD. */
int td_detokenizer_finish(td_detokenizer *, td_error *error);

/* All text so far, and how much of it no later token can take back: not the start of a stop string,
 * nor of a character. */
const char *td_detokenizer_text(const td_detokenizer *, size_t *settled);

#endif
