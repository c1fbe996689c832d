/* config.h - config files: composed, overridden, traced to their origins, bound to parts.
 *
 * A config is a tree of groups, lists and scalars. `extends = "a.cfg"` (or a list) puts other files
 * beneath this one; groups are merged key by key and the later value wins, overrides last (merge.h
 * explains a change of plugin). Binding then checks every key against the option tables of
 * the plugins that the groups name, and fills their config structs.
 *
 * Errors are collected, not returned one at a time: a config is loaded and bound to its end, and
 * reported on once.
 *
 *     td_errors  errors = { 0 };
 *     td_part    loss;
 *     td_config *c = td_config_load(&file, 1, overrides, n, shipped, &errors);
 *     if (c && !td_config_bind(c, registry, "loss", TD_LOSS_KIND, NULL, &loss, &errors))
 *         td_config_check_unused(c, &errors);
 *     if (errors.count)
 *         fputs(td_text_get(&errors.text), stderr);
 *     td_config_free(c);
 *
 * All that a config hands out lives as long as it does. All calls are [main].
 */
#ifndef TD_CONFIG_CONFIG_H
#define TD_CONFIG_CONFIG_H

#include <stdio.h>

#include "base/arena.h"
#include "base/text.h"
#include "config/errors.h"
#include "config/setting.h"
#include "plugin/registry.h"

typedef struct td_config td_config;

/* ---- loading --------------------------------------------------------------------------------- */

/* Read files, merged in order, then apply overrides "path.to.key=value". NULL if a file is wrong or
 * missing. A wrong override does not stop it: there is a config all the same, so that the rest can
 * be checked too. `search`: the directory (the shipped configs/) for files that are not here and,
 * with `extends`, not beside the file that extends them; NULL: none. */
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

/* The value at "model.attention.heads", marked as used; NULL: no such key. */
const td_setting *td_config_get(const td_config *, const char *path);
/* The same for an integer; false if there is no integer at the path. */
bool              td_config_get_int(const td_config *, const char *path, int64_t *out);

/* ---- binding --------------------------------------------------------------------------------- */

/* Bind the keys outside of groups: `plugin_path`, directories searched after --plugin-path. Call it
 * before binding parts. 0, or TD_ECONFIG if errors were added. */
int td_config_bind_top(td_config *, td_registry *, td_errors *errors);

/* Bind the group at `path` to a plugin of `kind`: find the plugin that it names, or `fallback`
 * (NULL: the group must name one), check every key against the plugin's options, fill its config
 * struct, run its `check`. 0, or TD_ECONFIG if errors were added; `out` is {NULL, NULL} then. */
int td_config_bind(td_config *, td_registry *, const char *path, const char *kind,
                   const char *fallback, td_part *out, td_errors *errors);

/* The same for a group with keys that belong to the host, beside the plugin's own: `extra`
 * describes them, and `extra_out` gets them. */
int td_config_bind_extra(td_config *, td_registry *, const char *path, const char *kind,
                         const char *fallback, const td_option *extra, void *extra_out,
                         td_part *out, td_errors *errors);

/* Bind a group that names no plugin (train, evaluate, run) to a struct, by its table. */
int td_config_bind_table(td_config *, td_registry *, const char *path, const td_option *table,
                         void *out, td_errors *errors);

/* After all groups are bound: add an error, with the nearest name, for each key at the top that
 * nothing has used. 0, or TD_ECONFIG. */
int td_config_check_unused(td_config *, td_errors *errors);

/* ---- after binding --------------------------------------------------------------------------- */

/* Plugin i of those that groups were bound to, nested ones too, in order; NULL past the last. */
const td_plugin *td_config_plugin(const td_config *, size_t i);

/* Append every option with its value, as a config file that resolves to itself. With `origins`,
 * each line ends in a comment that says where its value came from. */
void td_config_print(const td_config *, bool origins, td_text *out);

/* Append a line per option that differs: "model.attention.heads: 8 -> 16". Returns how many do. */
size_t td_config_diff(const td_config *a, const td_config *b, td_text *out);

/* Append what is known of an option (value, origin, type, default, range, owner, doc) or of a group
 * (its plugin, and its keys). False if there is no such key: then the nearest one is appended. */
bool td_config_explain(const td_config *, const char *path, td_text *out);

#endif
