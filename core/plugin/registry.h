/* registry.h - finds, checks and holds modules and their plugins.
 *
 * Search for kind K, name N: in each directory of the search path (--plugin-path, the config's
 * plugin_path, $TANDEM_PLUGIN_PATH, the build or install directory) the file `K-N.so` and every
 * other `*.so` whose bytes mention both. The first directory that has it wins; two files of it that
 * have it are an error, and so is a file `K-N.so` that is refused. Modules are loaded with RTLD_NOW
 * | RTLD_LOCAL, checked before any of their code runs, and never closed.
 */
#ifndef TD_PLUGIN_REGISTRY_H
#define TD_PLUGIN_REGISTRY_H

#include "base/log.h"
#include "tandem/plugin.h"

typedef struct td_registry td_registry;

/* A loaded module. */
typedef struct td_loaded {
    const char      *path;
    const td_module *module; /* copied into the host's own struct */
} td_loaded;

/* `paths`: extra directories, first wins, NULL at the end; NULL: none. The environment's and the
 * installed directories are appended (environment not under elevated privileges). The built-in ops
 * are registered at once. [main] */
/* A directory of `paths` that cannot be read is an error; one of the environment is only told. */
td_registry *td_registry_new(const char *const *paths, td_journal *log, td_error *error);
void         td_registry_free(td_registry *);
/* One more directory, searched after `paths` and before the environment's; a directory that is
 * there already stays where it is. Plugins found before are kept. [main] */
void         td_registry_add_path(td_registry *, const char *directory);

/* One module by its file, before anything of its names is found elsewhere: its plugins come first.
 * NULL with `error`. [main] */
const td_module *td_registry_add_module(td_registry *, const char *path, td_error *error);

/* Whether a directory can be read: 0, or TD_EPLUGIN with a message. */
int td_registry_check_path(const char *directory, td_error *error);

/* The plugin of `kind` ("attention/1") named `name`, loading what is needed. NULL with an error
 * that names the nearest name, the directories searched and why files were refused. Its struct is
 * the host's copy: hooks that the module's older headers did not know are NULL. [main] */
const td_plugin *td_registry_find(td_registry *, const char *kind, const char *name,
                                  td_error *error);

/* Load every module of the search path. Refused ones are in td_registry_refusals. [main] */
int td_registry_scan(td_registry *);

/* Load every module whose bytes mention the kind ("kernels/1"). [main] */
int td_registry_scan_kind(td_registry *, const char *kind);

/* The plugins found so far (after a scan: all), sorted by kind and name. */
size_t           td_registry_count(const td_registry *);
const td_plugin *td_registry_plugin(const td_registry *, size_t i);
/* The module that a plugin came from; path NULL: built in. */
const td_loaded *td_registry_module(const td_registry *, const td_plugin *);

/* Files that are no usable modules, each with its message. */
size_t      td_registry_refusals(const td_registry *);
const char *td_registry_refusal(const td_registry *, size_t i);

/* The directories searched, in order; NULL at the end. */
const char *const *td_registry_paths(const td_registry *);

/* Kinds that this host knows: "attention/1" .., with one line each. NULL at the end of the list. */
typedef struct td_kind {
    const char *id, *name, *brief;
    size_t      size;
} td_kind;
const td_kind *td_kinds(void);

#endif
