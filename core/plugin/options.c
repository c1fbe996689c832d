/* options.c - option tables: their rows, the default of one option, a description of one. */
#include "plugin/options.h"

#include <math.h>
#include <string.h>

/* Fields are only ever added at the end of a row, so a shorter one is a prefix of a longer one. */
bool td_option_row(const td_option *table, size_t option_size, size_t i, td_option *out)
{
    memset(out, 0, sizeof *out);
    if (!table)
        return false;
    /* the stride is the module's, the copy is at most the host's */
    memcpy(out, (const char *)table + i * option_size,
           option_size < sizeof *out ? option_size : sizeof *out);
    return out->type != TD_TYPE_END;
}

int64_t td_option_share(double share, int64_t steps)
{
    /* rounded down, but 0.29 of 100 is 29, although the product is a little less */
    return (int64_t)floor(share * (double)steps + 1e-6);
}

/* Whether a number of such an option is a share of the run rather than a count. */
bool td_option_is_share(const td_option *o, double number)
{
    return o->type == TD_TYPE_INT && o->flags & TD_OPTION_IN_STEPS && number > 0 && number < 1;
}

/* Numbers of every type are kept as doubles in a row: a table is plain constant data. */
void td_option_default(const td_option *o, char *field)
{
    switch (o->type) {
    case TD_TYPE_BOOL:
        *(bool *)(void *)field = o->number != 0;
        break;
    case TD_TYPE_INT:
        *(int64_t *)(void *)field = td_option_is_share(o, o->number)
                                        ? td_option_share(o->number, TD_STEPS_OUTSIDE_RUN)
                                        : (int64_t)o->number;
        break;
    case TD_TYPE_CHOICE:
        *(int64_t *)(void *)field = (int64_t)o->number;
        break;
    case TD_TYPE_FLOAT:
        *(double *)(void *)field = o->number;
        break;
    case TD_TYPE_STRING:
        /* plugins are promised that a string is never NULL */
        *(const char **)(void *)field = o->text ? o->text : "";
        break;
    default:
        break; /* lists are empty and parts unset: all bits 0 */
    }
}

/* ---- descriptions ---------------------------------------------------------------------------- */

/* Tables write "no limit" as an infinity, as DBL_MAX or as INT64_MAX. */
static void print_range(const td_option *o, const char *type, td_text *out)
{
    bool has_min = o->min > -1e300 && !isinf(o->min), has_max = o->max < 1e18;
    td_text_print(out, "%s", type);
    if (has_min && has_max)
        td_text_print(out, " %.15g .. %.15g", o->min, o->max);
    else if (has_min)
        td_text_print(out, " from %.15g", o->min);
    else if (has_max)
        td_text_print(out, " up to %.15g", o->max);
}

/* As they are written in a config, with quotes. */
static void print_choices(const td_option *o, td_text *out)
{
    for (size_t k = 0; o->choices[k]; k++)
        td_text_print(out, "%s\"%s\"", k ? " | " : "", o->choices[k]);
}

/* The name of a simple type; NULL: see print_type. */
static const char *type_name(int64_t type)
{
    switch (type) {
    case TD_TYPE_BOOL:
        return "true | false";
    case TD_TYPE_STRING:
        return "string";
    case TD_TYPE_STRINGS:
        return "list of strings";
    case TD_TYPE_LIST:
        return "list of groups";
    default:
        return NULL;
    }
}

static void print_type(const td_option *o, td_text *out)
{
    /* words that a config's author knows, not C's types */
    const char *name = type_name(o->type);
    if (name)
        td_text_print(out, "%s", name);
    else if (o->type == TD_TYPE_INT) {
        print_range(o, "int", out);
        if (o->flags & TD_OPTION_IN_STEPS)
            td_text_print(out, ", or a fraction of train.steps such as 0.05");
    } else if (o->type == TD_TYPE_FLOAT)
        print_range(o, "float", out);
    else if (o->type == TD_TYPE_INTS)
        print_range(o, "list of int", out);
    else if (o->type == TD_TYPE_FLOATS)
        print_range(o, "list of float", out);
    else if (o->type == TD_TYPE_CHOICE)
        print_choices(o, out);
    else if (o->type == TD_TYPE_PART)
        td_text_print(out, "group: a plugin of kind %s", o->choices[0]);
    else if (o->type == TD_TYPE_PARTS)
        td_text_print(out, "list of plugins of kind %s, each a name or a group", o->choices[0]);
}

/* PARTS and lists have none: they begin empty. */
static void print_default(const td_option *o, td_text *out)
{
    /* a required option has a `number`, too, and it means nothing */
    if (o->flags & TD_OPTION_REQUIRED)
        td_text_print(out, ", required");
    else if (o->flags & TD_OPTION_WHOLE_RUN)
        td_text_print(out, ", default train.steps");
    else if (o->type == TD_TYPE_BOOL)
        td_text_print(out, ", default %s", o->number != 0 ? "true" : "false");
    else if (o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT)
        td_text_print(out, ", default %.15g", o->number);
    else if (o->type == TD_TYPE_CHOICE)
        td_text_print(out, ", default \"%s\"", o->choices[(size_t)o->number]);
    else if ((o->type == TD_TYPE_STRING || o->type == TD_TYPE_PART) && o->text && *o->text)
        td_text_print(out, ", default \"%s\"",
                      o->text); /* an empty string is not worth a mention */
}

void td_option_describe(const td_option *o, td_text *out)
{
    print_type(o, out);
    print_default(o, out);
}
