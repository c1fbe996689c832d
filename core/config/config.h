/* config.h - config files: composed, overridden, traced to their origins, bound to parts.
 *
 * A config is a tree of groups, lists and scalars. `extends = "a.cfg"` (or a list) puts other files
 * beneath this one; groups are merged key by key and the later value wins, overrides last (merge.h
 * explains a change of plugin). Binding then checks every key against the option tables of
 * the plugins that the groups name, and fills their config structs.
 *
 * Errors are collected, not returned one at a time: a config is loaded and bound completely, and
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
 * Everything that a config returns lives as long as the config. All calls are [main].
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

/* Read files, merged in order, then apply overrides "path.to.key=value". NULL if a file is
 * invalid or missing. An invalid override does not stop it: a config is still returned, so that
 * the rest can be checked. `search`: the directory (the shipped configs/) for files found
 * neither here nor, with `extends`, next to the file that extends them; may be NULL. */
td_config *td_config_load(const char *const *files, size_t n_files, const char *const *overrides,
                          size_t n_overrides, const char *search, td_errors *errors);
/* The same, with configs as text, too: merged after the files; messages call them "text 1", "text
 * 2". Files that a text extends are looked up in the working directory, then in `search`.
 *
 * The first `n_kept` of the files and texts were kept by a run, perhaps a stranger's: they must not
 * choose code or other configs, so `plugin_path` and `extends` in them are not followed (an
 * `extends` is noted, because no run writes one). Files that they name may lie beside them. A file
 * in the directory of a run always counts as kept. A directory in `files` stands for the config.cfg
 * in it. */
typedef struct td_config_sources {
    const char *const *files, *const *texts, *const *overrides;
    size_t      n_files, n_texts, n_overrides, n_kept;
    const char *search;
    bool        untrusted; /* bind no plugin_path, and note that there is one */
    /* where messages say that the overrides come from; must live as long as the config; NULL:
     * the command line */
    const char *origin;
} td_config_sources;
td_config *td_config_read(const td_config_sources *, td_errors *errors);

/* A config composed in layers, of which later ones override earlier ones: it begins empty. A layer
 * is a group with the keys of a config, a string that names a file as `extends` does, or a list of
 * strings. It is copied; the names of its files must outlive the config. */
td_config *td_config_new(const char *search, bool untrusted); /* NULL when out of memory */
void       td_config_lay(td_config *, const td_setting *layer, td_errors *errors);
/* Apply the override "path.to.key=value". `origin` is the value's origin in messages; NULL: the
 * command line. */
void td_config_lay_key(td_config *, const char *override, const char *origin, td_errors *errors);
void td_config_free(td_config *);
td_arena *td_config_arena(td_config *);

/* The value at "model.attention.heads", marked as used; NULL: no such key. */
const td_setting *td_config_get(const td_config *, const char *path);
/* "file.cfg:12", for the beginning of a message; for a default, the key itself. */
const char       *td_config_origin(const td_config *, const char *path);
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

/* The same for a group with keys that belong to the host, besides the plugin's own: `extra`
 * describes them, and `extra_out` gets them. */
int td_config_bind_extra(td_config *, td_registry *, const char *path, const char *kind,
                         const char *fallback, const td_option *extra, void *extra_out,
                         td_part *out, td_errors *errors);

/* Bind a group that names no plugin (train, evaluate, run) to a struct, by its table. */
int td_config_bind_table(td_config *, td_registry *, const char *path, const td_option *table,
                         void *out, td_errors *errors);

/* Before binding: forget the settings of a top-level group that a run kept, except for the keys
 * `but`, a list that ends with NULL. Settings from elsewhere stay. */
void td_config_forget_kept(td_config *, const char *group, const char *const *but);

/* The number of steps that TD_OPTION_IN_STEPS options refer to: the steps of the run, set before
 * such a group is bound. -1: a budget sets them, and they are not known before the data is open;
 * `derived` then says that they came from it. */
void td_config_set_steps(td_config *, int64_t steps, bool derived);

/* Bind a group again, now that the steps are known, replacing its earlier binding. */
int td_config_rebind(td_config *, td_registry *, const char *path, const char *kind, td_part *out,
                     td_errors *errors);

/* Show the option at `path` as a comment with this value: it was derived, not set. */
void td_config_note(td_config *, const char *path, const char *text, const char *origin);

/* After all groups are bound: add an error, with the nearest name, for each key at the top that
 * nothing has used. 0, or TD_ECONFIG. */
int td_config_check_unused(td_config *, td_errors *errors);

/* In place of binding, for a config that a run kept, which states every option: take the values as
 * they are written. No plugin is looked for, so it can be compared with td_config_diff, and
 * printed, whoever wrote it. */
void td_config_take_text(td_config *);

/* ---- after binding --------------------------------------------------------------------------- */

/* What the user should know about how it was bound, one line each: plugins that replace others, and
 * which of their options stay. "" if there is nothing. */
const char *td_config_notes(const td_config *);

/* The i-th plugin that a group was bound to, nested ones included, in order; NULL past the last. */
const td_plugin *td_config_plugin(const td_config *, size_t i);

/* The value of the option at `path` as text, also if it is the default. Returns NULL for an unknown
 * option. */
const char *td_config_value(const td_config *, const char *path);

/* Append every option with its value, as a config file that resolves to itself. With `origins`,
 * each line ends in a comment that says where its value came from. */
void td_config_print(const td_config *, bool origins, td_text *out);
/* The same without origins, naming the copies of files that were copied (td_config_move_file). */
void td_config_print_moved(const td_config *, td_text *out);
/* The same with origins, for a run to keep: it means the same from any directory, and values that
 * follow train.steps still follow it. */
void td_config_print_kept(const td_config *, td_text *out);
/* The same for a cell of a study, which another machine may run: the names of shipped files, and of
 * files that are not here, stay as they are. */
void td_config_print_cell(const td_config *, td_text *out);

/* The absolute path of the i-th file that the group's options name, of options that take a single
 * file; NULL past the last. */
const char *td_config_file(const td_config *, const char *group, size_t i);
/* The file was copied: the two functions above call it `name`. */
void        td_config_move_file(td_config *, const char *group, size_t i, const char *name);
/* Whether the option at a path, as td_config_diff prints it, names files. */
bool        td_config_names_file(const td_config *, const char *path);

/* Append a line per option that differs: "model.attention.heads: 8 -> 16". Returns how many do.
 * Where one of them was taken as text, an option that it lacks does not differ from its default. */
size_t td_config_diff(const td_config *a, const td_config *b, td_text *out);

/* Append a description of an option (value, origin, type, default, range, owner, doc) or of a
 * group (its plugin and its keys). For an unknown key, append the nearest known one and return
 * false. */
bool td_config_explain(const td_config *, const char *path, td_text *out);

#endif
