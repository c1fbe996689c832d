/* setting.c - the nodes of a config's tree: made, linked, found. */
#include "config/setting.h"

#include <assert.h>
#include <string.h>

/* The origin is made here once: every message about the value needs it. */
td_setting *td_setting_new(td_arena *arena, int type, const char *name, const char *file, int line)
{
    td_setting *v = td_arena_alloc(arena, sizeof *v);
    if (!v)
        return NULL;
    v->type = type;
    v->name = name ? td_arena_copy(arena, name) : "";
    v->file = file;
    v->line = line;
    v->origin = file ? td_arena_print(arena, "%s:%d", file, line) : "command line";
    return v->name && v->origin ? v : NULL;
}

void td_setting_append(td_setting *parent, td_setting *child)
{
    assert(parent->type == TD_SETTING_GROUP || parent->type == TD_SETTING_LIST);
    child->next = NULL; /* it may come from another list */
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
}

td_setting *td_setting_copy(td_arena *arena, const td_setting *of)
{
    td_setting *v = td_arena_alloc(arena, sizeof *v);
    if (!v)
        return NULL;
    *v = *of;
    /* these still link into the tree that it was copied from */
    v->first = v->last = v->next = NULL;
    for (const td_setting *child = of->first; child; child = child->next) {
        td_setting *copy = td_setting_copy(arena, child);
        if (!copy)
            return NULL;
        td_setting_append(v, copy);
    }
    return v;
}

/* Groups have tens of keys at most: no index. NULL is a group without children. */
td_setting *td_setting_child(const td_setting *group, const char *name)
{
    for (td_setting *v = group ? group->first : NULL; v; v = v->next)
        if (!strcmp(v->name, name))
            return v;
    return NULL;
}

const char *td_setting_path(td_arena *arena, const td_setting *root, const td_setting *target)
{
    for (const td_setting *v = root->first; v; v = v->next) {
        const char *below;
        if (v == target)
            return v->name;
        below = td_setting_path(arena, v, target);
        /* items of lists have no name: a path through one would lead nowhere */
        if (below && *v->name)
            return td_arena_print(arena, "%s.%s", v->name, below);
    }
    return NULL;
}

const char *td_setting_origin(const td_setting *v) { return v->origin; }

bool td_setting_is_whole(const td_setting *v, int64_t *out)
{
    static const double exact =
        9007199254740992; /* 2^53: beyond it a float names several integers */
    if (v->type == TD_SETTING_INT)
        *out = v->integer;
    else if (v->type == TD_SETTING_FLOAT && v->number >= -exact && v->number <= exact &&
             v->number == (double)(int64_t)v->number)
        *out = (int64_t)v->number;
    else
        return false;
    return true;
}

/* As libconfig's manual calls them. */
const char *td_setting_type_name(const td_setting *v)
{
    static const char *const names[] = {
        [TD_SETTING_GROUP] = "a group { }", [TD_SETTING_LIST] = "a list",
        [TD_SETTING_INT] = "an integer",    [TD_SETTING_FLOAT] = "a float",
        [TD_SETTING_BOOL] = "a bool",       [TD_SETTING_STRING] = "a string"
    };
    return names[v->type];
}

/* ---- names in messages ----------------------------------------------------------------------- */

/* Where a text has this name as a whole word ("heads" is not in "kv_heads"); NULL: nowhere. */
static const char *word_in(const char *text, const char *name)
{
    static const char letters[] = "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t            n = strlen(name);
    for (const char *p = text; n && (p = strstr(p, name)) != NULL; p++)
        if ((p == text || !strchr(letters, p[-1])) && !(p[n] && strchr(letters, p[n])))
            return p;
    return NULL;
}

/* `at` gets where the name of the result begins. */
static const td_setting *mentioned(const td_setting *group, const char *message, const char **at)
{
    const td_setting *best = NULL;
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        const char       *here = NULL;
        const td_setting *candidate = v;
        /* a rule about a group names the options within, not the group */
        if (v->type == TD_SETTING_GROUP)
            candidate = mentioned(v, message, &here);
        else
            here = word_in(message, v->name);
        if (candidate && here && (!best || here < *at)) {
            best = candidate;
            *at = here;
        }
    }
    return best;
}

const td_setting *td_setting_mentioned(const td_setting *group, const char *message)
{
    const char *at = NULL;
    return mentioned(group, message, &at);
}
