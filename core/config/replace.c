/* replace.c - a plugin in place of another: which options of the earlier one the new one keeps. */
#include <string.h>

#include "config/binder.h"
#include "config/merge.h"
#include "plugin/options.h"

/* A group whose plugin changed after some of its options were written. */
typedef struct change {
    td_binder       *binder;
    const td_slot   *slot;
    const td_plugin *now;
    const char      *before; /* the plugin that the options were written for */
    td_text          kept, dropped;
} change;

/* Its type is TD_TYPE_END if the plugin lacks the option, or is unknown. */
static td_option row_of(const td_plugin *p, const char *name)
{
    td_option o;
    for (size_t i = 0; p && td_option_row(p->options, p->option_size, i, &o); i++)
        if (!strcmp(o.name, name))
            return o;
    return (td_option){ .type = TD_TYPE_END };
}

static bool has_word(const char *const *words, const char *word)
{
    while (*words && strcmp(*words, word))
        words++;
    return *words != NULL;
}

/* Every value of a list must fit. A value that is not a number is reported later, by binding. */
static bool in_range(const td_option *o, const td_setting *v)
{
    bool is_number = v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT, all = true;
    for (const td_setting *item = v->type == TD_SETTING_LIST ? v->first : NULL; item && all;
         item = item->next)
        all = in_range(o, item);
    return is_number
               ? td_option_is_share(o, v->number) || (v->number >= o->min && v->number <= o->max)
               : all;
}

static bool accepts(const td_option *o, const td_setting *v)
{
    switch (o->type) {
    case TD_TYPE_INT:
    case TD_TYPE_FLOAT:
    case TD_TYPE_INTS:
    case TD_TYPE_FLOATS:
        return in_range(o, v);
    case TD_TYPE_CHOICE:
        return v->type != TD_SETTING_STRING || has_word(o->choices, v->text);
    case TD_TYPE_LIST: /* tables of items are not compared */
        return false;
    default:
        return true;
    }
}

/* Parts of one name but of two kinds have nothing in common. */
static bool same_type(const td_option *a, const td_option *b)
{
    bool part = a->type == TD_TYPE_PART || a->type == TD_TYPE_PARTS;
    return a->type == b->type && (!part || !strcmp(a->choices[0], b->choices[0]));
}

static bool is_hosts(const td_slot *s, const char *name)
{
    for (const td_option *o = s->extra; o && o->type; o++)
        if (!strcmp(o->name, name))
            return true;
    return false;
}

static bool has_number(const td_option *o)
{
    return (o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT) && !(o->flags & TD_OPTION_REQUIRED);
}

/* What changes the model is reported: a number that replaces a dropped one, and a kept one that
 * differs from the new plugin's default. */
static void list_option(const td_setting *v, const td_option *before, const td_option *now,
                        bool stays, td_text *list)
{
    bool differs = now->number != before->number && now->number != v->number;
    td_text_print(list, "%s%s", list->size ? ", " : "", v->name);
    if (!has_number(now))
        return;
    if (!stays)
        td_text_print(list, " (now %.15g)", now->number);
    else if (differs)
        td_text_print(list, " = %.15g (its default: %.15g)", v->number, now->number);
}

/* A td_stays. */
static bool fits(void *arg, const td_setting *v)
{
    change     *x = arg;
    const char *before = *v->written_for ? v->written_for : x->slot->fallback;
    td_error    unknown = { 0 }; /* a plugin that is gone has no options to keep */
    td_option   was, now;
    bool        stays;
    td_text    *list;
    /* without a default, whoever wrote it had this plugin in mind; the host's options mean the same
     * for all plugins */
    if (!before || !strcmp(before, x->now->name) || is_hosts(x->slot, v->name))
        return true;
    was = row_of(td_registry_find(x->binder->registry, x->slot->kind, before, &unknown), v->name);
    now = row_of(x->now, v->name);
    stays = now.type && same_type(&was, &now) && accepts(&now, v);
    x->before = before;
    list = stays ? &x->kept : &x->dropped;
    /* stated again since, or done by a file that is extended: there is nothing to report */
    if (v->stale_marks && v->told)
        list_option(v, &was, &now, stays, list);
    return stays;
}

/* Changing a plugin by one line should change that alone, and nothing should be lost silently. */
void td_bind_settle(td_binder *b, td_setting *group, const td_slot *s, const td_plugin *p)
{
    change            x = { .binder = b, .slot = s, .now = p };
    const td_setting *named = td_setting_child(group, "plugin");
    const char       *path = td_setting_path(b->config->arena, b->config->root, group);
    td_setting_settle(group, fits, &x);
    if (x.kept.size || x.dropped.size)
        td_text_print(&b->config->notes, "%s: %s: '%s' in place of '%s'%s%s%s%s\n",
                      td_setting_origin(named ? named : group), path ? path : s->path, p->name,
                      x.before, x.kept.size ? " keeps " : "", td_text_get(&x.kept),
                      x.dropped.size ? x.kept.size ? "; drops " : " drops " : "",
                      td_text_get(&x.dropped));
    td_text_free(&x.kept);
    td_text_free(&x.dropped);
}
