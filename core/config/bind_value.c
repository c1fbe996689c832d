/* bind_value.c - one setting to one field: type, range, choice; lists of numbers and strings. */
#include <string.h>

#include "config/binder.h"
#include "plugin/options.h"

void td_bind_error(td_binder *b, const td_setting *v, const char *name, const char *format, ...)
{
    char    text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    td_errors_add(b->errors, "%s: %s: option '%s' %s", td_setting_origin(v), b->owner, name, text);
}

static bool takes_strings(const td_option *o)
{
    return o->type == TD_TYPE_STRING || o->type == TD_TYPE_STRINGS;
}

static bool takes_integers(const td_option *o)
{
    return o->type == TD_TYPE_INT || o->type == TD_TYPE_INTS;
}

void td_bind_wrong_type(td_binder *b, const td_setting *v, const td_option *o)
{
    bool    number = v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT;
    td_text t = { 0 };
    bool    text = v->type == TD_SETTING_STRING;
    td_option_describe(o, &t);
    td_bind_error(b, v, o->name, "is %s%s%.60s%s; it takes %s%s", td_setting_type_name(v),
                  text ? ", '" : "", text ? v->text : "", text ? "'" : "", td_text_get(&t),
                  number && takes_strings(o) ? ": put it in quotes" : "");
    td_text_free(&t);
}

/* ---- scalars --------------------------------------------------------------------------------- */

/* Integers are compared as doubles, which bounds in tables are: exact up to 2^53. */
static bool in_range(td_binder *b, const td_setting *v, const td_option *o)
{
    td_text t = { 0 };
    if (v->number >= o->min && v->number <= o->max)
        return true;
    td_option_describe(o, &t);
    td_bind_error(b, v, o->name, "is %.15g, which is out of range: it takes %s", v->number,
                  td_text_get(&t));
    td_text_free(&t);
    return false;
}

/* Typing errors get a suggestion, others the list. */
static void wrong_choice(td_binder *b, const td_setting *v, const td_option *o)
{
    size_t      n = 0;
    const char *nearest;
    td_text     t = { 0 };
    while (o->choices[n])
        n++;
    /* the choices are listed too: a near name may still not be the one that was meant */
    nearest = td_nearest(v->text, o->choices, n);
    td_option_describe(o, &t);
    td_bind_error(b, v, o->name, "cannot be \"%s\"; %s%s%sit takes %s", v->text,
                  nearest ? "did you mean \"" : "", nearest ? nearest : "", nearest ? "\"? " : "",
                  td_text_get(&t));
    td_text_free(&t);
}

/* The field holds the index, so that plugins can switch on an enum. */
static void bind_choice(td_binder *b, const td_setting *v, const td_option *o, int64_t *out)
{
    for (size_t k = 0; o->choices[k]; k++)
        if (!strcmp(o->choices[k], v->text)) {
            *out = (int64_t)k;
            return;
        }
    wrong_choice(b, v, o);
}

/* A string, or an unquoted word of the command line: in run.name=5 the 5 is meant as text. In a
 * file it is more likely an error. */
static bool is_text(const td_setting *v)
{
    return v->type == TD_SETTING_STRING ||
           (!v->file && v->text && v->type != TD_SETTING_LIST && v->type != TD_SETTING_GROUP);
}

/* An integer is accepted as a float, and 1e3 as an integer, but 1.5 is not rounded; and where 0.5 is
 * a share of the run, 1.0 may be meant as all of it. */
static bool has_type(const td_setting *v, const td_option *o)
{
    bool    share = v->type == TD_SETTING_FLOAT && v->number == 1 && td_option_is_share(o, 0.5);
    int64_t whole;
    if (takes_strings(o))
        return is_text(v);
    return takes_integers(o) ? td_setting_is_whole(v, &whole) && !share
                             : v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT;
}

/* One value of an INT, FLOAT or STRING, or of a list of them, to out[index]. Its text is appended
 * for the record. */
static void bind_item(td_binder *b, const td_setting *v, const td_option *o, void *out,
                      size_t index, td_text *text)
{
    /* on an error the field keeps its default, and binding continues with that */
    if (!has_type(v, o)) {
        td_bind_wrong_type(b, v, o);
    } else if (takes_strings(o)) {
        const char *value = o->flags & TD_OPTION_NAMES_FILE ? td_bind_file(b->config, v) : v->text;
        ((const char **)out)[index] = value;
        td_print_string(text, value);
    } else if (!in_range(b, v, o)) {
        return;
    } else if (takes_integers(o)) {
        td_setting_is_whole(v, (int64_t *)out + index);
        td_print_integer(text, ((int64_t *)out)[index]);
    } else {
        ((double *)out)[index] = v->number;
        td_print_number(text, v->number);
    }
}

