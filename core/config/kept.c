/* kept.c - a config that a run kept, taken as it is written. */
#include <string.h>

#include "config/resolved.h"

/* As binding prints it: kept configs are compared as text, and 1e-3 is the same as 0.001 */
static void print_item(const td_setting *v, td_text *out)
{
    switch (v->type) {
    case TD_SETTING_INT:
        td_print_integer(out, v->integer);
        break;
    case TD_SETTING_FLOAT:
        td_print_number(out, v->number);
        break;
    case TD_SETTING_BOOL:
        td_text_print(out, "%s", v->integer ? "true" : "false");
        break;
    default:
        td_print_string(out, v->text ? v->text : "");
        break;
    }
}

static bool is_scalar(const td_setting *v)
{
    return v->type != TD_SETTING_GROUP && v->type != TD_SETTING_LIST;
}

/* A value as binding would print it: a scalar, or a list of scalars. NULL when out of memory. */
static const char *text_of(td_config *c, const td_setting *v)
{
    td_text     t = { 0 };
    const char *copy;
    if (is_scalar(v)) {
        print_item(v, &t);
    } else {
        td_text_print(&t, v->first ? "( " : "(");
        for (const td_setting *item = v->first; item; item = item->next) {
            td_text_print(&t, "%s", item == v->first ? "" : ", ");
            print_item(item, &t);
        }
        td_text_print(&t, v->first ? " )" : ")");
    }
    copy = td_arena_copy(c->arena, td_text_get(&t));
    td_text_free(&t);
    return copy;
}

static void take(td_config *c, td_resolved *at, const td_setting *v)
{
    bool         groups = v->type == TD_SETTING_LIST && v->first && !is_scalar(v->first);
    bool         tree = v->type == TD_SETTING_GROUP || groups;
    const char  *text = tree ? NULL : text_of(c, v);
    td_resolved *r = tree || text ? td_resolved_add(c, at, v->name, text, "", v, NULL) : at;
    if (!tree || r == at)
        return;
    r->list = groups;
    for (const td_setting *inner = v->first; inner; inner = inner->next)
        take(c, r, inner);
}

void td_config_take_text(td_config *c)
{
    c->as_text = true;
    for (const td_setting *v = c->root->first; v; v = v->next)
        take(c, &c->resolved, v);
}
