/* elementwise.cu - ops on single elements; operands broadcast. Also activations and gated linear
 * units (Shazeer 2020); GELU in its tanh form. */
#include <float.h>
#include <math_constants.h>
#include <type_traits>

#include "activation.cuh"
#include "device.cuh"
#include "kernels.h"

/* How a kernel reads and writes the elements of a tensor: reals of either width, or integers. */
struct ints {
    int *data;
};

__device__ inline int  td_get(const ints &x, int64_t n) { return x.data[n]; }
__device__ inline void td_set(const ints &y, int64_t n, int value) { y.data[n] = value; }

template <class A> static A access_to(const td_view *v);
template <> td_reals        access_to(const td_view *v) { return td_reals_of(v); }
template <> ints            access_to(const td_view *v)
{
    ints x = { v ? (int *)v->data : NULL };
    return x;
}

template <int N, class F, class A, class B, class C>
__device__ inline auto apply(F f, const A &x0, const B &x1, const C &x2)
{
    if constexpr (N == 1)
        return f(x0);
    else if constexpr (N == 2)
        return f(x0, x1);
    else
        return f(x0, x1, x2);
}

/* y = f(x0, x1, ..); operand 0 of the walk is the output. */
template <class Y, class A, class X, int N, class F>
__global__ void map(td_walk w, Y y, A x0, X x1, X x2, F f)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int64_t at[N + 1];
    td_begin();
    if (n >= w.count)
        return;
    td_walk_at<N + 1>(w, n, at);
    if constexpr (N == 1)
        td_set(y, at[0], f(td_get(x0, at[1])));
    else if constexpr (N == 2)
        td_set(y, at[0], f(td_get(x0, at[1]), td_get(x1, at[2])));
    else
        td_set(y, at[0], f(td_get(x0, at[1]), td_get(x1, at[2]), td_get(x2, at[3])));
}

/* The vector at `n`, or one element for all of it. */
__device__ inline void vector_of(const td_reals &x, int64_t n, bool repeated,
                                 float (&to)[TD_VECTOR])
{
    if (!repeated) {
        td_get_some<TD_VECTOR>(x, n, to);
        return;
    }
    float one = td_get(x, n);
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        to[k] = one;
}

/* The same on reals, by walks in vectors. */
template <int N, class F>
__global__ void map_vectors(td_walk w, td_reals y, td_reals x0, td_reals x1, td_reals x2,
                            unsigned repeated, F f)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int64_t at[N + 1];
    float   u[TD_VECTOR], v[TD_VECTOR], z[TD_VECTOR];
    td_begin();
    if (n >= w.count)
        return;
    td_walk_at<N + 1>(w, n, at);
    vector_of(x0, at[1], repeated >> 1 & 1, u);
    if constexpr (N > 1)
        vector_of(x1, at[2], repeated >> 2 & 1, v);
    if constexpr (N > 2)
        vector_of(x2, at[3], repeated >> 3 & 1, z);
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        u[k] = apply<N>(f, u[k], v[k], z[k]);
    td_set_some<TD_VECTOR>(y, at[0], u);
}

/* Y, A and X: access to the output, to input 0, and to other inputs. */
template <class Y, class A, class X, int N, class F> static int run_map(const td_call *call, F f)
{
    const td_view *operand[] = { &call->out[0], &call->in[0], N > 1 ? &call->in[1] : NULL,
                                 N > 2 ? &call->in[2] : NULL };
    td_cuda       *cuda = td_cuda_of(call);
    td_walk        w = td_walk_of(&call->out[0], operand, N + 1);
    Y              y = access_to<Y>(operand[0]);
    A              x0 = access_to<A>(operand[1]);
    X              x1 = access_to<X>(operand[2]), x2 = access_to<X>(operand[3]);

    if (!w.count)
        return 0;
    if constexpr (std::is_same_v<Y, td_reals> && std::is_same_v<A, td_reals> &&
                  std::is_same_v<X, td_reals>) {
        const void *data[] = { y.data, x0.data, x1.data, x2.data };
        unsigned    repeated;
        if (td_walk_widen(&w, TD_VECTOR, data, &repeated))
            return td_cuda_launch(cuda, td_cuda_grid(w.count, TD_CUDA_THREADS), 0, 1,
                                  map_vectors<N, F>, w, y, x0, x1, x2, repeated, f);
    }
    return td_cuda_launch(cuda, td_cuda_grid(w.count, TD_CUDA_THREADS), 0, 1, map<Y, A, X, N, F>, w,
                          y, x0, x1, x2, f);
}