/* INTS, FLOATS, STRINGS: a list, or one value for a list of one. */
static void bind_items(td_binder *b, const td_setting *v, const td_option *o, td_ints *out,
                       td_text *text)
{
    bool              is_list = v->type == TD_SETTING_LIST;
    const td_setting *first = is_list ? v->first : v;
    size_t            n = 0, k = 0;
    void             *at;
    for (const td_setting *c = first; c; c = is_list ? c->next : NULL)
        n++;
    /* items of all three types are 8 bytes; one more, so that an empty list is not NULL */
    at = td_arena_alloc(b->config->arena, (n + 1) * 8);
    if (!at)
        return;
    td_text_print(text, n ? "( " : "(");
    for (const td_setting *c = first; c; c = is_list ? c->next : NULL, k++) {
        td_text_print(text, "%s", k ? ", " : "");
        bind_item(b, c, o, at, k, text);
    }
    td_text_print(text, n ? " )" : ")");
    /* td_floats and td_strings have the same layout: a pointer and a count */
    out->at = at;
    out->count = n;
}

/* BOOL takes true and false only: 1 is an integer, so a value under the wrong key is noticed. */
static void bind_by_type(td_binder *b, const td_setting *v, const td_option *o, char *field,
                         td_text *text)
{
    void *out = field; /* validated: the option's C type, aligned */
    switch (o->type) {
    case TD_TYPE_BOOL:
        if (v->type == TD_SETTING_BOOL)
            *(bool *)out = v->integer != 0;
        else
            td_bind_wrong_type(b, v, o);
        break;
    case TD_TYPE_CHOICE:
        if (v->type == TD_SETTING_STRING)
            bind_choice(b, v, o, out);
        else
            td_bind_wrong_type(b, v, o);
        break;
    case TD_TYPE_INT:
    case TD_TYPE_FLOAT:
    case TD_TYPE_STRING:
        bind_item(b, v, o, out, 0, text);
        break;
    default: /* INTS, FLOATS, STRINGS; parts and lists of groups are bound in bind.c */
        bind_items(b, v, o, out, text);
        break;
    }
}

/* ---- the record ------------------------------------------------------------------------------ */

/* The value of a field, as config text. */
static void print_field(const td_option *o, const char *field, td_text *t)
{
    const void *in = field;
    switch (o->type) {
    case TD_TYPE_BOOL:
        td_text_print(t, "%s", *(const bool *)in ? "true" : "false");
        break;
    case TD_TYPE_INT:
        td_print_integer(t, *(const int64_t *)in);
        break;
    case TD_TYPE_FLOAT:
        td_print_number(t, *(const double *)in);
        break;
    case TD_TYPE_CHOICE:
        td_print_string(t, o->choices[*(const int64_t *)in]);
        break;
    case TD_TYPE_STRING:
        td_print_string(t, *(const char *const *)in);
        break;
    default: /* a list: its default is empty */
        td_text_print(t, "()");
        break;
    }
}

/* The option's strings, each as `path` has it. NULL when out of memory. */
static const char *paths(td_binder *b, const td_option *o, const char *field,
                         const char *(*path)(td_config *, const char *))
{
    td_strings  one = { (const char *const *)(const void *)field, 1 };
    td_strings  list = o->type == TD_TYPE_STRINGS ? *(const td_strings *)(const void *)field : one;
    td_text     t = { 0 };
    const char *copy;
    td_text_print(&t, o->type == TD_TYPE_STRINGS ? list.count ? "( " : "(" : "");
    for (size_t k = 0; k < list.count; k++) {
        td_text_print(&t, "%s", k ? ", " : "");
        td_print_string(&t, list.at[k] ? path(b->config, list.at[k]) : "");
    }
    td_text_print(&t, o->type == TD_TYPE_STRINGS ? list.count ? " )" : ")" : "");
    copy = td_arena_copy(b->config->arena, td_text_get(&t));
    td_text_free(&t);
    return copy;
}

/* ---- steps of the run ------------------------------------------------------------------------ */

/* A schedule that sets its own length keeps its warm-up when the run is cut short or extended: shares
 * in it are then of that length. */
