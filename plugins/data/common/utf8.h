/* utf8.h - checking UTF-8. */
#ifndef TD_DATA_COMMON_UTF8_H
#define TD_DATA_COMMON_UTF8_H

#include <stddef.h>

/* The length of the UTF-8 character at p, where `room` bytes remain; 0: not UTF-8, or NUL. */
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
    /* the second byte reveals overlong forms, surrogates, and code points above U+10FFFF */
    if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] > 0x9F) || (*p == 0xF0 && p[1] < 0x90) ||
        (*p == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

#endif
