/* load.c - composition: extends, merging, overrides. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/setting.h"

enum { CHAIN = 16, MOST_FILES = 1000 };

/* ---- merging --------------------------------------------------------------------------------- */

static bool another_plugin(const td_setting *a, const td_setting *b)
{
    const td_setting *p = td_setting_child(a, "plugin"), *q = td_setting_child(b, "plugin");
    return q && q->type == TD_SETTING_STRING && p && p->type == TD_SETTING_STRING &&
           strcmp(p->text, q->text);
}

static void replace(td_setting *group, td_setting *old, td_setting *new)
{
    td_setting *before = NULL;
    for (td_setting *v = group->first; v != old; v = v->next)
        before = v;
    new->next = old->next;
    if (before)
        before->next = new;
    else
        group->first = new;
    if (group->last == old)
        group->last = new;
}

static void mark_all(td_setting *group, uint64_t bit)
{
    for (td_setting *v = group->first; v; v = v->next) {
        v->marks |= bit;
        if (v->type == TD_SETTING_GROUP)
            mark_all(v, bit);
    }
}

static void start_plugin(td_setting *into, const td_setting *from, int depth)
{
    if (another_plugin(into, from)) {
        into->first = into->last = NULL;
        into->mark = 0;
    } else if (into->first && depth < 64 && td_setting_child(from, "plugin") &&
               !td_setting_child(into, "plugin"))
        mark_all(into, into->mark = 1ull << depth);
}

static void merge(td_setting *into, td_setting *from, int depth)
{
    td_setting *next;
    start_plugin(into, from, depth);
    into->file = from->file;
    into->line = from->line;
    into->origin = from->origin;
    into->mark |= from->mark;
    into->marks = 0;
    for (td_setting *v = from->first; v; v = next) {
        td_setting *old = td_setting_child(into, v->name);
        next = v->next;
        if (!old)
            td_setting_append(into, v);
        else if (old->type == TD_SETTING_GROUP && v->type == TD_SETTING_GROUP)
            merge(old, v, depth + 1);
        else
            replace(into, old, v);
    }
}

void td_setting_merge(td_setting *into, td_setting *from) { merge(into, from, 0); }

static void forget(td_setting *group, uint64_t bit)
{
    td_setting *v = group->first, *next;
    group->first = group->last = NULL;
    for (; v; v = next) {
        next = v->next;
        if (v->marks & bit)
            continue;
        td_setting_append(group, v);
        if (v->type == TD_SETTING_GROUP)
            forget(v, bit);
    }
}

