/* load.c - reading a config: the files that it extends, and overrides. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "config/find.h"
#include "config/merge.h"
#include "config/parse.h"
#include "config/resolved.h"

/* A base that is reached along several paths (a diamond) is read each time. The number of files is
 * limited, because with ten files that each extend ten others it grows exponentially. */
enum { DEEPEST_CHAIN = 16, MOST_FILES = 1000 };

typedef struct reading {
    const char *path; /* as named, for messages */
    const char *real; /* without links and .., to compare */
} reading;

typedef struct loader {
    td_arena   *arena;
    const char *search;
    td_errors  *errors;
    td_text    *notes;                /* of what is not followed */
    size_t      files;                /* read so far, counting repetitions */
    reading     chain[DEEPEST_CHAIN]; /* files being read, each extended by the one before it */
    int         depth;
    bool        keeps; /* what is being read was kept by a run */
} loader;

static td_setting *load_file(loader *l, const char *path);

/* Origins are printed and saved: a name with a line break would end the comment that it is in. */
static bool is_plain(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name < 32 || *name == 127)
            return false;
    return true;
}

/* ---- finding files --------------------------------------------------------------------------- */

/* A config that extends standard input or a device would mean something else each time. */
static bool is_file(loader *l, const td_setting *v, const char *path)
{
    struct stat st;
    if (stat(path, &st) || S_ISREG(st.st_mode))
        return true; /* a missing one is reported by reading it */
    td_errors_add(l->errors, "%s:%d: extends: '%s' is not a regular file: name a config", v->file,
                  v->line, path);
    return false;
}

/* The path of an extended file: beside the file that extends it, then in the search directory. */
static const char *find_extended(loader *l, const td_setting *v, const char *from)
{
    /* next to "a.cfg" is "b.cfg", not "./b.cfg": messages show paths as a user would write them */
    char       *directory = strchr(from, '/') ? td_path_directory(from) : NULL;
    char       *beside = directory ? td_path_join(directory, v->text) : strdup(v->text);
    char       *shipped = l->search ? td_path_join(l->search, v->text) : NULL;
    const char *found = NULL;
    if (beside && td_file_exists(beside))
        found = td_arena_copy(l->arena, beside);
    else if (shipped && td_file_exists(shipped))
        found = td_arena_copy(l->arena, shipped);
    else
        td_errors_add(l->errors, "%s:%d: extends: there is no file '%s' beside this one%s%s",
                      v->file, v->line, v->text, l->search ? " or in " : "",
                      l->search ? l->search : "");
    free(directory);
    free(beside);
    free(shipped);
    return found && is_file(l, v, found) ? found : NULL;
}

/* "nano/redllm" for nano/redllm.cfg; NULL: neither is there. */
static const char *find_with_ending(loader *l, const char *path)
{
    const char *full = td_arena_print(l->arena, "%s.cfg", path);
    char       *shipped = full ? td_path_join(l->search, full) : NULL;
    const char *found = NULL;
    if (full && td_file_exists(full))
        found = full;
    else if (shipped && td_file_exists(shipped))
        found = td_arena_copy(l->arena, shipped);
    free(shipped);
    return found;
}