/* All operands are reals. */
template <int N, class F> static int map_reals(const td_call *call, F f)
{
    return run_map<td_reals, td_reals, td_reals, N>(call, f);
}

/* All operands are integers. */
template <int N, class F> static int map_ints(const td_call *call, F f)
{
    return run_map<ints, ints, ints, N>(call, f);
}

/* ---- reals ----------------------------------------------------------------------------------- */

/* The op `name`: an expression of its operands. */
#define UNARY(name, ...)                                                   \
    struct name##_of {                                                     \
        __device__ float operator()(float x) const { return __VA_ARGS__; } \
    };                                                                     \
    int td_cuda_##name(const td_call *call) { return map_reals<1>(call, name##_of()); }
#define BINARY(name, ...)                                                           \
    struct name##_of {                                                              \
        __device__ float operator()(float x, float y) const { return __VA_ARGS__; } \
    };                                                                              \
    int td_cuda_##name(const td_call *call) { return map_reals<2>(call, name##_of()); }
#define BINARY_I32(name, ...)                                                 \
    struct i32_##name##_of {                                                  \
        __device__ int operator()(int x, int y) const { return __VA_ARGS__; } \
    };                                                                        \
    int td_cuda_i32_##name(const td_call *call) { return map_ints<2>(call, i32_##name##_of()); }

UNARY(neg, -x)
UNARY(exp, expf(x))
UNARY(log, logf(x))
UNARY(sqrt, sqrtf(x))
UNARY(rsqrt, 1 / sqrtf(x))
UNARY(sin, sinf(x))
UNARY(cos, cosf(x))
UNARY(tanh, tanhf(x))
UNARY(sigmoid, 1 / (1 + expf(-x)))
UNARY(abs, fabsf(x))
UNARY(sign, (float)((x > 0) - (x < 0)))
UNARY(floor, floorf(x))
BINARY(add, x + y)
BINARY(sub, x - y)
BINARY(mul, x *y)
BINARY(div, x / y)
BINARY(maximum, x > y || x != x ? x : y)
BINARY(less, x < y)
BINARY(equal, x == y)

/* scale x + shift; the attributes are double, and so is what they are rounded from */
struct real_affine {
    float            scale, shift;
    __device__ float operator()(float x) const { return scale * x + shift; }
};

int td_cuda_affine(const td_call *call)
{
    real_affine f = { (float)call->attrs->f[0], (float)call->attrs->f[1] };
    return map_reals<1>(call, f);
}

/* ---- integers: sums and products wrap around, as in two's complement ------------------------- */

struct i32_neg_of {
    __device__ int operator()(int x) const { return (int)(0u - (unsigned)x); }
};
struct i32_abs_of {
    __device__ int operator()(int x) const { return x < 0 ? (int)(0u - (unsigned)x) : x; }
};
struct i32_sign_of {
    __device__ int operator()(int x) const { return (x > 0) - (x < 0); }
};
int td_cuda_i32_neg(const td_call *call) { return map_ints<1>(call, i32_neg_of()); }
int td_cuda_i32_abs(const td_call *call) { return map_ints<1>(call, i32_abs_of()); }
int td_cuda_i32_sign(const td_call *call) { return map_ints<1>(call, i32_sign_of()); }
BINARY_I32(add, (int)((unsigned)x + (unsigned)y))
BINARY_I32(sub, (int)((unsigned)x - (unsigned)y))
BINARY_I32(mul, (int)((unsigned)x *(unsigned)y))
BINARY_I32(maximum, x > y ? x : y)
BINARY_I32(less, x < y)
BINARY_I32(equal, x == y)

/* Clamp to the range of an i32; NaN becomes 0. */
__device__ inline double clamped(double x)
{
    return x != x ? 0 : fmin(fmax(x, -2147483648.0), 2147483647.0);
}

struct i32_affine_of {
    double         scale, shift;
    __device__ int operator()(int x) const { return (int)clamped(::floor(scale * x + shift)); }
};

int td_cuda_i32_affine(const td_call *call)
{
    i32_affine_of f = { call->attrs->f[0], call->attrs->f[1] };
    return map_ints<1>(call, f);
}

/* ---- cast and where: a second type ----------------------------------------------------------- */

struct same {
    template <class T> __device__ T operator()(T x) const { return x; }
};
struct to_real {
    __device__ float operator()(int x) const { return (float)x; }
};
struct to_integer {
    __device__ int operator()(float x) const { return (int)trunc(clamped(x)); }
};