void td_setting_forget_default(td_setting *group)
{
    forget(group, group->mark);
    group->mark = 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct loader {
    td_arena   *arena;
    const char *search;
    td_errors  *errors;
    size_t      files; /* loaded, each time that one is */
    const char *chain[CHAIN];
    int         depth;
} loader;

static td_setting *load_file(loader *l, const char *path);

/* Beside the including file, then in the search directory. */
static const char *find_extended(loader *l, const td_setting *v, const char *from)
{
    /* else a.cfg would be told as ./a.cfg */
    char       *directory = strchr(from, '/') ? td_path_directory(from) : NULL;
    char       *beside = directory ? td_path_join(directory, v->text) : strdup(v->text);
    char       *shipped = l->search ? td_path_join(l->search, v->text) : NULL;
    const char *found = NULL;
    if (beside && td_file_exists(beside))
        found = td_arena_copy(l->arena, beside);
    else if (shipped && td_file_exists(shipped))
        found = td_arena_copy(l->arena, shipped);
    else
        td_errors_add(l->errors, "%s:%d: extends: there is no file '%s' beside it%s%s", v->file,
                      v->line, v->text, l->search ? " or in " : "", l->search ? l->search : "");
    free(directory);
    free(beside);
    free(shipped);
    return found;
}

/* Here, then in the search directory. */
static const char *find_given(loader *l, const char *path)
{
    bool        here = *path == '/' || !l->search || td_file_exists(path);
    char       *shipped = here ? NULL : td_path_join(l->search, path);
    const char *found = NULL;
    if (!td_is_utf8(path))
        td_errors_add(l->errors,
                      "command line: the name of the config '%s' is not UTF-8: rename it", path);
    else if (here)
        found = td_arena_copy(l->arena, path);
    else if (shipped && td_file_exists(shipped))
        found = td_arena_copy(l->arena, shipped);
    else
        td_errors_add(l->errors, "there is no config '%s' here or in '%s'", path, l->search);
    free(shipped);
    return found;
}

static void extend(loader *l, td_setting *base, const td_setting *v, const char *from)
{
    const char *path;
    td_setting *other;
    if (l->files > MOST_FILES)
        return;
    if (v->type == TD_SETTING_LIST) {
        for (const td_setting *child = v->first; child; child = child->next)
            extend(l, base, child, from);
        return;
    }
    if (v->type != TD_SETTING_STRING) {
        td_errors_add(l->errors, "%s:%d: extends takes a file name, or a list of them", v->file,
                      v->line);
        return;
    }
    if (!*v->text) {
        td_errors_add(l->errors, "%s:%d: extends = \"\" names no file", v->file, v->line);
        return;
    }
    path = find_extended(l, v, from);
    other = path ? load_file(l, path) : NULL;
    if (other)
        td_setting_merge(base, other);
}

static bool in_chain(loader *l, const char *path)
{
    for (int k = 0; k < l->depth; k++)
        if (!strcmp(l->chain[k], path))
            return true;
    return l->depth == CHAIN;
}

static const char *real_path(loader *l, const char *path)
{
    char       *real = realpath(path, NULL);
    const char *copy = td_arena_copy(l->arena, real ? real : path);
    free(real);
    return copy ? copy : path;
}

/* The text of a file, or NULL after an error; free() it. */
static char *read_text(loader *l, const char *path)
{
    td_error e = { 0 };
    size_t   size, line = 1;
    char    *text = td_file_read(path, &size, &e);
    if (!text)
        td_errors_add(l->errors, "%s", e.text);
    if (!text || strlen(text) == size) {
        if (text && !strncmp(text, "\xef\xbb\xbf", 3)) /* a byte-order mark says nothing of UTF-8 */
            memset(text, ' ', 3);
        return text;
    }
    for (const char *p = text; *p; p++)
        line += *p == '\n';
    td_errors_add(l->errors,
                  "%s:%zu: there is a 0 byte, and nothing behind it would be read: save the config "
                  "as UTF-8 text",
                  path, line);
    free(text);
    return NULL;
}

/* Parse a config and merge it over what it extends. `name`: of the file, or what messages call the
 * text; `real`: what it is recognized by, to find circles. */
static td_setting *load_text(loader *l, const char *name, const char *real, const char *text)
{
    td_setting       *own = td_setting_parse(l->arena, text, name, l->errors), *base;
    const td_setting *extends;

    base = own ? td_setting_new(l->arena, TD_SETTING_GROUP, "", name, 1) : NULL;
    extends = own ? td_setting_child(own, "extends") : NULL;
    if (!base || !extends)
        return own;
    l->chain[l->depth++] = real;
    extend(l, base, extends, name);
    l->depth--;
    td_setting_merge(base, own);
    return base;
}

static td_setting *load_file(loader *l, const char *path)
{
    const char *real = real_path(l, path);
    char       *text;
    td_setting *v;

    if (in_chain(l, real)) {
        td_errors_add(l->errors, "%s: extends itself, or is extended too deeply", path);
        return NULL;
    }
    if (l->files++ == MOST_FILES)
        td_errors_add(l->errors, "%s: more than %d files are loaded: is one extended many times?",
                      path, MOST_FILES);
    text = l->files > MOST_FILES ? NULL : read_text(l, path);
    if (!text)
        return NULL;
    v = load_text(l, path, real, text);
    free(text);
    return v;
}

static void drop_extends(td_setting *root)
{
    td_setting *kept = root->first, *next;
    root->first = root->last = NULL;
    for (td_setting *v = kept; v; v = next) {
        next = v->next;
        if (strcmp(v->name, "extends"))
            td_setting_append(root, v);
    }
}

static void apply_override(td_config *c, const char *override, td_errors *errors)
{
    td_setting *v = td_setting_parse_override(c->arena, override, c->root, errors), *group;
    group = v ? td_setting_new(c->arena, TD_SETTING_GROUP, "", c->root->file, c->root->line) : NULL;
    if (!group)
        return;
    td_setting_append(group, v);
    td_setting_merge(c->root, group);
}

static void load_sources(loader *l, td_config *c, const td_config_sources *s)
{
    for (size_t k = 0; k < s->n_files; k++) {
        const char *path = find_given(l, s->files[k]);
        td_setting *v = path ? load_file(l, path) : NULL;
        if (v)
            td_setting_merge(c->root, v);
    }
    for (size_t k = 0; k < s->n_texts; k++) {
        const char *name = td_arena_print(l->arena, "text %zu", k + 1);
        td_setting *v = name ? load_text(l, name, name, s->texts[k]) : NULL;
        if (v)
            td_setting_merge(c->root, v);
    }
}

td_config *td_config_read(const td_config_sources *s, td_errors *errors)
{
    td_config *c = calloc(1, sizeof *c);
    loader     l = { .search = s->search, .errors = errors };
    if (c)
        l.arena = c->arena = td_arena_new();
    if (c && c->arena)
        c->root = td_setting_new(c->arena, TD_SETTING_GROUP, "", "", 0);
    if (!c || !c->root) {
        td_errors_add(errors, "out of memory while reading a config");
        td_config_free(c);
        return NULL;
    }
    load_sources(&l, c, s);
    if (errors->count) {
        td_config_free(c);
        return NULL;
    }
    drop_extends(c->root);
    for (size_t k = 0; k < s->n_overrides; k++)
        apply_override(c, s->overrides[k], errors);
    return c;
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
    free(c);
}

td_arena *td_config_arena(td_config *c) { return c->arena; }

const td_setting *td_config_get(const td_config *c, const char *path)
{
    td_setting *v = c->root;
    char      name[256];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof name)
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

bool td_config_get_int(const td_config *c, const char *path, int64_t *out)
{
    const td_setting *v = td_config_get(c, path);
    if (!v || v->type != TD_SETTING_INT)
        return false;
    *out = v->integer;
    return true;
}
