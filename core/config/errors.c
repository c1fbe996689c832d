/* errors.c - the errors of a config, collected so that they are reported together. */
#include "config/errors.h"

#include <stdarg.h>
#include <stdio.h>

void td_errors_add(td_errors *e, const char *format, ...)
{
    char    line[3000]; /* a list of values is quoted whole, so messages need a limit */
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    td_text_printable(line);
    td_text_print(&e->text, "%s%s", e->count ? "\n" : "", line);
    e->count++; /* even if the text ran out of memory: no error may go unnoticed */
}

void td_errors_free(td_errors *e)
{
    td_text_free(&e->text);
    e->count = 0;
}
