/* text.h - shared by the metrics in this folder: UTF-8 characters, white space as in Python's
 * str.split(), and the normalization of answers. */
#ifndef TANDEM_PLUGINS_METRIC_TEXT_H
#define TANDEM_PLUGINS_METRIC_TEXT_H

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "tandem/kind/metric.h"

/* The character at `p`, and its number of bytes. Invalid bytes count as one character each, so
 * damaged text is compared, not refused. */
static inline uint32_t character_at(const char *p, size_t *bytes)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t               n = *s < 0x80 ? 1 : *s < 0xE0 ? 2 : *s < 0xF0 ? 3 : 4;
    uint32_t             c = n == 1 ? *s : *s & (0xFFu >> (n + 1));
    for (size_t k = 1; k < n; k++) {
        if ((s[k] & 0xC0) != 0x80) { /* also at the terminating 0 */
            *bytes = 1;
            return *s;
        }
        c = c << 6 | (s[k] & 0x3F);
    }
    *bytes = n;
    return c;
}

/* The characters at which str.split() splits: some of Unicode's separators, and a few control
 * characters. */
static inline bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static inline int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while scoring an answer");
}

/* ---- comparable forms ------------------------------------------------------------------------ */

enum {
    FORM_LOWER = 1,       /* lower case, by Unicode's simple mapping */
    FORM_PUNCTUATION = 2, /* without ASCII punctuation */
    FORM_ARTICLES = 4,    /* without the words a, an, the */
    FORM_DIGITS = 8,      /* without 0 .. 9 */
    FORM_SPACES = 16      /* words joined with one space */
};

static inline size_t put_character(char *to, uint32_t c)
{
    /* UTF-8: the first byte tells the length, the others begin with 10 */
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xC0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (char)(0xE0 | c >> 12);
        to[1] = (char)(0x80 | (c >> 6 & 0x3F));
        to[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    to[0] = (char)(0xF0 | c >> 18);
    to[1] = (char)(0x80 | (c >> 12 & 0x3F));
    to[2] = (char)(0x80 | (c >> 6 & 0x3F));
    to[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

static inline bool is_punctuation(uint32_t c)
{
    return c < 0x80 && c && strchr("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", (int)c);
}

/* Copies the characters that the form keeps, in lower case if it says so. */
static inline char *simplify_characters(const char *text, unsigned form)
{
    /* a lower-case letter may need more bytes than the capital, at most 3 for 2 */
    char    *out = (char *)malloc(2 * strlen(text) + 1);
    locale_t unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    size_t   n = 0, bytes;
    for (; out && *text; text += bytes) {
        uint32_t c = character_at(text, &bytes);
        if ((form & FORM_PUNCTUATION && is_punctuation(c)) ||
            (form & FORM_DIGITS && c >= '0' && c <= '9'))
            continue;
        if (bytes == 1 && c >= 0x80) { /* an invalid byte is copied */
            out[n++] = *text;
            continue;
        }
        if (form & FORM_LOWER)
            c = unicode                ? (uint32_t)towlower_l((wint_t)c, unicode)
                : c >= 'A' && c <= 'Z' ? c + 32
                                       : c;
        n += put_character(out + n, c);
    }
    if (out)
        out[n] = 0;
    if (unicode)
        freelocale(unicode);
    return out;
}

static inline bool is_article(const char *word, size_t n)
{
    return (n == 1 && *word == 'a') || (n == 2 && !memcmp(word, "an", 2)) ||
           (n == 3 && !memcmp(word, "the", 3));
}

/* In place: joins words with one space, and leaves out articles if the form says so. */
static inline void join_words(char *text, unsigned form)
{
    char *to = text;
    for (size_t bytes; *text;) {
        char *word;
        while (*text && is_space(character_at(text, &bytes)))
            text += bytes;
        word = text;
        while (*text && !is_space(character_at(text, &bytes)))
            text += bytes;
        if (text == word || (form & FORM_ARTICLES && is_article(word, (size_t)(text - word))))
            continue;
        if (to != word) /* safe in place: a word never moves to the right */
            memmove(to, word, (size_t)(text - word));
        to += text - word;
        /* there is space: either white space followed, or this is the end, which is cut off
         * below */
        if (*text)
            *to++ = ' ';
    }
    *to = 0;
}

static inline void cut_last_space(char *text)
{
    size_t n = strlen(text);
    if (n && text[n - 1] == ' ')
        text[n - 1] = 0;
}

/* The text in normalized form; NULL: out of memory. free() it. */
static inline char *simplified(const char *text, unsigned form)
{
    char *out = simplify_characters(text, form);
    if (out && form & (FORM_SPACES | FORM_ARTICLES)) {
        join_words(out, form);
        cut_last_space(out);
    }
    return out;
}

/* Sets *equal to 1 if the answer, already normalized, is one of the references, else to 0. */
static inline int equals_one(const char *have, const td_answer *a, unsigned form, double *equal,
                             td_error *error)
{
    *equal = 0;
    for (size_t k = 0; k < a->n_references && !*equal; k++) {
        char *want = simplified(a->references[k], form);
        if (!want)
            return out_of_memory(error);
        *equal = !strcmp(have, want);
        free(want);
    }
    return 0;
}

/* ---- n-grams --------------------------------------------------------------------------------- */

/* A run of bytes: an n-gram of characters or words. */
struct gram {
    const char *at;
    size_t      bytes;
};

static inline int compare_grams(const void *a_, const void *b_)
{
    const struct gram *a = (const struct gram *)a_, *b = (const struct gram *)b_;
    size_t             n = a->bytes < b->bytes ? a->bytes : b->bytes;
    int                order = memcmp(a->at, b->at, n);
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* The number of items that two sorted lists have in common, counting repetitions. */
static inline size_t common_grams(const struct gram *a, size_t n_a, const struct gram *b,
                                  size_t n_b)
{
    size_t i = 0, j = 0, same = 0;
    while (i < n_a && j < n_b) {
        int order = compare_grams(&a[i], &b[j]);
        same += !order;
        i += order <= 0;
        j += order >= 0;
    }
    return same;
}

static inline size_t run_of(const struct gram *g, size_t n, size_t at)
{
    size_t end = at + 1;
    while (end < n && !compare_grams(&g[end], &g[at]))
        end++;
    return end - at;
}

#endif
