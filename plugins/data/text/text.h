/* text.h - what the files of data 'text' share: its options, and preparing shards. */
#ifndef TD_DATA_TEXT_TEXT_H
#define TD_DATA_TEXT_TEXT_H

#include "tandem/kind/data.h"

typedef struct text_source {
    const char *name;
    td_strings  files, held_out;
    int64_t     held_out_every;
    double      rate;
} text_source;

typedef struct text_config {
    td_list     sources;
    const char *text;
    int64_t     max_bad_lines;
    bool        mask_documents, shuffle;
} text_config;

enum { PART_TRAIN, PART_HELD_OUT };

/* The shard of a source's part, made first unless it is there. `path` [4096] gets its name without
 * .bin. */
int text_prepare(const text_config *, const text_source *, int part, const td_data_in *, char *path,
                 td_error *error);

/* Every document of a part, in order. */
int text_each(const text_config *, const text_source *, int part, const td_services *,
              int (*document)(void *arg, const char *text, size_t size), void *arg,
              td_error *error);

#endif
