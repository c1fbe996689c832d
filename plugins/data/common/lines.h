/* lines.h - the lines of a text file, plain, .gz or .zst. A .txt file is one line. Damage is an
 * error, not an end of file. */
#ifndef TD_DATA_COMMON_LINES_H
#define TD_DATA_COMMON_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem/error.h"

typedef struct lines lines;

/* `path` must outlive the reader. NULL: `error` says why. */
lines *lines_open(const char *path, td_error *error);
void   lines_close(lines *);

/* The next line without its newline, valid until the next call. Returns 0, TD_EEND at the end, or
 * another code with `error`. */
int lines_next(lines *, const char **line, size_t *size, td_error *error);

const char *lines_path(const lines *);
bool        lines_whole(const lines *);  /* a .txt file */
int64_t     lines_number(const lines *); /* number of the last line read, from 1 */

#endif
