/* options.c - option tables at work: rows, single defaults, descriptions. */
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
