/* text.h - what the files of data 'text' share: its options, its text, and preparing shards. */
#ifndef TD_DATA_TEXT_TEXT_H
#define TD_DATA_TEXT_TEXT_H

#include <glob.h>

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

/* The files of a source's part, in order; free with globfree. */
int text_files(const text_source *, int part, const td_services *, glob_t *, td_error *error);
/* Refuses a file that is held out and trained on, by whatever sources and names, and one that a
 * source names twice. */
int text_check_files(const text_config *, const td_services *, td_error *error);

/* The shard of a source's part, made first unless it is there. `path` [4096] gets its name without
 * .bin. */
int text_prepare(const text_config *, const text_source *, int part, const td_data_in *, char *path,
                 td_error *error);

/* Every document of a part, in order. `bad`: how many bad lines may be skipped; those that are, are
 * taken off. */
int text_each(const text_config *, const text_source *, int part, const td_services *, int64_t *bad,
              int (*document)(void *arg, const char *text, size_t size), void *arg,
              td_error *error);

#endif
