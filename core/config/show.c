/* show.c - a resolved config for people: as a file, compared with another, one key explained. */
#include <string.h>

#include "base/map.h"
#include "config/resolved.h"
#include "config/words.h"

/* How values are shown. */
enum { ORIGINS = 1, WHOLE = 2, SHARES = 4, HERE = 8 };

static void print_node(const td_resolved *r, int indent, int style, td_text *out);

static void print_children(const td_resolved *r, int indent, int style, td_text *out)
{
    for (const td_resolved *c = r->first; c; c = c->next)
        print_node(c, indent, style, out);
}

/* It is all of the steps of the run: whoever reads the config derives it again. */
static bool is_all_steps(const td_resolved *r) { return r->share && !*r->share; }

static const char *shown(const td_resolved *r, int style)
{
    if (style & SHARES && r->share && *r->share)
        return r->share;
    if (style & HERE && r->here)
        return r->here;
    return style & WHOLE && r->whole ? r->whole : r->text;
}

/* "name = value;", with the origin as a comment in its own column. */
static void print_value(const td_resolved *r, int indent, int style, td_text *out)
{
    enum { COLUMN = 48 };
    size_t start = out->size, width;
    bool   note = r->note || (style & SHARES && is_all_steps(r));
    td_text_print(out, "%*s%s%s = %s;", indent, "", note ? "# " : "", r->name, shown(r, style));
    width = out->size - start;
    if (style & ORIGINS)
        td_text_print(out, "%*s# %s", width < COLUMN ? (int)(COLUMN - width) : 1, "", r->origin);
    td_text_print(out, "\n");
}

/* A list of groups; lists of scalars are values. */
static void print_list(const td_resolved *r, int indent, int style, td_text *out)
{
    td_text_print(out, "%*s%s = (%s", indent, "", r->name, r->first ? "\n" : "");
    for (const td_resolved *c = r->first; c; c = c->next) {
        td_text_print(out, "%*s{\n", indent + 2, "");
        print_children(c, indent + 4, style, out);
        td_text_print(out, "%*s}%s\n", indent + 2, "", c->next ? "," : "");
    }
    td_text_print(out, "%*s);\n", r->first ? indent : 0, ""); /* an empty one stays on its line */
}

static void print_node(const td_resolved *r, int indent, int style, td_text *out)
{
    if (r->text) {
        print_value(r, indent, style, out);
    } else if (r->list) {
        print_list(r, indent, style, out);
    } else {
        td_text_print(out, "%*s%s = {\n", indent, "", r->name);
        print_children(r, indent + 2, style, out);
        td_text_print(out, "%*s};\n", indent, "");
    }
}

void td_config_print(const td_config *c, bool origins, td_text *out)
{
    print_children(&c->resolved, 0, origins ? ORIGINS : 0, out);
}

void td_config_print_moved(const td_config *c, td_text *out)
{
    print_children(&c->resolved, 0, WHOLE | SHARES, out);
}

void td_config_print_kept(const td_config *c, td_text *out)
{
    print_children(&c->resolved, 0, ORIGINS | WHOLE | SHARES, out);
}

void td_config_print_cell(const td_config *c, td_text *out)
{
    print_children(&c->resolved, 0, ORIGINS | SHARES | HERE, out);
}

/* ---- by path --------------------------------------------------------------------------------- */

/* Add everything below a node by its path, "train.steps" or "data.sources[0].name": options, and
 * with `groups` the groups and lists too. */
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
        if (groups || (c->text && !c->note))
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

/* Compared as text, which is equal only for equal numbers. A run keeps where files are, and shares of
 * its steps: if one of the two was kept, equal ones are the same. */
static bool same_value(const td_resolved *p, const td_resolved *q, bool kept)
{
    int style = kept ? WHOLE | SHARES : WHOLE;
    return !strcmp(p->text, q->text) || !strcmp(shown(p, style), shown(q, style));
}

/* A config that was kept lacks options that were introduced later, and has as comments those that
 * follow from others. Such an option makes no difference at its default, which an empty list always
 * is. */
static bool is_idle(const td_resolved *r)
{
    return r->note || is_all_steps(r) || !strncmp(r->origin, "default of ", 11) ||
           !strcmp(r->text, "()");
}

bool td_config_names_file(const td_config *c, const char *path)
{
    td_map            *m = flat(c, false);
    const td_resolved *r = m ? td_map_get(m, path) : NULL;
    bool               names = r && r->whole;
    td_map_free(m);
    return names;
}