static void report_missing(loader *l, const char *path)
{
    char *near = td_config_near(path, l->search);
    td_errors_add(l->errors, "config '%s' was not found here or in '%s'%s%s%s", path, l->search,
                  near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    free(near);
}

/* RUN/config.cfg, if the path is the directory of a run. */
static const char *find_in_run(loader *l, const char *path)
{
    struct stat st;
    char       *inside = !stat(path, &st) && S_ISDIR(st.st_mode) ? td_path_join(path, "config.cfg")
                                                                 : NULL;
    const char *found = inside && td_file_exists(inside) ? td_arena_copy(l->arena, inside) : NULL;
    free(inside);
    return found;
}

/* The path of a file of the command line: here, then in the search directory. */
static const char *find_given(loader *l, const char *path)
{
    /* without a search directory a missing file is reported by reading it */
    bool        here = *path == '/' || !l->search || td_file_exists(path);
    char       *shipped = here ? NULL : td_path_join(l->search, path);
    const char *found = NULL;
    if (!td_is_utf8(path) || !is_plain(path)) /* it becomes part of origins */
        td_errors_add(l->errors, "command line: the config's file name '%s' %s: rename it", path,
                      is_plain(path) ? "is not valid UTF-8" : "has control characters");
    else if (here)
        found = td_arena_copy(l->arena, path);
    else if (shipped && td_file_exists(shipped))
        found = td_arena_copy(l->arena, shipped);
    else if (!(found = find_with_ending(l, path)))
        report_missing(l, path);
    free(shipped);
    return found;
}

/* Two names of one file count as one file: a cycle through a link is a cycle. */
static const char *real_path(loader *l, const char *path)
{
    char       *real = realpath(path, NULL);
    const char *copy = td_arena_copy(l->arena, real ? real : path);
    free(real);
    return copy ? copy : path;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The text of a file; free() it. NULL after adding an error. */
static char *read_text(loader *l, const char *path)
{
    td_error e = { 0 };
    size_t   size, line = 1;
    char    *text = td_file_read(path, &size, &e);
    if (!text) {
        td_errors_add(l->errors, "%s", e.text);
        return NULL;
    }
    if (strlen(text) == size) {
        if (!strncmp(text, "\xef\xbb\xbf", 3)) /* a byte-order mark, a syntax error to libconfig */
            memset(text, ' ', 3);
        return text;
    }
    /* libconfig would take the zero for the end; UTF-16 is full of zeros */
    for (const char *p = text; *p; p++)
        line += *p == '\n';
    td_errors_add(l->errors,
                  "%s:%zu: contains a zero byte, so the rest would not be read: save the config as "
                  "UTF-8 text",
                  path, line);
    free(text);
    return NULL;
}

/* Merge the files that `v`, the value of an `extends`, names into `base`. */
static void extend(loader *l, td_setting *base, const td_setting *v, const char *from)
{
    const char *path;
    td_setting *other;
    if (l->files > MOST_FILES) /* reported already: unwind without reading more */
        return;
    if (v->type == TD_SETTING_LIST) { /* in order: the later file wins */
        for (const td_setting *child = v->first; child; child = child->next)
            extend(l, base, child, from);
        return;
    }
    if (v->type == TD_SETTING_STRING && !is_plain(v->text)) {
        td_errors_add(l->errors,
                      "%s:%d: extends: the file name has control characters: rename the file",
                      v->file, v->line);
        return;
    }
    if (v->type != TD_SETTING_STRING || !*v->text) {
        td_errors_add(l->errors, "%s:%d: extends takes a file name or a list of them, not %s",
                      v->file, v->line,
                      v->type == TD_SETTING_STRING ? "an empty string" : td_setting_type_name(v));
        return;
    }
    path = find_extended(l, v, from);
    other = path ? load_file(l, path) : NULL;
    if (other)
        td_setting_merge(base, other, false);
}

/* Whether the file may be read now, that is, it is not being read already. */
static bool check_chain(loader *l, const char *path, const char *real)
{
    td_text chain = { 0 };
    int     k = 0;
    while (k < l->depth && strcmp(l->chain[k].real, real))
        k++;
    if (k == l->depth && l->depth < DEEPEST_CHAIN)
        return true;
    /* not a cycle, but a chain too long to be meant */
    if (k == l->depth) {
        td_errors_add(l->errors, "%s: extended through a chain of more than %d files", path,
                      DEEPEST_CHAIN);
        return false;
    }
    /* only the cycle itself: how it was reached does not matter */
    for (; k < l->depth; k++)
        td_text_print(&chain, "%s -> ", l->chain[k].path);
    td_errors_add(l->errors, "%s: extends itself: %s%s", path, td_text_get(&chain), path);
    td_text_free(&chain);
    return false;
}

/* Whether the number of files read is below the limit. Adds its error once. */
static bool count_file(loader *l, const char *path)
{
    if (l->files++ == MOST_FILES)
        td_errors_add(l->errors, "%s: more than %d files are loaded: is one extended many times?",
                      path, MOST_FILES);
    return l->files <= MOST_FILES;
}

static void drop(td_setting *root, const char *name)
{
    td_setting *v = root->first, *next;
    root->first = root->last = NULL;
    for (; v; v = next) {
        next = v->next;
        if (strcmp(v->name, name))
            td_setting_append(root, v);
    }
}

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names && strcmp(*names, name))
        names++;
    return *names != NULL;
}

void td_config_forget_kept(td_config *c, const char *name, const char *const *but)
{
    td_setting *group = td_setting_child(c->root, name), *v, *next;
    if (!group || group->type != TD_SETTING_GROUP)
        return;
    v = group->first;
    group->first = group->last = NULL;
    for (; v; v = next) {
        next = v->next;
        if (!v->kept || is_one_of(v->name, but))
            td_setting_append(group, v);
    }
}

static void mark_kept(td_setting *v)
{
    v->kept = true;
    for (td_setting *child = v->first; child; child = child->next)
        mark_kept(child);
}

/* A run's config.cfg states every option. It may come from a stranger: to follow what it names
 * would let it choose the code that is run. */
