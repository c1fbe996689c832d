/* filter.c - answer filters: regular expressions (PCRE2), the last number, and small edits. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "evaluate/filter.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { REGEX, LAST_NUMBER, STRIP, LOWERCASE, FIRST_LINE, UNTIL, REPLACE, TAKE_FIRST };

static const char *const functions[] = { "regex",     "last_number", "strip",
                                         "lowercase", "first_line",  "until",
                                         "replace",   "take_first",  NULL };

const td_option td_filter_step_table[] = {
    TD_OPTION_CHOICE(td_filter_step, function, REGEX, functions,
                     "regex: keep a match of the pattern, or its first non-empty group if it has "
                     "groups; last_number: keep the last number, without thousands separators; "
                     "strip: remove surrounding white space; lowercase; first_line; until: keep "
                     "the text before the pattern, which is plain text; replace: replace every "
                     "match; take_first: accepted, but has no effect, since there is only one "
                     "answer"),
    TD_OPTION_STRING(td_filter_step, pattern, "", "a regular expression (PCRE2)"),
    TD_OPTION_STRING(td_filter_step, with, "", "for replace: the text that replaces each match"),
    TD_OPTION_INT(td_filter_step, group_select, 0, -1, 1000,
                  "for regex: the index of the match, from 0; -1: the last"),
    TD_OPTION_END
};

/* Limits backtracking: no answer that a model writes may make a pattern run forever. */
enum { MOST_STEPS = 1000000 };

typedef struct step {
    const td_filter_step *options;
    pcre2_code           *code;
} step;

struct td_filter {
    size_t               count;
    step                *at;
    pcre2_match_context *context;
};

/* ---- making ---------------------------------------------------------------------------------- */

static bool has_pattern(const td_filter_step *o)
{
    return o->function == REGEX || o->function == REPLACE || o->function == UNTIL;
}

static int compile(step *s, size_t number, td_error *error)
{
    int         why;
    size_t      at;
    PCRE2_UCHAR message[200];
    const char *pattern = s->options->pattern;
    /* an empty expression would match everywhere, which is never intended */
    if (has_pattern(s->options) && !*pattern)
        return td_fail(error, TD_ECONFIG, "step %zu, '%s', has no pattern", number,
                       functions[s->options->function]);
    if (!has_pattern(s->options) && *pattern)
        return td_fail(error, TD_ECONFIG, "step %zu, '%s', takes no pattern; it has '%.100s'",
                       number, functions[s->options->function], pattern);
    if (!has_pattern(s->options) || s->options->function == UNTIL)
        return 0;
    /* answers are UTF-8; invalid bytes match nothing */
    s->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C, &why,
                            &at, NULL);
    if (s->code)
        return 0;
    pcre2_get_error_message(why, message, sizeof message);
    return td_fail(error, TD_ECONFIG,
                   "step %zu: the pattern '%.200s' is invalid at character %zu: %s", number,
                   pattern, at + 1, (const char *)message);
}

td_filter *td_filter_new(td_list steps, td_error *error)
{
    td_filter *f = calloc(1, sizeof *f);
    int        code = 0;
    if (f) {
        f->at = calloc(steps.count + 1, sizeof *f->at);
        f->context = pcre2_match_context_create(NULL);
    }
    if (!f || !f->at || !f->context)
        code = td_fail(error, TD_ENOMEM, "out of memory for a filter");
    else
        pcre2_set_match_limit(f->context, MOST_STEPS);
    for (size_t k = 0; k < steps.count && !code; k++) {
        /* counted before it is compiled, so that it is freed after a failure */
        f->at[f->count].options = (const td_filter_step *)steps.at + k;
        code = compile(&f->at[f->count++], k + 1, error);
    }
    if (!code)
        return f;
    td_filter_free(f);
    return NULL;
}

void td_filter_free(td_filter *f)
{
    if (!f)
        return;
    for (size_t k = 0; f->at && k < f->count; k++)
        pcre2_code_free(f->at[k].code);
    pcre2_match_context_free(f->context);
    free(f->at);
    free(f);
}

/* ---- small edits ----------------------------------------------------------------------------- */

static char *stripped(const char *text, size_t size)
{
    while (size && isspace((unsigned char)*text)) {
        text++;
        size--;
    }
    while (size && isspace((unsigned char)text[size - 1]))
        size--;
    return strndup(text, size);
}

