/* fit_table.h - points for fits as named columns, from a CSV file or from runs.
 *
 * A CSV file follows RFC 4180: a header, comma-separated fields, quotes around fields with commas,
 * quotes or line ends in them, CRLF or LF. Files come from strangers: anything ambiguous is refused
 * with its line, and every field that is used as a number must be one.
 */
#ifndef TD_STUDY_FIT_TABLE_H
#define TD_STUDY_FIT_TABLE_H

#include <stdint.h>

#include "base/arena.h"
#include "base/text.h"

typedef struct td_fit_table {
    const char  *source; /* the file's path, or "runs" */
    const char **names;  /* [columns] */
    const char **cells;  /* [rows][columns]; "" if unknown */
    int64_t     *lines;  /* [rows]: lines in the file; NULL: the rows are runs, named by column 0 */
    int64_t      columns, rows;
    td_text      notes; /* a line each */
    td_arena    *arena;
    char        *text; /* the file, which the cells point into */
} td_fit_table;

/* Free `out` even after a failure. TD_EFORMAT with "FILE:LINE: ..". */
int  td_fit_table_read(const char *path, td_fit_table *out, td_error *error);
/* The same for text of `size` bytes followed by a 0. The table takes ownership of the text. */
int  td_fit_table_parse(const char *source, char *text, size_t size, td_fit_table *out,
                        td_error *error);
/* The same for runs, or their checkpoints: columns "run", "family", "parameters", "tokens",
 * "flops", "nll" (held-out), then any other scores that evaluations left there, such as "boolq
 * acc". Runs belong to one family if their configs differ only in numbers, names and places: in
 * size, budget and seed, but not in a plugin or a switch. */
int  td_fit_table_runs(const char *const *runs, size_t count, td_fit_table *out, td_error *error);
void td_fit_table_free(td_fit_table *);

/* The column of that name; -1 with `error`, which suggests the nearest. */
int64_t     td_fit_table_column(const td_fit_table *, const char *name, td_error *error);
const char *td_fit_table_cell(const td_fit_table *, int64_t row, int64_t column);
/* The number in a cell, which must be positive and finite. */
int         td_fit_table_number(const td_fit_table *, int64_t row, int64_t column, double *out,
                                td_error *error);

#endif
