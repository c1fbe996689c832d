/* bf16.h - bfloat16 in memory: the upper half of a float's bits. It has float's range and 8
 * significant bits.
 *
 * A kernel of dtype TD_BF16 (kind/kernels.h) reads and writes such elements, and computes in float.
 * Rounding is to the nearest, ties to even; infinities and NaN are preserved.
 *
 * Example:
 *
 *     #include "tandem/bf16.h"
 *
 *     static void halve(uint16_t *x, int64_t n)
 *     {
 *         for (int64_t i = 0; i < n; i++)
 *             x[i] = td_bf16_from_float(td_bf16_to_float(x[i]) / 2);
 *     }
 */
#ifndef TANDEM_BF16_H
#define TANDEM_BF16_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exact. */
static inline float td_bf16_to_float(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float    value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t td_bf16_from_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* rounding could carry a NaN's payload into the exponent, and truncating it could leave
     * infinity */
    if (x != x)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* Rounded only once: rounded to a float first, a double just above the midpoint of two bf16 numbers
 * could become the midpoint, and then round down to the even one. */
static inline uint16_t td_bf16_from_double(double x)
{
    float    near = (float)x;
    uint32_t bits;
    memcpy(&bits, &near, sizeof bits);
    /* of the two floats around x the one with an odd last bit, which is never a midpoint */
    if (x == x && (double)near != x) {
        if (fabs((double)near) > fabs(x))
            bits--;
        bits |= 1;
        memcpy(&near, &bits, sizeof near);
    }
    return td_bf16_from_float(near);
}

#ifdef __cplusplus
}
#endif
#endif
