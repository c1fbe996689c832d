/* object.h - a line as a JSON object, and the handling of lines that are not. */
#ifndef TD_DATA_COMMON_OBJECT_H
#define TD_DATA_COMMON_OBJECT_H

#include <jansson.h>

#include "lines.h"
#include "tandem/host.h"

enum { OBJECT_WHY = 300 }; /* maximum bytes of a reason */

/* NULL: the line is bad, and `why` says why. Otherwise json_decref it. `keys`, ended by NULL:
 * those whose values matter, at most OBJECT_KEYS, none of them twice in one object. The rest of
 * the line may have values that only some writers of JSON write: NaN, numbers that no double can
 * hold, other keys twice. All numbers may read as 0. */
enum { OBJECT_KEYS = 16 };
json_t *object_read(const char *line, size_t size, const char *const *keys, char why[OBJECT_WHY]);

/* Append " (keys: 'a', 'b')" to `why`, with as many of the object's keys as fit. */
void object_list_keys(json_t *, char why[OBJECT_WHY]);

/* Replace control characters: text from a file may contain anything, and messages are shown on
 * terminals. */
void object_printable(char *text);

/* A line of nothing but spaces is neither data nor an error. */
bool object_blank(const char *line, size_t size);

/* Lines that cannot be used. */
typedef struct bad_lines {
    int64_t           *left; /* how many more may be skipped, over all files */
    const td_services *services;
    int64_t            blank; /* blank lines in a row */
    double             reported;
} bad_lines;

/* A blank line was skipped. A file of only blank lines takes long, too, and that is logged. */
void object_skip_blank(bad_lines *, const lines *);

/* Skip line `number` of a file: log it, or fail if no more may be skipped. `what` could not be
 * read from it, because of `why`; `advice` names other possible causes besides the line. */
int object_skip(const bad_lines *, const lines *, int64_t number, const char *what, const char *why,
                const char *advice, td_error *error);

#endif
