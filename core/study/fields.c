/* fields.c - reading the groups of a study's config. */
#include "study/fields.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

void td_fields_error(td_fields_reader *r, const td_setting *v, const char *what, const char *format,
                     ...)
{
    char    text[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    td_errors_add(r->errors, "%s: %s: %s", td_setting_origin(v), what, text);
}

static void wrong_type(td_fields_reader *r, const td_setting *v, const char *what,
                       const char *takes)
{
    bool empty = v->type == TD_SETTING_LIST && !v->first;
    td_fields_error(r, v, what, "'%s' is %s; it takes %s", v->name,
                    empty ? "an empty list" : td_setting_type_name(v), takes);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The strings in a string or a list of strings; false if it is something else. */
static bool texts(td_fields_reader *r, const td_setting *v, td_strings *out)
{
    const td_setting *first = v->type == TD_SETTING_LIST ? v->first : v;
    size_t            n = 0;
    const char      **at;
    for (const td_setting *x = first; x; x = v->type == TD_SETTING_LIST ? x->next : NULL)
        n++;
    at = td_arena_alloc(r->arena, (n + 1) * sizeof *at);
    *out = (td_strings){ at, 0 };
    for (const td_setting *x = first; at && x; x = v->type == TD_SETTING_LIST ? x->next : NULL) {
        if (x->type != TD_SETTING_STRING)
            return false;
        at[out->count++] = x->text;
    }
    return at != NULL;
}

static bool integers(td_fields_reader *r, const td_setting *v, td_integers *out)
{
    /* a single value stands for a list of one */
    const td_setting *first = v->type == TD_SETTING_LIST ? v->first : v;
    size_t            n = 0;
    int64_t          *at;
    for (const td_setting *x = first; x; x = v->type == TD_SETTING_LIST ? x->next : NULL)
        n++;
    at = td_arena_alloc(r->arena, (n + 1) * sizeof *at);
    *out = (td_integers){ at, 0 };
    for (const td_setting *x = first; at && x; x = v->type == TD_SETTING_LIST ? x->next : NULL) {
        if (x->type != TD_SETTING_INT || x->integer < 0)
            return false;
        at[out->count++] = x->integer;
    }
    return at && n;
}

static bool is_files(const td_setting *v)
{
    if (v->type == TD_SETTING_STRING)
        return true;
    for (const td_setting *x = v->type == TD_SETTING_LIST ? v->first : NULL; x; x = x->next)
        if (x->type != TD_SETTING_STRING)
            return false;
    return v->type == TD_SETTING_LIST;
}

void td_fields_overlay(td_fields_reader *r, const td_setting *v, const char *what, td_overlay *out)
{
    static const td_field fields[] = {
        { "files", TD_FIELD_FILES, offsetof(td_overlay, files) },
        { "keys", TD_FIELD_GROUP, offsetof(td_overlay, keys) },
        { NULL, 0, 0 },
    };
    if (is_files(v))
        out->files = v;
    else if (v->type == TD_SETTING_GROUP)
        td_fields_read(r, v, what, fields, out);
    else
        wrong_type(r, v, what,
                   "a file, \"key=value\", a list of these, or a group { files, keys }");
}

/* What messages say that a field takes. */
static const char *const takes[] = {
    [TD_FIELD_TEXT] = "a string",
    [TD_FIELD_TEXTS] = "a string or a list of strings",
    [TD_FIELD_REAL] = "a number from 0",
    [TD_FIELD_INTEGER] = "an integer from 0",
    [TD_FIELD_INTEGERS] = "integers from 0: [ 1, 2, 3 ]",
    [TD_FIELD_BOOL] = "true or false",
    [TD_FIELD_FILES] = "a file, \"key=value\", or a list of these",
    [TD_FIELD_GROUP] = "a group { }",
};

static bool has_type(const td_setting *v, td_field_type type)
{
    bool number = v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT;
    switch (type) {
    case TD_FIELD_TEXT:
        return v->type == TD_SETTING_STRING;
    case TD_FIELD_REAL:
        return number && v->number >= 0;
    case TD_FIELD_INTEGER:
        return v->type == TD_SETTING_INT && v->integer >= 0;
    case TD_FIELD_BOOL:
        return v->type == TD_SETTING_BOOL;
    case TD_FIELD_FILES:
        return is_files(v);
    case TD_FIELD_GROUP:
        return v->type == TD_SETTING_GROUP;
    default: /* lists and overlays are checked item by item, as they are read */
        return true;
    }
}

/* `out` is a member of the struct, whose C type is that of the field's type. */
static bool store(td_fields_reader *r, const td_setting *v, const char *what, td_field_type type,
                  char *out)
{
    switch (type) {
    case TD_FIELD_TEXT:
        *(const char **)out = v->text;
        return true;
    case TD_FIELD_TEXTS:
        return texts(r, v, (td_strings *)out);
    case TD_FIELD_REAL:
        *(double *)out = v->number;
        return true;
    case TD_FIELD_INTEGER:
        *(int64_t *)out = v->integer;
        return true;
    case TD_FIELD_INTEGERS:
        return integers(r, v, (td_integers *)out);
    case TD_FIELD_BOOL:
        *(bool *)out = v->integer != 0;
        return true;
    case TD_FIELD_OVERLAY:
        td_fields_overlay(r, v, what, (td_overlay *)out);
        return true;
    default: /* read later, by whoever knows what is in it */
        *(const td_setting **)out = v;
        return true;
    }
}

static void take(td_fields_reader *r, const td_setting *v, const char *what, const td_field *f,
                 char *out)
{
    if (!has_type(v, f->type) || !store(r, v, what, f->type, out))
        wrong_type(r, v, what, takes[f->type]);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static void unknown(td_fields_reader *r, const td_setting *v, const char *what,
                    const td_field *fields)
{
    enum { MOST = 32 };
    const char *names[MOST] = { NULL }, *nearest;
    size_t      n = 0;
    td_text     all = { 0 };
    for (const td_field *f = fields; f->name && n < MOST; f++) {
        td_text_print(&all, "%s%s", n ? ", " : "", f->name);
        names[n++] = f->name;
    }
    nearest = td_nearest(v->name, names, n);
    if (nearest)
        td_fields_error(r, v, what, "'%s' is unknown; did you mean '%s'?", v->name, nearest);
    else
        td_fields_error(r, v, what, "'%s' is unknown; it takes %s%s", v->name, td_text_get(&all),
                        /* the likely mistake: a model's option written beside `keys` */
                        n > 1 && !strcmp(names[n - 1], "keys")
                            ? ": the options of a config go into keys = { }"
                            : "");
    td_text_free(&all);
}

void td_fields_read(td_fields_reader *r, const td_setting *group, const char *what,
                    const td_field *fields, void *out)
{
    for (const td_setting *v = group->first; v; v = v->next) {
        const td_field *f = fields;
        while (f->name && strcmp(f->name, v->name))
            f++;
        if (f->name)
            take(r, v, what, f, (char *)out + f->offset);
        else
            unknown(r, v, what, fields);
    }
}

bool td_fields_in_name(char c) { return isalnum((unsigned char)c) || (c && strchr("_-+.=", c)); }

bool td_fields_name(td_fields_reader *r, const td_setting *v, const char *what, const char *name)
{
    bool good = *name && *name != '.' && *name != '-' && strlen(name) <= 60;
    for (const char *c = name; *c; c++)
        good = good && td_fields_in_name(*c);
    if (!good)
        td_fields_error(r, v, what,
                        "'%.80s' cannot be a part of a directory's name: use up to 60 letters, "
                        "digits and _ - + . =",
                        name);
    return good;
}
