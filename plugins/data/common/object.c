/* object.c - reads lines of JSON, and reports why one is bad. */
#include "object.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Whether the line may be valid JSON that jansson does not support. */
static bool beyond_jansson(const json_error_t *e)
{
    switch (json_error_code(e)) {
    case json_error_numeric_overflow:
    case json_error_stack_overflow:
    case json_error_null_byte_in_key:
        return true;
    default:
        return false;
    }
}

/* ---- what jansson refuses and others write --------------------------------------------------- */

enum { DEPTH = 2048 }; /* jansson's own limit */

/* A walk over a line that is being copied with its numbers replaced. */
typedef struct softening {
    const char        *at, *end;
    char              *to;
    const char *const *keys;
    uint32_t           seen[DEPTH]; /* which of `keys` the object at each depth has had */
    int                depth;
    bool               twice; /* one of them came again */
} softening;

static const char *digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static const char *word_at(const char *p, const char *end, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(end - p) >= n && !memcmp(p, word, n) ? p + n : NULL;
}

/* The end of a number, or of a word that some programs write for one that JSON cannot express;
 * NULL: it is neither. */
static const char *number_end(const char *p, const char *end)
{
    const char *q = word_at(p, end, "NaN"), *d;
    p += !q && p < end && *p == '-';
    if (q || (q = word_at(p, end, "Infinity")))
        return q;
    d = digits(p, end);
    /* JSON has no leading zeros */
    if (d == p || (*p == '0' && d > p + 1))
        return NULL;
    if (d < end && *d == '.') {
        q = digits(d + 1, end);
        if (q == d + 1)
            return NULL;
        d = q;
    }
    if (d < end && (*d == 'e' || *d == 'E')) {
        p = d + 1 + (d + 1 < end && (d[1] == '+' || d[1] == '-'));
        d = digits(p, end);
        return d > p ? d : NULL;
    }
    return d;
}

static void note_key(softening *s, const char *key, size_t size)
{
    for (int k = 0; s->keys[k] && k < OBJECT_KEYS; k++)
        if (strlen(s->keys[k]) == size && !memcmp(s->keys[k], key, size)) {
            s->twice |= s->seen[s->depth] >> k & 1;
            s->seen[s->depth] |= 1u << k;
        }
}

/* A string is copied as it is. Followed by a colon, it is a key. */
static void copy_string(softening *s)
{
    const char *begin = s->at++, *p;
    while (s->at < s->end && *s->at != '"')
        s->at += *s->at == '\\' && s->at + 1 < s->end ? 2 : 1;
    s->at += s->at < s->end;
    memcpy(s->to, begin, (size_t)(s->at - begin));
    s->to += s->at - begin;
    for (p = s->at; p < s->end && memchr(" \t\r\n", *p, 4);)
        p++;
    if (p < s->end && *p == ':' && s->at - begin >= 2)
        note_key(s, begin + 1, (size_t)(s->at - begin - 2));
}

/* False: it is nested too deeply. */
static bool copy_mark(softening *s)
{
    char c = *s->at++;
    *s->to++ = c;
    if (c == '{' || c == '[') {
        if (++s->depth == DEPTH)
            return false;
        s->seen[s->depth] = 0;
    } else if ((c == '}' || c == ']') && s->depth)
        s->depth--;
    return true;
}

/* Copy the line to `to`, of the same size, with 0 for every number. Returns the number of bytes;
 * 0: it cannot be done, or a key that matters is there twice. */
static size_t soften(const char *line, size_t size, const char *const *keys, char *to)
{
    softening s = { .at = line, .end = line + size, .to = to, .keys = keys };
    while (s.at < s.end) {
        const char *after = memchr("-0123456789NI", *s.at, 13) ? number_end(s.at, s.end) : NULL;
        if (*s.at == '"')
            copy_string(&s);
        else if (after) {
            *s.to++ = '0';
            s.at = after;
        } else if (!copy_mark(&s))
            return 0;
    }
    return s.twice ? 0 : (size_t)(s.to - to);
}

static json_t *read_softened(const char *line, size_t size, const char *const *keys)
{
    char   *copy = malloc(size + 1);
    size_t  n = copy ? soften(line, size, keys, copy) : 0;
    json_t *object = n ? json_loadb(copy, n, JSON_ALLOW_NUL, NULL) : NULL;
    free(copy);
    return object;
}

json_t *object_read(const char *line, size_t size, const char *const *keys, char why[OBJECT_WHY])
{
    /* Integers beyond 64 bits would be errors, so all are read as reals; no number matters here.
     * Two texts under one key would be ambiguous. */
    const size_t flags = JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL;
    json_error_t problem;
    json_t      *object = json_loadb(line, size, flags, &problem);
    if (!object)
        object = read_softened(line, size, keys);
    if (!object)
        snprintf(why, OBJECT_WHY, "%s: %s, at column %d",
                 beyond_jansson(&problem) ? "JSON that the library jansson does not support"
                                          : "not valid JSON",
                 problem.text, problem.column);
    if (!object || json_is_object(object))
        return object;
    snprintf(why, OBJECT_WHY, "not an object { }");
    json_decref(object);
    return NULL;
}

/* ---- lines ----------------------------------------------------------------------------------- */

void object_printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
}

void object_list_keys(json_t *object, char why[OBJECT_WHY])
{
    const size_t end = OBJECT_WHY - 24; /* reserves space for the text after the keys */
    size_t       n = strlen(why);
    void        *at = json_object_iter(object);
    n += (size_t)snprintf(why + n, OBJECT_WHY - n, " (keys:%s", at ? "" : " none");
    for (bool first = true; at; at = json_object_iter_next(object, at), first = false) {
        const char *key = json_object_iter_key(at);
        if (n + strlen(key) + 4 > end) {
            n += (size_t)snprintf(why + n, OBJECT_WHY - n, " ..");
            break;
        }
        n += (size_t)snprintf(why + n, OBJECT_WHY - n, "%s '%s'", first ? "" : ",", key);
    }
    snprintf(why + n, OBJECT_WHY - n, ")");
    object_printable(why);
}

bool object_blank(const char *line, size_t size)
{
    while (size && memchr(" \t\r", line[size - 1], 3))
        size--;
    return size == 0;
}

enum { LOOK = 1 << 18, PATIENCE = 10 }; /* blank lines between looks at the clock; seconds */

void object_skip_blank(bad_lines *b, const lines *l)
{
    struct timespec t;
    double          now;
    if (++b->blank % LOOK)
        return;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    if (b->reported > 0 && now < b->reported + PATIENCE)
        return;
    /* the first look only starts the clock */
    if (b->reported > 0)
        b->services->log(b->services, TD_LOG_INFO, "%s:%lld: %lld blank lines so far",
                         lines_path(l), (long long)lines_number(l), (long long)b->blank);
    b->reported = now;
}

int object_skip(const bad_lines *b, const lines *l, int64_t number, const char *what,
                const char *why, const char *advice, td_error *error)
{
    const char *unit = lines_whole(l) ? "file" : "line";
    if (*b->left <= 0)
        return td_fail(error, TD_EFORMAT,
                       "%s:%lld: cannot read %s from this %s: %s; fix the %s%s, or allow bad ones "
                       "to be skipped with data.max_bad_lines",
                       lines_path(l), (long long)number, what, unit, why, unit, advice);
    --*b->left;
    b->services->log(b->services, TD_LOG_WARN, "%s:%lld: skipped%s: %s", lines_path(l),
                     (long long)number, lines_whole(l) ? " the whole file" : "", why);
    return 0;
}
