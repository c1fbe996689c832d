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

static bool find_row(const td_plugin *p, const char *name, td_option *out)
{
    size_t i = 0;
    while (td_option_row(p->options, p->option_size, i++, out))
        if (!strcmp(out->name, name))
            return true;
    return false;
}

static bool same_text(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

static bool same_choices(const char *const *a, const char *const *b)
{
    if (!a || !b)
        return a == b;
    while (*a && *b && !strcmp(*a, *b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

/* Two plugins mean the same by a name if they declare it the same way; a default of another size
 * (an eps of 1e-30 and one of 1e-8) is a sign that they do not. Tables of lists are not compared. */
static bool same_declaration(const td_option *a, const td_option *b)
{
    return a->type == b->type && a->type != TD_TYPE_LIST && a->number == b->number &&
           (a->type == TD_TYPE_PART || same_text(a->text, b->text)) &&
           same_choices(a->choices, b->choices);
}

static bool is_hosts(const td_slot *s, const char *name)
{
    for (const td_option *o = s->extra; o && o->type; o++)
        if (!strcmp(o->name, name))
            return true;
    return false;
}

static bool declared_alike(const change *x, const char *before, const char *name)
{
    td_option        a, b;
    td_error         unknown = { 0 }; /* a plugin that is gone has no options to keep */
    const td_plugin *p = td_registry_find(x->binder->registry, x->slot->kind, before, &unknown);
    return p && find_row(p, name, &a) && find_row(x->now, name, &b) && same_declaration(&a, &b);
}

/* With the number that takes the place of one that is dropped: other heads make another model. */
static void list_option(const change *x, const char *name, bool stays, td_text *list)
{
    td_option o;
    td_text_print(list, "%s%s", list->size ? ", " : "", name);
    if (!stays && find_row(x->now, name, &o) && !(o.flags & TD_OPTION_REQUIRED) &&
        (o.type == TD_TYPE_INT || o.type == TD_TYPE_FLOAT))
        td_text_print(list, " (now %.15g)", o.number);
}

/* A td_stays. */
static bool fits(void *arg, const td_setting *v)
{
    change     *x = arg;
    const char *before = *v->written_for ? v->written_for : x->slot->fallback;
    bool        stays;
    td_text    *list;
    /* without a default, whoever wrote it had this plugin in mind; the host's mean the same for all */
    if (!before || !strcmp(before, x->now->name) || is_hosts(x->slot, v->name))
        return true;
    stays = declared_alike(x, before, v->name);
    x->before = before;
    list = stays ? &x->kept : &x->dropped;
    /* stated again since, or done by a file that is extended: there is nothing to report */
    if (v->stale_marks && v->told)
        list_option(x, v->name, stays, list);
    return stays;
}

/* Changing a plugin by one line should change that alone, and nothing should be lost in silence. */
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
