/* errors.h - the errors of a config, collected so that they are reported together: a user who fixes
 * a config wants to see all of them at once. */
#ifndef TD_CONFIG_ERRORS_H
#define TD_CONFIG_ERRORS_H

#include <stddef.h>

#include "base/text.h"

/* Zero-initialize. */
typedef struct td_errors {
    td_text text; /* a message per line, with "file:line: " in front where there is one */
    size_t  count;
} td_errors;

/* Add one message, cut at 3000 bytes. It must not contain a newline. */
void td_errors_add(td_errors *, const char *format, ...) TD_PRINTF(2, 3);
void td_errors_free(td_errors *); /* empty again, and reusable */

#endif
