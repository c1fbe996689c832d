/* search_path.c - the directories where modules are looked for, in order. */
#include "plugin/search_path.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* By opening it: permissions are what usually goes wrong. */
int td_search_path_check(const char *directory, td_error *error)
{
    DIR *d = opendir(directory);
    if (!d)
        return td_fail(error, TD_EPLUGIN,
                       "cannot look for plugins in '%s': %s; name a directory that can be read",
                       directory, strerror(errno));
    closedir(d);
    return 0;
}

/* False if it is there already, or memory ran out. */
static bool add(td_search_path *s, const char *directory)
{
    const char **larger, *copy;
    for (size_t k = 0; k < s->count; k++)
        if (!strcmp(s->at[k], directory))
            return false;
    /* A new array each time: a handful of directories is not worth a capacity. */
    larger = td_arena_alloc(s->arena, (s->count + 2) * sizeof *larger);
    copy = td_arena_copy(s->arena, directory);
    if (!larger || !copy)
        return false;
    if (s->count)
        memcpy(larger, s->at, s->count * sizeof *larger);
    larger[s->count++] = copy;
    s->at = larger;
    return true;
}

static void add_environment(td_search_path *s, td_journal *log)
{
    /* NULL in a setuid program: its caller must not choose the code it runs */
    const char *list = secure_getenv("TANDEM_PLUGIN_PATH");
    char       *copy = list ? td_arena_copy(s->arena, list) : NULL, *rest = copy;
    for (char *directory; copy && (directory = strsep(&rest, ":")) != NULL;) {
        td_error e = { 0 };
        if (!*directory) /* "a::b" */
            continue;
        if (td_search_path_check(directory, &e))
            td_log_line(log, TD_LOG_WARN, "TANDEM_PLUGIN_PATH: %s", e.text);
        add(s, directory);
    }
}

/* The modules that come with the library lie beside it, in the build tree and when installed:
 * lib/libtandem.so, lib/tandem/plugins. So an installation can be moved as a whole. */
static void add_own(td_search_path *s)
{
    Dl_info info;
    bool    known = dladdr((void *)(uintptr_t)td_search_path_init, &info) && info.dli_fname;
    char   *directory = known ? td_path_directory(info.dli_fname) : NULL;
    char   *path = directory ? td_path_join(directory, "tandem/plugins") : NULL;
    if (path)
        add(s, path);
    free(directory);
    free(path);
}

int td_search_path_init(td_search_path *s, const char *const *given, td_journal *log,
                        td_error *error)
{
    /* the earlier directory wins, so the order of these three is the order of precedence */
    for (size_t k = 0; given && given[k]; k++) {
        if (td_search_path_check(given[k], error))
            return TD_EPLUGIN;
        add(s, given[k]);
    }
    s->given = s->count;
    add_environment(s, log);
    add_own(s);
    return 0;
}

/* Appended like any other, and then moved to its place. */
int td_search_path_insert(td_search_path *s, const char *directory)
{
    size_t      at = s->given, last = s->count;
    const char *added;
    if (!add(s, directory))
        return -1;
    added = s->at[last];
    memmove(s->at + at + 1, s->at + at, (last - at) * sizeof *s->at);
    s->at[at] = added;
    s->given++;
    return (int)at;
}
