/* items.c - reads data sets: files by name or pattern, each parsed by its format. */
#include "evaluate/items.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/packed.h"
#include "base/text.h"
#include "evaluate/template.h"
#include "tandem/files.h"

#define FILE_LIMIT ((size_t)1 << 31)

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the items of a task");
}

/* The file being read. */
typedef struct source {
    const td_items_spec *spec;
    const char          *path;
    char                *name, *folder; /* values of @file and @folder */
    json_t              *into;
    td_error            *error;
} source;

/* ---- items ----------------------------------------------------------------------------------- */

/* Whether the item belongs to the requested split. */
static bool is_wanted(const source *s, const json_t *item)
{
    const json_t *v = *s->spec->split ? td_template_find(item, s->spec->split_field) : NULL;
    return !*s->spec->split || (json_is_string(v) && !strcmp(json_string_value(v), s->spec->split));
}

static int add_item(source *s, json_t *item, int64_t line)
{
    if (!json_is_object(item)) {
        json_decref(item);
        return td_fail(s->error, TD_EFORMAT,
                       "%s:%lld: an item must be an object { }, with the fields that the task's "
                       "templates name",
                       s->path, (long long)line);
    }
    /* an item without the field means a mistake in the task, not another split */
    if (*s->spec->split && !td_template_find(item, s->spec->split_field)) {
        td_text names = { 0 };
        td_template_names(item, &names);
        td_fail(s->error, TD_EFORMAT,
                "%s:%lld: the item has no field '%s', which the task needs to select split '%s'; "
                "it has: %.600s",
                s->path, (long long)line, s->spec->split_field, s->spec->split,
                td_text_get(&names));
        td_text_free(&names);
        json_decref(item);
        return TD_EFORMAT;
    }
    if (!is_wanted(s, item)) {
        json_decref(item);
        return 0;
    }
    if (json_object_set_new(item, "@file", json_string(s->name)) ||
        json_object_set_new(item, "@folder", json_string(s->folder)) ||
        json_object_set_new(item, "@place", json_sprintf("%s:%lld", s->path, (long long)line)) ||
        json_array_append_new(s->into, item))
        return out_of_memory(s->error);
    return 0;
}

