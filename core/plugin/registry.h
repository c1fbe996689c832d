/* registry.h - finds, loads and keeps modules and their plugins.
 *
 * Nothing is loaded before it is requested. To find the plugin of kind K and name N, the registry
 * goes through the search path (see search_path.h). In each directory it tries the file `K-N.so`,
 * then every other `*.so` whose bytes mention both K and N. The first directory that has the plugin
 * wins. Two files in one directory that have it are an error, and so is a file `K-N.so` that is
 * refused: in both cases a silent choice could run a plugin that was not intended.
 *
 *     td_registry     *r = td_registry_new(NULL, log, &error);
 *     const td_plugin *p = r ? td_registry_find(r, TD_NORM_KIND, "rms", &error) : NULL;
 *     if (!p)
 *         return error.code;
 *
 * A registry and its results live until td_registry_free; the modules' code stays loaded even then.
 * All calls are [main].
 */
#ifndef TD_PLUGIN_REGISTRY_H
#define TD_PLUGIN_REGISTRY_H

#include "base/log.h"
#include "plugin/kinds.h"
#include "tandem/plugin.h"

typedef struct td_registry td_registry;

/* A loaded module. */
typedef struct td_loaded {
    const char      *path;   /* NULL: the core's built-in plugins */
    const td_module *module; /* the host's copy */
} td_loaded;

/* `paths`: directories to search first, NULL at the end; NULL: none. The directories of the
 * environment and of the installation follow. Built-in ops are registered; nothing is loaded yet. A
 * directory of `paths` that cannot be read is an error. NULL with `error`. */
td_registry *td_registry_new(const char *const *paths, td_journal *log, td_error *error);
void         td_registry_free(td_registry *);

/* Search another directory, after `paths` and before the environment's. A directory that is
 * searched already keeps its place, and plugins found before are kept. */
void td_registry_add_path(td_registry *, const char *directory);

/* Load one module by its file. Its plugins come before any of the same name on the search path.
 * NULL with `error`. */
const td_module *td_registry_add_module(td_registry *, const char *path, td_error *error);

/* 0, or TD_EPLUGIN with a message if a directory cannot be read. */
int td_registry_check_path(const char *directory, td_error *error);

/* The plugin of `kind` ("attention/1") named `name`, loading modules as needed. NULL with an
 * error that has the nearest name, the directories searched and why files were refused. The
 * struct is the host's copy: hooks that the module's older headers did not have are NULL. */
const td_plugin *td_registry_find(td_registry *, const char *kind, const char *name,
                                  td_error *error);

/* Before td_registry_scan loads files that were not requested by name and do not come with the
 * library, this decides which of them must not be loaded: why[k], NULL before, becomes a
 * message, to be freed. */
typedef void td_registry_screen(void *argument, const char *const *paths, size_t count, char **why);
void         td_registry_set_screen(td_registry *, td_registry_screen *, void *argument);

/* Load every module of the search path. Returns 0: files that are refused do not stop it, and are
 * listed by td_registry_refusal. */
int td_registry_scan(td_registry *);

/* Load every module whose bytes mention the kind. */
int td_registry_scan_kind(td_registry *, const char *kind);

/* The plugins found so far (all, after a scan), by kind and name. Indices are valid until the next
 * call that loads something. */
size_t           td_registry_count(const td_registry *);
const td_plugin *td_registry_plugin(const td_registry *, size_t i);
/* Where a plugin came from; its path is NULL if it is built in. */
const td_loaded *td_registry_module(const td_registry *, const td_plugin *);

/* Whether a module's file is in the directory of the modules that come with the library. */
bool td_registry_is_own(const td_registry *, const char *path);

/* Why files were refused: one message each, with the file's name. */
size_t      td_registry_refusals(const td_registry *);
const char *td_registry_refusal(const td_registry *, size_t i);

/* The directories searched, in order; NULL at the end. */
const char *const *td_registry_paths(const td_registry *);

#endif
