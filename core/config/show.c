/* show.c - a resolved config for people: as a file, explained, compared. */
#include <string.h>

#include "base/map.h"
#include "config/value.h"

static void print_node(const td_resolved *r, int indent, bool origins, td_text *out);

static void print_children(const td_resolved *r, int indent, bool origins, td_text *out)
{
    for (const td_resolved *c = r->first; c; c = c->next)
        print_node(c, indent, origins, out);
}

static void print_node(const td_resolved *r, int indent, bool origins, td_text *out)
{
    size_t start = out->size;
    if (r->text) {
        td_text_print(out, "%*s%s = %s;", indent, "", r->name, r->text);
        if (origins)
            td_text_print(out, "%*s# %s",
                          out->size - start < 48 ? (int)(48 - (out->size - start)) : 1, "",
                          r->origin);
        td_text_print(out, "\n");
    } else if (r->list) {
        td_text_print(out, "%*s%s = (%s", indent, "", r->name, r->first ? "\n" : "");
        for (const td_resolved *c = r->first; c; c = c->next) {
            td_text_print(out, "%*s{\n", indent + 2, "");
            print_children(c, indent + 4, origins, out);
            td_text_print(out, "%*s}%s\n", indent + 2, "", c->next ? "," : "");
        }
        td_text_print(out, "%*s);\n", r->first ? indent : 0, "");
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

static void flatten(const td_resolved *r, const char *path, td_map *out, td_arena *arena)
{
    size_t index = 0;
    for (const td_resolved *c = r->first; c; c = c->next, index++) {
        const char *full = *c->name
                               ? td_arena_print(arena, "%s%s%s", path, *path ? "." : "", c->name)
                               : td_arena_print(arena, "%s[%zu]", path, index);
        if (!full)
            return;
        if (c->text)
            td_map_set(out, full, (void *)(uintptr_t)c);
        flatten(c, full, out, arena);
    }
}

static td_map *flat(const td_config *c)
{
    td_map *m = td_map_new();
    if (m)
        flatten(&c->resolved, "", m, c->arena);
    return m;
}

size_t td_config_diff(const td_config *a, const td_config *b, td_text *out)
{
    td_map *x = flat(a), *y = flat(b);
    size_t  n = 0;
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
    td_map_free(x), td_map_free(y);
    return n;
}

bool td_config_explain(const td_config *c, const char *path, td_text *out)
{
    td_map            *m = flat(c);
    const td_resolved *r = m ? td_map_get(m, path) : NULL;
    const char        *names[1024], *nearest;
    size_t             n = 0;
    if (r) {
        td_text_print(out, "%s = %s\n  %s\n  set by:  %s\n  owner:   %s\n", path, r->text, r->doc,
                      r->origin, r->owner);
        if (*r->kind)
            td_text_print(out, "  takes:   %s\n", r->kind);
    } else {
        for (size_t i = 0; m && i < td_map_count(m) && n < 1024; i++)
            names[n++] = td_map_key(m, i);
        nearest = td_nearest(path, names, n);
        td_text_print(out, "there is no key '%s'", path);
        if (nearest)
            td_text_print(out, "; did you mean '%s'?", nearest);
    }
    td_map_free(m);
    return r != NULL;
}
