/* load.c - composition: extends, merging, overrides. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/value.h"

enum { CHAIN = 16, MOST_FILES = 1000 };

void td_errors_add(td_errors *e, const char *format, ...)
{
    char    line[3000];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    td_text_print(&e->text, "%s%s", e->count ? "\n" : "", line);
    e->count++;
}

void td_errors_free(td_errors *e)
{
    td_text_free(&e->text);
    e->count = 0;
}

/* ---- merging --------------------------------------------------------------------------------- */

static bool another_plugin(const td_value *a, const td_value *b)
{
    const td_value *p = td_value_child(a, "plugin"), *q = td_value_child(b, "plugin");
    return q && q->type == TD_VALUE_STRING && p && p->type == TD_VALUE_STRING &&
           strcmp(p->text, q->text);
}

static void replace(td_value *group, td_value *old, td_value *new)
{
    td_value *before = NULL;
    for (td_value *v = group->first; v != old; v = v->next)
        before = v;
    new->next = old->next;
    if (before)
        before->next = new;
    else
        group->first = new;
    if (group->last == old)
        group->last = new;
}

static void mark_all(td_value *group, uint64_t bit)
{
    for (td_value *v = group->first; v; v = v->next) {
        v->marks |= bit;
        if (v->type == TD_VALUE_GROUP)
            mark_all(v, bit);
    }
}

static void start_plugin(td_value *into, const td_value *from, int depth)
{
    if (another_plugin(into, from)) {
        into->first = into->last = NULL;
        into->mark = 0;
    } else if (into->first && depth < 64 && td_value_child(from, "plugin") &&
               !td_value_child(into, "plugin"))
        mark_all(into, into->mark = 1ull << depth);
}

static void merge(td_value *into, td_value *from, int depth)
{
    td_value *next;
    start_plugin(into, from, depth);
    into->file = from->file;
    into->line = from->line;
    into->origin = from->origin;
    into->mark |= from->mark;
    into->marks = 0;
    for (td_value *v = from->first; v; v = next) {
        td_value *old = td_value_child(into, v->name);
        next = v->next;
        if (!old)
            td_value_append(into, v);
        else if (old->type == TD_VALUE_GROUP && v->type == TD_VALUE_GROUP)
            merge(old, v, depth + 1);
        else
            replace(into, old, v);
    }
}

void td_value_merge(td_value *into, td_value *from) { merge(into, from, 0); }

static void forget(td_value *group, uint64_t bit)
{
    td_value *v = group->first, *next;
    group->first = group->last = NULL;
    for (; v; v = next) {
        next = v->next;
        if (v->marks & bit)
            continue;
        td_value_append(group, v);
        if (v->type == TD_VALUE_GROUP)
            forget(v, bit);
    }
}

void td_value_forget_default(td_value *group)
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

static td_value *load_file(loader *l, const char *path);

/* Beside the including file, then in the search directory. */
static const char *find_extended(loader *l, const td_value *v, const char *from)
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

static void extend(loader *l, td_value *base, const td_value *v, const char *from)
{
    const char *path;
    td_value   *other;
    if (l->files > MOST_FILES)
        return;
    if (v->type == TD_VALUE_LIST) {
        for (const td_value *child = v->first; child; child = child->next)
            extend(l, base, child, from);
        return;
    }
    if (v->type != TD_VALUE_STRING) {
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
        td_value_merge(base, other);
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

static td_value *load_file(loader *l, const char *path)
{
    const char     *real = real_path(l, path);
    char           *text;
    td_value       *own, *base;
    const td_value *extends;

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
    own = td_value_parse(l->arena, text, path, l->errors);
    free(text);
    base = own ? td_value_new(l->arena, TD_VALUE_GROUP, "", path, 1) : NULL;
    extends = own ? td_value_child(own, "extends") : NULL;
    if (!base || !extends)
        return own;
    l->chain[l->depth++] = real;
    extend(l, base, extends, path);
    l->depth--;
    td_value_merge(base, own);
    return base;
}

static void drop_extends(td_value *root)
{
    td_value *kept = root->first, *next;
    root->first = root->last = NULL;
    for (td_value *v = kept; v; v = next) {
        next = v->next;
        if (strcmp(v->name, "extends"))
            td_value_append(root, v);
    }
}

static void apply_override(td_config *c, const char *override, td_errors *errors)
{
    td_value *v = td_value_parse_override(c->arena, override, c->root, errors), *group;
    group = v ? td_value_new(c->arena, TD_VALUE_GROUP, "", c->root->file, c->root->line) : NULL;
    if (!group)
        return;
    td_value_append(group, v);
    td_value_merge(c->root, group);
}

td_config *td_config_load(const char *const *files, size_t n_files, const char *const *overrides,
                          size_t n_overrides, const char *search, td_errors *errors)
{
    td_config *c = calloc(1, sizeof *c);
    loader     l = { .search = search, .errors = errors };
    if (c)
        l.arena = c->arena = td_arena_new();
    if (c && c->arena)
        c->root = td_value_new(c->arena, TD_VALUE_GROUP, "", "", 0);
    if (!c || !c->root) {
        td_errors_add(errors, "out of memory while reading a config");
        td_config_free(c);
        return NULL;
    }
    for (size_t k = 0; k < n_files; k++) {
        const char *path = find_given(&l, files[k]);
        td_value   *v = path ? load_file(&l, path) : NULL;
        if (v)
            td_value_merge(c->root, v);
    }
    if (errors->count) {
        td_config_free(c);
        c = NULL;
    } else
        drop_extends(c->root);
    for (size_t k = 0; c && k < n_overrides; k++)
        apply_override(c, overrides[k], errors);
    return c;
}

void td_config_free(td_config *c)
{
    if (!c)
        return;
    td_arena_free(c->arena);
    free(c);
}

td_arena *td_config_arena(td_config *c) { return c->arena; }

const td_value *td_config_get(const td_config *c, const char *path)
{
    td_value *v = c->root;
    char      name[256];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof name)
            return NULL;
        memcpy(name, path, n);
        name[n] = 0;
        v = td_value_child(v, name);
        path += n + (path[n] == '.');
    }
    if (v)
        v->used = true;
    return v;
}

bool td_config_get_int(const td_config *c, const char *path, int64_t *out)
{
    const td_value *v = td_config_get(c, path);
    if (!v || v->type != TD_VALUE_INT)
        return false;
    *out = v->integer;
    return true;
}
