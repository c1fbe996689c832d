/* prefix.h - the environment of a user with an installed tandem: a scratch directory with a prefix
 * in it, and shell commands there. */
#ifndef TESTS_TOOLS_PREFIX_H
#define TESTS_TOOLS_PREFIX_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static char directory[256];

/* Runs a shell command in which %1$s is the scratch directory; its output is written to a log
 * there. Returns system()'s status. */
static inline int shell(const char *format)
{
    char command[4096], logged[4400];
    int  n = snprintf(command, sizeof command, format, directory);
    cr_assert(n > 0 && n < (int)sizeof command);
    snprintf(logged, sizeof logged, "{ %s; } >>%s/log 2>&1", command, directory);
    return system(logged);
}

static inline char *read_scratch(const char *name)
{
    char     path[1000];
    td_error e = { 0 };
    char    *text;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    text = td_file_read(path, NULL, &e);
    cr_assert(text, "%s", e.text);
    return text;
}

#define MUST(command) \
    cr_assert_eq(shell(command), 0, "failed: %s\n%s", command, read_scratch("log"))

static inline void write_scratch(const char *name, const char *text)
{
    char  path[400];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    f = fopen(path, "w");
    cr_assert(f);
    cr_assert(fputs(text, f) >= 0);
    cr_assert(!fclose(f));
}

/* The scratch directory, /tmp/tandem-`name`-..., with the installed tree in prefix/. */
static inline void prefix_open(const char *name)
{
    snprintf(directory, sizeof directory, "/tmp/tandem-%s-XXXXXX", name);
    cr_assert(mkdtemp(directory));
    write_scratch("log", "");
    MUST("cmake --install $(dirname " TANDEM_BINARY ")/.. --prefix %1$s/prefix");
}

static inline void prefix_close(void) { td_remove_tree(directory, NULL); }

#endif
