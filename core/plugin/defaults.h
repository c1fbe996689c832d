/* defaults.h - plugins with every option at its default: for parts that a config does not name, for
 * tests and for programs without a config. */
#ifndef TD_PLUGIN_DEFAULTS_H
#define TD_PLUGIN_DEFAULTS_H

#include "base/arena.h"
#include "plugin/registry.h"

/* Parts in parts: more than any real plugin needs. A part whose default is itself would recurse
 * forever. */
enum { TD_DEEPEST_PART = 32 };

/* A config struct of the plugin, in the arena, with every option at its default. PART options
 * with a default are found and filled in the same way; required options are 0. NULL with
 * `error`. [main] */
void *td_options_defaults(td_registry *, const td_plugin *, td_arena *, td_error *error);

/* The same for a part by name: also finds the plugin. 0, or a negative code with `error`. [main] */
int td_part_defaults(td_registry *, const char *kind, const char *name, td_arena *, td_part *out,
                     td_error *error);

#endif
