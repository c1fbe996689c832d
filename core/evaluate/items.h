/* items.h - the items of a data set, as JSON objects, read from the usual file formats of data
 * sets.
 *
 *     jsonl      an object per line
 *     json       a list of objects, at `rows` or the whole file; or an object of texts
 *     csv, tsv   the first line has the names, unless `columns` does; every field is a text
 *     lines      files read side by side: line k of each is a field of item k
 *     whole      each file is one item, with its text
 *
 * Every item also has @file, the file's name without folders and suffixes, and @folder, the folder
 * that contains it.
 */
#ifndef TD_EVALUATE_ITEMS_H
#define TD_EVALUATE_ITEMS_H

#include <jansson.h>

#include "tandem/plugin.h"

typedef enum td_items_format {
    TD_ITEMS_BY_NAME, /* by the file's suffix */
    TD_ITEMS_JSONL,
    TD_ITEMS_JSON,
    TD_ITEMS_CSV,
    TD_ITEMS_TSV,
    TD_ITEMS_LINES,
    TD_ITEMS_WHOLE
} td_items_format;

typedef struct td_items_spec {
    const char *directory; /* base of relative paths; NULL: none */
    td_strings  files;     /* names or shell patterns */
    int64_t     format;    /* td_items_format */
    td_strings  columns;
    const char *rows; /* path to the list within a JSON file; "": all of it */
    /* only items whose field `split_field` is `split`; "": all */
    const char *split_field, *split;
} td_items_spec;

typedef struct td_items {
    json_t *all; /* a list of objects */
} td_items;

/* Files that do not exist or are malformed are errors that name file and line. */
int  td_items_read(const td_items_spec *, td_items *, td_error *error);
void td_items_free(td_items *);

/* "items.jsonl:7", where an item was read, for messages. */
const char *td_items_place(const json_t *item);

/* Parses a text as if it were a file named `name`; td_items_read does this for each file. */
int td_items_parse(const td_items_spec *, const char *name, const char *text, size_t size,
                   json_t *into, td_error *error);

#endif