static char *lower(const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The length of the number at `at`: digits, possibly with commas and a fraction. */
static size_t number_size(const char *at)
{
    size_t n = 0;
    while (is_digit(at[n]) || (n && at[n] == ',' && is_digit(at[n + 1])))
        n++;
    if (at[n] == '.' && is_digit(at[n + 1]))
        for (n++; is_digit(at[n]);)
            n++;
    return n;
}

/* Turns "1,234.50" into "1234.5", so that equal numbers have equal texts. */
static char *plain_number(const char *at, size_t size, bool negative)
{
    char  *out = malloc(size + 2);
    size_t n = 0;
    bool   fraction = false;
    if (!out)
        return NULL;
    if (negative)
        out[n++] = '-';
    for (size_t k = 0; k < size; k++) {
        /* only a fraction loses its zeros: 100 stays 100 */
        fraction = fraction || at[k] == '.';
        if (at[k] != ',')
            out[n++] = at[k];
    }
    while (fraction && out[n - 1] == '0')
        n--;
    n -= fraction && out[n - 1] == '.';
    out[n] = 0;
    return out;
}

/* Without a number in the text, returns NULL and sets *found to false. A dash between two numbers, as
 * in 3-4, is not a sign. */
static char *last_number(const char *text, bool *found)
{
    const char *best = NULL;
    size_t      size = 0;
    bool        negative;
    for (const char *at = text; *at;) {
        size_t n = number_size(at);
        /* the last number wins: answers come last */
        if (n) {
            best = at;
            size = n;
        }
        at += n ? n : 1;
    }
    *found = best != NULL;
    if (!best)
        return NULL;
    negative = best > text && best[-1] == '-' &&
               (best - 1 == text || !isalnum((unsigned char)best[-2]));
    return plain_number(best, size, negative);
}

/* ---- regular expressions --------------------------------------------------------------------- */

/* The text of a match: all of it, or its first non-empty group, as lm-evaluation-harness takes it
 * from Python's findall. */
static void take(const pcre2_code *code, const size_t *place, size_t *begin, size_t *end)
{
    uint32_t groups = 0;
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
    *begin = place[0];
    *end = groups ? place[0] : place[1];
    for (uint32_t g = 1; g <= groups; g++)
        if (place[2 * g] != PCRE2_UNSET && place[2 * g + 1] > place[2 * g]) {
            *begin = place[2 * g];
            *end = place[2 * g + 1];
            return;
        }
}

/* The requested match, or NULL with *found false. */
static char *search(const td_filter *f, const step *s, const char *text, bool *found)
{
    pcre2_match_data *m = pcre2_match_data_create_from_pattern(s->code, NULL);
    size_t           *place = m ? pcre2_get_ovector_pointer(m) : NULL;
    size_t            size = strlen(text), at = 0, begin = 0, end = 0;
    int64_t           select = s->options->group_select;
    char             *out;

    *found = !m; /* out of memory must not count as a miss */
    while (m && at <= size &&
           pcre2_match(s->code, (PCRE2_SPTR)text, size, at, 0, m, f->context) > 0) {
        take(s->code, place, &begin, &end);
        if (select-- <= 0 || s->options->group_select < 0)
            *found = true;
        if (select < 0 && s->options->group_select >= 0)
            break;
        /* an empty match would be found again forever */
        at = place[1] > place[0] ? place[1] : place[1] + 1;
        while (at < size && ((unsigned char)text[at] & 0xC0) == 0x80)
            at++;
    }
    out = m && *found ? stripped(text + begin, end - begin) : NULL;
    pcre2_match_data_free(m);
    return out;
}

/* Replaces every match; returns the text unchanged if the pattern takes too long. */
static char *replaced(const td_filter *f, const step *s, const char *text)
{
    /* usually enough; if not, PCRE2 reports the size that it needs */
    size_t size = strlen(text), room = 2 * size + 64;
    for (;;) {
        size_t n = room;
        char  *out = malloc(room);
        int    code = out ? pcre2_substitute(s->code, (PCRE2_SPTR)text, size, 0,
                                             PCRE2_SUBSTITUTE_GLOBAL |
                                                 PCRE2_SUBSTITUTE_OVERFLOW_LENGTH,
                                             NULL, f->context, (PCRE2_SPTR)s->options->with,
                                             PCRE2_ZERO_TERMINATED, (PCRE2_UCHAR *)out, &n)
                          : 0;
        if (!out || code >= 0)
            return out;
        free(out);
        if (code != PCRE2_ERROR_NOMEMORY)
            return strdup(text);
        room = n + 1;
    }
}

/* ---- applying -------------------------------------------------------------------------------- */

static char *apply(const td_filter *f, const step *s, const char *text, bool *found)
{
    const char *end;
    *found = true; /* only a search can miss; the other steps always yield a text */
    switch (s->options->function) {
    case REGEX:
        return search(f, s, text, found);
    case LAST_NUMBER:
        return last_number(text, found);
    case STRIP:
        return stripped(text, strlen(text));
    case LOWERCASE:
        return lower(text);
    case FIRST_LINE:
        return strndup(text, strcspn(text, "\n"));
    case UNTIL:
        end = strstr(text, s->options->pattern);
        return strndup(text, end ? (size_t)(end - text) : strlen(text));
    case REPLACE:
        return replaced(f, s, text);
    default:
        return strdup(text);
    }
}

char *td_filter_apply(const td_filter *f, const char *text, td_error *error)
{
    char *now = strdup(text);
    bool  found = true;
    for (size_t k = 0; k < f->count && now; k++) {
        /* the first step without a match ends the filter */
        char *next = apply(f, &f->at[k], now, &found);
        free(now);
        now = next;
    }
    if (!now && found)
        td_fail(error, TD_ENOMEM, "out of memory while filtering an answer");
    return now;
}
