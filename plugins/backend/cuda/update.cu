/* update.cu - the updates of AdamW (Loshchilov and Hutter 2019) and of Adafactor, not factored
 * (Shazeer and Stern 2018). The formulas are in tandem/update.h. If the gate is 0, everything stays
 * as it was: outputs are the memory of their inputs. */
#include "device.cuh"
#include "kernels.h"
#include "tandem/ops.h"

/* All threads of a launch read a scalar from one place, which stays cached. */
typedef struct scalars {
    const float *lr, *t, *clip, *gate, *sum_u2, *sum_p2;
} scalars;

typedef struct adamw_args {
    td_reals p, m, v, old_p, g, old_m, old_v;
    int64_t  count;
    double   b1, b2;
    float    eps, decay;
    scalars  s;
} adamw_args;

/* One element: m and v become the new ones; the new p. */
__device__ inline float adamw_element(const adamw_args &a, float old, float g, float &m, float &v,
                                      float lr, float by1, float by2)
{
    float one = (float)(1 - a.b1), two = (float)(1 - a.b2);
    m = (float)a.b1 * m + one * g;
    v = (float)a.b2 * v + two * g * g;
    return old - lr * (m * by1 / (sqrtf(v * by2) + a.eps) + a.decay * old);
}

/* V elements to a thread. */
template <int V> __global__ void adamw_step(adamw_args a)
{
    int64_t          n = ((int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x) * V;
    __shared__ float by[2];
    float            clip = td_scalar_at(a.s.clip, 1), lr = td_scalar_at(a.s.lr, 0);
    float            p[V], g[V], m[V], v[V];
    /* 1 - b^t loses digits in float while t is small */
    if (threadIdx.x < 2)
        by[threadIdx.x] = (float)(1 / (1 - pow(threadIdx.x ? a.b2 : a.b1,
                                               (double)td_scalar_at(a.s.t, 1))));
    __syncthreads();
    if (n >= a.count || td_scalar_at(a.s.gate, 1) == 0)
        return;
    td_get_some<V>(a.old_p, n, p);
    td_get_some<V>(a.g, n, g);
    td_get_some<V>(a.old_m, n, m);
    td_get_some<V>(a.old_v, n, v);
    for (int k = 0; k < V; k++)
        p[k] = adamw_element(a, p[k], clip * g[k], m[k], v[k], lr, by[0], by[1]);
    if (a.m.data)
        td_set_some<V>(a.m, n, m);
    if (a.v.data)
        td_set_some<V>(a.v, n, v);
    if (a.p.data)
        td_set_some<V>(a.p, n, p);
}

/* Whether all tensors can be accessed in vectors. */
static bool is_aligned(const adamw_args *a)
{
    uintptr_t all = (uintptr_t)a->p.data | (uintptr_t)a->m.data | (uintptr_t)a->v.data |
                    (uintptr_t)a->old_p.data | (uintptr_t)a->g.data | (uintptr_t)a->old_m.data |
                    (uintptr_t)a->old_v.data;
    return all % 16 == 0 && a->count % TD_VECTOR_F32 == 0;
}

static float *wanted(const td_call *call, int k)
{
    const td_view *v = td_cuda_out(call, k);
    return v ? (float *)v->data : NULL;
}

int td_cuda_adamw_step(const td_call *call)
{
    const td_view *in = call->in;
    td_cuda       *cuda = td_cuda_of(call);
    adamw_args     a = {};

    a.p = td_reals_of(td_cuda_out(call, 0));
    a.m = td_reals_of(td_cuda_out(call, 1));
    a.v = td_reals_of(td_cuda_out(call, 2));
    a.old_p = td_reals_of(&in[TD_STEP_P]);
    a.g = td_reals_of(&in[TD_STEP_G]);
    a.old_m = td_reals_of(&in[TD_STEP_M]);
    a.old_v = td_reals_of(&in[TD_STEP_V]);
    a.count = td_cuda_count(&in[TD_STEP_P]);
    a.b1 = call->attrs->f[0];
    a.b2 = call->attrs->f[1];
    a.eps = (float)call->attrs->f[2];
    a.decay = (float)call->attrs->f[3];
    a.s.lr = td_cuda_scalar(call, TD_STEP_LR);
    a.s.t = td_cuda_scalar(call, TD_STEP_T);
    a.s.clip = td_cuda_scalar(call, TD_STEP_CLIP);
    a.s.gate = td_cuda_scalar(call, TD_STEP_GATE);
    if (!a.count)
        return 0;
    if (is_aligned(&a))
        adamw_step<TD_VECTOR_F32><<<td_cuda_grid(a.count, TD_VECTOR_F32 * TD_CUDA_THREADS),
                                    TD_CUDA_THREADS, 0, cuda->stream>>>(a);
    else
        adamw_step<1>
            <<<td_cuda_grid(a.count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

/* ---- adafactor ------------------------------------------------------------------------------- */

enum { PIECE = 1 << 11 };

typedef struct moment_args {
    float       *v, *total;
    const float *g, *old_v;
    double      *parts; /* the sum of each piece */
    int64_t      count, pieces;
    double       rate;
    scalars      s;
} moment_args;

/* A block for each piece. With a closed gate, the sum is 0, whatever v holds. */
__global__ void moment(moment_args a)
{
    int64_t end = min(a.count, (int64_t)(blockIdx.x + 1) * PIECE);
    double  sum = 0, b = pow((double)td_scalar_at(a.s.t, 1), -a.rate);
    float   b2 = (float)(1 - b), rest = (float)b, clip = td_scalar_at(a.s.clip, 1);
    bool    open = td_scalar_at(a.s.gate, 1) != 0;
    for (int64_t n = (int64_t)blockIdx.x * PIECE + threadIdx.x; open && n < end;
         n += TD_CUDA_THREADS) {
        float g = clip * a.g[n], v;
        v = b2 * a.old_v[n] + rest * (g * g + 1e-30f);
        sum += g * g / v;
        if (a.v)
            a.v[n] = v;
    }
    sum = td_block_sum(sum);
    if (threadIdx.x == 0)
        a.parts[blockIdx.x] = sum;
}

__global__ void moment_total(moment_args a)
{
    double sum = 0;
    for (int64_t k = threadIdx.x; k < a.pieces; k += TD_CUDA_THREADS)
        sum += a.parts[k];
    sum = td_block_sum(sum);
    if (threadIdx.x == 0)
        *a.total = (float)sum;
}

size_t td_cuda_adafactor_moment_workspace(const td_call *call)
{
    return (size_t)(td_cuda_pieces(td_cuda_count(&call->in[0]), PIECE) + 1) * sizeof(double);
}

int td_cuda_adafactor_moment(const td_call *call)
{
    td_cuda    *cuda = td_cuda_of(call);
    moment_args a = {};

    a.v = wanted(call, 0);
    a.total = wanted(call, 1);
    a.g = (const float *)call->in[TD_MOMENT_G].data;
    a.old_v = (const float *)call->in[TD_MOMENT_V].data;
    a.parts = (double *)call->workspace;
    a.count = td_cuda_count(&call->in[TD_MOMENT_G]);
    a.pieces = td_cuda_pieces(a.count, PIECE);
    a.rate = call->attrs->f[0];
    a.s.t = td_cuda_scalar(call, TD_MOMENT_T);
    a.s.clip = td_cuda_scalar(call, TD_MOMENT_CLIP);
    a.s.gate = td_cuda_scalar(call, TD_MOMENT_GATE);
    if (a.count) {
        moment<<<(unsigned)a.pieces, TD_CUDA_THREADS, 0, cuda->stream>>>(a);
        if (td_cuda_launched(cuda))
            return TD_EIO;
    }
    /* the total of an empty tensor is 0, and must still be written */
    if (!a.total)
        return 0;
    moment_total<<<1, TD_CUDA_THREADS, 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

typedef struct factor_args {
    float       *p, *m;
    const float *old_p, *g, *v, *old_m;
    int64_t      count;
    float        b1, decay, threshold, smallest;
    scalars      s;
} factor_args;

/* The factor of g / sqrt(v): the learning rate relative to the parameter's size, and the update's
 * own clipping. */
__device__ inline float factor(const factor_args &a)
{
    float u = sqrtf(td_scalar_at(a.s.sum_u2, 0) / (float)a.count),
          p = sqrtf(td_scalar_at(a.s.sum_p2, 0) / (float)a.count);
    return td_scalar_at(a.s.clip, 1) / fmaxf(1, u / a.threshold) * td_scalar_at(a.s.lr, 0) *
           fmaxf(a.smallest, p);
}

__global__ void factor_step(factor_args a)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    float   lr = td_scalar_at(a.s.lr, 0), decay = a.decay < 0 ? lr * lr : a.decay, delta;
    if (n >= a.count || td_scalar_at(a.s.gate, 1) == 0)
        return;
    delta = factor(a) * a.g[n] / sqrtf(a.v[n]);
    if (a.b1 > 0 && a.old_m) {
        delta = a.b1 * a.old_m[n] + (1 - a.b1) * delta;
        if (a.m)
            a.m[n] = delta;
    }
    if (a.p)
        a.p[n] = (1 - decay) * a.old_p[n] - delta;
}

int td_cuda_adafactor_step(const td_call *call)
{
    const td_view *m = td_cuda_in(call, TD_FACTOR_M);
    td_cuda       *cuda = td_cuda_of(call);
    factor_args    a = {};

    a.p = wanted(call, 0);
    a.m = wanted(call, 1);
    a.old_p = (const float *)call->in[TD_FACTOR_P].data;
    a.g = (const float *)call->in[TD_FACTOR_G].data;
    a.v = (const float *)call->in[TD_FACTOR_V].data;
    a.old_m = m ? (const float *)m->data : NULL;
    a.count = td_cuda_count(&call->in[TD_FACTOR_P]);
    a.b1 = (float)call->attrs->f[0];
    a.decay = (float)call->attrs->f[1];
    a.threshold = (float)call->attrs->f[2];
    a.smallest = (float)call->attrs->f[3];
    a.s.sum_u2 = td_cuda_scalar(call, TD_FACTOR_SUM_U2);
    a.s.sum_p2 = td_cuda_scalar(call, TD_FACTOR_SUM_P2);
    a.s.lr = td_cuda_scalar(call, TD_FACTOR_LR);
    a.s.clip = td_cuda_scalar(call, TD_FACTOR_CLIP);
    a.s.gate = td_cuda_scalar(call, TD_FACTOR_GATE);
    if (!a.count)
        return 0;
    factor_step<<<td_cuda_grid(a.count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}
