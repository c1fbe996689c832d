/* options.c - option tables at work: rows, defaults, descriptions. */
#include "plugin/options.h"

#include <math.h>
#include <string.h>

bool td_option_row(const td_option *table, size_t option_size, size_t i, td_option *out)
{
    const char *row = (const char *)table + i * option_size;
    memset(out, 0, sizeof *out);
    if (!table)
        return false;
    memcpy(out, row, option_size < sizeof *out ? option_size : sizeof *out);
    return out->type != TD_TYPE_END;
}

static void *defaults(td_registry *r, const td_plugin *p, int depth, td_arena *arena,
                      td_error *error);

static int part_defaults(td_registry *r, const char *kind, const char *name, int depth,
                         td_arena *arena, td_part *out, td_error *error)
{
    const td_plugin *p = td_registry_find(r, kind, name, error);
    out->plugin = p;
    out->config = p ? defaults(r, p, depth, arena, error) : NULL;
    return out->config ? 0 : TD_EPLUGIN;
}

void td_option_default(const td_option *o, char *field)
{
    switch (o->type) {
    case TD_TYPE_BOOL:
        *(bool *)(void *)field = o->number != 0;
        break;
    case TD_TYPE_INT:
    case TD_TYPE_CHOICE:
        *(int64_t *)(void *)field = (int64_t)o->number;
        break;
    case TD_TYPE_FLOAT:
        *(double *)(void *)field = o->number;
        break;
    case TD_TYPE_STRING:
        *(const char **)(void *)field = o->text ? o->text : "";
        break;
    default:
        break;
    }
}

static int set_default(td_registry *r, const td_option *o, char *field, int depth, td_arena *arena,
                       td_error *error)
{
    if (o->type == TD_TYPE_PART && o->text)
        return part_defaults(r, o->choices[0], o->text, depth + 1, arena, (td_part *)(void *)field,
                             error);
    td_option_default(o, field);
    return 0;
}

static void *defaults(td_registry *r, const td_plugin *p, int depth, td_arena *arena,
                      td_error *error)
{
    char     *config = td_arena_alloc(arena, p->config_size ? p->config_size : 1);
    td_option row;
    if (depth > TD_DEEPEST_PART) {
        td_fail(error, TD_EPLUGIN,
                "%s '%s': its default parts lie in each other more than %d deep: is it its own "
                "default?",
                p->kind, p->name, TD_DEEPEST_PART);
        return NULL;
    }
    if (!config) {
        td_fail(error, TD_ENOMEM, "out of memory for the options of '%s'", p->name);
        return NULL;
    }
    for (size_t i = 0; td_option_row(p->options, p->option_size, i, &row); i++)
        if (set_default(r, &row, config + row.offset, depth, arena, error))
            return NULL;
    return config;
}

void *td_options_defaults(td_registry *r, const td_plugin *p, td_arena *arena, td_error *error)
{
    return defaults(r, p, 0, arena, error);
}

int td_part_defaults(td_registry *r, const char *kind, const char *name, td_arena *arena,
                     td_part *out, td_error *error)
{
    return part_defaults(r, kind, name, 0, arena, out, error);
}

static void print_range(const td_option *o, const char *type, td_text *out)
{
    td_text_print(out, "%s", type);
    if (o->min > -1e300 && !isinf(o->min))
        td_text_print(out, o->max < 1e18 ? " %.15g .. %.15g" : " from %.15g", o->min, o->max);
    else if (o->max < 1e18)
        td_text_print(out, " up to %.15g", o->max);
}

static void print_choices(const td_option *o, td_text *out)
{
    for (size_t k = 0; o->choices[k]; k++)
        td_text_print(out, "%s\"%s\"", k ? " | " : "", o->choices[k]);
}

static void print_type(const td_option *o, td_text *out)
{
    switch (o->type) {
    case TD_TYPE_BOOL:
        td_text_print(out, "true | false");
        break;
    case TD_TYPE_INT:
        print_range(o, "int", out);
        break;
    case TD_TYPE_FLOAT:
        print_range(o, "float", out);
        break;
    case TD_TYPE_STRING:
        td_text_print(out, "string");
        break;
    case TD_TYPE_CHOICE:
        print_choices(o, out);
        break;
    case TD_TYPE_INTS:
        print_range(o, "list of int", out);
        break;
    case TD_TYPE_FLOATS:
        print_range(o, "list of float", out);
        break;
    case TD_TYPE_STRINGS:
        td_text_print(out, "list of strings");
        break;
    case TD_TYPE_PART:
        td_text_print(out, "group: a plugin of kind %s", o->choices[0]);
        break;
    case TD_TYPE_PARTS:
        td_text_print(out, "list of plugins of kind %s, each a name or a group", o->choices[0]);
        break;
    case TD_TYPE_LIST:
        td_text_print(out, "list of groups");
        break;
    default:
        break;
    }
}

static void print_default(const td_option *o, td_text *out)
{
    if (o->flags & TD_OPTION_REQUIRED)
        td_text_print(out, ", required");
    else if (o->type == TD_TYPE_BOOL)
        td_text_print(out, ", default %s", o->number != 0 ? "true" : "false");
    else if (o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT)
        td_text_print(out, ", default %.15g", o->number);
    else if (o->type == TD_TYPE_CHOICE)
        td_text_print(out, ", default \"%s\"", o->choices[(size_t)o->number]);
    else if ((o->type == TD_TYPE_STRING || o->type == TD_TYPE_PART) && o->text && *o->text)
        td_text_print(out, ", default \"%s\"", o->text);
}

void td_option_describe(const td_option *o, td_text *out)
{
    print_type(o, out);
    print_default(o, out);
}
