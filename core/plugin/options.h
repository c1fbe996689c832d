/* options.h - option tables at work: defaults, single values, descriptions. Binding a config to
 * parts is config/bind.h. */
#ifndef TD_PLUGIN_OPTIONS_H
#define TD_PLUGIN_OPTIONS_H

#include "base/arena.h"
#include "base/text.h"
#include "plugin/registry.h"

enum {
    TD_MOST_OPTIONS = 200, /* of one table */
    TD_DEEPEST_PART = 32   /* parts in parts: one that is its own default has no end */
};

/* A config struct of the plugin with all defaults (PART options with a default name are resolved
 * and filled too; required options are left 0). Memory from the arena. NULL with `error`. */
void *td_options_defaults(td_registry *, const td_plugin *, td_arena *, td_error *error);

/* A part by name with all defaults: for tests, and for embedders. */
int td_part_defaults(td_registry *, const char *kind, const char *name, td_arena *, td_part *out,
                     td_error *error);

/* Row `i` of a table compiled with rows of `option_size` bytes (older ones are shorter): copied to
 * `out`, missing fields 0. False at the end of the table. */
bool td_option_row(const td_option *table, size_t option_size, size_t i, td_option *out);

/* Store the default of a single value in its field; of parts and lists nothing. */
void td_option_default(const td_option *, char *field);

/* "int 1 .. 4096, default 8": for help, reference pages and messages. */
void td_option_describe(const td_option *, td_text *out);

#endif
