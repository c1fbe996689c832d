/* template.c - parsing and rendering of the templates of tasks.
 *
 * A template is parsed once into a flat list of pieces, in which a section stores the index of its
 * end, and rendered for thousands of items.
 */
#include "evaluate/template.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 16 }; /* sections in sections: rendering recurses */

typedef enum piece_kind { PLAIN, FIELD, SECTION, INVERTED, END } piece_kind;

typedef struct piece {
    piece_kind kind;
    char      *text; /* PLAIN: the text to copy; otherwise a name */
    size_t     end;  /* SECTION, INVERTED: the index of its END */
} piece;

struct td_template {
    piece *at;
    size_t count, room;
};

/* ---- parsing --------------------------------------------------------------------------------- */

typedef struct parser {
    td_template *t;
    const char  *text;          /* all of it, for messages */
    size_t       open[DEEPEST]; /* sections that have not ended */
    size_t       depth;
    td_error    *error;
} parser;

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a template");
}

static int add(parser *p, piece_kind kind, const char *text, size_t size)
{
    td_template *t = p->t;
    if (t->count == t->room) {
        /* a template is a handful of pieces */
        size_t room = t->room ? 2 * t->room : 8;
        piece *larger = realloc(t->at, room * sizeof *larger);
        if (!larger)
            return out_of_memory(p->error);
        t->at = larger;
        t->room = room;
    }
    t->at[t->count] = (piece){ .kind = kind, .text = strndup(text, size) };
    return t->at[t->count++].text ? 0 : out_of_memory(p->error);
}

static int open_section(parser *p, piece_kind kind, const char *name, size_t size)
{
    if (p->depth == DEEPEST)
        return td_fail(p->error, TD_ECONFIG,
                       "the template '%.100s' has sections more than %d deep at '{{#%.*s}}'",
                       p->text, DEEPEST, (int)size, name);
    p->open[p->depth++] = p->t->count;
    return add(p, kind, name, size);
}

static int close_section(parser *p, const char *name, size_t size)
{
    piece *begin = p->depth ? &p->t->at[p->open[p->depth - 1]] : NULL;
    if (!begin)
        return td_fail(p->error, TD_ECONFIG,
                       "the template '%.100s' ends a section with '{{/%.*s}}' that was not begun",
                       p->text, (int)size, name);
    /* names must match, or a section would end in an unexpected place */
    if (strlen(begin->text) != size || strncmp(begin->text, name, size))
        return td_fail(p->error, TD_ECONFIG,
                       "the template '%.100s' ends section '%s' with '{{/%.*s}}': sections must "
                       "end in reverse order",
                       p->text, begin->text, (int)size, name);
    begin->end = p->t->count;
    p->depth--;
    return add(p, END, name, size);
}

/* The text between the braces. */
static int add_tag(parser *p, const char *tag, size_t size)
{
    char sign = size ? *tag : 0;
    bool signed_ = sign == '#' || sign == '^' || sign == '/';
    if (signed_) {
        tag++;
        size--;
    }
    /* spaces inside the braces do not count, as in Mustache */
    while (size && *tag == ' ') {
        tag++;
        size--;
    }
    while (size && tag[size - 1] == ' ')
        size--;
    if (!size)
        return td_fail(p->error, TD_ECONFIG,
                       "the template '%.100s' has braces without a field's name in them", p->text);
    if (sign == '/')
        return close_section(p, tag, size);
    return signed_ ? open_section(p, sign == '#' ? SECTION : INVERTED, tag, size)
                   : add(p, FIELD, tag, size);
}

static int parse(parser *p)
{
    const char *at = p->text;
    int         code = 0;
    while (*at && !code) {
        const char *begin = strstr(at, "{{"), *end;
        size_t      plain = begin ? (size_t)(begin - at) : strlen(at);
        if (plain)
            code = add(p, PLAIN, at, plain);
        if (code || !begin)
            return code;
        /* braces do not nest */
        end = strstr(begin, "}}");
        if (!end)
            return td_fail(p->error, TD_ECONFIG, "the template '%.100s' has '{{' without '}}'",
                           p->text);
        code = add_tag(p, begin + 2, (size_t)(end - begin - 2));
        at = end + 2;
    }
    return code;
}

