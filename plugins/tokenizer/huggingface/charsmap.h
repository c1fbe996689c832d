/* charsmap.h - a table by which SentencePiece normalizes texts, as its models and the normalizer
 * 'Precompiled' of a tokenizer.json have it. */
#ifndef TD_TOKENIZER_HUGGINGFACE_CHARSMAP_H
#define TD_TOKENIZER_HUGGINGFACE_CHARSMAP_H

#include "../growing.h"
#include "tandem/error.h"

struct charsmap;

/* From base64. NULL with `error`. */
struct charsmap *charsmap_new(const char *text, size_t size, td_error *error);
void             charsmap_free(struct charsmap *);

/* What `size` bytes of a text become: *out, not terminated. False: the table does not change
 * them. */
bool charsmap_find(const struct charsmap *, const char *text, size_t size, const char **out,
                   size_t *out_size);

#endif
