/* integer.c - one leaf per elementwise op on i32. Sums and products wrap around, so they are
 * computed as unsigned: signed overflow is undefined. */
#include "cpu.h"
#include "kernels.h"

#define UNUSED __attribute__((unused))

/* The op `name`: an expression of the inputs, x and y signed, u and v unsigned. */
#define INTEGER(name, inputs, ...)                                                            \
    TD_CPU_CLONES static void name##_leaf(void *const *out, const void *const *in, int64_t n, \
                                          const td_attrs *a)                                  \
    {                                                                                         \
        const int32_t *p = in[0], *q = (inputs) > 1 ? in[1] : in[0];                          \
        for (int64_t i = 0; i < n; i++) {                                                     \
            const int32_t x UNUSED = p[i], y UNUSED = q[i];                                   \
            const uint32_t u UNUSED = (uint32_t)x, v UNUSED = (uint32_t)y;                    \
            ((int32_t *)out[0])[i] = (int32_t)(__VA_ARGS__);                                  \
        }                                                                                     \
    }                                                                                         \
    int td_cpu_i32_##name(const td_call *call) { return td_cpu_map(call, inputs, name##_leaf); }

/* Rounded down, in double, and clamped to the range of an i32. */
TD_CPU_INLINE int32_t affine(int32_t x, const td_attrs *a)
{
    double y = floor(a->f[0] * (double)x + a->f[1]);
    return y >= 2147483647.0 ? INT32_MAX : y <= -2147483648.0 ? INT32_MIN : (int32_t)y;
}

INTEGER(neg, 1, 0u - u)
INTEGER(abs, 1, x < 0 ? 0u - u : u)
INTEGER(sign, 1, (x > 0) - (x < 0))
INTEGER(affine, 1, affine(x, a))
INTEGER(add, 2, u + v)
INTEGER(sub, 2, u - v)
INTEGER(mul, 2, u *v)
INTEGER(maximum, 2, x > y ? x : y)
INTEGER(less, 2, x < y)
INTEGER(equal, 2, x == y)
