/* decoder.h - from tokens back to a text. */
#ifndef TD_TOKENIZER_HUGGINGFACE_DECODER_H
#define TD_TOKENIZER_HUGGINGFACE_DECODER_H

#include "ids.h"

enum decoding_type {
    DECODE_REPLACE, /* `from` by `to`, in each token */
    DECODE_BYTES,   /* characters that stand for bytes (tokenizer_json.h) */
    DECODE_NAMED,   /* tokens such as <0x41> become that byte */
    DECODE_FUSE,    /* all tokens become one */
    DECODE_STRIP,   /* up to `begin` characters `from` at the start of a token, `end` at its end */
    DECODE_DROP     /* all `from` in the first token */
};

struct decoding {
    int    type;
    char  *from, *to;
    size_t from_size, to_size;
    size_t begin, end; /* of DECODE_STRIP */
};

/* Texts of tokens, one after the other. Zero-initialize it; free() what grows. */
struct texts {
    struct growing text, ends; /* of size_t */
};

void texts_add(struct texts *, const char *text, size_t size);
void texts_free(struct texts *);
/* Applies the step to the texts. */
void decoding_run(const struct decoding *, struct texts *);

#endif
