/* scan.c - a look at the text of a config before libconfig parses it. */
#include "config/scan.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void td_scan_error(const td_scan *s, int line, const char *format, ...)
{
    char    text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s->has_lines)
        td_errors_add(s->errors, "%s:%d: %s", s->where, line, text);
    else
        td_errors_add(s->errors, "%s: %s", s->where, text);
}

/* ---- what is skipped ------------------------------------------------------------------------- */

/* `p` is at the first skipped character, and so is s->line until skip() counts. */

static const char *end_of_comment(td_scan *s, const char *p)
{
    const char *end = strstr(p + 2, "*/");
    if (!end)
        s->unclosed_comment = s->line;
    return end ? end + 2 : p + strlen(p);
}

static const char *end_of_string(td_scan *s, const char *p)
{
    const char *end = p + 1;
    for (; *end && *end != '"'; end++)
        if (*end == '\\' && end[1])
            end++;
    /* legal, but far more often a closing quote is missing */
    if (!s->long_string && (!*end || memchr(p, '\n', (size_t)(end - p))))
        s->long_string = s->line;
    return end + (*end == '"');
}

/* Past a comment or a string at `p`; NULL if there is neither. */
static const char *skip(td_scan *s, const char *p)
{
    const char *end;
    /* up to the newline, not past it: the caller counts it */
    if (*p == '#' || (p[0] == '/' && p[1] == '/'))
        return p + strcspn(p, "\n");
    if (p[0] == '/' && p[1] == '*')
        end = end_of_comment(s, p);
    else if (*p == '"')
        end = end_of_string(s, p);
    else
        return NULL;
    for (const char *q = p; q < end; q++)
        s->line += *q == '\n';
    return end;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* A leading 0 alone does not mean octal: libconfig reads 010 as ten. */
static bool is_hex(const char *p) { return p[0] == '0' && (p[1] == 'x' || p[1] == 'X'); }

/* Refuse the integer [p, end) if it does not fit: 64 bits with an L after it, 32 without. libconfig
 * would wrap it around silently. */
static void check_width(const td_scan *s, const char *p, const char *end)
{
    int       n = (int)(end - p);
    long long value;
    if (*end == '.' || *end == 'e' || *end == 'E') /* the whole part of a float */
        return;
    errno = 0;
    value = strtoll(p, NULL, is_hex(p) ? 16 : 10);
    if (errno)
        td_scan_error(s, s->line, "%.*s does not fit in 64 bits", n, p);
    else if (*end != 'L' && (value > INT32_MAX || value < INT32_MIN))
        td_scan_error(s, s->line, "%.*s does not fit in 32 bits: write %.*sL", n, p, n, p);
}

static bool is_word_start(char c) { return isalpha((unsigned char)c) || c == '_' || c == '*'; }

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

static bool is_exponent(char c) { return c == 'e' || c == 'E'; }

/* Past the number at `p`, which is checked; NULL if there is none. */
static const char *skip_number(const td_scan *s, const char *p)
{
    const char *end = p + 1;
    if (!isdigit((unsigned char)*p) && !(*p == '-' && isdigit((unsigned char)p[1])))
        return NULL;
    /* the integer, or the whole part of a float: in hexadecimal, e is a digit */
    while (isalnum((unsigned char)*end) && *end != 'L' && (is_hex(p) || !is_exponent(*end)))
        end++;
    check_width(s, p, end);
    /* fraction, exponent with its sign, and suffixes */
    while (isalnum((unsigned char)*end) || *end == '.' ||
           ((*end == '-' || *end == '+') && is_exponent(end[-1])))
        end++;
    return end;
}

/* Past a number or a word at `p`; NULL if there is neither. Words are skipped whole because they
 * may contain digits: the 9 of "k9999999999" is not a number. */
static const char *skip_token(const td_scan *s, const char *p)
{
    if (!is_word_start(*p))
        return skip_number(s, p);
    while (is_word(*p))
        p++;
    return p;
}

/* ---- brackets -------------------------------------------------------------------------------- */

/* Keep track of a bracket, if `c` is one. False if nested too deeply. */
static bool take_bracket(td_scan *s, char c)
{
    static const char open[] = "{([", close[] = "})]";
    const char       *which = strchr(close, c);
    /* `c` is never 0, which strchr would find */
    if (strchr(open, c)) {
        if (s->depth == TD_DEEPEST_GROUP)
            return false;
        s->bracket[s->depth] = c;
        s->opened[s->depth++] = s->line;
    } else if (which) {
        if (!s->mismatched && (!s->depth || s->bracket[s->depth - 1] != open[which - close]))
            s->mismatched = s->line;
        s->depth -= s->depth > 0; /* go on as if it matched: one error is enough */
    }
    return true;
}

/* Look at a character outside of comments, strings, numbers and words. False after an error that
 * ends the scan. */
static bool take(td_scan *s, const char *p)
{
    if (!take_bracket(s, *p))
        td_scan_error(s, s->line, "groups and lists are nested deeper than %d levels",
                      TD_DEEPEST_GROUP);
    else if (*p == '=' && s->keys++ == TD_MOST_KEYS)
        td_scan_error(s, s->line, "more than %d keys in one file: split it up, and use extends",
                      TD_MOST_KEYS);
    else if (!strncmp(p, "@include", 8)) /* libconfig would report lines of the wrong file */
        td_scan_error(s, s->line, "@include is not supported: use extends = \"FILE\";");
    else
        return true;
    return false;
}

/* Splits the text as libconfig's lexer does; otherwise a comment for one could be a number for
 * the other. */
bool td_scan_text(td_scan *s, const char *text)
{
    size_t before = s->errors->count;
    for (const char *p = text; *p;) {
        const char *past = skip(s, p);
        if (!past)
            past = skip_token(s, p);
        if (past) {
            p = past;
            continue;
        }
        if (!take(s, p))
            return false;
        s->line += *p++ == '\n';
    }
    /* numbers that do not fit are reported together, so they do not stop the scan */
    return s->errors->count == before;
}

/* ---- hints ----------------------------------------------------------------------------------- */

void td_scan_hint(const td_scan *s, td_text *out)
{
    /* In order of likelihood: an unclosed string swallows brackets, and one bracket too many or too
     * few upsets all that follow. */
    if (s->long_string)
        td_text_print(
            out,
            "; the string that begins on line %d does not end on it: is its closing quote "
            "missing?",
            s->long_string);
    else if (s->mismatched)
        td_text_print(out, "; the closing bracket on line %d does not match an open one",
                      s->mismatched);
    else if (s->depth)
        td_text_print(out, "; the '%c' on line %d is not closed", s->bracket[s->depth - 1],
                      s->opened[s->depth - 1]);
    else
        td_text_print(out, "; is a ';' missing before it, or quotes around a string?");
}
