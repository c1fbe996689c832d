/* merge.c - laying one config over another. */
#include "config/merge.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Bits of `mark`. Parsing does not allow that much depth; deeper groups would not be marked. */
enum { MARKS = 64 };

/* The name of a group's plugin; NULL: it names none. */
static const char *plugin_of(const td_setting *group)
{
    const td_setting *v = td_setting_child(group, "plugin");
    return v && v->type == TD_SETTING_STRING ? v->text : NULL;
}

/* In place, so that the keys of a group keep the order of the first file that has them. */
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

/* Mark everything that is in the group now, at any depth; settings merged in later will lack the
 * bit. */
static void mark_all(td_setting *group, uint64_t bit)
{
    for (td_setting *v = group->first; v; v = v->next) {
        v->stale_marks |= bit;
        if (v->type == TD_SETTING_GROUP)
            mark_all(v, bit);
    }
}

/* Before merging: what becomes of `into` if `from` names a plugin. */
static void start_plugin(td_setting *into, const td_setting *from, int depth, bool told)
{
    const char *old = plugin_of(into), *new = plugin_of(from);
    if (!into->first || !new || (old && !strcmp(old, new)) || depth >= MARKS)
        return;
    into->mark = 1ull << depth;
    mark_all(into, into->mark);
    for (td_setting *v = into->first; v; v = v->next) {
        v->told |= told;
        /* of two changes the first counts: the value was not stated for the plugin in between */
        if (!v->written_for)
            v->written_for = old ? old : "";
    }
}

static void drop(td_setting *group, const char *name)
{
    td_setting *v = group->first, *next;
    group->first = group->last = NULL;
    for (; v; v = next) {
        next = v->next;
        if (strcmp(v->name, name))
            td_setting_append(group, v);
    }
}

/* A length of 0 means that another key sets it. */
static bool states(const td_setting *group, const char *name)
{
    const td_setting *v = td_setting_child(group, name);
    bool              number = v && (v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT);
    return v && (!number || v->number != 0 || !strcmp(name, "steps"));
}

/* A run has one length, so if several keys state it, the later file's counts. Two on one command
 * line, as two in one file, stay: they are an error. */
static void start_length(td_setting *into, const td_setting *from)
{
    static const char *const keys[] = { "steps", "target_tokens", "flops" };
    enum { KEYS = sizeof keys / sizeof *keys };
    for (size_t k = 0; k < KEYS; k++) {
        if (!states(from, keys[k]))
            continue;
        for (size_t j = 0; j < KEYS; j++) {
            const td_setting *old = td_setting_child(into, keys[j]);
            if (j != k && old && (old->file || td_setting_child(from, keys[k])->file))
                drop(into, keys[j]);
        }
    }
}

bool td_setting_is_item(const td_setting *v)
{
    return v->type == TD_SETTING_GROUP && v->first && isdigit((unsigned char)*v->first->name);
}

td_setting *td_setting_item(const td_setting *list, const char *index)
{
    td_setting *item = list->first;
    long        k = strtol(index, NULL, 10);
    while (item && k-- > 0)
        item = item->next;
    return item;
}

static void merge(td_setting *into, td_setting *from, int depth, bool told);

/* An override of one item of a list; that there is such an item was checked. */
static void merge_item(td_setting *list, td_setting *from, int depth, bool told)
{
    td_setting *old = td_setting_item(list, from->name);
    if (old->type == TD_SETTING_GROUP && from->type == TD_SETTING_GROUP) {
        merge(old, from, depth, told);
        return;
    }
    from->name = "";
    replace(list, old, from);
}

static void merge(td_setting *into, td_setting *from, int depth, bool told)
{
    td_setting *next;
    assert(into->type == TD_SETTING_GROUP && from->type == TD_SETTING_GROUP);
    start_plugin(into, from, depth, told);
    if (depth == 1 && !strcmp(into->name, "train"))
        start_length(into, from);
    /* errors about the group as a whole point to the last file that has it */
    into->file = from->file;
    into->line = from->line;
    into->origin = from->origin;
    /* `from` may be the result of a merge, and bring its own marks. As it states the group again,
     * the group itself is not stale. */
    into->mark |= from->mark;
    into->stale_marks = 0;
    for (td_setting *v = from->first; v; v = next) {
        td_setting *old = td_setting_child(into, v->name);
        next = v->next; /* appending changes it */
        if (!old)
            td_setting_append(into, v);
        else if (old->type == TD_SETTING_GROUP && v->type == TD_SETTING_GROUP)
            merge(old, v, depth + 1, told);
        else if (old->type == TD_SETTING_LIST && td_setting_is_item(v))
            merge_item(old, v->first, depth + 1, told);
        else
            replace(into, old, v);
    }
}

void td_setting_merge(td_setting *into, td_setting *from, bool told) { merge(into, from, 0, told); }

/* Drop the settings that have the bit. A group without it may contain values with it: they were
 * stated before the plugin was named, and the group again after. */
static void forget(td_setting *group, uint64_t bit)
{
    td_setting *v = group->first, *next;
    group->first = group->last = NULL;
    for (; v; v = next) {
        next = v->next;
        if (v->stale_marks & bit)
            continue;
        td_setting_append(group, v);
        if (v->type == TD_SETTING_GROUP)
            forget(v, bit);
    }
}

void td_setting_settle(td_setting *group, td_stays *stays, void *arg)
{
    td_setting *v = group->first, *next;
    uint64_t    bit = group->mark;
    assert(bit);
    group->mark = 0;
    group->first = group->last = NULL;
    for (; v; v = next) {
        bool fits = !v->written_for || !strcmp(v->name, "plugin") || stays(arg, v);
        next = v->next;
        if (!fits && v->stale_marks & bit)
            continue;
        /* the group was stated again since: of what is in it, only the older part goes */
        if (!fits && v->type == TD_SETTING_GROUP)
            forget(v, bit);
        td_setting_append(group, v);
    }
}
