/* defaults.h - plugins with every option at its default. */
#ifndef TD_PLUGIN_DEFAULTS_H
#define TD_PLUGIN_DEFAULTS_H

#include "base/arena.h"
#include "plugin/registry.h"

/* Parts nested deeper than this: a part that is its own default would never end. */
enum { TD_DEEPEST_PART = 32 };

/* A config struct of the plugin with all defaults (PART options with a default name are resolved
 * and filled too; required options are left 0). Memory from the arena. NULL with `error`. */
void *td_options_defaults(td_registry *, const td_plugin *, td_arena *, td_error *error);

/* A part by name with all defaults: for tests, and for embedders. */
int td_part_defaults(td_registry *, const char *kind, const char *name, td_arena *, td_part *out,
                     td_error *error);

#endif
