/* text.h - shared by the files of data 'text': its options, its documents, and the preparation of
 * shards. */
#ifndef TD_DATA_TEXT_TEXT_H
#define TD_DATA_TEXT_TEXT_H

#include "../common/mixture.h"
#include "../common/prepare.h"

typedef mixed_source text_source;

typedef struct text_config {
    td_list     sources; /* items are text_source */
    const char *text;    /* key of the text in a JSON line */
    int64_t     max_bad_lines;
    bool        mask_documents, shuffle;
} text_config;

/* Make the shard of a source's part unless it exists. `path` [4096] receives its name without
 * .bin. */
int text_prepare(const text_config *, const data_source *, int part, const td_data_in *, char *path,
                 td_error *error);

/* Visit the documents of a part in order (preparation.each); `config` is a text_config. */
int text_each(const void *config, const data_source *, int part, const td_services *, int64_t *bad,
              document_visitor *, void *arg, td_error *error);

#endif