static td_setting *take_kept(loader *l, td_setting *own)
{
    const td_setting *extends = own ? td_setting_child(own, "extends") : NULL;
    if (!own)
        return NULL;
    if (extends) /* no run wrote this */
        td_text_print(l->notes,
                      "%s: extends is not followed, because this is the config of a run, which "
                      "states every option and names no other file: remove it, or copy the config "
                      "to a directory of your own\n",
                      td_setting_origin(extends));
    drop(own, "extends");
    drop(own, "plugin_path");
    mark_kept(own);
    return own;
}

/* Whether it is RUN/config.cfg: the file that tells how a run was made lies beside it. */
static bool lies_in_run(const char *path)
{
    const char *slash = strrchr(path, '/');
    char       *directory, *beside;
    bool        lies;
    if (strcmp(slash ? slash + 1 : path, "config.cfg"))
        return false;
    directory = td_path_directory(path);
    beside = directory ? td_path_join(directory, "environment.txt") : NULL;
    lies = beside && td_file_exists(beside);
    free(directory);
    free(beside);
    return lies;
}

/* A config as text, with all that it extends beneath it; NULL after adding errors. `path`: of the file,
 * or what messages call the text; `real`: what cycles are recognized by. */
static td_setting *load_text(loader *l, const char *path, const char *real, const char *text)
{
    td_setting       *own = td_setting_parse(l->arena, text, path, l->errors), *base;
    const td_setting *extends;

    if (l->keeps || lies_in_run(path))
        return take_kept(l, own);
    extends = td_setting_child(own, "extends");

    base = extends ? td_setting_new(l->arena, TD_SETTING_GROUP, "", path, 1) : NULL;
    if (!base) /* it extends nothing, or has an error itself */
        return own;
    l->chain[l->depth++] = (reading){ path, real };
    extend(l, base, extends, path);
    l->depth--;
    td_setting_merge(base, own, !l->depth);
    return base;
}

/* A file with all that it extends beneath it; NULL after adding errors. */
static td_setting *load_file(loader *l, const char *path)
{
    const char *real = real_path(l, path);
    char       *text;
    td_setting *base;

    if (!check_chain(l, path, real) || !count_file(l, path))
        return NULL;
    text = read_text(l, path);
    base = text ? load_text(l, path, real, text) : NULL;
    free(text);
    return base;
}

/* ---- a config -------------------------------------------------------------------------------- */

/* Whether the items of lists that an override names exist: td_setting_merge takes that for granted.
 * `at`: where the override's setting `v` will go. */
static bool check_items(const td_setting *at, const td_setting *v, const char *override,
                        td_errors *errors)
{
    for (; v && v->type == TD_SETTING_GROUP; v = v->first) {
        const td_setting *old = at && at->type == TD_SETTING_LIST ? td_setting_item(at, v->name)
                                                                  : td_setting_child(at, v->name);
        if (td_setting_is_item(v) && (!old || old->type != TD_SETTING_LIST)) {
            td_errors_add(errors, "command line: '%s': '%s' is not a list, so it has no item %s",
                          override, v->name, v->first->name);
            return false;
        }
        if (td_setting_is_item(v) && !td_setting_item(old, v->first->name)) {
            td_errors_add(errors,
                          "command line: '%s': the list '%s' has no item %s; items are "
                          "counted from 0",
                          override, v->name, v->first->name);
            return false;
        }
        at = old;
    }
    return true;
}

/* Where an override came from, for its value and the groups around it. */
static void set_origin(td_setting *v, const char *origin)
{
    v->origin = origin;
    for (td_setting *child = v->first; child; child = child->next)
        set_origin(child, origin);
}

/* An override is a config of one value, merged over the others. */
static void apply_override(td_config *c, const char *override, const char *origin,
                           td_errors *errors)
{
    td_setting *v = td_setting_parse_override(c->arena, override, errors);
    /* with the root's own place, which merging would otherwise overwrite */
    td_setting *group = v ? td_setting_new(c->arena, TD_SETTING_GROUP, "", c->root->file,
                                           c->root->line)
                          : NULL;
    if (!group || !check_items(c->root, v, override, errors))
        return;
    if (origin)
        set_origin(v, origin);
    td_setting_append(group, v);
    td_setting_merge(c->root, group, true);
}

/* With an empty root, which files are merged into. NULL when out of memory. */
static td_config *make_config(void)
{
    td_config *c = calloc(1, sizeof *c);
    if (c)
        c->arena = td_arena_new();
    if (c && c->arena)
        c->root = td_setting_new(c->arena, TD_SETTING_GROUP, "", "", 0);
    if (c && c->root)
        return c;
    td_config_free(c);
    return NULL;
}

