/* float_mode.h - how this thread's processor rounds, and whether it flushes denormal numbers.
 *
 * Foreign code may change it: a module linked with -ffast-math does so when it is loaded. Reading
 * it takes nanoseconds, so it can be compared around any call.
 */
#ifndef TD_BASE_FLOAT_MODE_H
#define TD_BASE_FLOAT_MODE_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

/* The SSE control bits, and above them the x87 control word. */
static inline uint32_t td_float_mode(void)
{
    uint16_t x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    /* without the sticky exception flags, which any arithmetic raises */
    return (_mm_getcsr() & 0xffc0u) | (uint32_t)x87 << 16;
}

static inline void td_float_mode_set(uint32_t mode)
{
    uint16_t x87 = (uint16_t)(mode >> 16);
    _mm_setcsr((_mm_getcsr() & 0x3fu) | (mode & 0xffc0u));
    __asm__ volatile("fldcw %0" : : "m"(x87));
}

/* "flushes denormal numbers to zero", or another difference from `before`. */
static inline const char *td_float_mode_change(uint32_t before, uint32_t now)
{
    enum { FLUSHES = 0x8040, ROUNDING = 0x6000 };
    if ((before ^ now) & FLUSHES)
        return "the flushing of denormal numbers";
    return (before ^ now) & ROUNDING ? "the rounding of floating-point numbers"
                                     : "the floating-point mode";
}
#else
static inline uint32_t    td_float_mode(void) { return 0; }
static inline void        td_float_mode_set(uint32_t mode) { (void)mode; }
static inline const char *td_float_mode_change(uint32_t before, uint32_t now)
{
    (void)before;
    (void)now;
    return "the floating-point mode";
}
#endif

#endif
