/* text.h - a growable string, and small helpers for names and numbers. */
#ifndef TD_BASE_TEXT_H
#define TD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem/error.h"
#include "tandem/match.h" /* td_match */

/* Zero-initialize; `data` is always 0-terminated once something was added. After running out of
 * memory, `failed` is set and further adds do nothing. */
typedef struct td_text {
    char  *data;
    size_t size, room;
    bool   failed;
} td_text;

void        td_text_print(td_text *, const char *format, ...) TD_PRINTF(2, 3);
void        td_text_append(td_text *, const char *bytes, size_t size);
void        td_text_free(td_text *);
/* Its characters, or "". */
const char *td_text_get(const td_text *);

/* The candidate nearest to `name` by edit distance, or NULL if none is near enough to be meant. */
const char *td_nearest(const char *name, const char *const *candidates, size_t count);

/* "12.3 MiB", "4.1e12", "3m 20s": for people. Each writes to `out` and returns it. */
char *td_human_bytes(char out[32], double bytes);
char *td_human_count(char out[32], double count);
char *td_human_time(char out[32], double seconds);

/* Whether all of `text` is UTF-8: no cut-off, overlong or surrogate sequences. */
bool td_is_utf8(const char *text);
/* Bytes that are none become '?'. */
void td_make_utf8(char *text);

#endif
