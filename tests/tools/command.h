/* command.h - runs `tandem` for a test: takes words, checks exit code and output. */
#ifndef TESTS_TOOLS_COMMAND_H
#define TESTS_TOOLS_COMMAND_H

#include <stdarg.h>

#include "tools/child.h"

/* `tandem` with these arguments, split at blanks. */
static inline child tandem(const char *format, ...) TD_PRINTF(1, 2);

static inline child tandem(const char *format, ...)
{
    char        text[2000], *rest = NULL;
    const char *argv[40] = { TANDEM_BINARY };
    int         n = 1;
    va_list     args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        argv[n++] = word;
    return child_run(argv);
}

static inline void expect(int code, const char *out, const char *err, child c)
{
    cr_expect_eq(c.code, code, "exit code %d: %s", c.code, c.err);
    cr_expect(strstr(c.out, out), "no '%s' in:\n%s", out, c.out);
    cr_expect(strstr(c.err, err), "no '%s' in:\n%s", err, c.err);
    child_free(&c);
}

#endif