static td_resolved *find(const td_config *c, const char *path)
{
    const td_resolved *r = &c->resolved;
    while (r && *path) {
        size_t             n = strcspn(path, ".");
        const td_resolved *child = r->first;
        while (child && (strncmp(child->name, path, n) || child->name[n]))
            child = child->next;
        r = child;
        path += n + (path[n] == '.');
    }
    return (td_resolved *)(uintptr_t)r;
}

const char *td_config_value(const td_config *c, const char *path)
{
    const td_resolved *r = find(c, path);
    return r ? r->text : NULL;
}

void td_config_note(td_config *c, const char *path, const char *text, const char *origin)
{
    td_resolved *r = find(c, path);
    const char  *value = td_arena_copy(c->arena, text), *from = td_arena_copy(c->arena, origin);
    if (!r || !value || !from)
        return;
    r->text = value;
    r->origin = from;
    r->note = true;
}

size_t td_config_diff(const td_config *a, const td_config *b, td_text *out)
{
    td_map *x = flat(a, false), *y = flat(b, false);
    bool    kept = a->as_text || b->as_text;
    size_t  n = 0;
    /* first in the order of `a`, then what only `b` has */
    for (size_t i = 0; x && y && i < td_map_count(x); i++) {
        const td_resolved *p = td_map_value(x, i), *q = td_map_get(y, td_map_key(x, i));
        if (q ? same_value(p, q, kept) : kept && is_idle(p))
            continue;
        td_text_print(out, "%s: %s -> %s\n", td_map_key(x, i), p->text, q ? q->text : "(absent)");
        n++;
    }
    for (size_t i = 0; x && y && i < td_map_count(y); i++) {
        const td_resolved *q = td_map_value(y, i);
        if (td_map_get(x, td_map_key(y, i)) || (kept && is_idle(q)))
            continue;
        td_text_print(out, "%s: (absent) -> %s\n", td_map_key(y, i), q->text);
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

/* Stands for a value that is too long for a line. */
static const char *brackets(const td_resolved *r)
{
    if (r->list)
        return r->first ? "( .. )" : "()";
    return r->first ? "{ .. }" : "{ }";
}

/* One child of an explained group: name, value, and meaning in its own column. */
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
    td_text_print(out, "%s", first ? "\n" : ""); /* no empty line if nothing follows */
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
    const char *names[MOST_NAMES], *nearest, *dot = strrchr(path, '.');
    const char *words = td_config_word(dot ? dot + 1 : path);
    char        group[256];
    size_t      n = 0;
    for (size_t i = 0; i < td_map_count(m) && n < MOST_NAMES; i++)
        names[n++] = td_map_key(m, i);
    nearest = td_nearest(path, names, n); /* among full paths: a wrong group is found as well */
    td_text_print(out, "there is no key '%s'", path);
    if (words)
        td_text_print(out, "; %s %s", td_config_word_verb(words), words);
    else if (nearest)
        td_text_print(out, "; did you mean '%s'?", nearest);
    snprintf(group, sizeof group, "%s", path);
    if (nearest_group(m, group))
        td_text_print(out, "%s `tandem config explain %s` lists the keys of that group",
                      nearest || words ? "" : ";", group);
    else if (!nearest && !words)
        td_text_print(out, "; `tandem config show` lists the keys of this config");
}

/* "data.sources.0.rate", as overrides write it, to "data.sources[0].rate". */
static void put_brackets(const char *path, char *out, size_t size)
{
    size_t n = 0;
    while (*path && n + 3 < size) {
        size_t digits = *path == '.' ? strspn(path + 1, "0123456789") : 0;
        if (digits && (!path[digits + 1] || path[digits + 1] == '.')) {
            n += (size_t)snprintf(out + n, size - n, "[%.*s]", (int)digits, path + 1);
            path += digits + 1;
        } else
            out[n++] = *path++;
    }
    out[n < size ? n : size - 1] = 0;
}

bool td_config_explain(const td_config *c, const char *given, td_text *out)
{
    char               path[512];
    td_map            *m = flat(c, true);
    const td_resolved *r;
    put_brackets(given, path, sizeof path);
    r = m ? td_map_get(m, path) : NULL;
    if (r && r->text)
        explain_key(r, path, out);
    else if (r)
        explain_group(r, path, out);
    else if (m)
        explain_missing(m, path, out);
    td_map_free(m);
    return r != NULL;
}