void td_bind_length(td_binder *b, const td_setting *group, const td_option *table, size_t size)
{
    td_option o;
    b->steps = b->config->steps > 0 ? b->config->steps : TD_STEPS_OUTSIDE_RUN;
    b->own_steps = false;
    for (size_t i = 0; td_option_row(table, size, i, &o); i++) {
        const td_setting *v = o.flags & TD_OPTION_WHOLE_RUN ? td_setting_child(group, o.name)
                                                            : NULL;
        bool share = v && v->type == TD_SETTING_FLOAT && td_option_is_share(&o, v->number);
        b->own_steps = v && (share || (v->type == TD_SETTING_INT && v->integer >= 1));
        if (b->own_steps) {
            b->steps = share ? td_option_share(v->number, b->steps) : v->integer;
            return;
        }
    }
}

/* Where a value came from, with the share of the steps that was given. */
static const char *share_origin(td_binder *b, const td_setting *v, const td_option *o, double share)
{
    td_text     t = { 0 };
    const char *copy;
    if (v)
        td_text_print(&t, "%s", td_setting_origin(v));
    else
        td_text_print(&t, "default of %s", b->owner);
    td_text_print(&t, ": ");
    td_print_number(&t, share);
    /* the length itself is a share of the run */
    if (b->own_steps && !(o->flags & TD_OPTION_WHOLE_RUN))
        td_text_print(&t, " of steps = %lld", (long long)b->steps);
    else
        td_text_print(&t, " of train.steps");
    copy = td_arena_copy(b->config->arena, td_text_get(&t));
    td_text_free(&t);
    return copy ? copy : "";
}

/* Record it so that the text read back means the same: where a budget sets the steps, a share
 * stays a share, and values derived from them become comments. */
static void record_steps(td_binder *b, const td_setting *v, const td_option *o, double share,
                         int64_t steps, td_resolved *at)
{
    const td_config *c = b->config;
    bool             whole = share == 1, open = c->steps < 0;
    td_text          t = { 0 };
    const char      *text, *kept;
    td_resolved     *r;
    if (!whole)
        td_print_number(&t, share);
    kept = td_arena_copy(c->arena, td_text_get(&t));
    td_text_free(&t);
    if (whole && open)
        td_text_print(&t, "?");
    else if (whole || !(open || c->derived))
        td_print_integer(&t, steps);
    text = t.size ? td_arena_copy(c->arena, td_text_get(&t)) : kept;
    td_text_free(&t);
    r = td_resolved_add(b->config, at, o->name, text ? text : "", b->owner, v, o);
    if (r == at) /* out of memory */
        return;
    r->origin = whole ? "train.steps" : share_origin(b, v, o, share);
    r->note = whole && (open || c->derived);
    r->share = kept;
}

/* A share of the run, or all of it. False: the value is neither. */
static bool bind_share(td_binder *b, const td_setting *v, const td_option *o, char *field,
                       td_resolved *at)
{
    int64_t run = b->config->steps > 0 ? b->config->steps : TD_STEPS_OUTSIDE_RUN, all, steps;
    double  number = v ? v->number : o->number, share;
    bool    whole = !v && o->flags & TD_OPTION_WHOLE_RUN && b->config->steps;
    if (!whole && !(td_option_is_share(o, number) && (!v || v->type == TD_SETTING_FLOAT)))
        return false;
    share = whole ? 1 : number;
    all = o->flags & TD_OPTION_WHOLE_RUN ? run : b->steps;
    steps = whole ? all : td_option_share(share, all);
    steps = (double)steps < o->min ? (int64_t)o->min : steps;
    *(int64_t *)(void *)field = steps;
    record_steps(b, v, o, share, steps, at);
    return true;
}

void td_bind_value(td_binder *b, const td_setting *v, const td_option *o, char *field,
                   td_resolved *at)
{
    td_text      t = { 0 };
    const char  *text;
    td_resolved *r;
    if (bind_share(b, v, o, field, at))
        return;
    if (v)
        bind_by_type(b, v, o, field, &t);
    /* numbers and strings are printed from the setting as they are bound, the others from the
     * field */
    if (!v || o->type == TD_TYPE_BOOL || o->type == TD_TYPE_CHOICE)
        print_field(o, field, &t);
    text = td_arena_copy(b->config->arena, td_text_get(&t));
    td_text_free(&t);
    r = td_resolved_add(b->config, at, o->name, text ? text : "", b->owner, v, o);
    if (r == at || !(o->flags & TD_OPTION_NAMES_FILE))
        return;
    r->whole = paths(b, o, field, td_bind_whole);
    r->here = paths(b, o, field, td_bind_here);
}
