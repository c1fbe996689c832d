/* kind/data.h - a data source: records by number.
 *
 * A source answers "what is training record i" for any i, in any order, on any thread. It has no
 * cursor: the order is a function of (seed, i), usually a stateless shuffle. That makes resuming
 * exact and reading ahead safe. Training records never end; where the data ends, the next epoch
 * begins. Held-out records are finite, numbered per source, disjoint from training and independent
 * of the seed, so that every run is scored on the same text.
 *
 * One plugin may mix several named sources (sources, source_name); metrics are reported for each.
 * `open` prepares missing files (tokenized shards in in->cache) and may take long; `prepare` does
 * the same ahead of time.
 *
 * Example:
 *
 *     #include <stdlib.h>
 *
 *     // Random tokens, from which a model can learn nothing.
 *     static int open_noise(const void *config, const td_data_in *in, void **state,
 *                           td_error *error)
 *     {
 *         td_data_in *s = malloc(sizeof *s);
 *         (void)config;
 *         if (!s)
 *             return td_fail(error, TD_ENOMEM, "data 'noise': out of memory");
 *         *s = *in; // what it points to outlives the source
 *         *state = s;
 *         return 0;
 *     }
 *
 *     static int64_t sources(void *state)
 *     {
 *         (void)state;
 *         return 1;
 *     }
 *
 *     static const char *source_name(void *state, int64_t source)
 *     {
 *         (void)state;
 *         (void)source;
 *         return "noise";
 *     }
 *
 *     static int make(const td_data_in *s, uint64_t seed, uint64_t index, const td_split_in *in,
 *                     td_record *out, td_error *error)
 *     {
 *         int32_t  *ids = in->allocate(in->arena, (size_t)s->length * sizeof *ids);
 *         td_record r = { .targets = ids, .n_targets = s->length, .id = index };
 *         if (!ids)
 *             return td_fail(error, TD_ENOMEM, "data 'noise': out of memory for a record");
 *         for (int64_t k = 0; k < s->length; k++)
 *             ids[k] = (int32_t)td_random_below(seed, index, (uint64_t)k,
 *                                               (uint64_t)s->special.vocab_size);
 *         *out = r;
 *         return 0;
 *     }
 *
 *     static int fetch(void *state, uint64_t index, const td_split_in *in, td_record *out,
 *                      td_error *error)
 *     {
 *         return make(state, ((td_data_in *)state)->seed, index, in, out, error);
 *     }
 *
 *     static int64_t held_out(void *state, int64_t source)
 *     {
 *         (void)state;
 *         (void)source;
 *         return 16;
 *     }
 *
 *     static int fetch_held_out(void *state, int64_t source, int64_t index, const td_split_in *in,
 *                               td_record *out, td_error *error)
 *     {
 *         if (source != 0 || index < 0 || index >= 16)
 *             return td_fail(error, TD_EEND, "data 'noise' has 16 held-out records");
 *         return make(state, td_random_stream("held out"), (uint64_t)index, in, out, error);
 *     }
 *
 *     static const td_data noise = {
 *         .plugin = TD_PLUGIN(td_data, TD_DATA_KIND, "noise", NULL, char,
 *                             .brief = "random tokens"),
 *         .open = open_noise,
 *         .close = free,
 *         .sources = sources,
 *         .source_name = source_name,
 *         .fetch = fetch,
 *         .held_out = held_out,
 *         .fetch_held_out = fetch_held_out,
 *     };
 */
#ifndef TANDEM_KIND_DATA_H
#define TANDEM_KIND_DATA_H

#include "batch.h"
#include "loss.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_DATA_KIND "data/1"

