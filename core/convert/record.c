/* record.c - settings by path, and those of a part of a config. */
#include "convert/record.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/text.h"
#include "config/resolved.h"
#include "plugin/options.h"

typedef struct entry {
    td_format_value value;
    bool            asked;
} entry;

struct td_record {
    td_map   *by_path;
    td_arena *arena;
};

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the settings of a model");
}

td_record *td_record_new(void)
{
    td_record *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->by_path = td_map_new();
    r->arena = td_arena_new();
    if (r->by_path && r->arena)
        return r;
    td_record_free(r);
    return NULL;
}

void td_record_free(td_record *r)
{
    if (!r)
        return;
    td_map_free(r->by_path);
    td_arena_free(r->arena);
    free(r);
}

/* As in a config, where the same text is the same number again. */
static char *text_of(td_record *r, const td_format_value *v)
{
    td_text text = { 0 };
    char   *copy;
    switch (v->type) {
    case TD_VALUE_NULL:
        td_text_print(&text, "null");
        break;
    case TD_VALUE_BOOL:
        td_text_print(&text, "%s", v->integer ? "true" : "false");
        break;
    case TD_VALUE_INT:
        td_print_integer(&text, v->integer);
        break;
    case TD_VALUE_FLOAT:
        td_print_number(&text, v->number);
        break;
    default:
        td_text_print(&text, "%s", v->text);
    }
    copy = text.failed ? NULL : td_arena_copy(r->arena, td_text_get(&text));
    td_text_free(&text);
    return copy;
}

int td_record_put(td_record *r, const char *path, const td_format_value *v, td_error *error)
{
    entry *e;
    if (td_map_get(r->by_path, path))
        return td_fail(error, TD_EFORMAT, "'%s' is set twice", path);
    e = td_arena_alloc(r->arena, sizeof *e);
    if (!e)
        return no_memory(error);
    e->value = *v;
    e->value.text = text_of(r, v);
    return e->value.text && !td_map_set(r->by_path, path, e) ? 0 : no_memory(error);
}

const td_format_value *td_record_get(const td_record *r, const char *path)
{
    const entry *e = td_map_get(r->by_path, path);
    return e ? &e->value : NULL;
}

const td_format_value *td_record_ask(td_record *r, const char *path)
{
    entry *e = td_map_get(r->by_path, path);
    if (!e)
        return NULL;
    e->asked = true;
    return &e->value;
}

const char *td_record_path(const td_record *r, size_t i)
{
    return i < td_map_count(r->by_path) ? td_map_key(r->by_path, i) : NULL;
}

const char *td_record_unasked(const td_record *r, const char *prefix)
{
    for (size_t i = 0; i < td_map_count(r->by_path); i++) {
        const entry *e = td_map_value(r->by_path, i);
        const char  *path = td_map_key(r->by_path, i);
        if (!e->asked && !strncmp(path, prefix, strlen(prefix)))
            return path;
    }
    return NULL;
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* The value of a scalar option; a list becomes a value of its own type, which no format takes. */
static td_format_value value_of(const td_option *o, const char *field)
{
    bool    truth;
    int64_t n;
    double  x;
    switch (o->type) {
    case TD_TYPE_BOOL:
        memcpy(&truth, field, sizeof truth);
        return (td_format_value){ TD_VALUE_BOOL, truth, truth, "" };
    case TD_TYPE_INT:
        memcpy(&n, field, sizeof n);
        return (td_format_value){ TD_VALUE_INT, n, (double)n, "" };
    case TD_TYPE_FLOAT:
        memcpy(&x, field, sizeof x);
        return (td_format_value){ TD_VALUE_FLOAT, 0, x, "" };
    case TD_TYPE_CHOICE:
        memcpy(&n, field, sizeof n);
        return (td_format_value){ TD_VALUE_TEXT, 0, 0, o->choices[n] };
    default:
        return (td_format_value){ TD_VALUE_OTHER, 0, 0, "a list" };
    }
}

static int put_option(td_record *r, const char *path, const td_option *o, const char *field,
                      td_error *error)
{
    td_part         part;
    const char     *text;
    td_format_value v;
    if (o->type == TD_TYPE_PART) {
        memcpy(&part, field, sizeof part);
        return td_record_put_part(r, path, &part, error);
    }
    if (o->type == TD_TYPE_STRING) {
        memcpy(&text, field, sizeof text);
        v = (td_format_value){ text ? TD_VALUE_TEXT : TD_VALUE_NULL, 0, 0, text ? text : "" };
    } else
        v = value_of(o, field);
    return td_record_put(r, path, &v, error);
}

int td_record_put_part(td_record *r, const char *path, const td_part *part, td_error *error)
{
    const td_plugin *p = part->plugin;
    td_format_value  name = { p ? TD_VALUE_TEXT : TD_VALUE_NULL, 0, 0, p ? p->name : "" };
    td_text          key = { 0 };
    td_option        o;
    int              code;

    td_text_print(&key, "%s.plugin", path);
    code = key.failed ? no_memory(error) : td_record_put(r, td_text_get(&key), &name, error);
    for (size_t i = 0; !code && p && td_option_row(p->options, p->option_size, i, &o); i++) {
        td_text_free(&key);
        td_text_print(&key, "%s.%s", path, o.name);
        code = key.failed ? no_memory(error)
                          : put_option(r, td_text_get(&key), &o,
                                       (const char *)part->config + o.offset, error);
    }
    td_text_free(&key);
    return code;
}
