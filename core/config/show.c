/* show.c - a resolved config for people: as a file, compared with another, one key explained. */
#include <string.h>

#include "base/map.h"
#include "config/resolved.h"

static void print_node(const td_resolved *r, int indent, bool origins, td_text *out);

static void print_children(const td_resolved *r, int indent, bool origins, td_text *out)
{
    for (const td_resolved *c = r->first; c; c = c->next)
        print_node(c, indent, origins, out);
}

/* "name = value;", with the origin as a comment in its own column. */
static void print_value(const td_resolved *r, int indent, bool origins, td_text *out)
{
    enum { COLUMN = 48 };
    size_t start = out->size, width;
    td_text_print(out, "%*s%s = %s;", indent, "", r->name, r->text);
    width = out->size - start;
    if (origins)
        td_text_print(out, "%*s# %s", width < COLUMN ? (int)(COLUMN - width) : 1, "", r->origin);
    td_text_print(out, "\n");
}

/* A list of groups; lists of scalars are values. */
static void print_list(const td_resolved *r, int indent, bool origins, td_text *out)
{
    td_text_print(out, "%*s%s = (%s", indent, "", r->name, r->first ? "\n" : "");
    for (const td_resolved *c = r->first; c; c = c->next) {
        td_text_print(out, "%*s{\n", indent + 2, "");
        print_children(c, indent + 4, origins, out);
        td_text_print(out, "%*s}%s\n", indent + 2, "", c->next ? "," : "");
    }
    td_text_print(out, "%*s);\n", r->first ? indent : 0, ""); /* an empty one stays on its line */
}

static void print_node(const td_resolved *r, int indent, bool origins, td_text *out)
{
    if (r->text) {
        print_value(r, indent, origins, out);
    } else if (r->list) {
        print_list(r, indent, origins, out);
    } else {
        td_text_print(out, "%*s%s = {\n", indent, "", r->name);
        print_children(r, indent + 2, origins, out);
        td_text_print(out, "%*s};\n", indent, "");
    }
}

void td_config_print(const td_config *c, bool origins, td_text *out)
{
    print_children(&c->resolved, 0, origins, out);
}

/* ---- by path --------------------------------------------------------------------------------- */

/* Add what is below a node by its path, "train.steps" or "data.sources[0].name": options, and with
 * `groups` the groups and lists too. */
static void flatten(const td_resolved *r, const char *path, bool groups, td_map *out,
                    td_arena *arena)
{
    size_t index = 0;
    for (const td_resolved *c = r->first; c; c = c->next, index++) {
        const char *full = *c->name
                               ? td_arena_print(arena, "%s%s%s", path, *path ? "." : "", c->name)
                               : td_arena_print(arena, "%s[%zu]", path, index);
        if (!full) /* out of memory: the answer is incomplete */
            return;
        if (c->text || groups)
            td_map_set(out, full, (void *)(uintptr_t)c);
        flatten(c, full, groups, out, arena);
    }
}

/* NULL when out of memory. The map's keys and nodes live in the config's arena. */
static td_map *flat(const td_config *c, bool groups)
{
    td_map *m = td_map_new();
    if (m)
        flatten(&c->resolved, "", groups, m, c->arena);
    return m;
}

size_t td_config_diff(const td_config *a, const td_config *b, td_text *out)
{
    td_map *x = flat(a, false), *y = flat(b, false);
    size_t  n = 0;
    /* by the text of values, which is the same only for the same number; in the order of `a`, and
     * then what only `b` has */
    for (size_t i = 0; x && y && i < td_map_count(x); i++) {
        const td_resolved *p = td_map_value(x, i), *q = td_map_get(y, td_map_key(x, i));
        if (q && !strcmp(p->text, q->text))
            continue;
        td_text_print(out, "%s: %s -> %s\n", td_map_key(x, i), p->text, q ? q->text : "(absent)");
        n++;
    }
    for (size_t i = 0; x && y && i < td_map_count(y); i++)
        if (!td_map_get(x, td_map_key(y, i))) {
            td_text_print(out, "%s: (absent) -> %s\n", td_map_key(y, i),
                          ((const td_resolved *)td_map_value(y, i))->text);
            n++;
        }
    td_map_free(x);
    td_map_free(y);
    return n;
}

