/* text.h - a growable string, and helpers for names, UTF-8 and numbers. */
#ifndef TD_BASE_TEXT_H
#define TD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem/error.h"
#include "tandem/match.h" /* td_match */

/* A string that grows. Zero-initialize it; td_text_free it.
 *
 *     td_text t = { 0 };
 *     td_text_print(&t, "%d layers", n);
 *     puts(td_text_get(&t));
 *     td_text_free(&t);
 *
 * Adding cannot fail half-way through an expression: out of memory sets `failed`, and everything
 * added after that is dropped. A caller who must not lose text checks `failed` once, at the end. */
typedef struct td_text {
    char  *data; /* 0-terminated; NULL until something was added */
    size_t size, room;
    bool   failed;
} td_text;

void        td_text_print(td_text *, const char *format, ...) TD_PRINTF(2, 3);
void        td_text_append(td_text *, const char *bytes, size_t size);
void        td_text_free(td_text *); /* empty again, and reusable */
/* Never NULL: "" while nothing was added. Valid until the next change. */
const char *td_text_get(const td_text *);

/* The candidate nearest to `name` by edit distance, for "did you mean ..?"; NULL if no candidate is
 * close enough. */
const char *td_nearest(const char *name, const char *const *candidates, size_t count);

/* For people: "12.3 MiB", "4.1B", "3m 20s". Each writes to `out` and returns it. */
char *td_human_bytes(char out[32], double bytes);
char *td_human_count(char out[32], double count);
char *td_human_time(char out[32], double seconds);

/* Whether all of `text` is valid UTF-8: no truncated, overlong or surrogate sequences. */
bool td_is_utf8(const char *text);
/* Replace each invalid byte with '?', in place. */
void td_make_utf8(char *text);
/* Replace characters that a terminal would obey with '?', in place: control characters, except for
 * newlines and tabs. Names come from files and from strangers. */
void td_text_printable(char *text);

#endif