td_template *td_template_parse(const char *text, td_error *error)
{
    parser p = { .t = calloc(1, sizeof *p.t), .text = text, .error = error };
    int    code = p.t ? parse(&p) : out_of_memory(error);
    if (!code && p.depth)
        code = td_fail(error, TD_ECONFIG,
                       "the template '%.100s' begins section '%s' but does not end it: add "
                       "'{{/%s}}'",
                       text, p.t->at[p.open[p.depth - 1]].text, p.t->at[p.open[p.depth - 1]].text);
    if (!code)
        return p.t;
    td_template_free(p.t);
    return NULL;
}

void td_template_free(td_template *t)
{
    if (!t)
        return;
    for (size_t k = 0; k < t->count; k++)
        free(t->at[k].text);
    free(t->at);
    free(t);
}

/* ---- looking up ------------------------------------------------------------------------------ */

/* The scope in which names are looked up: the item, or an element of a list within it. */
typedef struct scope {
    const json_t       *value;
    bool                element;
    size_t              index;
    const struct scope *outer;
} scope;

/* One step of a path: a key of an object, an index of a list. */
static const json_t *step(const json_t *value, const char *name, size_t size)
{
    char   key[256];
    char  *end;
    size_t index;
    /* no data set has field names this long */
    if (size >= sizeof key)
        return NULL;
    memcpy(key, name, size);
    key[size] = 0;
    if (json_is_object(value))
        return json_object_get(value, key);
    if (!json_is_array(value) || *key < '0' || *key > '9')
        return NULL;
    index = strtoull(key, &end, 10);
    return *end ? NULL : json_array_get(value, index);
}

const json_t *td_template_find(const json_t *item, const char *path)
{
    const json_t *v = step(item, path, strlen(path)); /* names may contain a dot */
    if (v)
        return v;
    for (v = item; v && *path;) {
        size_t size = strcspn(path, ".");
        v = step(v, path, size);
        path += size + (path[size] == '.');
    }
    return v;
}

static const json_t *find(const scope *s, const char *path)
{
    if (!strcmp(path, "."))
        return s->value;
    for (; s; s = s->outer) {
        /* the innermost value that has it, as with variables in nested blocks */
        const json_t *v = td_template_find(s->value, path);
        if (v)
            return v;
    }
    return NULL;
}

void td_template_names(const json_t *item, td_text *out)
{
    const char *key;
    json_t     *value;
    bool        first = true;
    json_object_foreach((json_t *)(uintptr_t)item, key, value)
    {
        td_text_print(out, "%s%s", first ? "" : ", ", key);
        first = false;
    }
}

static int missing(const scope *s, const char *name, td_error *error)
{
    td_text names = { 0 };
    /* the author of a task knows the item's fields, not those of the element */
    while (s->outer)
        s = s->outer;
    td_template_names(s->value, &names);
    td_fail(error, TD_EFORMAT, "the item has no field '%s'; it has: %.600s", name,
            td_text_get(&names));
    td_text_free(&names);
    return TD_EFORMAT;
}

/* ---- rendering ------------------------------------------------------------------------------- */

/* {{@letter}} and its like count the elements of the innermost list. False: there is no list, or no
 * such name. */
static bool render_counter(const scope *s, const char *name, td_text *out)
{
    while (s && !s->element)
        s = s->outer;
    if (!s)
        return false;
    if (!strcmp(name, "@index"))
        td_text_print(out, "%zu", s->index);
    else if (!strcmp(name, "@number"))
        td_text_print(out, "%zu", s->index + 1);
    else if (!strcmp(name, "@letter"))
        td_text_print(out, "%c", s->index < 26 ? (char)('A' + s->index) : '?');
    else
        return false;
    return true;
}

