/* search_path.h - the directories where modules are looked for, in order.
 *
 * First the caller's (--plugin-path, then the config's plugin_path), then $TANDEM_PLUGIN_PATH, then
 * the directory of the modules that come with this library. A directory appears once, where it came
 * first. In a setuid program only the last counts: its caller must not choose the code that it runs.
 */
#ifndef TD_PLUGIN_SEARCH_PATH_H
#define TD_PLUGIN_SEARCH_PATH_H

#include "base/arena.h"
#include "base/log.h"

typedef struct td_search_path {
    td_arena    *arena; /* the registry's: owns the texts */
    const char **at;    /* NULL at the end; NULL: none yet */
    size_t       count;
    size_t       given; /* of these, the caller's */
    const char  *own;   /* one of `at`: where the modules lie that come with this library */
    td_journal  *log;
} td_search_path;

/* 0, or TD_EPLUGIN with a message if the directory cannot be read. */
int td_search_path_check(const char *directory, td_error *error);

/* The caller's directories (NULL at the end; NULL: none), then those of the environment and of the
 * installation. It is an error if one of the caller's cannot be read, but only a warning if it is
 * one of the environment's, which may be meant for another machine. */
int td_search_path_init(td_search_path *, const char *const *given, td_journal *log,
                        td_error *error);

/* Whether a directory is the library's own, whose modules need not be announced. */
bool td_search_path_is_own(const td_search_path *, const char *directory);

/* Insert a directory after the caller's. Returns its index, or -1 if it was there already (or
 * memory ran out): nothing has changed then. */
int td_search_path_insert(td_search_path *, const char *directory);

#endif
