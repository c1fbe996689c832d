/* merge.c - laying one config over another. */
#include "config/merge.h"

#include <assert.h>
#include <string.h>

/* Bits of `mark`. Parsing does not allow that much depth; deeper groups would not be marked. */
enum { MARKS = 64 };

/* Both must name one; where `a` relies on a default, it is not known which plugin that is. */
static bool names_another_plugin(const td_setting *a, const td_setting *b)
{
    const td_setting *p = td_setting_child(a, "plugin"), *q = td_setting_child(b, "plugin");
    return q && q->type == TD_SETTING_STRING && p && p->type == TD_SETTING_STRING &&
           strcmp(p->text, q->text);
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

/* All that is in the group now, at any depth; what is merged in later will not have the bit. */
static void mark_all(td_setting *group, uint64_t bit)
{
    for (td_setting *v = group->first; v; v = v->next) {
        v->stale_marks |= bit;
        if (v->type == TD_SETTING_GROUP)
            mark_all(v, bit);
    }
}

/* Before merging: what becomes of `into` if `from` names a plugin. */
static void start_plugin(td_setting *into, const td_setting *from, int depth)
{
    bool named_first = td_setting_child(from, "plugin") && !td_setting_child(into, "plugin");
    if (names_another_plugin(into, from)) {
        /* the nodes stay in the arena: nobody points to them any more */
        into->first = into->last = NULL;
        into->mark = 0;
    } else if (into->first && named_first && depth < MARKS) {
        into->mark = 1ull << depth;
        mark_all(into, into->mark);
    }
}

static void merge(td_setting *into, td_setting *from, int depth)
{
    td_setting *next;
    assert(into->type == TD_SETTING_GROUP && from->type == TD_SETTING_GROUP);
    start_plugin(into, from, depth);
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
            merge(old, v, depth + 1);
        else
            replace(into, old, v);
    }
}

void td_setting_merge(td_setting *into, td_setting *from) { merge(into, from, 0); }

/* Drop what has the bit. A group without it may contain values with it: they were stated before the
 * plugin was named, and the group again after. */
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

void td_setting_forget_default(td_setting *group)
{
    assert(group->mark);
    forget(group, group->mark);
    group->mark = 0;
}
