/* search_path.c - the directories where modules are looked for, in order. */
#include "plugin/search_path.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "base/file.h"

/* By opening it: permissions are the usual problem. */
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

static bool same_directory(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Whether the program runs with another user's rights than its caller's. */
static bool is_privileged(void) { return getauxval(AT_SECURE) != 0; }

/* The sticky bit of /tmp does not help: anybody may still put a module there. */
static void warn_of_strangers(const td_search_path *s, const char *directory)
{
    struct stat st;
    if (!stat(directory, &st) && st.st_mode & S_IWOTH)
        td_log_line(
            s->log, TD_LOG_WARN,
            "every user of this machine can write to the plugin directory '%s', and so choose "
            "the code that runs: use another, or chmod o-w it",
            directory);
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
    warn_of_strangers(s, directory);
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

/* The library's own modules are next to it, both in the build tree and when installed:
 * lib/libtandem.so, lib/tandem/plugins. So an installation can be moved as a whole. */
static void add_own(td_search_path *s)
{
    Dl_info info;
    bool    known = dladdr((void *)(uintptr_t)td_search_path_init, &info) && info.dli_fname;
    char   *directory = known ? td_path_directory(info.dli_fname) : NULL;
    char   *path = directory ? td_path_join(directory, "tandem/plugins") : NULL;
    /* without the bin/../lib that a program's run path has: messages name it */
    char   *real = path ? realpath(path, NULL) : NULL;
    if (path)
        add(s, real ? real : path);
    /* the caller may have named it, too, in another way: then it has an earlier place */
    for (size_t k = s->count; k-- > 0;)
        if (path && same_directory(s->at[k], real ? real : path))
            s->own = s->at[k];
    free(directory);
    free(path);
    free(real);
}

int td_search_path_init(td_search_path *s, const char *const *given, td_journal *log,
                        td_error *error)
{
    /* the earlier directory wins, so the order of these three is the order of precedence */
    s->log = log;
    if (is_privileged() && given && given[0])
        td_log_line(log, TD_LOG_WARN,
                    "--plugin-path and plugin_path are ignored in a setuid program");
    for (size_t k = 0; given && given[k] && !is_privileged(); k++) {
        if (td_search_path_check(given[k], error))
            return TD_EPLUGIN;
        add(s, given[k]);
    }
    s->given = s->count;
    add_environment(s, log);
    add_own(s);
    return 0;
}

bool td_search_path_is_own(const td_search_path *s, const char *directory)
{
    return s->own && same_directory(directory, s->own);
}

/* Appended like any other, and then moved to its place. */
int td_search_path_insert(td_search_path *s, const char *directory)
{
    size_t      at = s->given, last = s->count;
    const char *added;
    if (is_privileged() || !add(s, directory))
        return -1;
    added = s->at[last];
    memmove(s->at + at + 1, s->at + at, (last - at) * sizeof *s->at);
    s->at[at] = added;
    s->given++;
    return (int)at;
}
