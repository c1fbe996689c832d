/* run_files.h - the files that runs leave, for tests that read or compare them. */
#ifndef TESTS_TOOLS_RUN_FILES_H
#define TESTS_TOOLS_RUN_FILES_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* DIRECTORY/RUN/NAME, which must be there; free() it. */
static inline char *run_file(const char *directory, const char *run, const char *name, size_t *size)
{
    char     path[500];
    td_error e = { 0 };
    char    *text;
    snprintf(path, sizeof path, "%s/%s/%s", directory, run, name);
    text = td_file_read(path, size, &e);
    cr_assert(text, "%s", e.text);
    return text;
}

static inline void expect_same_in_runs(const char *directory, const char *one, const char *other,
                                       const char *name)
{
    size_t n, m;
    char  *x = run_file(directory, one, name, &n), *y = run_file(directory, other, name, &m);
    cr_expect(n == m && !memcmp(x, y, n), "'%s' differs between %s and %s", name, one, other);
    free(x);
    free(y);
}

#endif