int td_cuda_convert(td_cuda *cuda, const td_view *y, const td_view *x)
{
    td_call call = {};
    call.backend = cuda;
    call.in[0] = *x;
    call.out[0] = *y;
    return map_reals<1>(&call, same());
}

int td_cuda_cast(const td_call *call)
{
    bool from = call->in[0].dtype == TD_I32, to = call->out[0].dtype == TD_I32;
    if (from)
        return to ? map_ints<1>(call, same()) : run_map<td_reals, ints, ints, 1>(call, to_real());
    return to ? run_map<ints, td_reals, td_reals, 1>(call, to_integer())
              : map_reals<1>(call, same());
}

/* The condition may be of either kind, whatever the kind of the values. */
struct choose {
    template <class A, class X> __device__ X operator()(A c, X y, X z) const
    {
        return c != 0 ? y : z;
    }
};

int td_cuda_where(const td_call *call)
{
    bool condition = call->in[0].dtype == TD_I32;
    if (call->out[0].dtype == TD_I32)
        return condition ? map_ints<3>(call, choose())
                         : run_map<ints, td_reals, ints, 3>(call, choose());
    return condition ? run_map<td_reals, ints, td_reals, 3>(call, choose())
                     : map_reals<3>(call, choose());
}

/* ---- activations ----------------------------------------------------------------------------- */

struct activation_of {
    int              f;
    __device__ float operator()(float x) const { return value(x, f); }
};
struct activation_grad_of {
    int              f;
    __device__ float operator()(float dy, float x) const { return dy * slope(x, f); }
};
struct glu_of {
    int              f;
    __device__ float operator()(float gate, float up) const { return value(gate, f) * up; }
};
struct gate_grad_of {
    int              f;
    __device__ float operator()(float dy, float gate, float up) const
    {
        return dy * up * slope(gate, f);
    }
};

int td_cuda_activation(const td_call *call)
{
    return map_reals<1>(call, activation_of{ (int)call->attrs->i[0] });
}

int td_cuda_activation_grad(const td_call *call)
{
    return map_reals<2>(call, activation_grad_of{ (int)call->attrs->i[0] });
}

int td_cuda_glu(const td_call *call)
{
    return map_reals<2>(call, glu_of{ (int)call->attrs->i[0] });
}

/* Both gradients from one read of the operands; either may be unwanted. Vectors of V elements. */
template <int V>
__global__ void glu_grad(td_walk w, td_reals dgate, td_reals dup, td_reals dy, td_reals gate,
                         td_reals up, int f)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int64_t at[4];
    float   g[V], x[V], y[V], to[V];
    if (n >= w.count)
        return;
    td_walk_at<4>(w, n, at);
    td_get_some<V>(dy, at[1], g);
    td_get_some<V>(gate, at[2], x);
    td_get_some<V>(up, at[3], y);
    for (int k = 0; k < V; k++)
        to[k] = g[k] * y[k] * slope(x[k], f);
    if (dgate.data)
        td_set_some<V>(dgate, at[0], to);
    for (int k = 0; k < V; k++)
        to[k] = g[k] * value(x[k], f);
    if (dup.data)
        td_set_some<V>(dup, at[0], to);
}

int td_cuda_glu_grad(const td_call *call)
{
    const td_view *dgate = td_cuda_out(call, 0), *dup = td_cuda_out(call, 1);
    const td_view *first = dgate ? dgate : dup;
    const td_view *operand[] = { first, &call->in[0], &call->in[1], &call->in[2] };
    td_reals       to_gate = td_reals_of(dgate), to_up = td_reals_of(dup);
    td_reals       dy = td_reals_of(operand[1]), gate = td_reals_of(operand[2]),
             up = td_reals_of(operand[3]);
    td_cuda *cuda = td_cuda_of(call);
    td_walk  w;
    unsigned repeated;
    bool     both;

    if (!first)
        return 0;
    /* the planner lays both outputs out like input 0 */
    w = td_walk_of(first, operand, 4);
    if (!w.count)
        return 0;
    const void *data[] = { first->data, dy.data, gate.data, up.data };
    td_walk     wide = w;
    both = !dgate || !dup || (uintptr_t)dup->data % 16 == 0;
    if (both && td_walk_widen(&wide, TD_VECTOR, data, &repeated) && !repeated)
        glu_grad<TD_VECTOR>
            <<<td_cuda_grid(wide.count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(
                wide, to_gate, to_up, dy, gate, up, (int)call->attrs->i[0]);
    else
        glu_grad<1><<<td_cuda_grid(w.count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(
            w, to_gate, to_up, dy, gate, up, (int)call->attrs->i[0]);
    return td_cuda_launched(cuda);
}
