/* pattern.c - regular expressions of Oniguruma as PCRE2 understands them. */
#include "steps.h"

#include <ctype.h>

/* In Oniguruma, \s is white space as Unicode has it; in PCRE2 it has one character more. */
static const char *class_of(char letter)
{
    return letter == 's' ? "\\p{White_Space}" : letter == 'S' ? "\\P{White_Space}" : NULL;
}

static int refuse(const char *text, size_t size, const char *why, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "the pattern '%.*s' %s", (int)(size < 300 ? size : 300),
                   text, why);
}

/* "\p{Han}" is a script in Oniguruma, but in PCRE2 all characters that are used with it. Categories
 * have one letter or two. Returns the bytes that were taken, 0 for an odd one. */
static size_t put_property(const char *at, size_t left, struct growing *out)
{
    const char *end = left > 2 && at[2] == '{' ? memchr(at, '}', left) : NULL;
    size_t      n = end ? (size_t)(end - at) - 3 : 0;
    bool        negated = n && at[3] == '^';
    if (!n)
        return 0;
    grow_append(out, at, 3);
    grow_append(out, "^", negated);
    grow_append(out, "sc:", n - negated > 2 ? 3 : 0);
    grow_append(out, at + 3 + negated, n - negated + 1);
    return n + 4;
}

/* "\x{2581}", "\x7f" or "\u2581"; returns the bytes that were taken, 0 for an odd one. */
static size_t put_code(const char *at, size_t left, struct growing *out)
{
    const char *end = left > 2 && at[2] == '{' ? memchr(at, '}', left) : NULL;
    size_t      digits = at[1] == 'u' ? 4 : 2;
    if (end && at[1] == 'x') {
        grow_append(out, at, (size_t)(end - at) + 1);
        return (size_t)(end - at) + 1;
    }
    if (left < 2 + digits || strspn(at + 2, "0123456789abcdefABCDEF") < digits)
        return 0;
    grow_append(out, "\\x{", 3);
    grow_append(out, at + 2, digits);
    grow_append(out, "}", 1);
    return 2 + digits;
}

/* Escapes that mean the same in both: of punctuation, and of these letters. Not \w and \b, whose
 * letters differ (marks, connecting punctuation), nor \v, which is several characters in PCRE2. */
static bool is_plain_escape(char c)
{
    return ispunct((unsigned char)c) || (c && strchr("nrtfdDA", c));
}

/* One escape; returns the bytes taken, 0 if it means something else in PCRE2. */
static size_t put_escape(const char *at, size_t left, struct growing *out)
{
    char c = left > 1 ? at[1] : 0;
    const char *class = class_of(c);
    if (class)
        grow_append(out, class, strlen(class));
    else if (c == 'p' || c == 'P')
        return put_property(at, left, out);
    else if (c == 'x' || c == 'u')
        return put_code(at, left, out);
    else if (is_plain_escape(c))
        grow_append(out, at, 2);
    else
        return 0;
    return 2;
}

/* "(?m:", which is about dots in Oniguruma and about lines in PCRE2, and "(?s:", which is not in
 * both. */
static bool is_odd_group(const char *at, size_t left)
{
    size_t k = 2;
    if (left < 3 || at[0] != '(' || at[1] != '?')
        return false;
    while (k < left && strchr("imsx-", at[k]) && at[k])
        k++;
    return memchr(at + 2, 'm', k - 2) || memchr(at + 2, 's', k - 2);
}

/* Also refused: sets within sets, classes such as "[:alpha:]", whose characters differ, "&&" in a set,
 * and repetitions such as "{1,3}+" and "{,3}". */
static bool is_odd(const char *at, size_t left, bool in_set)
{
    char next = left > 1 ? at[1] : 0;
    if (in_set)
        return *at == '[' || (*at == '&' && next == '&');
    return (*at == '}' && (next == '+' || next == '?')) || (*at == '{' && next == ',') ||
           is_odd_group(at, left);
}

static int translate(const char *text, size_t size, struct growing *out, td_error *error)
{
    size_t first = 0; /* of the set that this is in, where "]" is itself; 0: in none */
    for (size_t k = 0, n; k < size; k += n) {
        n = 1;
        if (text[k] == '\\')
            n = put_escape(text + k, size - k, out);
        else
            grow_append(out, text + k, 1);
        if (!n || (n == 1 && is_odd(text + k, size - k, first)))
            return refuse(text, size, "has a part that means something else in PCRE2", error);
        if (n == 1 && text[k] == '[' && !first)
            first = k + 1 + (k + 1 < size && text[k + 1] == '^');
        else if (n == 1 && text[k] == ']' && k != first)
            first = 0;
    }
    return out->failed ? td_fail(error, TD_ENOMEM, "out of memory for a pattern") : 0;
}

static pcre2_code *compile(const char *text, size_t size, uint32_t options, td_error *error)
{
    int         why;
    size_t      at;
    PCRE2_UCHAR message[200];
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, size,
                                     options | PCRE2_UTF | PCRE2_NO_UTF_CHECK, &why, &at, NULL);
    if (code)
        return code;
    pcre2_get_error_message(why, message, sizeof message);
    td_fail(error, TD_EFORMAT, "the pattern '%.*s' is invalid at byte %zu: %s",
            (int)(size < 300 ? size : 300), text, at, (const char *)message);
    return NULL;
}

pcre2_code *pattern_new(const char *text, size_t size, bool literal, td_error *error)
{
    struct growing own = { 0 };
    uint32_t       matches_empty = 0;
    pcre2_code    *code = NULL;
    if (unicode_valid(text, size) != size)
        td_fail(error, TD_EFORMAT, "a pattern is not UTF-8");
    else if (literal)
        code = compile(text, size, PCRE2_LITERAL, error);
    else if (!translate(text, size, &own, error))
        code = compile(own.data ? own.data : "", own.size,
                       PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_MULTILINE, error);
    if (code)
        pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    /* what an empty match splits depends on the program */
    if (matches_empty || (code && !size)) {
        refuse(text, size, "can match an empty text, which is not supported", error);
        pcre2_code_free(code);
        code = NULL;
    }
    free(own.data);
    return code;
}
