/* source.h - a named source of text: its training files, and its held-out text.
 *
 * Every data plugin that reads files has a list of these, each the first member of the plugin's own
 * struct for a source. Held-out text is in separate files, or is every n-th document of the
 * training files. */
#ifndef TD_DATA_COMMON_SOURCE_H
#define TD_DATA_COMMON_SOURCE_H

#include <glob.h>

#include "tandem/kind/data.h"

typedef struct data_source {
    const char *name;            /* in metrics and file names */
    td_strings  files, held_out; /* shell patterns */
    int64_t     held_out_every;  /* instead of held_out; 0: none */
} data_source;

/* Option rows of a struct whose first member is a data_source; `kinds` are the suffixes of files. */
#define SOURCE_OPTIONS(kinds)                                                                   \
    TD_OPTION_NEED_STRING(data_source, name, "name of the source, in metrics and shard files"), \
        TD_OPTION_FILES(data_source, files,                                                     \
                        "training files or patterns: " kinds ", plain, .gz or .zst"),           \
        TD_OPTION_FILES(data_source, held_out, "held-out files or patterns"),                   \
        TD_OPTION_INT(data_source, held_out_every, 0, 0, 1e9,                                   \
                      "hold out every n-th document of `files`, instead of held_out; 0: none")

enum { PART_TRAIN, PART_HELD_OUT };

bool source_holds_out(const data_source *);
/* Whether document `number` of the part's files, counted from 0, belongs to the part. */
bool source_has(const data_source *, int part, int64_t number);

/* Check the options: a name that can be part of a file name, training files, and at most one way of
 * holding out text. `i`: the source's index, for messages. */
int source_check(const data_source *, size_t i, td_error *error);

/* The files of a part, in the order of the patterns and by name within each. A pattern that matches
 * nothing from the working directory is tried among the files shipped with tandem. Free `found`
 * with globfree, even after a failure. */
int source_files(const data_source *, int part, const td_services *, glob_t *found,
                 td_error *error);

/* Whether a file has text, as the plugin with the options `config` reads it; true also if reading
 * it fails. NULL: every file that is not empty may have text. */
typedef struct source_reads {
    bool (*text)(const void *config, const char *path, const td_services *);
    const void *config;
} source_reads;

/* Check that every pattern has files that can be read, that no file of the `count` sources is both
 * trained on and held out, under any name, and that no source names a file twice. Everything wrong
 * is reported in one message, a line each. The sources are `stride` bytes apart. `held_out_only`:
 * training files of which nothing is held out are not looked for. A source is refused if its files
 * are all short and none has text. */
int source_check_files(const void *sources, size_t count, size_t stride, bool held_out_only,
                       source_reads, const td_services *, td_error *error);

#endif
