/* kind/tokenizer.h - text to ids and back. Opened once; encode and decode may run on several
 * threads. */
#ifndef TANDEM_KIND_TOKENIZER_H
#define TANDEM_KIND_TOKENIZER_H

#include "../host.h"
#include "batch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_TOKENIZER_KIND "tokenizer/1"

/* What a tokenizer promises of decoding what it encoded: all bytes, or all UTF-8, come back. For
 * whoever chooses among tokenizers; the host does not ask. */
enum { TD_TOKENIZER_LOSSLESS_BYTES = 1, TD_TOKENIZER_LOSSLESS_UTF8 = 2 /* but for U+2581 */ };

typedef struct td_train_in {
    const char *const *files; /* text, a sentence or more per line; lines of any length */
    size_t             count;
    int64_t            vocab_size;
    const char        *output; /* path of the model to write */
} td_train_in;

typedef struct td_tokenizer {
    td_plugin plugin;
    uint64_t  flags;
    /* Read the model; `state` is the plugin's own. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Its special ids; `out` comes with -1 and no sentinels. [any] */
    void (*special)(void *state, td_special *out);
    /* Ids of the text's `size` bytes. Writes at most `room` ids and gives how many there are (call
     * again with more room if it is larger), or a negative code. No eos is added. [any] */
    int64_t (*encode)(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
                      td_error *error);
    /* The same for text; ids outside the vocabulary are an error. Not 0-terminated. [any] */
    int64_t (*decode)(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error);
    /* The piece of one id as a person would read it, owned by the state; NULL hook: decode it.
     * [any] */
    const char *(*piece)(void *state, int32_t id);
    /* Make a model from text; NULL: there is nothing to train. [main] */
    int (*train)(const void *config, const td_train_in *, const td_services *, td_error *error);
    /* A hash of all that ids depend on: prepared data of another one is not taken. NULL: that of
     * the pieces. [main] */
    int (*fingerprint)(void *state, uint64_t *out, td_error *error);
} td_tokenizer;

#ifdef __cplusplus
}
#endif
#endif
