/* reader.h - the documents of a text file: .jsonl (an object per line, a document each) or .txt
 * (one document), plain, .gz or .zst. Anything else, damage included, is an error and not an end of
 * file. */
#ifndef TD_DATA_COMMON_READER_H
#define TD_DATA_COMMON_READER_H

#include <stddef.h>
#include <stdint.h>

#include "tandem/host.h"

typedef struct reader reader;

/* `key` is the key of the text in a JSON object; it and `path` must outlive the reader. `bad`: how
 * many bad lines may still be skipped, possibly shared by several files. NULL: `error` says why. */
reader *reader_open(const char *path, const char *key, int64_t *bad, const td_services *,
                    td_error *error);
void    reader_close(reader *);

/* The next document that is not empty, valid until the next call. Returns 0, TD_EEND at the end, or
 * another code with `error`. */
int reader_next(reader *, const char **text, size_t *size, td_error *error);

#endif