/* The line of a group that names its plugin, which is the first; NULL: it has none. */
static const td_resolved *plugin_of(const td_resolved *group)
{
    const td_resolved *first = group->text || group->list ? NULL : group->first;
    return first && !strcmp(first->name, "plugin") ? first : NULL;
}

/* One option, with everything known about it. */
static void explain_key(const td_resolved *r, const char *path, td_text *out)
{
    td_text_print(out, "%s = %s\n  %s\n  set by:  %s\n  owner:   %s\n", path, r->text, r->doc,
                  r->origin, r->owner);
    if (*r->takes)
        td_text_print(out, "  takes:   %s\n", r->takes);
}

/* In place of a value that is too long for a line. */
static const char *brackets(const td_resolved *r)
{
    if (r->list)
        return r->first ? "( .. )" : "()";
    return r->first ? "{ .. }" : "{ }";
}

/* One child of an explained group: name, value, and what it is for in its own column. */
static void explain_line(const td_resolved *r, size_t index, td_text *out)
{
    enum { COLUMN = 32 };
    const td_resolved *plugin = plugin_of(r);
    const char        *doc = plugin ? plugin->owner : r->doc;
    size_t             start = out->size, width;
    if (*r->name)
        td_text_print(out, "  %s = %s", r->name, r->text ? r->text : brackets(r));
    else
        td_text_print(out, "  [%zu] = %s", index, brackets(r));
    width = out->size - start;
    if (*doc)
        td_text_print(out, "%*s%s", width < COLUMN - 2 ? (int)(COLUMN - width) : 2, "", doc);
    td_text_print(out, "\n");
}

/* The doc of a group or list without a plugin. */
static const char *group_doc(const td_resolved *r)
{
    if (*r->doc)
        return r->doc;
    return *r->name ? "options of tandem itself, not of a plugin" : "an item of the list";
}

static void explain_group(const td_resolved *r, const char *path, td_text *out)
{
    /* the plugin is in the heading; the others are listed below it */
    const td_resolved *plugin = plugin_of(r), *first = plugin ? plugin->next : r->first;
    size_t             index = 0;
    if (plugin)
        td_text_print(out, "%s: %s, %s\n  set by:  %s\n", path, plugin->owner, plugin->doc,
                      plugin->origin);
    else
        td_text_print(out, "%s: %s\n", path, group_doc(r));
    td_text_print(out, "%s", first ? "\n" : ""); /* no empty line before nothing */
    for (const td_resolved *c = first; c; c = c->next)
        explain_line(c, index++, out);
}

/* Cut a path at its last dot until it is a group of the config; false: there is none. */
static bool nearest_group(const td_map *m, char *path)
{
    for (char *dot; (dot = strrchr(path, '.')) != NULL;) {
        *dot = 0;
        if (td_map_get(m, path))
            return true;
    }
    return false;
}

/* No such key: suggest the nearest, or say where the keys are listed. */
static void explain_missing(const td_map *m, const char *path, td_text *out)
{
    enum { MOST_NAMES = 1024 };
    const char *names[MOST_NAMES], *nearest;
    char        group[256];
    size_t      n = 0;
    for (size_t i = 0; i < td_map_count(m) && n < MOST_NAMES; i++)
        names[n++] = td_map_key(m, i);
    nearest = td_nearest(path, names, n); /* among full paths: a wrong group is found as well */
    td_text_print(out, "there is no key '%s'", path);
    if (nearest)
        td_text_print(out, "; did you mean '%s'?", nearest);
    snprintf(group, sizeof group, "%s", path);
    if (nearest_group(m, group))
        td_text_print(out, "%s `tandem config explain %s` lists the keys of that group",
                      nearest ? "" : ";", group);
    else if (!nearest)
        td_text_print(out, "; `tandem config show` lists the keys of this config");
}

bool td_config_explain(const td_config *c, const char *path, td_text *out)
{
    td_map            *m = flat(c, true);
    const td_resolved *r = m ? td_map_get(m, path) : NULL;
    if (r && r->text)
        explain_key(r, path, out);
    else if (r)
        explain_group(r, path, out);
    else if (m)
        explain_missing(m, path, out);
    td_map_free(m);
    return r != NULL;
}
