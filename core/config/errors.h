/* errors.h - the errors of a config, collected so that they are reported together. */
#ifndef TD_CONFIG_ERRORS_H
#define TD_CONFIG_ERRORS_H

#include <stddef.h>

#include "base/text.h"

/* One message per line, each with file:line where it has one. */
typedef struct td_errors {
    td_text text;
    size_t  count;
} td_errors;

void td_errors_add(td_errors *, const char *format, ...) TD_PRINTF(2, 3);
void td_errors_free(td_errors *);

#endif
