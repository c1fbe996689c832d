/* utf8.h - where text is UTF-8. */
#ifndef TD_DATA_TEXT_UTF8_H
#define TD_DATA_TEXT_UTF8_H

#include <stddef.h>

/* Bytes of the UTF-8 character that begins here; 0: there is none, or NUL. */
static inline size_t utf8_character(const unsigned char *p, size_t room)
{
    if (*p < 0x80)
        return *p != 0;
    size_t n = *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;
    if (!n || n > room)
        return 0;
    for (size_t k = 1; k < n; k++)
        if ((p[k] & 0xC0) != 0x80)
            return 0;
    /* longer than need be, surrogates, above U+10FFFF */
    if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) ||
        (*p == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

#endif
