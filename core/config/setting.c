/* setting.c - the nodes of a config's tree: made, put in groups, found. */
#include "config/setting.h"

#include <string.h>

td_setting *td_setting_new(td_arena *arena, int type, const char *name, const char *file, int line)
{
    td_setting *v = td_arena_alloc(arena, sizeof *v);
    if (v) {
        v->type = type;
        v->name = name ? td_arena_copy(arena, name) : "";
        v->file = file;
        v->line = line;
    }
    if (v)
        v->origin = file ? td_arena_print(arena, "%s:%d", file, line) : "command line";
    return v && v->name && v->origin ? v : NULL;
}

void td_setting_append(td_setting *parent, td_setting *child)
{
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
}

td_setting *td_setting_child(const td_setting *group, const char *name)
{
    for (td_setting *v = group ? group->first : NULL; v; v = v->next)
        if (!strcmp(v->name, name))
            return v;
    return NULL;
}

/* Where a text has this name, and no longer one that holds it; NULL: nowhere. */
static const char *mentions(const char *text, const char *name)
{
    static const char letters[] = "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t            n = strlen(name);
    for (const char *p = text; n && (p = strstr(p, name)) != NULL; p++)
        if ((p == text || !strchr(letters, p[-1])) && !(p[n] && strchr(letters, p[n])))
            return p;
    return NULL;
}

/* The option in a group, or in one of its groups, that a text names first; `at`: where it does. */
static const td_setting *named(const td_setting *group, const char *text, const char **at)
{
    const td_setting *best = NULL;
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        const char       *here = NULL;
        const td_setting *found = v->type == TD_SETTING_GROUP ? named(v, text, &here) : v;
        if (found == v)
            here = mentions(text, v->name);
        if (found && here && (!best || here < *at)) {
            best = found;
            *at = here;
        }
    }
    return best;
}

const td_setting *td_setting_named(const td_setting *group, const char *text)
{
    const char *at = NULL;
    return named(group, text, &at);
}
