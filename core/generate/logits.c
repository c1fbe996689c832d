/* logits.c - log-probabilities from the logits of one token.
 *
 * A step of 16 rows has half a million logits, and a vocabulary's exp by the C library takes as long
 * as one of the smaller products: hence the vectors. A sum is LANES partial sums, added in order, so
 * it does not depend on the instruction set.
 */
#include "generate/logits.h"

#include <math.h>
#include <string.h>

#include "base/clones.h"

enum { LANES = 8 };

#define INLINE static inline __attribute__((always_inline))

typedef double  reals __attribute__((vector_size(LANES * sizeof(double))));
typedef int64_t words __attribute__((vector_size(LANES * sizeof(int64_t))));
typedef float   singles __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t marks __attribute__((vector_size(LANES * sizeof(int32_t))));

TD_CLONES float td_logits_top(const float *logits, int64_t n)
{
    singles top = { 0 };
    marks   nan = { 0 };
    int64_t i = 0;
    top -= INFINITY;
    for (; i + LANES <= n; i += LANES) {
        singles x;
        marks   larger;
        memcpy(&x, logits + i, sizeof x);
        /* a comparison with NaN is false, so the maximum alone would hide it */
        nan |= x != x;
        larger = x > top;
        top = (singles)((larger & (marks)x) | (~larger & (marks)top));
    }
    for (int64_t k = 0; i + k < n; k++) {
        nan[k] |= isnan(logits[i + k]) ? -1 : 0;
        top[k] = fmaxf(top[k], logits[i + k]);
    }
    for (int k = 1; k < LANES; k++) {
        nan[0] |= nan[k];
        top[0] = fmaxf(top[0], top[k]);
    }
    return nan[0] ? -INFINITY : top[0];
}

/* exp(x) for x <= 0 as 2^k exp(r) with |r| <= ln 2 / 2; exp(r) is its Taylor series. Below -700 it is
 * 0, which changes no sum that has a 1 in it. */
INLINE void exponential(reals *value)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    words        counts = *value >= -700;
    reals        x = (reals)(counts & (words)*value);
    reals        shifted = x * 0x1.71547652b82fep+0 + magic, k = shifted - magic;
    reals        r = x - k * 0x1.62e42fefa3800p-1 - k * 0x1.ef35793c76730p-45, y;
    y = 1 / 6227020800.0 * r + 1 / 479001600.0; /* 13!, 12!, .. */
    y = y * r + 1 / 39916800.0;
    y = y * r + 1 / 3628800.0;
    y = y * r + 1 / 362880.0;
    y = y * r + 1 / 40320.0;
    y = y * r + 1 / 5040.0;
    y = y * r + 1 / 720.0;
    y = y * r + 1 / 120.0;
    y = y * r + 1 / 24.0;
    y = y * r + 1 / 6.0;
    y = y * r + 0.5;
    y = y * r + 1;
    y = y * r + 1;
    /* the low bits of `shifted` are k in two's complement: they become the exponent */
    *value = (reals)(counts & (words)(y * (reals)(((words)shifted + 1023) << 52)));
}

TD_CLONES double td_logits_log_sum(const float *logits, int64_t n, float top)
{
    reals   sums = { 0 };
    double  sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        singles x;
        reals   e;
        memcpy(&x, logits + i, sizeof x);
        e = __builtin_convertvector(x, reals) - top;
        exponential(&e);
        sums += e;
    }
    /* explicit lanes, added in order: the compiler has no freedom to reorder the sum */
    for (int k = 0; k < LANES; k++)
        sum += sums[k];
    for (; i < n; i++) {
        reals e = { logits[i] - (double)top };
        exponential(&e);
        sum += e[0];
    }
    return top + log(sum);
}

bool td_log_softmax(const float *logits, int64_t n, double *out)
{
    float  top = td_logits_top(logits, n);
    double log_sum;
    if (isinf(top))
        return false;
    log_sum = td_logits_log_sum(logits, n, top);
    for (int64_t i = 0; i < n; i++)
        out[i] = logits[i] - log_sum;
    return true;
}
