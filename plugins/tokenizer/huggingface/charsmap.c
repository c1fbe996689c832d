/* charsmap.c - reads SentencePiece's table of characters: 4 bytes with the size of a trie, the
 * trie, and the texts that characters become, each followed by a 0. Numbers are little-endian.
 *
 * The trie is a double array, as Yata's library darts-clone stores it. A unit has the byte that
 * leads to it (label), whether a key ends there (leaf), and where its children are (offset): the
 * child for byte c is at the place of the unit, XOR offset, XOR c. The leaf itself is the child
 * for byte 0; its value is a place among the texts. The file may be a stranger's, so each step
 * is checked. */
#include "charsmap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

struct charsmap {
    struct growing bytes;        /* everything, as it is in the file */
    size_t         units, texts; /* the number of units; where the texts begin */
};

enum { UNIT = 4 }; /* bytes; also of the size in front */

/* ---- reading --------------------------------------------------------------------------------- */

/* The 6 bits of a digit; -1: it is none. */
static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char       *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Four digits are three bytes; at the end, "=" stands for a byte that is not there. */
static bool decode(const char *text, size_t size, struct growing *out)
{
    for (size_t k = 0; k < size; k += 4) {
        size_t   pad = k + 4 < size ? 0 : (size_t)(text[size - 1] == '=') + (text[size - 2] == '=');
        uint32_t bits = 0;
        char     bytes[3];
        for (size_t n = 0; n < 4; n++) {
            int digit = n < 4 - pad ? digit_of(text[k + n]) : 0;
            if (digit < 0)
                return false;
            bits = bits << 6 | (uint32_t)digit;
        }
        for (int n = 0; n < 3; n++)
            bytes[n] = (char)(bits >> (16 - 8 * n) & 0xFF);
        grow_append(out, bytes, 3 - pad);
    }
    return true;
}

static uint32_t number_at(const struct charsmap *m, size_t at)
{
    const unsigned char *b = (const unsigned char *)m->bytes.data + at;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static int measure(struct charsmap *m, td_error *error)
{
    size_t size = m->bytes.size < UNIT ? 0 : number_at(m, 0), left = m->bytes.size - UNIT;
    if (m->bytes.size < UNIT || !size || size % UNIT || size > left)
        return td_fail(error, TD_EFORMAT,
                       "'precompiled_charsmap' is damaged: its trie has %zu bytes, of %zu in all",
                       size, m->bytes.size);
    m->units = size / UNIT;
    m->texts = UNIT + size;
    if (unicode_valid(m->bytes.data + m->texts, m->bytes.size - m->texts) !=
        m->bytes.size - m->texts)
        return td_fail(error, TD_EFORMAT,
                       "'precompiled_charsmap' is damaged: its texts are not "
                       "UTF-8");
    return 0;
}

struct charsmap *charsmap_new(const char *text, size_t size, td_error *error)
{
    struct charsmap *m = calloc(1, sizeof *m);
    int              code = 0;
    if (!m || size % 4 || !decode(text, size, &m->bytes))
        code = m ? td_fail(error, TD_EFORMAT, "'precompiled_charsmap' is not base64")
                 : td_fail(error, TD_ENOMEM, "out of memory for a table of characters");
    else if (m->bytes.failed)
        code = td_fail(error, TD_ENOMEM, "out of memory for a table of characters");
    else
        code = measure(m, error);
    if (!code)
        return m;
    charsmap_free(m);
    return NULL;
}

void charsmap_free(struct charsmap *m)
{
    if (m)
        free(m->bytes.data);
    free(m);
}

/* ---- searching ------------------------------------------------------------------------------- */

static bool     is_key(uint32_t unit) { return unit >> 8 & 1; }
static uint32_t label_of(uint32_t unit) { return unit & 0x800000FFu; }
static uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFFu; }
static uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

/* Whether `place` is one of the trie; then *unit is what is there. */
static bool read_unit(const struct charsmap *m, size_t place, uint32_t *unit)
{
    if (place >= m->units)
        return false;
    *unit = number_at(m, UNIT + place * UNIT);
    return true;
}

/* The value of the shortest key that the text begins with, as the library `tokenizers` has it. */
static bool find_key(const struct charsmap *m, const char *text, size_t size, size_t *value)
{
    size_t   place = 0;
    uint32_t unit;
    if (!read_unit(m, place, &unit))
        return false;
    place ^= offset_of(unit);
    for (size_t k = 0; k < size && text[k]; k++) {
        unsigned char c = (unsigned char)text[k];
        place ^= c;
        if (!read_unit(m, place, &unit) || label_of(unit) != c)
            return false;
        place ^= offset_of(unit);
        if (!is_key(unit))
            continue;
        if (!read_unit(m, place, &unit))
            return false;
        *value = value_of(unit);
        return true;
    }
    return false;
}

bool charsmap_find(const struct charsmap *m, const char *text, size_t size, const char **out,
                   size_t *out_size)
{
    const char *texts = m->bytes.data + m->texts, *end;
    size_t      left = m->bytes.size - m->texts, value;
    /* a value that lies, or points into a character, is none */
    if (!find_key(m, text, size, &value) || value > left ||
        (value < left && ((unsigned char)texts[value] & 0xC0) == 0x80))
        return false;
    *out = texts + value;
    end = memchr(*out, 0, left - value);
    *out_size = end ? (size_t)(end - *out) : left - value;
    return true;
}