/* Numbers in their shortest form: a label that is 1.0 in one file and 1 in another is the same. */
static int render_value(const json_t *v, const char *name, td_text *out, td_error *error)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        td_text_append(out, json_string_value(v), json_string_length(v));
        return 0;
    case JSON_INTEGER:
        td_text_print(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        return 0;
    case JSON_REAL:
        /* 15 digits always survive the way from text to double and back */
        td_text_print(out, "%.15g", json_real_value(v));
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        td_text_print(out, "%s", json_is_true(v) ? "true" : "false");
        return 0;
    case JSON_NULL:
        return 0;
    default:
        return td_fail(error, TD_EFORMAT,
                       "field '%s' is %s: name what is in it, as in {{#%s}}{{.}}{{/%s}}", name,
                       json_is_array(v) ? "a list" : "an object", name, name);
    }
}

static bool holds(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_string(v) && !json_string_length(v)) &&
           !(json_is_array(v) && !json_array_size(v));
}

static int render(const td_template *t, size_t begin, size_t end, const scope *s, td_text *out,
                  td_error *error);

/* {{#@first}} is the only condition that is not a field. */
static bool is_first(const scope *s)
{
    while (s && !s->element)
        s = s->outer;
    return s && !s->index;
}

static int render_section(const td_template *t, size_t k, const scope *s, td_text *out,
                          td_error *error)
{
    const piece  *p = &t->at[k];
    bool          first = !strcmp(p->text, "@first");
    const json_t *v = first ? NULL : find(s, p->text);
    bool          shown = first ? is_first(s) : holds(v);
    int           code = 0;
    if (p->kind == INVERTED)
        return shown ? 0 : render(t, k + 1, p->end, s, out, error);
    if (!shown)
        return 0;
    /* a section over an object opens it; over anything else it is a condition */
    if (!json_is_array(v)) {
        scope inner = { .value = v ? v : s->value, .outer = s };
        return render(t, k + 1, p->end, &inner, out, error);
    }
    for (size_t i = 0; i < json_array_size(v) && !code; i++) {
        /* elements also see the names around their list */
        scope inner = { json_array_get(v, i), true, i, s };
        code = render(t, k + 1, p->end, &inner, out, error);
    }
    return code;
}

static int render_field(const piece *p, const scope *s, td_text *out, td_error *error)
{
    /* "@file" and its like are fields that the reader adds: counters come first */
    const json_t *v;
    if (*p->text == '@' && render_counter(s, p->text, out))
        return 0;
    v = find(s, p->text);
    return v ? render_value(v, p->text, out, error) : missing(s, p->text, error);
}

/* The pieces from `begin` to `end`. */
static int render(const td_template *t, size_t begin, size_t end, const scope *s, td_text *out,
                  td_error *error)
{
    int code = 0;
    for (size_t k = begin; k < end && !code; k++) {
        const piece *p = &t->at[k];
        if (p->kind == PLAIN)
            td_text_append(out, p->text, strlen(p->text));
        else if (p->kind == FIELD)
            code = render_field(p, s, out, error);
        else if (p->kind != END) {
            code = render_section(t, k, s, out, error);
            k = p->end;
        }
    }
    return code;
}

int td_template_render(const td_template *t, const json_t *item, td_text *out, td_error *error)
{
    scope s = { .value = item };
    int   code = render(t, 0, t->count, &s, out, error);
    return !code && out->failed ? out_of_memory(error) : code;
}

int td_template_render_element(const td_template *t, const json_t *item, const json_t *list,
                               size_t index, td_text *out, td_error *error)
{
    scope all = { .value = item };
    scope s = { json_array_get(list, index), true, index, &all };
    int   code = render(t, 0, t->count, &s, out, error);
    return !code && out->failed ? out_of_memory(error) : code;
}