static void load_sources(loader *l, td_config *c, const td_config_sources *s)
{
    for (size_t k = 0; k < s->n_files; k++) {
        const char *kept = find_in_run(l, s->files[k]);
        const char *path = kept ? kept : find_given(l, s->files[k]);
        td_setting *v;
        /* plugin_path and extends are not followed in a config that a run kept */
        l->keeps = kept || k < s->n_kept;
        v = path ? load_file(l, path) : NULL;
        if (v)
            td_setting_merge(c->root, v, true);
    }
    for (size_t k = 0; k < s->n_texts; k++) {
        const char *name = td_arena_print(l->arena, "text %zu", k + 1);
        td_setting *v;
        l->keeps = s->n_files + k < s->n_kept;
        v = name ? load_text(l, name, name, s->texts[k]) : NULL;
        if (v)
            td_setting_merge(c->root, v, true);
    }
}

/* The directory of the shipped configs also has the other shipped files. */
static void find_shipped(td_config *c, const char *configs)
{
    char *directory = configs ? td_path_directory(configs) : NULL;
    c->shipped = directory ? td_arena_copy(c->arena, directory) : NULL;
    free(directory);
}

td_config *td_config_read(const td_config_sources *s, td_errors *errors)
{
    td_config *c = make_config();
    loader     l = { .search = s->search, .errors = errors };
    size_t     before = errors->count;
    if (!c) {
        td_errors_add(errors, "out of memory while reading a config");
        return NULL;
    }
    l.arena = c->arena;
    l.notes = &c->notes;
    c->untrusted = s->untrusted;
    find_shipped(c, s->search);
    load_sources(&l, c, s);
    /* Without one of its files, a config lacks options: checking it would report each of them. */
    if (errors->count > before) {
        td_config_free(c);
        return NULL;
    }
    /* it has been followed, and nothing binds it: left in, it would be an unknown key */
    drop(c->root, "extends");
    for (size_t k = 0; k < s->n_overrides; k++)
        apply_override(c, s->overrides[k], s->origin, errors);
    return c;
}

/* ---- a config in layers ---------------------------------------------------------------------- */

td_config *td_config_new(const char *search, bool untrusted)
{
    td_config *c = make_config();
    if (!c)
        return NULL;
    c->untrusted = untrusted;
    c->search = search ? td_arena_copy(c->arena, search) : NULL;
    find_shipped(c, search);
    return c;
}

void td_config_lay(td_config *c, const td_setting *layer, td_errors *errors)
{
    loader l = { .arena = c->arena, .search = c->search, .errors = errors, .notes = &c->notes };
    /* merging uses a tree up, and the caller may merge its own again */
    td_setting *own = td_setting_copy(c->arena, layer);
    td_setting *base = td_setting_new(c->arena, TD_SETTING_GROUP, "", layer->file, layer->line);
    if (!own || !base) {
        td_errors_add(errors, "%s: out of memory while merging configs", layer->origin);
        return;
    }
    if (layer->type == TD_SETTING_GROUP)
        base = own;
    else
        extend(&l, base, own, layer->file ? layer->file : "");
    drop(base, "extends"); /* of files it has been followed */
    td_setting_merge(c->root, base, true);
}

void td_config_lay_key(td_config *c, const char *override, const char *origin, td_errors *errors)
{
    apply_override(c, override, origin, errors);
}

td_config *td_config_load(const char *const *files, size_t n_files, const char *const *overrides,
                          size_t n_overrides, const char *search, td_errors *errors)
{
    td_config_sources s = { .files = files,
                            .n_files = n_files,
                            .overrides = overrides,
                            .n_overrides = n_overrides,
                            .search = search };
    return td_config_read(&s, errors);
}

void td_config_free(td_config *c)
{
    if (!c)
        return;
    td_arena_free(c->arena);
    td_text_free(&c->notes);
    free(c);
}

td_arena *td_config_arena(td_config *c) { return c->arena; }

/* Marks every group on the way: one that was looked into is a known name. */
const td_setting *td_config_get(const td_config *c, const char *path)
{
    td_setting *v = c->root;
    char        name[256];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof name) /* longer than any option's name */
            return NULL;
        memcpy(name, path, n);
        name[n] = 0;
        v = td_setting_child(v, name);
        path += n + (path[n] == '.');
    }
    if (v)
        v->used = true;
    return v;
}

const char *td_config_origin(const td_config *c, const char *path)
{
    const td_setting *v = td_config_get(c, path);
    return v ? td_setting_origin(v) : path;
}

bool td_config_get_int(const td_config *c, const char *path, int64_t *out)
{
    const td_setting *v = td_config_get(c, path);
    return v && td_setting_is_whole(v, out);
}