const char *td_items_place(const json_t *item)
{
    const char *place = json_string_value(json_object_get(item, "@place"));
    return place ? place : "?";
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static int parse_jsonl(source *s, const char *text, size_t size)
{
    int64_t line = 0;
    int     code = 0;
    for (size_t at = 0; at < size && !code;) {
        const char  *end = memchr(text + at, '\n', size - at);
        size_t       n = end ? (size_t)(end - text) - at : size - at;
        json_error_t why;
        json_t      *item;
        line++;
        if (strspn(text + at, " \t\r") < n) { /* skip blank lines */
            item = json_loadb(text + at, n, 0, &why);
            code = item ? add_item(s, item, line)
                        : td_fail(s->error, TD_EFORMAT, "%s:%lld: not JSON: %s at column %d",
                                  s->path, (long long)line, why.text, why.column);
        }
        at += n + 1;
    }
    return code;
}

/* Turns { "a": .., "b": .. } into items with a key and a value. */
static int add_entries(source *s, json_t *object)
{
    const char *key;
    json_t     *value;
    int         code = 0;
    json_object_foreach(object, key, value)
    {
        /* published prompts are often an object with one text per subject */
        json_t *item = json_pack("{s:s, s:O}", "key", key, "value", value);
        code = item ? add_item(s, item, 1) : out_of_memory(s->error);
        if (code)
            break;
    }
    return code;
}

static int parse_json(source *s, const char *text, size_t size)
{
    json_error_t  why;
    json_t       *whole = json_loadb(text, size, 0, &why);
    const json_t *rows;
    int           code = 0;
    if (!whole)
        return td_fail(s->error, TD_EFORMAT, "%s:%d: not JSON: %s at column %d", s->path, why.line,
                       why.text, why.column);
    /* some files wrap the list in "Data" or "examples" */
    rows = *s->spec->rows ? td_template_find(whole, s->spec->rows) : whole;
    if (json_is_array(rows))
        for (size_t k = 0; k < json_array_size(rows) && !code; k++)
            code = add_item(s, json_incref(json_array_get(rows, k)), (int64_t)k + 1);
    else if (json_is_object(rows))
        code = add_entries(s, (json_t *)(uintptr_t)rows);
    else
        code = td_fail(s->error, TD_EFORMAT, "'%s' has no list of items%s%s: set task.rows",
                       s->path, *s->spec->rows ? " at " : "", s->spec->rows);
    json_decref(whole);
    return code;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* The next field of a CSV record, from *at, without its quotes; NULL: an unterminated quote, or out
 * of memory. *last: it was the last field of the record. free() it. */
static char *csv_field(const char *text, size_t size, size_t *at, int64_t *line, bool *last)
{
    td_text out = { 0 };
    bool    quoted = *at < size && text[*at] == '"', open = quoted;
    *at += quoted;
    for (; *at < size; ++*at) {
        char c = text[*at];
        *line += c == '\n';
        if (open && c == '"') {
            open = *at + 1 < size && text[*at + 1] == '"'; /* "" stands for a quote */
            *at += open;
            if (open)
                td_text_append(&out, "\"", 1);
        } else if (!open && (c == ',' || c == '\n'))
            break;
        else if (open || c != '\r')
            td_text_append(&out, &c, 1);
    }
    /* the end of the file ends a record, too */
    *last = *at >= size || text[*at] == '\n';
    *at += *at < size;
    if (open || out.failed || !(out.data || (out.data = strdup("")))) {
        td_text_free(&out);
        return NULL;
    }
    return out.data;
}

/* TSV: tabs and line ends cannot be quoted. */
static char *tsv_field(const char *text, size_t size, size_t *at, int64_t *line, bool *last)
{
    size_t begin = *at, end;
    while (*at < size && text[*at] != '\t' && text[*at] != '\n')
        ++*at;
    end = *at;
    *last = *at >= size || text[*at] == '\n';
    *line += *at < size && text[*at] == '\n';
    *at += *at < size;
    if (*last && end > begin && text[end - 1] == '\r')
        end--;
    return strndup(text + begin, end - begin);
}

typedef char *field_reader(const char *text, size_t size, size_t *at, int64_t *line, bool *last);

/* The fields of one record as a list. */
static json_t *read_record(source *s, field_reader *read, const char *text, size_t size, size_t *at,
                           int64_t *line)
{
    json_t *fields = json_array();
    int64_t first = *line;
    bool    last = false;
    while (!last) {
        char   *field = read(text, size, at, line, &last);
        json_t *value = field ? json_string(field) : NULL;
        /* without a value although there was a field, its text is not UTF-8 */
        bool    whole = field != NULL;
        free(field);
        if (value && !json_array_append_new(fields, value))
            continue;
        json_decref(fields);
        td_fail(s->error, TD_EFORMAT,
                whole ? "%s:%lld: a field is not UTF-8: convert the file"
                      : "%s:%lld: a quoted field is not closed",
                s->path, (long long)first);
        return NULL;
    }
    return fields;
}

static json_t *object_of(source *s, const json_t *names, const json_t *fields, int64_t line)
{
    json_t *item = json_object();
    size_t  n = json_array_size(names);
    /* an extra comma or tab would shift all later fields */
    if (json_array_size(fields) != n) {
        td_fail(s->error, TD_EFORMAT, "%s:%lld: a record has %zu fields, but there are %zu columns",
                s->path, (long long)line, json_array_size(fields), n);
        json_decref(item);
        return NULL;
    }
    for (size_t k = 0; k < n; k++)
        json_object_set(item, json_string_value(json_array_get(names, k)),
                        json_array_get(fields, k));
    return item;
}

static json_t *named_columns(td_strings columns)
{
    json_t *names = json_array();
    for (size_t k = 0; k < columns.count; k++)
        json_array_append_new(names, json_string(columns.at[k]));
    return names;
}

static bool is_blank(const json_t *fields)
{
    return json_array_size(fields) == 1 && !*json_string_value(json_array_get(fields, 0));
}

/* Items keep the number of their first line, because a quoted field may contain line ends. */
static int parse_table(source *s, field_reader *read, const char *text, size_t size)
{
    json_t *names = s->spec->columns.count ? named_columns(s->spec->columns) : NULL;
    int64_t line = 1;
    int     code = 0;
    for (size_t at = 0; at < size && !code;) {
        int64_t first = line;
        json_t *fields = read_record(s, read, text, size, &at, &line);
        if (!fields)
            code = td_failed(s->error, TD_EFORMAT);
        /* the first line names the columns, unless the task does */
        else if (!names)
            names = json_incref(fields);
        else if (!is_blank(fields)) {
            json_t *item = object_of(s, names, fields, first);
            code = item ? add_item(s, item, first) : td_failed(s->error, TD_EFORMAT);
        }
        json_decref(fields);
    }
    json_decref(names);
    return code;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* "val" of "boolq/val.jsonl.zst". */
static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strndup(name, strcspn(name, "."));
}

static char *folder_name(const char *path)
{
    char *above = td_path_directory(path), *name = NULL;
    if (above) {
        const char *slash = strrchr(above, '/');
        name = strdup(slash ? slash + 1 : above);
    }
    free(above);
    return name;
}

static bool has_suffix(const char *path, const char *suffix)
{
    const char *slash = strrchr(path, '/'), *at = strstr(slash ? slash : path, suffix);
    size_t      n = strlen(suffix);
    return at && (!at[n] || !strcmp(at + n, ".gz") || !strcmp(at + n, ".zst"));
}

static int64_t format_of(const td_items_spec *spec, const char *path)
{
    if (spec->format != TD_ITEMS_BY_NAME)
        return spec->format;
    return has_suffix(path, ".jsonl")  ? TD_ITEMS_JSONL
           : has_suffix(path, ".json") ? TD_ITEMS_JSON
           : has_suffix(path, ".csv")  ? TD_ITEMS_CSV
           : has_suffix(path, ".tsv")  ? TD_ITEMS_TSV
                                       : TD_ITEMS_BY_NAME;
}

static int parse(source *s, const char *text, size_t size)
{
    json_t *item;
    switch (format_of(s->spec, s->path)) {
    case TD_ITEMS_JSONL:
        return parse_jsonl(s, text, size);
    case TD_ITEMS_JSON:
        return parse_json(s, text, size);
    case TD_ITEMS_CSV:
        return parse_table(s, csv_field, text, size);
    case TD_ITEMS_TSV:
        return parse_table(s, tsv_field, text, size);
    case TD_ITEMS_WHOLE:
        /* jansson refuses text that is not UTF-8 */
        item = json_pack("{s:s%}", "text", text, size);
        return item ? add_item(s, item, 1)
                    : td_fail(s->error, TD_EFORMAT, "'%s' is not UTF-8: convert it", s->path);
    default:
        return td_fail(s->error, TD_ECONFIG,
                       "'%s' is not .jsonl, .json, .csv or .tsv (also .gz, .zst): set task.format",
                       s->path);
    }
}

int td_items_parse(const td_items_spec *spec, const char *name, const char *text, size_t size,
                   json_t *into, td_error *error)
{
    source s = { spec, name, base_name(name), folder_name(name), into, error };
    int    code = s.name && s.folder ? parse(&s, text, size) : out_of_memory(error);
    free(s.name);
    free(s.folder);
    return code;
}

static int read_file(const td_items_spec *spec, const char *path, json_t *into, td_error *error)
{
    size_t size;
    char  *text = td_file_read_packed(path, FILE_LIMIT, &size, error);
    int    code = text ? td_items_parse(spec, path, text, size, into, error)
                       : td_failed(error, TD_EIO);
    free(text);
    return code;
}

/* Reads files side by side: the k-th file supplies the field with the k-th name of `columns`. */
static int add_lines(json_t *into, const char *path, const char *field, char *text, size_t first,
                     td_error *error)
{
    size_t k = 0;
    for (char *line = text; *line; k++) {
        char   *end = line + strcspn(line, "\n");
        bool    ended = *end == '\n';
        /* the first file creates the items, the others add a field to each */
        json_t *item = first ? json_array_get(into, k) : json_object();
        *end = 0;
        if (!item)
            return td_fail(error, TD_EFORMAT,
                           "'%s' has more lines than the %zu of the file before it: these files "
                           "are read side by side, so they must match line by line",
                           path, json_array_size(into));
        if (!first)
            json_array_append_new(into, item);
        if (json_object_set_new(item, field, json_string(line)))
            return td_fail(error, TD_EFORMAT, "%s:%zu: the line is not UTF-8: convert the file",
                           path, k + 1);
        line = end + ended;
    }
    return k == json_array_size(into)
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "'%s' has %zu lines, but the file before it has %zu: these files are read "
                         "side by side, so they must match line by line",
                         path, k, json_array_size(into));
}

static int read_lines(const td_items_spec *spec, char **paths, size_t count, json_t *into,
                      td_error *error)
{
    int code = 0;
    if (count != spec->columns.count)
        return td_fail(error, TD_ECONFIG,
                       "format 'lines' reads %zu files side by side, but task.columns names %zu "
                       "fields: name one per file",
                       count, spec->columns.count);
    for (size_t k = 0; k < count && !code; k++) {
        size_t size;
        char  *text = td_file_read_packed(paths[k], FILE_LIMIT, &size, error);
        code = text ? add_lines(into, paths[k], spec->columns.at[k], text, k, error)
                    : td_failed(error, TD_EIO);
        free(text);
    }
    return code;
}

/* The files that a name or pattern matches, in order. */
static int find_files(const td_items_spec *spec, glob_t *found, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < spec->files.count && !code; k++) {
        char *path = td_path_join(spec->directory ? spec->directory : "", spec->files.at[k]);
        /* a plain name is kept, so that opening it reports the reason */
        int flags = (k ? GLOB_APPEND : 0) | (strpbrk(spec->files.at[k], "*?[") ? 0 : GLOB_NOCHECK);
        int result = path ? td_glob(path, flags, found) : GLOB_NOSPACE;
        if (result == GLOB_NOMATCH)
            code = td_fail(error, TD_EIO, "no file matches '%s'", path);
        else if (result)
            code = td_fail(error, TD_EIO, "cannot look for files like '%s'", path ? path : "");
        free(path);
    }
    return code;
}

int td_items_read(const td_items_spec *spec, td_items *out, td_error *error)
{
    glob_t files = { 0 };
    int    code = find_files(spec, &files, error);
    out->all = json_array();
    if (!code && !out->all)
        code = out_of_memory(error);
    if (!code && spec->format == TD_ITEMS_LINES)
        code = read_lines(spec, files.gl_pathv, files.gl_pathc, out->all, error);
    else
        for (size_t k = 0; k < files.gl_pathc && !code; k++)
            code = read_file(spec, files.gl_pathv[k], out->all, error);
    globfree(&files);
    return code;
}

void td_items_free(td_items *items)
{
    json_decref(items->all);
    items->all = NULL;
}