/* The run that the source is opened for. Everything it points to outlives the source. */
typedef struct td_data_in {
    const td_services  *services;
    const td_tokenizer *tokenizer; /* opened; call it with tokenizer_state */
    void               *tokenizer_state;
    td_special          special;      /* the tokenizer's ids */
    const char         *tokenizer_id; /* tells prepared data of different tokenizers apart */
    /* tokens of one training record of running text, as the loss asks for them (td_bounds.raw) */
    int64_t             length;
    int64_t             held_out_length; /* the same for a held-out record */
    uint64_t            seed;            /* for the order of training records */
    const char         *cache;           /* a directory for prepared data, such as token shards */
    /* Each held-out record of running text lies within one document: for long sequences, whose
     * later tokens should depend on early ones. A source without a document of held_out_length
     * tokens then has no held-out record. A source that has no documents may ignore it. */
    bool                whole_documents;
    /* Only held-out records will be fetched, as `tandem evaluate` does: training text need be
     * neither prepared nor present, the fingerprint covers only the held-out text, and `fetch` may
     * fail. A source may ignore it. */
    bool                held_out_only;
} td_data_in;

/* What a source of (inputs, targets) pairs guarantees about each pair. */
typedef struct td_pair {
    int64_t inputs, targets; /* maximum number of tokens of each */
    bool    inputs_end;      /* inputs end in the tokenizer's eos; then a prompt must end in it
                              * as well */
} td_pair;

/* How a turn of a chat is written out: prefix, content, suffix. */
typedef struct td_chat_role {
    const char *role, *prefix, *suffix; /* "user", "User: ", "\n" */
    bool        answers;                /* what the model learns to write */
} td_chat_role;

typedef struct td_data {
    td_plugin plugin;
    /* Prepare missing files, open the data, and set *state, which the plugin owns. After a
     * failure `close` is not called. [main] */
    int (*open)(const void *config, const td_data_in *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* The number of sources, at least 1, and the name of each, owned by the plugin. [any] */
    int64_t (*sources)(void *state);
    const char *(*source_name)(void *state, int64_t source);
    /* Training record `index`, from 0 upwards without limit. Its arrays come from in->allocate or
     * stay unchanged in the state: many records are in use at a time. [worker] */
    int (*fetch)(void *state, uint64_t index, const td_split_in *, td_record *out, td_error *error);
    /* The number of held-out records of a source, and one of them; TD_EEND beyond the last.
     * [worker] */
    int64_t (*held_out)(void *state, int64_t source);
    int (*fetch_held_out)(void *state, int64_t source, int64_t index, const td_split_in *,
                          td_record *out, td_error *error);
    /* The number of bytes of text that the tokens of a held-out record encode, from token `from`
     * on, counting inputs and then targets: the denominator of bits per byte. Negative, or NULL
     * hook: unknown. [worker] */
    int64_t (*held_out_bytes)(void *state, int64_t source, int64_t index, int64_t from);
    /* Tokens in one epoch of all training sources. Negative, or NULL hook: unknown. [any] */
    int64_t (*tokens)(void *state);
    /* Prepare everything that `open` would prepare first; existing files are kept. NULL: nothing
     * needs preparing. [main] */
    int (*prepare)(const void *config, const td_data_in *, td_error *error);
    /* Call `document` with the text of each training document in turn, to train a tokenizer on,
     * until it returns non-zero. NULL: the source has no text. [main] */
    int (*each_document)(const void *config, const td_services *,
                         int (*document)(void *arg, const char *text, size_t size), void *arg,
                         td_error *error);
    /* A number that changes if any record does, held-out ones included: a run is not resumed on
     * different text. NULL: unknown, and not checked. [main] */
    uint64_t (*fingerprint)(void *state);
    /* All records, training and held-out, are pairs no larger than this; it determines the rows of
     * batches, and td_data_in's lengths are ignored. NULL: records are running text. [any] */
    td_pair (*pair)(const void *config);
    /* Training records in one epoch of all sources. Negative, or NULL hook: unknown. [any] */
    int64_t (*records)(void *state);
    /* The chat template: role number `index`; false beyond the last. Its texts live as long as the
     * config. NULL: the data has no chats. [any] */
    bool (*chat_role)(const void *config, int64_t index, td_chat_role *out);
    /* Check that the files that `open` would read exist and can be read, without reading or creating
     * any. NULL: there are none. [main] */
    int (*check_files)(const void *config, const td_services *, td_error *error);
} td_data;

#ifdef __cplusplus
}
#endif
#endif
