/* differences.c - the settings in which two configs differ, in words.
 *
 * Whoever compares two variants wants to know whether they differ in one thing. A plugin in place of
 * another is one; what only one of the two plugins has, and what was adapted to keep sizes equal, is
 * easily overlooked, and may be all that makes the difference.
 */
#include "run/differences.h"

#include <stdio.h>
#include <string.h>

#include "run/seeds.h"

static const char absent[] = "(absent)";

/* ---- lines ------------------------------------------------------------------------------------ */

bool td_span_is(td_span s, const char *text)
{
    return s.n == strlen(text) && !strncmp(s.text, text, s.n);
}

bool td_span_begins(td_span s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && !strncmp(s.text, with, n);
}

bool td_span_ends(td_span s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && !strncmp(s.text + s.n - n, with, n);
}

static bool same(td_span a, td_span b) { return a.n == b.n && !strncmp(a.text, b.text, a.n); }

/* An arrow past the end of the line belongs to a later one. */
static bool split(const char *line, size_t size, td_changed_setting *out)
{
    static const char between[] = " -> ";
    size_t            key = strcspn(line, ":");
    const char       *values = line + key + 2, *end = line + size, *arrow;
    if (key + 2 > size || !(arrow = strstr(values, between)) || arrow >= end)
        return false;
    out->key = (td_span){ line, key };
    out->before = (td_span){ values, (size_t)(arrow - values) };
    arrow += strlen(between);
    out->now = (td_span){ arrow, (size_t)(end - arrow) };
    return true;
}

bool td_changed_next(const char **lines, td_changed_setting *out)
{
    while (**lines) {
        const char *line = *lines;
        size_t      n = strcspn(line, "\n");
        *lines += n + (line[n] == '\n');
        if (split(line, n, out))
            return true;
    }
    return false;
}

bool td_changed_is_incidental(const td_changed_setting *s)
{
    char key[300];
    snprintf(key, sizeof key, "%.*s", (int)s->key.n, s->key.text);
    return td_seeds_incidental(key) || !strcmp(key, "train.weights");
}

/* ---- of two configs that were compared with a third -------------------------------------------- */

static bool find(const char *lines, td_span key, td_changed_setting *out)
{
    while (td_changed_next(&lines, out))
        if (same(out->key, key))
            return true;
    return false;
}

static void print(td_span key, td_span a, td_span b, td_text *out)
{
    if (!same(a, b))
        td_text_print(out, "%.*s: %.*s -> %.*s\n", (int)key.n, key.text, (int)a.n, a.text, (int)b.n,
                      b.text);
}

void td_changed_between(const char *one, const char *other, td_text *out)
{
    td_changed_setting x, y;
    /* a config without a line has the third's value */
    for (const char *at = one; td_changed_next(&at, &x);)
        print(x.key, x.now, find(other, x.key, &y) ? y.now : x.before, out);
    for (const char *at = other; td_changed_next(&at, &y);)
        if (!find(one, y.key, &x))
            print(y.key, y.before, y.now, out);
}

/* ---- in words --------------------------------------------------------------------------------- */

enum { MOST = 6 }; /* settings of a list that are named */

typedef struct list {
    td_text text;
    size_t  n;
} list;

/* Whether a group around the key has another plugin. */
static bool is_of_changed_plugin(const char *lines, td_span key)
{
    static const char  name[] = ".plugin";
    td_changed_setting s;
    while (td_changed_next(&lines, &s)) {
        size_t group = s.key.n - strlen(name) + 1; /* with its dot */
        if (td_span_ends(s.key, name) && key.n > group && !strncmp(key.text, s.key.text, group))
            return true;
    }
    return false;
}

/* Off, as most options are that a plugin offers only to those who want them. */
static bool is_off(td_span value)
{
    return td_span_is(value, "false") || td_span_is(value, "0") || td_span_is(value, "0.0") ||
           td_span_is(value, "\"\"") || td_span_is(value, "()");
}

/* Whether it is to be written, rather than only counted. */
static bool name(list *l, td_span key)
{
    if (l->n++ >= MOST)
        return false;
    td_text_print(&l->text, "%s%.*s", l->n > 1 ? ", " : "", (int)key.n, key.text);
    return true;
}

static void name_both(list *l, const td_changed_setting *s)
{
    if (name(l, s->key))
        td_text_print(&l->text, " (%.*s and %.*s)", (int)s->before.n, s->before.text, (int)s->now.n,
                      s->now.text);
}

static void name_lost(list *l, td_span key, td_span value)
{
    if (!is_off(value) && name(l, key))
        td_text_print(&l->text, " = %.*s", (int)value.n, value.text);
}

static void take(const char *lines, const td_changed_setting *s, list *both, list *lost)
{
    bool before = !td_span_is(s->before, absent), now = !td_span_is(s->now, absent);
    if (td_changed_is_incidental(s))
        return;
    if (before == now || !is_of_changed_plugin(lines, s->key))
        name_both(both, s);
    else if (before)
        name_lost(lost, s->key, s->before);
}

/* Ends with what was not named, and frees the list. */
static size_t close(list *l, td_text *out)
{
    td_text_print(out, "%s", td_text_get(&l->text));
    if (l->n > MOST)
        td_text_print(out, " and %zu more", l->n - MOST);
    td_text_free(&l->text);
    return l->n;
}

size_t td_changed_say(const char *lines, const char *base, td_text *out, bool *less)
{
    list               both = { .n = 0 }, lost = { .n = 0 };
    td_changed_setting s;
    size_t             n;
    for (const char *at = lines; td_changed_next(&at, &s);)
        take(lines, &s, &both, &lost);
    n = close(&both, out);
    *less = lost.n > 0;
    if (*less)
        td_text_print(out, "%sonly '%s' has ", n ? "; " : "", base);
    close(&lost, out);
    return n;
}

const char *td_changed_summary(size_t n, bool less)
{
    if (n > 1)
        return "differ in more than one setting";
    return less ? "differ in one plugin, and in options that only the replaced one has" : NULL;
}
