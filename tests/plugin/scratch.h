/* scratch.h - shared by the tests of the plugin host: a temporary directory for modules, copies of
 * fixtures in it, the real command. */
#ifndef TEST_PLUGIN_SCRATCH_H
#define TEST_PLUGIN_SCRATCH_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"

#define FIXTURE(name) TANDEM_FIXTURES "/modules/" name

typedef struct scratch {
    char path[64];
} scratch;

static inline scratch scratch_new(void)
{
    scratch s = { "/tmp/tandem-plugin-XXXXXX" };
    cr_assert(mkdtemp(s.path));
    return s;
}

static inline void scratch_free(scratch *s) { cr_assert(!td_remove_tree(s->path, NULL)); }

static inline const char *scratch_path(const scratch *s, const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", s->path, name);
    return out;
}

static inline char *read_all(const char *path, size_t *size)
{
    td_error e = { 0 };
    char    *data = td_file_read(path, size, &e);
    cr_assert(data, "%s", e.text);
    return data;
}

static inline void write_all(const scratch *s, const char *name, const void *data, size_t size)
{
    char     path[256];
    td_error e = { 0 };
    cr_assert(!td_file_write(scratch_path(s, name, path), data, size, &e), "%s", e.text);
}

static inline void copy_to(const scratch *s, const char *from, const char *name)
{
    size_t size;
    char  *data = read_all(from, &size);
    write_all(s, name, data, size);
    free(data);
}

/* Exit code of the tool with these arguments; `said` receives everything that it printed. */
static inline int run_tool(const char *arguments, char *said, size_t room)
{
    char  command[1024];
    FILE *f;
    int   status;
    snprintf(command, sizeof command, "'%s' %s 2>&1", TANDEM_BINARY, arguments);
    f = popen(command, "r");
    cr_assert(f);
    said[fread(said, 1, room - 1, f)] = 0;
    while (fgetc(f) != EOF)
        ;
    status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
