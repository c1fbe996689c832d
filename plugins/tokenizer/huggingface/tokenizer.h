/* tokenizer.h - a tokenizer.json, read: the way from a text to ids and back. */
#ifndef TD_TOKENIZER_HUGGINGFACE_TOKENIZER_H
#define TD_TOKENIZER_HUGGINGFACE_TOKENIZER_H

#include <jansson.h>

#include "decoder.h"
#include "steps.h"
#include "vocabulary.h"

struct tokenizer {
    json_t           *json; /* owns the texts of tokens */
    struct vocabulary vocabulary;
    struct growing    normalizers, splitters; /* of struct step */
    struct growing    decodings;              /* of struct decoding */
    /* added tokens that are looked for before the normalizers, and after them */
    struct trie       before, after;
    bool              parses_special; /* special tokens are found in texts, too */
};

/* Fill in a zeroed tokenizer from the text of a file; `path` names it in messages. Free it after a
 * failure, too. */
int  tokenizer_read(struct tokenizer *, const char *path, const char *text, size_t size,
                    td_error *error);
void tokenizer_free(struct tokenizer *);

/* The parts of tokenizer.json that have source files of their own. */
int read_steps(struct tokenizer *, const json_t *normalizer, const json_t *splitter,
               td_error *error);
int read_decoder(struct tokenizer *, const json_t *, td_error *error);
int read_model(struct tokenizer *, const json_t *model, const json_t *added, td_error *error);

/* Ids of a text, as int32_t, are added to `ids`. */
int tokenizer_encode(const struct tokenizer *, const char *text, size_t size, struct growing *ids,
                     td_error *error);
/* `in` as it is after all normalizers; both are in `p`. */
int tokenizer_normalize(const struct tokenizer *, struct pieces *p, td_error *error);

#endif
