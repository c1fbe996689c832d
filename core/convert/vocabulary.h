/* vocabulary.h - the tokens of a tokenizer as GGUF has them. [main] */
#ifndef TD_CONVERT_VOCABULARY_H
#define TD_CONVERT_VOCABULARY_H

#include "base/arena.h"
#include "base/map.h"
#include "convert/gguf.h"

/* Stands for a space in the pieces of a SentencePiece model. */
#define TD_PIECE_SPACE "\xE2\x96\x81"

/* The numbers are the format's. */
typedef enum td_token_type {
    TD_TOKEN_NONE, /* not set yet */
    TD_TOKEN_NORMAL,
    TD_TOKEN_UNKNOWN, /* for text that no token covers */
    TD_TOKEN_CONTROL, /* never matched in texts */
    TD_TOKEN_SYMBOL,  /* matched in texts before all others */
    TD_TOKEN_UNUSED,
    TD_TOKEN_BYTE, /* "<0x41>" */
    TD_TOKEN_TYPES
} td_token_type;

typedef struct td_token {
    const char *text; /* UTF-8 */
    int         type; /* td_token_type */
    float       score;
} td_token;

typedef struct td_vocabulary {
    td_token *at; /* [count], by id */
    int64_t   count;
    td_map   *by_text; /* the tokens */
    td_arena *arena;   /* owns the texts */
} td_vocabulary;

/* `count` tokens without texts. 0, or TD_ENOMEM with `error`. Free it in either case. */
int  td_vocabulary_new(td_vocabulary *, int64_t count, td_error *error);
void td_vocabulary_free(td_vocabulary *);

/* Set a token. TD_EUNSUPPORTED if its text is not UTF-8, or another token has it. */
int       td_vocabulary_put(td_vocabulary *, int64_t id, const char *text, size_t size, int type,
                            td_error *error);
/* NULL: there is none. */
td_token *td_vocabulary_find(const td_vocabulary *, const char *text, size_t size);
/* Whether all 256 bytes are tokens: as GPT-2's characters, or as "<0x41>". */
bool      td_vocabulary_has_bytes(const td_vocabulary *, bool as_characters);

/* The name of an id that has no token, as llama.cpp's own converter forms it. Returns `out`. */
enum { TD_PADDING_NAME = 40 /* bytes */ };
char *td_padding_name(int64_t id, char out[TD_PADDING_NAME]);

/* Bytes of the character that a text begins with. */
size_t td_character_size(const char *text);

#endif
