/* keys.c - every key that a config can have, from the tables of the host and of the plugins.
 *
 *     model.attention.plugin        linear|mla|softmax|..
 *     model.attention.qkv_norm      true|false
 *     train.weights                 FILE
 */
#include "manual/keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "plugin/options.h"
#include "run/experiment.h"

/* A plugin's options may name plugins of its own kind, so the depth of the walk is limited. */
enum { DEEPEST = 6 };

typedef struct walk {
    const td_registry *registry;
    td_arena          *arena;
    td_keys           *keys;
    bool               failed;
} walk;

/* ---- values ---------------------------------------------------------------------------------- */

/* Names go unquoted into shell scripts, and a third-party plugin may have any name: one with
 * other characters is not offered. */
static bool is_plain(const char *text)
{
    static const char all[] = "-+.0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return *text && !text[strspn(text, all)];
}

static const char *join(td_arena *arena, const char *list, const char *text)
{
    return *list ? td_arena_print(arena, "%s|%s", list, text) : td_arena_copy(arena, text);
}

const char *td_keys_plugins(const td_registry *r, const char *kind, td_arena *arena)
{
    const char *list = "";
    for (size_t i = 0; list && i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (!strcmp(p->kind, kind) && is_plain(p->name))
            list = join(arena, list, p->name);
    }
    return list;
}

static bool has_word(const char *list, const char *word, size_t n)
{
    for (const char *p = list; *p;) {
        size_t length = strcspn(p, "|");
        if (length == n && !strncmp(p, word, n))
            return true;
        p += length + (p[length] == '|');
    }
    return false;
}

/* The words of both lists, each once; NULL when out of memory. */
static const char *united(td_arena *arena, const char *a, const char *b)
{
    for (const char *p = b; a && *p;) {
        size_t length = strcspn(p, "|");
        if (!has_word(a, p, length)) {
            const char *word = td_arena_print(arena, "%.*s", (int)length, p);
            a = word ? join(arena, a, word) : NULL;
        }
        p += length + (p[length] == '|');
    }
    return a;
}

static const char *choices(walk *w, const td_option *o)
{
    const char *list = "";
    for (size_t k = 0; list && o->choices[k]; k++)
        if (is_plain(o->choices[k]))
            list = join(w->arena, list, o->choices[k]);
    return list;
}

static const char *values_of(walk *w, const td_option *o)
{
    switch (o->type) {
    case TD_TYPE_BOOL:
        return "true|false";
    case TD_TYPE_STRING: /* most strings are paths, and offering files for the others does no
                          * harm */
        return "FILE";
    case TD_TYPE_CHOICE:
        return choices(w, o);
    case TD_TYPE_PARTS:
        return td_keys_plugins(w->registry, o->choices[0], w->arena);
    default:
        return "";
    }
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* Adds a key, or its values to those of the same key. There are only hundreds of keys, so a
 * linear search is fast enough. */
static void add(walk *w, const char *path, const char *values, const char *doc)
{
    td_keys *k = w->keys;
    td_key  *larger;
    for (size_t i = 0; path && values && i < k->count; i++)
        if (!strcmp(k->at[i].path, path)) {
            /* `activation` of two feed-forward plugins: their choices may differ. */
            values = united(w->arena, k->at[i].values, values);
            k->at[i].values = values ? values : k->at[i].values;
            w->failed |= !values;
            return;
        }
    if (k->count == k->room && (larger = realloc(k->at, 2 * (k->room + 64) * sizeof *larger))) {
        k->at = larger;
        k->room = 2 * (k->room + 64);
    }
    if (path && values && k->count < k->room)
        k->at[k->count++] = (td_key){ path, values, doc ? doc : "" };
    else
        w->failed = true;
}

static void visit_kind(walk *w, const char *path, const char *kind, const char *doc, int depth);

/* The options of a table, in a group at `prefix`. */
static void visit(walk *w, const char *prefix, const td_option *table, size_t size, int depth)
{
    td_option row;
    for (size_t i = 0; depth < DEEPEST && td_option_row(table, size, i, &row); i++) {
        const char *path = td_arena_print(w->arena, "%s.%s", prefix, row.name);
        if (row.type == TD_TYPE_PART && path)
            visit_kind(w, path, row.choices[0], row.doc, depth + 1);
        else
            add(w, path, values_of(w, &row), row.doc);
    }
}

/* A group that names a plugin: `plugin`, and the keys of every plugin that it could name. */
static void visit_kind(walk *w, const char *path, const char *kind, const char *doc, int depth)
{
    add(w, td_arena_print(w->arena, "%s.plugin", path),
        td_keys_plugins(w->registry, kind, w->arena), doc);
    for (size_t i = 0; i < td_registry_count(w->registry); i++) {
        const td_plugin *p = td_registry_plugin(w->registry, i);
        if (!strcmp(p->kind, kind))
            visit(w, path, p->options, p->option_size, depth);
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const td_key *)a)->path, ((const td_key *)b)->path);
}

int td_keys_collect(const td_registry *r, td_arena *arena, td_keys *out, td_error *error)
{
    walk w = { r, arena, out, false };
    *out = (td_keys){ NULL, 0, 0 };
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (g->kind)
            visit_kind(&w, g->name, g->kind, g->brief, 0);
        visit(&w, g->name, g->table, sizeof(td_option), 0);
    }
    if (out->count)
        qsort(out->at, out->count, sizeof *out->at, by_path);
    return w.failed ? td_fail(error, TD_ENOMEM, "out of memory while listing the keys of configs")
                    : 0;
}
