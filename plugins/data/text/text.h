/* text.h - what the files of data 'text' share: its options, its documents, and preparing
 * shards. */
#ifndef TD_DATA_TEXT_TEXT_H
#define TD_DATA_TEXT_TEXT_H

#include "../common/source.h"

typedef struct text_source {
    data_source from;
    double      rate; /* share of the training records; 0 in all sources: by size */
} text_source;

typedef struct text_config {
    td_list     sources; /* of text_source */
    const char *text;    /* key of the text in a JSON line */
    int64_t     max_bad_lines;
    bool        mask_documents, shuffle;
} text_config;

/* Make the shard of a source's part unless it exists. `path` [4096] receives its name without
 * .bin. */
int text_prepare(const text_config *, const data_source *, int part, const td_data_in *, char *path,
                 td_error *error);

/* Call `document` for every document of a part, in order, until it returns a code. `bad`: how many
 * bad lines may still be skipped; those that are, are subtracted. */
int text_each(const text_config *, const data_source *, int part, const td_services *, int64_t *bad,
              int (*document)(void *arg, const char *text, size_t size), void *arg,
              td_error *error);

#endif
