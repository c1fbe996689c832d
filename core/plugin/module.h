/* module.h - loading a module: one shared object, its description and its plugins.
 *
 * Modules are loaded with RTLD_NOW | RTLD_LOCAL and never closed: plugins are pointers into them.
 * A file that plugin/inspect.h refuses is never loaded.
 */
#ifndef TD_PLUGIN_MODULE_H
#define TD_PLUGIN_MODULE_H

#include "base/arena.h"
#include "plugin/inspect.h"
#include "tandem/plugin.h"

/* Inspect, load, and validate all its plugins. The struct is the host's copy, in the arena, with
 * "?" for texts that the module left out. NULL with `error`. [main] */
const td_module *td_module_load(const char *path, td_arena *, td_error *error);

/* The file of the loaded module that this address of code or data belongs to; NULL: none. [any,
 * signal handlers too] */
const char *td_module_at(const void *address);

/* A plugin as a zeroed struct of `size` bytes, in the host's layout of its kind: hooks that an
 * older module does not know are NULL. NULL when out of memory. */
const td_plugin *td_plugin_copy(const td_plugin *, size_t size, td_arena *);

#endif
