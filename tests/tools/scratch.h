/* scratch.h - a scratch directory with files, for tests of commands. */
#ifndef TESTS_TOOLS_SCRATCH_H
#define TESTS_TOOLS_SCRATCH_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tools/child.h"

static char directory[64];

static inline void put(const char *name, const char *format, ...) TD_PRINTF(2, 3);

/* Appends to a file below the scratch directory. */
static inline void put(const char *name, const char *format, ...)
{
    char    path[300], *above;
    FILE   *f;
    va_list args;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    above = td_path_directory(path);
    cr_assert_eq(td_make_directories(above, NULL), 0);
    free(above);
    f = fopen(path, "a");
    cr_assert(f);
    va_start(args, format);
    vfprintf(f, format, args);
    va_end(args);
    cr_assert_eq(fclose(f), 0);
}

#endif
