/* kind/data.h - a data source: records by number, so that order is a function of (seed, index) and
 * resuming is exact. */
#ifndef TANDEM_KIND_DATA_H
#define TANDEM_KIND_DATA_H

#include "batch.h"
#include "loss.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_DATA_KIND "data/1"

typedef struct td_data_in {
    const td_services  *services;
    const td_tokenizer *tokenizer; /* opened, with its state */
    void               *tokenizer_state;
    td_special          special;
    const char         *tokenizer_id; /* tells prepared shards of different tokenizers apart */
    /* raw tokens of one training record of running text (td_bounds.raw) */
    int64_t             length;
    int64_t             held_out_length; /* and of one held-out record */
    uint64_t            seed;            /* of the order */
    const char         *cache;           /* directory for what it prepares (token shards) */
} td_data_in;

typedef struct td_data {
    td_plugin plugin;
    /* Prepare what is not there yet, and open it; `state` is the plugin's own. [main] */
    int (*open)(const void *config, const td_data_in *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Number of sources, and the name of each. [any] */
    int64_t (*sources)(void *state);
    const char *(*source_name)(void *state, int64_t source);
    /* Training record `index`, from 0 without end. Memory from `allocate` (td_split_in) or the
     * state's own. [worker] */
    int (*fetch)(void *state, uint64_t index, const td_split_in *, td_record *out, td_error *error);
    /* Held-out records of one source, and how many there are. [worker] */
    int64_t (*held_out)(void *state, int64_t source);
    int (*fetch_held_out)(void *state, int64_t source, int64_t index, const td_split_in *,
                          td_record *out, td_error *error);
    /* Bytes of text behind a held-out record's tokens (inputs, then targets) from token `from` on,
     * for bits per byte; NULL hook or negative: unknown. [worker] */
    int64_t (*held_out_bytes)(void *state, int64_t source, int64_t index, int64_t from);
    /* Tokens in one epoch of all training sources; negative: unknown. NULL hook: unknown. [any] */
    int64_t (*tokens)(void *state);
    /* Make everything that `open` would make first (token shards); what is finished is kept. NULL:
     * nothing. [main] */
    int (*prepare)(const void *config, const td_data_in *, td_error *error);
    /* Each training document's text in turn, to train a tokenizer on; a non-zero answer ends it.
     * NULL: no text. [main] */
    int (*each_document)(const void *config, const td_services *,
                         int (*document)(void *arg, const char *text, size_t size), void *arg,
                         td_error *error);
    /* The same number means the same records, held-out ones too, so that a run is not resumed on
     * other text. NULL: nobody knows. [main] */
    uint64_t (*fingerprint)(void *state);
} td_data;

#ifdef __cplusplus
}
#endif
#endif
