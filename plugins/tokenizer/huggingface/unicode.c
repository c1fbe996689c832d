/* unicode.c - forms and cases of Unicode, by utf8proc, and what is UTF-8. */
#include "steps.h"

#ifdef TANDEM_UTF8PROC
#include <utf8proc.h>

bool unicode_is_known(void) { return true; }

/* All of ASCII is in every form. */
static bool is_ascii(const char *text, size_t size)
{
    for (size_t k = 0; k < size; k++)
        if ((unsigned char)text[k] >= 0x80)
            return false;
    return true;
}

int unicode_normalize(const char *text, size_t size, int form, struct growing *out, td_error *error)
{
    static const int  forms[] = { [NFC] = UTF8PROC_COMPOSE,
                                  [NFD] = UTF8PROC_DECOMPOSE,
                                  [NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                  [NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT };
    utf8proc_uint8_t *found = NULL;
    utf8proc_ssize_t  n;
    /* most texts, without a copy */
    if (is_ascii(text, size)) {
        grow_append(out, text, size);
        return 0;
    }
    n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &found,
                     (utf8proc_option_t)(forms[form] | UTF8PROC_STABLE));
    if (n < 0)
        return td_fail(error, TD_EFORMAT, "cannot normalize a text of %zu bytes: %s", size,
                       utf8proc_errmsg(n));
    grow_append(out, (const char *)found, (size_t)n);
    free(found);
    return 0;
}

/* Character by character, as `tokenizers` does. One has two characters in lower case, which
 * utf8proc does not know. */
int unicode_lowercase(const char *text, size_t size, struct growing *out, td_error *error)
{
    enum { CAPITAL_I_WITH_DOT = 0x130 };
    utf8proc_uint8_t bytes[4];
    utf8proc_int32_t c;
    for (size_t k = 0, n; k < size; k += n) {
        n = character_size(text + k);
        if (utf8proc_iterate((const utf8proc_uint8_t *)text + k, (utf8proc_ssize_t)n, &c) < 0)
            return td_fail(error, TD_EFORMAT, "byte %zu of a text of %zu is not UTF-8", k, size);
        if (c == CAPITAL_I_WITH_DOT)
            grow_append(out, "i\xCC\x87", 3);
        else
            grow_append(out, (const char *)bytes,
                        (size_t)utf8proc_encode_char(utf8proc_tolower(c), bytes));
    }
    return 0;
}

/* Bytes of what a reader takes for one character, such as a letter and its accents. The text is
 * UTF-8. utf8proc has the rules of its version of Unicode: those before 15.1 lack GB9c, by which Indic
 * consonants that a virama joins are one. */
static size_t cluster_size(const char *text, size_t size)
{
    utf8proc_int32_t before, c, state = 0;
    size_t k = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size,
                                        &before);
    for (size_t n; k < size; k += n, before = c) {
        n = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + k,
                                     (utf8proc_ssize_t)(size - k), &c);
        if (utf8proc_grapheme_break_stateful(before, c, &state))
            break;
    }
    return k;
}

/* Append what the bytes become. */
static bool put_mapped(const struct charsmap *m, const char *text, size_t size, struct growing *out)
{
    const char *mapped;
    size_t      mapped_size;
    if (!charsmap_find(m, text, size, &mapped, &mapped_size))
        return false;
    grow_append(out, mapped, mapped_size);
    return true;
}

/* A cluster as a whole if it is short, although the table may have only its beginning; or else each
 * of its characters. So does `tokenizers`. */
int unicode_map(const struct charsmap *m, const char *text, size_t size, struct growing *out,
                td_error *error)
{
    enum { SHORT = 5 };
    size_t valid = unicode_valid(text, size);
    if (valid != size)
        return td_fail(error, TD_EFORMAT, "byte %zu of a text of %zu is not UTF-8", valid, size);
    for (size_t k = 0, n; k < size; k += n) {
        n = cluster_size(text + k, size - k);
        if (n <= SHORT && put_mapped(m, text + k, n, out))
            continue;
        for (size_t at = k, one; at < k + n; at += one) {
            one = character_size(text + at);
            if (!put_mapped(m, text + at, one, out))
                grow_append(out, text + at, one);
        }
    }
    return 0;
}
#else
bool unicode_is_known(void) { return false; }

int unicode_normalize(const char *text, size_t size, int form, struct growing *out, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "tandem was built without utf8proc");
}

int unicode_lowercase(const char *text, size_t size, struct growing *out, td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "tandem was built without utf8proc");
}

int unicode_map(const struct charsmap *m, const char *text, size_t size, struct growing *out,
                td_error *error)
{
    return td_fail(error, TD_EUNSUPPORTED, "tandem was built without utf8proc");
}
#endif

/* Bytes of the character at `s`; 0: it is truncated, overlong, a surrogate, or beyond Unicode. */
static size_t valid_at(const unsigned char *s, size_t left)
{
    size_t n = *s < 0x80 ? 1 : *s < 0xC2 ? 0 : *s < 0xE0 ? 2 : *s < 0xF0 ? 3 : *s < 0xF5 ? 4 : 0;
    if (n > left)
        return 0;
    for (size_t k = 1; k < n; k++)
        if ((s[k] & 0xC0) != 0x80)
            return 0;
    if ((*s == 0xE0 && s[1] < 0xA0) || (*s == 0xED && s[1] > 0x9F) || (*s == 0xF0 && s[1] < 0x90) ||
        (*s == 0xF4 && s[1] > 0x8F))
        return 0;
    return n;
}

size_t unicode_valid(const char *text, size_t size)
{
    size_t at = 0, n;
    while (at < size && (n = valid_at((const unsigned char *)text + at, size - at)) != 0)
        at += n;
    return at;
}
