/* reader.c - reads documents: the text of each JSON line, or a whole .txt file. */
#include "reader.h"

#include <stdlib.h>
#include <string.h>

#include "object.h"
#include "utf8.h"

struct reader {
    lines      *from;
    const char *key;
    bad_lines   bad;
    int64_t     line; /* the line that a reason refers to; counted here within a whole file */
    json_t     *object;
};

reader *reader_open(const char *path, const char *key, int64_t *bad, const td_services *services,
                    td_error *error)
{
    reader *r = calloc(1, sizeof *r);
    if (!r) {
        td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
        return NULL;
    }
    *r = (reader){ .from = lines_open(path, error), .key = key, .bad = { bad, services } };
    if (r->from)
        return r;
    reader_close(r);
    return NULL;
}

void reader_close(reader *r)
{
    if (!r)
        return;
    json_decref(r->object);
    lines_close(r->from);
    free(r);
}

/* The text of a JSON line, owned by r->object until the next line. False: the line is bad, and
 * `why` says why. */
static bool parse(reader *r, const char *line, size_t size, const char **text, size_t *length,
                  char why[OBJECT_WHY])
{
    json_decref(r->object);
    r->object = object_read(line, size, (const char *const[]){ r->key, NULL }, why);
    const json_t *value = json_object_get(r->object, r->key);
    *text = json_string_value(value);
    *length = json_string_length(value);
    if (r->object && !value) {
        snprintf(why, OBJECT_WHY, "no key '%.60s'", r->key);
        object_list_keys(r->object, why);
    } else if (value && !*text)
        snprintf(why, OBJECT_WHY, "the value of '%.100s' is not a string", r->key);
    return *text != NULL;
}

/* Whether a whole file is UTF-8. If not, `why` says where, and r->line is that line. */
static bool is_text(reader *r, const char *text, size_t size, char why[OBJECT_WHY])
{
    const unsigned char *p = (const unsigned char *)text;
    size_t               at = 0;
    for (size_t n; at < size && (n = utf8_character(p + at, size - at)) != 0; at += n)
        r->line += p[at] == '\n';
    if (at == size)
        return true;
    if (p[at])
        snprintf(why, OBJECT_WHY, "byte %zu of the file, 0x%02X, is not UTF-8 text", at, p[at]);
    else
        snprintf(why, OBJECT_WHY, "byte %zu of the file is zero: it is not text", at);
    return false;
}

/* Count a bad line and log it, or refuse it if no more may be skipped. */
static int skip_bad(reader *r, const char *why, td_error *error)
{
    char        what[200] = "'text'";
    const char *advice = "";
    bool        whole = lines_whole(r->from);
    /* if an object lacks the key, perhaps the option is wrong, not the line */
    bool        no_key = !whole && r->object && !json_object_get(r->object, r->key);
    if (!whole)
        snprintf(what, sizeof what, "'%.190s'", r->key);
    if (no_key)
        advice = " or set data.text";
    else if (!whole && !r->object && !strstr(lines_path(r->from), ".json"))
        advice = ", let the file's name end in .txt if it is plain text";
    return object_skip(&r->bad, r->from, r->line, what, why, advice, error);
}

/* Skips blank lines, bad lines and empty documents. */
int reader_next(reader *r, const char **text, size_t *size, td_error *error)
{
    for (;;) {
        const char *line;
        char        why[OBJECT_WHY];
        size_t      length;
        bool        whole = lines_whole(r->from);
        int         code = lines_next(r->from, &line, &length, error);
        if (code)
            return code;
        r->line = lines_number(r->from);
        if (!whole && object_blank(line, length)) {
            object_skip_blank(&r->bad, r->from);
            continue;
        }
        /* an empty document is skipped like a blank line */
        bool fine = whole ? is_text(r, line, length, why) : parse(r, line, length, text, size, why);
        if (whole) {
            *text = line;
            *size = length;
        }
        if (fine && *size)
            return 0;
        if (!fine && (code = skip_bad(r, why, error)) != 0)
            return code;
    }
}
