/* kind/tokenizer.h - text to ids and back.
 *
 * Opened once per run; `encode` and `decode` are then called from several threads, so `state` does
 * not change after `open`. Both return the full count and write only what fits: the caller passes
 * the size of its buffer in `room`, the hook writes no more than that and returns how many there
 * are, and the caller repeats the call with a larger buffer if needed. A tokenizer adds neither bos
 * nor eos: losses and architectures do.
 *
 * Text is bytes with a size: it may contain zeros, need not be UTF-8, and is not terminated. A
 * tokenizer that cannot represent a text fails with a message; it never drops part of it silently.
 *
 * Example:
 *
 *     // Bytes: id 0 is pad, id 1 eos, id 2 + b byte b.
 *     static int open_bytes(const void *config, const td_services *services, void **state,
 *                           td_error *error)
 *     {
 *         (void)config;
 *         (void)services;
 *         (void)error;
 *         *state = NULL; // nothing to remember
 *         return 0;
 *     }
 *
 *     static void close_bytes(void *state) { (void)state; }
 *
 *     static void special(void *state, td_special *out)
 *     {
 *         (void)state;
 *         out->pad = 0;
 *         out->eos = 1;
 *         out->vocab_size = 258;
 *     }
 *
 *     static int64_t encode(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
 *                           td_error *error)
 *     {
 *         (void)state;
 *         (void)error;
 *         for (int64_t k = 0; k < (int64_t)size && k < room; k++)
 *             ids[k] = 2 + (unsigned char)text[k];
 *         return (int64_t)size;
 *     }
 *
 *     static int64_t decode(void *state, const int32_t *ids, int64_t count, char *text,
 *                           int64_t room, td_error *error)
 *     {
 *         int64_t n = 0;
 *         (void)state;
 *         for (int64_t k = 0; k < count; k++) {
 *             if (ids[k] < 0 || ids[k] >= 258)
 *                 return td_fail(error, TD_EFORMAT, "id %d is not in 0 .. 257", (int)ids[k]);
 *             if (ids[k] >= 2 && n++ < room)
 *                 text[n - 1] = (char)(ids[k] - 2);
 *         }
 *         return n;
 *     }
 *
 *     static const td_tokenizer plain = {
 *         .plugin = TD_PLUGIN(td_tokenizer, TD_TOKENIZER_KIND, "plain", NULL, char,
 *                             .brief = "one token per byte"),
 *         .flags = TD_TOKENIZER_LOSSLESS_BYTES | TD_TOKENIZER_LOSSLESS_UTF8,
 *         .open = open_bytes,
 *         .close = close_bytes,
 *         .special = special,
 *         .encode = encode,
 *         .decode = decode,
 *     };
 */
#ifndef TANDEM_KIND_TOKENIZER_H
#define TANDEM_KIND_TOKENIZER_H

#include "../host.h"
#include "batch.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_TOKENIZER_KIND "tokenizer/1"

/* Which texts survive encoding and decoding unchanged: any bytes, or any UTF-8 (except U+2581,
 * which SentencePiece uses for a space). `tandem plugins check` verifies this. */
enum { TD_TOKENIZER_LOSSLESS_BYTES = 1, TD_TOKENIZER_LOSSLESS_UTF8 = 2 };

/* The input for training a tokenizer model. */
typedef struct td_train_in {
    const char *const *files; /* text: one or more sentences per line; lines may be long */
    size_t             count; /* of files */
    int64_t            vocab_size;
    const char        *output; /* the path of the model file to write */
} td_train_in;

/* Where `write_files` puts its files. The host makes it. */
typedef struct td_tokenizer_out td_tokenizer_out;
struct td_tokenizer_out {
    size_t  size;
    int32_t begin; /* an id that the readers of the files put before every text; -1: none */
    /* A file of `size` bytes. 0, or a negative td_status to return. */
    int (*put)(const td_tokenizer_out *, const char *name, const void *data, size_t size,
               td_error *error);
    void *host; /* private to the host */
};

typedef struct td_tokenizer {
    td_plugin plugin;
    uint64_t  flags; /* TD_TOKENIZER_.. */
    /* Read the model and set *state, which the plugin owns. After a failure `close` is not called.
     * [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Fill in the special ids and vocab_size; before the call `out` has -1 for every id and no
     * sentinels. [any] */
    void (*special)(void *state, td_special *out);
    /* The ids of `size` bytes of text: write at most `room` of them, return how many there are,
     * which may be more than `room`, or a negative td_status. [any] */
    int64_t (*encode)(void *state, const char *text, size_t size, int32_t *ids, int64_t room,
                      td_error *error);
    /* The bytes of `count` ids, in the same way, without a terminating zero. An id outside the
     * vocabulary is an error. [any] */
    int64_t (*decode)(void *state, const int32_t *ids, int64_t count, char *text, int64_t room,
                      td_error *error);
    /* The readable form of any id in the vocabulary, owned by the state. NULL: its decoded text is
     * shown. [any] */
    const char *(*piece)(void *state, int32_t id);
    /* Train a model on text and write it to in->output. NULL: nothing to train. [main] */
    int (*train)(const void *config, const td_train_in *, const td_services *, td_error *error);
    /* A hash of everything that ids depend on: data prepared with a different fingerprint is not
     * used. NULL: the hash of all pieces. [main] */
    int (*fingerprint)(void *state, uint64_t *out, td_error *error);
    /* Put the files from which Hugging Face's programs make the same ids: tokenizer.json and
     * tokenizer_config.json, perhaps others. TD_EUNSUPPORTED with the reason if those programs
     * would compute other ids; files that were put before stay. NULL: the tokenizer cannot be
     * written. [main] */
    int (*write_files)(void *state, const td_tokenizer_out *, td_error *error);
    /* How to recognize that a folder of another program has such a tokenizer: "option=name", the
     * option of a file and that file's name in the folder, then NULL. An option that is listed
     * several times takes the first file that exists; the first option must have one. NULL: none is
     * recognized. */
    const char *const *folder_files;
} td_tokenizer;

#ifdef __cplusplus
}
#endif
#endif
