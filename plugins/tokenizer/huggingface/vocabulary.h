/* vocabulary.h - the tokens of a model, and the two ways to cut a text into them: BPE and unigram.
 * Papers: Sennrich et al., ACL 2016; Kudo, ACL 2018. */
#ifndef TD_TOKENIZER_HUGGINGFACE_VOCABULARY_H
#define TD_TOKENIZER_HUGGINGFACE_VOCABULARY_H

#include "ids.h"
#include "tandem/error.h"
#include "trie.h"

struct token {
    char  *text; /* followed by a 0; NULL: no token has this id */
    size_t size;
    double score;   /* of a unigram model */
    bool   special; /* has no text, and is not looked for in texts unless asked for */
};

/* Two tokens that can be merged; of all pairs in a word, the one of lowest rank goes first. */
struct merge {
    uint64_t pair; /* left << 32 | right */
    int32_t  rank, id;
};

struct vocabulary {
    struct token *at; /* [count] by id */
    size_t        count;
    struct trie   by_text;   /* without added tokens that the model does not have */
    int32_t       unknown;   /* -1: none */
    int32_t       byte[256]; /* tokens "<0x41>"; -1: not all are there, and none is used */
    bool unigram, fuses_unknown, takes_words; /* takes_words: a word that is a token is not split */
    struct merge *merges;                     /* [n_merges], by pair */
    size_t        n_merges;
    double        unknown_score;
};

/* The ids of a word are added to `ids`. 0, or TD_EFORMAT where a character has no id, TD_ENOMEM. */
int bpe_encode(const struct vocabulary *, const char *text, size_t size, struct growing *ids,
               td_error *error);
int unigram_encode(const struct vocabulary *, const char *text, size_t size, struct growing *ids,
                   td_error *error);

/* The ids of the bytes of a text that is not a token, or the id for unknown text. */
int add_unknown(const struct vocabulary *, const char *text, size_t size, struct growing *ids,
                td_error *error);

#endif
