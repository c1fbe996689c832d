/* dropout.cu - dropout (Srivastava et al. 2014) by the counter-based generator of tandem/random.h. */
#include "device.cuh"
#include "kernels.h"

/* Word `which` of philox(seed, stream, index), as td_philox in tandem/random.h computes it. */
__device__ inline uint32_t philox(uint64_t seed, uint64_t stream, uint64_t index, int which)
{
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        uint32_t h2 = __umulhi(0xCD9E8D57u, c2), l2 = 0xCD9E8D57u * c2;
        c0 = h2 ^ c1 ^ k0;
        c2 = h0 ^ c3 ^ k1;
        c1 = l2;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return which == 0 ? c0 : which == 1 ? c1 : which == 2 ? c2 : c3;
}

typedef struct dropout_args {
    td_strided     x; /* dense */
    int64_t        count, shared;
    uint64_t       place, seed;
    float          keep; /* 1 - rate */
    uint32_t       least;
    td_reals       in, out;
    const int32_t *step, *example;
} dropout_args;

/* An element's number within its example, to which the axes in `shared` do not contribute. */
__global__ void dropout(dropout_args a)
{
    int64_t  i = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x, rest = i, n = 0, scale = 1;
    uint64_t stream;
    bool     kept;
    if (i >= a.count)
        return;
    for (int k = a.x.rank - 1; k > 0; k--) {
        if (!(a.shared >> k & 1)) {
            n += rest % a.x.dim[k] * scale;
            scale *= a.x.dim[k];
        }
        rest /= a.x.dim[k];
    }
    stream = a.place + 0x9E3779B97F4A7C15u * (uint64_t)(uint32_t)*a.step +
             0xD1B54A32D192ED03u * (uint64_t)(uint32_t)a.example[rest];
    kept = philox(a.seed, stream, (uint64_t)n >> 2, (int)(n & 3)) >= a.least;
    td_set(a.out, i, kept ? td_get(a.in, i) / a.keep : 0);
}

int td_cuda_dropout(const td_call *call)
{
    const td_attrs *t = call->attrs;
    td_cuda        *cuda = td_cuda_of(call);
    dropout_args    a = {};

    a.x = td_strided_of(&call->in[0]);
    a.count = td_cuda_count(&call->in[0]);
    a.shared = t->i[1];
    a.place = (uint64_t)t->i[0];
    a.seed = (uint64_t)t->i[2];
    a.keep = (float)(1 - t->f[0]);
    /* an element is dropped if its 32 random bits are below rate 2^32 */
    a.least = (uint32_t)(t->f[0] * 4294967296.0);
    a.in = td_reals_of(&call->in[0]);
    a.out = td_reals_of(&call->out[0]);
    a.step = (const int32_t *)call->in[1].data;
    a.example = (const int32_t *)call->in[2].data;
    if (!a.count)
        return 0;
    dropout<<<td_cuda_grid(a.count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}
