/* source.h - a named source of text: the files that it trains on, and what of them it holds out.
 *
 * Every data plugin that reads files has a list of these, as the first member of what else it knows
 * of a source. Held-out text is in files of its own, or it is every n-th document of the training
 * files. */
#ifndef TD_DATA_COMMON_SOURCE_H
#define TD_DATA_COMMON_SOURCE_H

#include <glob.h>

#include "tandem/kind/data.h"

typedef struct data_source {
    const char *name;            /* in metrics and file names */
    td_strings  files, held_out; /* shell patterns */
    int64_t     held_out_every;  /* instead of held_out; 0: none */
} data_source;

/* Option rows of a struct whose first member is a data_source. */
#define SOURCE_OPTIONS                                                                          \
    TD_OPTION_NEED_STRING(data_source, name, "name of the source, in metrics and shard files"), \
        TD_OPTION_STRINGS(data_source, files,                                                   \
                          "training files or patterns: .jsonl or .txt, plain, .gz or .zst"),    \
        TD_OPTION_STRINGS(data_source, held_out, "held-out files or patterns"),                 \
        TD_OPTION_INT(data_source, held_out_every, 0, 0, 1e9,                                   \
                      "hold out every n-th document of `files`, instead of held_out; 0: none")

enum { PART_TRAIN, PART_HELD_OUT };

bool source_holds_out(const data_source *);
/* Does document `number` of the part's files, counted from 0, belong to it? */
bool source_has(const data_source *, int part, int64_t number);

/* Option rules: a name that can be part of a file name, files to train on, and at most one way of
 * holding out. `i`: the source's index, for messages. */
int source_check(const data_source *, size_t i, td_error *error);

/* The files of a part, in the order of the patterns and by name within each. A pattern that matches
 * nothing here is tried among the files shipped with tandem. Free `found` with globfree, after a
 * failure too. */
int source_files(const data_source *, int part, const td_services *, glob_t *found,
                 td_error *error);

/* No file of the `count` sources may be both trained on and held out, by whatever names and
 * sources, and none may be named twice by one source. They lie `stride` bytes apart. */
int source_check_files(const void *sources, size_t count, size_t stride, const td_services *,
                       td_error *error);

#endif
