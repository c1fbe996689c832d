/* module.h - is this file a module that this host may load? Checked before any of its code runs. */
#ifndef TD_PLUGIN_MODULE_H
#define TD_PLUGIN_MODULE_H

#include "base/arena.h"
#include "base/text.h"
#include "tandem/plugin.h"

/* Reads the file's ELF headers and its `tandem_module` without running anything. 0, or TD_EPLUGIN
 * with a message. */
int td_module_inspect(const char *path, td_error *error);

/* How many symbols it exports beside `tandem_module`, weak ones not counted; the first names are
 * added. */
size_t td_module_exports(const char *path, td_text *names);

/* Whether the file's bytes hold both texts, each with a 0 behind it: else it cannot offer that
 * plugin. `name` NULL: any of the kind. */
bool td_module_mentions(const char *path, const char *kind, const char *name);

/* Loads it, checks its plugins and their option tables. The struct is the host's copy. NULL with
 * `error`. */
const td_module *td_module_load(const char *path, td_arena *, td_error *error);

/* Whether loading the file changes the processor's floating-point mode (flush-to-zero): the host
 * restores it. */
bool td_module_changes_mode(const char *path, td_error *error);

/* The name of a hook of the plugin's struct that the host needs and that is NULL or not there;
 * NULL: none is missing. */
const char *td_kind_missing_hook(const td_plugin *);

/* The plugin as the host's own zeroed struct of `size` bytes. */
const td_plugin *td_plugin_copy(const td_plugin *, size_t size, td_arena *);

#endif
