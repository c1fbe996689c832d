/* config.h - config files: composition, overrides, where each value came from, and binding to
 * parts.
 *
 * A config is a tree of groups, lists and scalars. `extends = "a.cfg"` (or a list) merges group by
 * group, later wins; `path.to.key=value` arguments win over files. A group whose `plugin` changes
 * to another plugin keeps only what the new one says and inherits nothing from the old plugin's
 * options.
 */
#ifndef TD_CONFIG_CONFIG_H
#define TD_CONFIG_CONFIG_H

#include <stdio.h>

#include "base/arena.h"
#include "base/text.h"
#include "config/errors.h"
#include "plugin/registry.h"

typedef struct td_config td_config; /* the whole tree */
typedef struct td_setting td_setting; /* one node of it */

/* Read files (merged in order) and apply overrides "path.to.key=value". What is wrong is in
 * `errors`. NULL if a file is; after a wrong override there is a config all the same, so that the
 * rest can be checked too. `search`: directory for files that are not found here and, with
 * `extends`, not beside the including file (the shipped configs/). */
td_config *td_config_load(const char *const *files, size_t n_files, const char *const *overrides,
                          size_t n_overrides, const char *search, td_errors *errors);
/* The same, with configs as text, too: merged after the files; messages call them "text 1", "text
 * 2". What a text extends is looked for in the working directory, then in `search`. */
typedef struct td_config_sources {
    const char *const *files, *const *texts, *const *overrides;
    size_t             n_files, n_texts, n_overrides;
    const char        *search;
} td_config_sources;
td_config *td_config_read(const td_config_sources *, td_errors *errors);
void       td_config_free(td_config *);
td_arena  *td_config_arena(td_config *);

/* The value at "model.attention.heads", or NULL. */
const td_setting *td_config_get(const td_config *, const char *path);
/* Whether the config says an integer there. */
bool            td_config_get_int(const td_config *, const char *path, int64_t *out);
/* "file.cfg:12", "command line" or "default of attention 'softmax'". */
const char       *td_setting_origin(const td_setting *);

/* Bind the group at `path` to a plugin of `kind`: check every key against its option table, fill
 * its config struct, run its `check`. All errors are added. `fallback`: plugin name if the group
 * does not name one (NULL: it must). 0, or TD_ECONFIG when at least one error was added. Marks the
 * keys as used and records the resolved values. */
int td_config_bind(td_config *, td_registry *, const char *path, const char *kind,
                   const char *fallback, td_part *out, td_errors *errors);

/* The same, with keys beside the plugin's own that belong to the host: `extra` describes them,
 * `extra_out` gets them. */
int td_config_bind_extra(td_config *, td_registry *, const char *path, const char *kind,
                         const char *fallback, const td_option *extra, void *extra_out,
                         td_part *out, td_errors *errors);

/* The plugins of all groups that were bound, groups in groups too, in order; NULL from the last
 * on. */
const td_plugin *td_config_plugin(const td_config *, size_t i);

/* Bind a group that is no plugin (train, evaluate, run) to a struct by its table. */
int td_config_bind_table(td_config *, td_registry *, const char *path, const td_option *table,
                         void *out, td_errors *errors);

/* Bind what stands outside of groups: `plugin_path`, directories that are searched after
 * --plugin-path. Before parts. */
int td_config_bind_top(td_config *, td_registry *, td_errors *errors);

/* After all groups are bound: keys that nobody read are errors, with the nearest known name. */
int td_config_check_unused(td_config *, td_errors *errors);

/* The resolved config, after binding: every option with its value, as a config file that gives the
 * same again. With `origins`, each line ends in a comment that says where the value came from. */
void td_config_print(const td_config *, bool origins, td_text *out);

/* One line per key that differs: "model.attention.heads: 8 -> 16". Both bound. Gives the number of
 * differences. */
size_t td_config_diff(const td_config *a, const td_config *b, td_text *out);

/* Explain one key of a bound config: value, origin, type, default, range, owner, doc; or a group:
 * its plugin, and its keys with value and doc. False: no such key, and the nearest is in `out`. */
bool td_config_explain(const td_config *, const char *path, td_text *out);

#endif
