/* design_grid.c - reads the axes of a study's grid. */
#include <string.h>

#include "study/design_parts.h"

/* ---- the grid -------------------------------------------------------------------------------- */

/* "a.b.c" and a value as the keys of a config: a = { b = { c = value; }; }. */
static td_setting *nest(td_design_reader *r, const char *key, const td_setting *value)
{
    td_arena   *a = r->fields.arena;
    char       *rest = td_arena_copy(a, key), *name;
    td_setting *top = td_setting_new(a, TD_SETTING_GROUP, "", value->file, value->line), *at = top;
    while (at && rest && (name = strsep(&rest, ".")) != NULL) {
        td_setting *v = rest ? td_setting_new(a, TD_SETTING_GROUP, name, value->file, value->line)
                             : td_setting_copy(a, value);
        if (!v)
            return NULL;
        v->name = name;
        td_setting_append(at, v);
        at = v;
    }
    return top;
}

static const char *label_of(td_design_reader *r, const char *axis, const td_setting *v)
{
    td_arena *a = r->fields.arena;
    switch (v->type) {
    case TD_SETTING_INT:
        return td_arena_print(a, "%s-%lld", axis, (long long)v->integer);
    case TD_SETTING_FLOAT:
        return td_arena_print(a, "%s-%g", axis, v->number);
    case TD_SETTING_BOOL:
        return td_arena_print(a, "%s-%s", axis, v->integer ? "true" : "false");
    case TD_SETTING_STRING:
        return td_arena_print(a, "%s-%s", axis, v->text);
    /* lists and groups have no short name */
    default:
        return NULL;
    }
}

typedef struct axis_group {
    const char       *key;
    const td_setting *values;
} axis_group;

/* { key = "model.attention.window"; values = [ 32, 64 ]; } */
static void read_values(td_design_reader *r, const td_setting *group, const char *what,
                        td_axis *out)
{
    static const td_field fields[] = {
        { "key", TD_FIELD_TEXT, offsetof(axis_group, key) },
        { "values", TD_FIELD_ANY, offsetof(axis_group, values) },
        { NULL, 0, 0 },
    };
    axis_group g = { 0 };
    td_fields_read(&r->fields, group, what, fields, &g);
    if (!g.key || !*g.key || !g.values || g.values->type != TD_SETTING_LIST || !g.values->first) {
        td_fields_error(&r->fields, group, what,
                        "key = \"KEY\" and values = [ .. ] belong together");
        return;
    }
    out->levels = td_design_allocate(r, td_design_count(g.values), sizeof(td_level));
    for (const td_setting *v = g.values->first; v; v = v->next) {
        /* td_fields_name: the label becomes a part of directory names */
        const char *label = label_of(r, out->name, v);
        if (!label)
            td_fields_error(&r->fields, v, what,
                            "values contains %s; each must be a number, a string "
                            "or true or false",
                            td_setting_type_name(v));
        else if (td_fields_name(&r->fields, v, what, label))
            out->levels[out->n++] = (td_level){ label, { .keys = nest(r, g.key, v) } };
    }
}

/* { with = "ablations/moe.cfg"; without = { }; } */
static void read_overlays(td_design_reader *r, const td_setting *group, const char *what,
                          td_axis *out)
{
    out->levels = td_design_allocate(r, td_design_count(group), sizeof(td_level));
    for (const td_setting *v = group->first; v; v = v->next) {
        td_level *level = &out->levels[out->n];
        *level = (td_level){ .label = v->name };
        td_fields_overlay(&r->fields, v, td_design_path(r, what, v->name), &level->own);
        if (td_fields_name(&r->fields, v, what, v->name))
            out->n++;
    }
}

void td_design_read_grid(td_design_reader *r, const td_setting *group)
{
    r->d->grid = td_design_allocate(r, td_design_count(group), sizeof(td_axis));
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        const char *what = td_design_path(r, "study.grid", v->name);
        td_axis    *out = &r->d->grid[r->d->n_grid++];
        *out = (td_axis){ .name = v->name };
        if (v->type != TD_SETTING_GROUP || !v->first)
            td_fields_error(
                &r->fields, v, what,
                "it takes { key = \"KEY\"; values = [ .. ]; }, or a group of named overlays");
        /* either key shows which form was meant, and that the other key is missing */
        else if (td_setting_child(v, "key") || td_setting_child(v, "values"))
            read_values(r, v, what, out);
        else
            read_overlays(r, v, what, out);
    }
}
