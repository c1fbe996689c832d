/* record_json.c - settings as the text of a JSON object, and from it: "rope.factor" is the key
 * "factor" of the object "rope", "types.0" the first item of the list "types". */
#include <jansson.h>
#include <stdlib.h>

#include "base/text.h"
#include "convert/record.h"

/* More than any config has. Each path is stored as a whole, so without bounds a small file could take
 * a lot of memory. */
enum {
    DEEPEST = 16,  /* objects within objects */
    LONGEST = 200, /* bytes of a path */
    MOST = 65536   /* settings */
};

/* ---- reading --------------------------------------------------------------------------------- */

static td_format_value value_of(const json_t *j)
{
    switch (json_typeof(j)) {
    case JSON_STRING:
        return (td_format_value){ TD_VALUE_TEXT, 0, 0, json_string_value(j) };
    case JSON_INTEGER:
        return (td_format_value){ TD_VALUE_INT, json_integer_value(j), json_number_value(j), "" };
    case JSON_REAL:
        return (td_format_value){ TD_VALUE_FLOAT, 0, json_real_value(j), "" };
    case JSON_TRUE:
    case JSON_FALSE:
        return (td_format_value){ TD_VALUE_BOOL, json_is_true(j), json_is_true(j), "" };
    default:
        return (td_format_value){ TD_VALUE_NULL, 0, 0, "" };
    }
}

static int take(td_record *, const char *path, const json_t *, int depth, td_error *);

/* One item of an object or list. */
static int take_item(td_record *r, const char *path, const char *name, const json_t *j, int depth,
                     td_error *error)
{
    td_text key = { 0 };
    int     code;
    td_text_print(&key, "%s%s%s", path, *path ? "." : "", name);
    if (key.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for a name in '%s'", path);
    else if (key.size > LONGEST)
        code = td_fail(error, TD_EFORMAT, "'%.60s..' is longer than %d bytes", td_text_get(&key),
                       LONGEST);
    else
        code = take(r, td_text_get(&key), j, depth + 1, error);
    td_text_free(&key);
    return code;
}

static int take_object(td_record *r, const char *path, const json_t *j, int depth, td_error *error)
{
    json_t *object = (json_t *)(uintptr_t)j; /* iterators of jansson are not const */
    int     code = 0;
    for (void *at = json_object_iter(object); !code && at; at = json_object_iter_next(object, at))
        code = take_item(r, path, json_object_iter_key(at), json_object_iter_value(at), depth,
                         error);
    return code;
}

static int take_list(td_record *r, const char *path, const json_t *j, int depth, td_error *error)
{
    int code = 0;
    for (size_t i = 0; i < json_array_size(j) && !code; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        code = take_item(r, path, number, json_array_get(j, i), depth, error);
    }
    return code;
}

static int take(td_record *r, const char *path, const json_t *j, int depth, td_error *error)
{
    td_format_value v;
    if (depth > DEEPEST)
        return td_fail(error, TD_EFORMAT, "'%.200s' nests objects more than %d deep", path,
                       DEEPEST);
    if (json_is_object(j))
        return take_object(r, path, j, depth, error);
    if (json_is_array(j))
        return take_list(r, path, j, depth, error);
    if (td_record_path(r, MOST - 1))
        return td_fail(error, TD_EFORMAT, "there are more than %d settings", MOST);
    v = value_of(j);
    return td_record_put(r, path, &v, error);
}

td_record *td_record_from_json(const char *text, size_t size, const char *name, td_error *error)
{
    json_error_t problem;
    td_error     why = { 0 };
    json_t      *j = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    td_record   *r = j ? td_record_new() : NULL;
    int          code = 0;
    if (!j)
        td_fail(error, TD_EFORMAT, "'%s' is not valid JSON: %s (line %d)", name, problem.text,
                problem.line);
    else if (!json_is_object(j))
        code = td_fail(error, TD_EFORMAT, "'%s' is not a JSON object", name);
    else if (!r)
        td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", name);
    else if (take(r, "", j, 0, &why))
        code = td_fail(error, why.code, "'%s': %s", name, why.text);
    json_decref(j);
    if (!code)
        return r;
    td_record_free(r);
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* NULL when out of memory, and for a number that JSON does not have. */
static json_t *json_of(const td_format_value *v)
{
    switch (v->type) {
    case TD_VALUE_BOOL:
        return json_boolean(v->integer);
    case TD_VALUE_INT:
        return json_integer(v->integer);
    case TD_VALUE_FLOAT:
        return json_real(v->number);
    case TD_VALUE_TEXT:
        return json_string(v->text);
    default:
        return json_null();
    }
}

/* The object or list below `j` that the next name of the path is in, created if there is none: a
 * list if that name is a number. */
static json_t *below(json_t *j, const char *name, bool numbered)
{
    json_t *next = json_object_get(j, name);
    if (next)
        return next;
    next = numbered ? json_array() : json_object();
    return json_object_set_new(j, name, next) ? NULL : next;
}

/* False: out of memory, or the path goes through what is not an object. */
static bool put(json_t *j, char *path, const td_format_value *v)
{
    char *dot;
    while (j && (dot = strchr(path, '.')) != NULL) {
        *dot = 0;
        j = below(j, path, dot[1] >= '0' && dot[1] <= '9');
        path = dot + 1;
    }
    if (json_is_array(j))
        return !json_array_append_new(j, json_of(v));
    return json_is_object(j) && !json_object_set_new(j, path, json_of(v));
}

/* The fewest digits, of all numbers at once, that read back as the same: 1e-06, not
 * 9.9999999999999995e-07. */
static size_t digits_of(const td_record *r)
{
    const char *path;
    char        text[40];
    size_t      digits = 15;
    for (size_t i = 0; (path = td_record_path(r, i)) != NULL; i++) {
        double x = td_record_get(r, path)->number;
        snprintf(text, sizeof text, "%.*g", (int)digits, x);
        while (digits < 17 && strtod(text, NULL) != x)
            snprintf(text, sizeof text, "%.*g", (int)++digits, x);
    }
    return digits;
}

char *td_record_to_json(const td_record *r, td_error *error)
{
    json_t     *j = json_object();
    const char *path;
    char       *text = NULL;
    bool        whole = true;
    for (size_t i = 0; whole && (path = td_record_path(r, i)) != NULL; i++) {
        char *copy = strdup(path);
        whole = copy && put(j, copy, td_record_get(r, path));
        free(copy);
        if (!whole)
            td_fail(error, TD_EFORMAT, "'%s' cannot be written as JSON", path);
    }
    if (whole)
        text = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(digits_of(r)));
    if (!text)
        td_fail(error, TD_ENOMEM, "out of memory while writing the settings of a model");
    json_decref(j);
    return text;
}
