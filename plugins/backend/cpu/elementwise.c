/* elementwise.c - one leaf per elementwise op on reals; loop.c takes care of strides and
 * broadcasting. */
#include "cpu.h"
#include "kernels.h"

/* The op `name`: an expression of its inputs x and y, 16 elements at a time. */
#define ELEMENTWISE(name, inputs, ...)                                                        \
    TD_CPU_CLONES static void name##_leaf(void *const *out, const void *const *in, int64_t n, \
                                          const td_attrs *a)                                  \
    {                                                                                         \
        const float *const *p = (const float *const *)in;                                     \
        for (int64_t i = 0; i < n; i += TD_LANES) {                                           \
            td_vf x = td_vload_n(p[0] + i, n - i);                                            \
            td_vf __attribute__((unused)) y = x;                                              \
            if ((inputs) > 1)                                                                 \
                y = td_vload_n(p[1] + i, n - i);                                              \
            td_vstore_n((float *)out[0] + i, (__VA_ARGS__), n - i);                           \
        }                                                                                     \
    }                                                                                         \
    int td_cpu_##name(const td_call *call) { return td_cpu_map(call, inputs, name##_leaf); }

/* The same by a function of libm, one element at a time: for ops that are too rare to be worth a
 * polynomial of ours. */
#define SCALAR(name, ...)                                                                          \
    static void name##_leaf(void *const *out, const void *const *in, int64_t n, const td_attrs *a) \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            float x = ((const float *)in[0])[i];                                                   \
            ((float *)out[0])[i] = (__VA_ARGS__);                                                  \
        }                                                                                          \
    }                                                                                              \
    int td_cpu_##name(const td_call *call) { return td_cpu_map(call, 1, name##_leaf); }

/* The same in a loop that the compiler vectorizes by itself, since root and rounding are
 * instructions. */
#define PLAIN(name, ...)                                                                      \
    TD_CPU_CLONES static void name##_leaf(void *const *out, const void *const *in, int64_t n, \
                                          const td_attrs *a)                                  \
    {                                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                     \
            float x = ((const float *)in[0])[i];                                              \
            ((float *)out[0])[i] = (__VA_ARGS__);                                             \
        }                                                                                     \
    }                                                                                         \
    int td_cpu_##name(const td_call *call) { return td_cpu_map(call, 1, name##_leaf); }

TD_CPU_INLINE td_vf one_where(td_vi mask) { return td_vpick(mask, td_vset(1), td_vset(0)); }

TD_CPU_INLINE td_vf affine(td_vf x, const td_attrs *a)
{
    return x * (float)a->f[0] + (float)a->f[1];
}

/* The larger of two. NaN propagates, as in the reduction `max`. */
TD_CPU_INLINE td_vf larger(td_vf x, td_vf y) { return td_vpick((x > y) | (x != x), x, y); }

ELEMENTWISE(neg, 1, -x)
ELEMENTWISE(exp, 1, td_vexp(x))
ELEMENTWISE(tanh, 1, td_vtanh(x))
ELEMENTWISE(sigmoid, 1, td_vsigmoid(x))
ELEMENTWISE(abs, 1, td_vabs(x))
ELEMENTWISE(sign, 1, one_where(x > 0) - one_where(x < 0))
ELEMENTWISE(affine, 1, affine(x, a))
ELEMENTWISE(add, 2, x + y)
ELEMENTWISE(sub, 2, x - y)
ELEMENTWISE(mul, 2, x *y)
ELEMENTWISE(div, 2, x / y)
ELEMENTWISE(maximum, 2, larger(x, y))
ELEMENTWISE(less, 2, one_where(x < y))
ELEMENTWISE(equal, 2, one_where(x == y))

PLAIN(sqrt, sqrtf(x))
PLAIN(rsqrt, 1.0f / sqrtf(x))
PLAIN(floor, floorf(x))
SCALAR(log, logf(x))
SCALAR(sin, sinf(x))
SCALAR(cos, cosf(x))

/* ---- where and cast: four-byte words of either kind ------------------------------------------ */

/* A condition is true unless all its bits are 0, except for the `ignored` leftmost: the sign of a
 * real, as -0 is 0. */
TD_CPU_INLINE void choose(uint32_t *out, const uint32_t *c, const uint32_t *y, const uint32_t *z,
                          int64_t n, int ignored)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = c[i] << ignored ? y[i] : z[i];
}

TD_CPU_CLONES static void where_real(void *const *out, const void *const *in, int64_t n,
                                     const td_attrs *a)
{
    choose(out[0], in[0], in[1], in[2], n, 1);
}

TD_CPU_CLONES static void where_i32(void *const *out, const void *const *in, int64_t n,
                                    const td_attrs *a)
{
    choose(out[0], in[0], in[1], in[2], n, 0);
}

int td_cpu_where(const td_call *call)
{
    return td_cpu_map(call, 3, call->in[0].dtype == TD_I32 ? where_i32 : where_real);
}

TD_CPU_CLONES static void to_real(void *const *out, const void *const *in, int64_t n,
                                  const td_attrs *a)
{
    for (int64_t i = 0; i < n; i++)
        ((float *)out[0])[i] = (float)((const int32_t *)in[0])[i];
}

/* Rounded towards zero and clamped to the range of an i32; NaN becomes 0. */
static void to_i32(void *const *out, const void *const *in, int64_t n, const td_attrs *a)
{
    for (int64_t i = 0; i < n; i++) {
        float x = ((const float *)in[0])[i];
        ((int32_t *)out[0])[i] = x >= 2147483648.0f    ? INT32_MAX
                                 : x <= -2147483648.0f ? INT32_MIN
                                 : x == x              ? (int32_t)x
                                                       : 0;
    }
}

static void same(void *const *out, const void *const *in, int64_t n, const td_attrs *a)
{
    memmove(out[0], in[0], (size_t)n * 4);
}

int td_cpu_cast(const td_call *call)
{
    int from = call->in[0].dtype, to = call->out[0].dtype;
    /* between f32 and bf16 the loop converts */
    return td_cpu_map(call, 1,
                      from == to || (from != TD_I32 && to != TD_I32) ? same
                      : to == TD_I32                                 ? to_i32
                                                                     : to_real);
}
