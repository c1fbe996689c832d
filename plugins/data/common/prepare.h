/* prepare.h - turns documents into token shards, once. They are encoded in parallel and written in
 * the order of the text, so that a shard does not depend on the number of threads. */
#ifndef TD_DATA_COMMON_PREPARE_H
#define TD_DATA_COMMON_PREPARE_H

#include "source.h"

/* A piece of a document, which is tokenized by itself. */
typedef struct piece {
    const char *text;
    size_t      size;
    bool        end;     /* the end-of-text token follows, if the tokenizer has one */
    bool        encoded; /* `text` holds ids, int32_t, which another program made */
} piece;

/* Receives a document of one or more pieces, each with at least one token. The caller owns the
 * texts. Returns 0, or a code, which ends the walk. */
typedef int document_visitor(void *arg, const piece *pieces, size_t count);

/* A part of a source, and how to walk it. */
typedef struct preparation {
    const data_source *source;
    int                part; /* PART_TRAIN or PART_HELD_OUT */
    const td_data_in  *in;
    const char        *plugin; /* for messages */
    /* everything else that the tokens depend on, besides files, split and tokenizer; part of the
     * shard's name */
    const void        *content;
    size_t             content_size;
    int64_t            max_bad_lines;
    /* Visit the documents of a part in order. `bad`: how many bad lines may still be skipped;
     * reduced by those that are. */
    int (*each)(const void *config, const data_source *, int part, const td_services *,
                int64_t *bad, document_visitor *, void *arg, td_error *error);
    const void *config; /* the plugin's data for `each` */
} preparation;

/* Make the shard unless it exists. `path` receives its name without .bin. */
int prepare_shard(const preparation *, char path[4096], td_error *error);

#endif
