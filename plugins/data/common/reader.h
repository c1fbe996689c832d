/* reader.h - documents of text files: .jsonl (one object per line) or .txt (one document), each
 * plain, .gz or .zst. */
#ifndef TD_DATA_COMMON_READER_H
#define TD_DATA_COMMON_READER_H

#include <stddef.h>
#include <stdint.h>

#include "tandem/host.h"

typedef struct reader reader;

/* `key`: of the text in a JSON object. `bad`: how many bad lines may still be skipped, shared by
 * several files. */
reader *reader_open(const char *path, const char *key, int64_t *bad, const td_services *,
                    td_error *error);
void    reader_close(reader *);

/* The next document, valid until the next call. 0, TD_EEND, or another code with `error`. */
int reader_next(reader *, const char **text, size_t *size, td_error *error);

#endif
