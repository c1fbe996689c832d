/* integer.c - one leaf per elementwise op on i32. Sums and products wrap around. */
#include "cpu.h"
#include "kernels.h"

#define INTEGER(name, inputs, ...)                                                            \
    TD_CPU_CLONES static void name##_leaf(void *const *out, const void *const *in, int64_t n, \
                                          const td_attrs *a)                                  \
    {                                                                                         \
        const int32_t *p = in[0], *q = (inputs) > 1 ? in[1] : in[0];                          \
        (void)a;                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                     \
            int32_t  x = p[i], y = q[i];                                                      \
            uint32_t u = (uint32_t)x, v = (uint32_t)y;                                        \
            (void)x, (void)y, (void)u, (void)v;                                               \
            ((int32_t *)out[0])[i] = (int32_t)(__VA_ARGS__);                                  \
        }                                                                                     \
    }                                                                                         \
    int td_cpu_i32_##name(const td_call *call) { return td_cpu_map(call, inputs, name##_leaf); }

/* Rounded down, in double. What does not fit becomes the nearest that does. */
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
