/* rope.cu - rotary position embedding (Su et al. 2021). */
#include "device.cuh"
#include "kernels.h"
#include "rotate.cuh"

typedef struct rope_args {
    td_strided   x, y, c, s;
    td_reals     in, out;
    const float *cosine, *sine;
    unsigned     count;  /* threads */
    bool         tables; /* are read in vectors */
    float        sign;
} rope_args;

/* The angles' cosines or sines of token t from element e on. */
template <int V>
__device__ inline void load_angles(float (&to)[V], const td_strided &s, const float *table,
                                   unsigned b, unsigned t, unsigned e, bool vectors)
{
    const float *from = table + (s.dim[0] == 1 ? 0 : b) * s.stride[0] + t * s.stride[1] +
                        e * s.stride[2];
    td_reals all = { (void *)from, false };
    if (V > 1 && vectors)
        td_get_some<V>(all, 0, to);
    else
        for (int k = 0; k < V; k++)
            to[k] = from[k * s.stride[2]];
}

/* Element e of a head's first half is rotated with element e + half. Tables [B, T, half] have no
 * heads. V elements to a thread; heads of a token are neighbours, and share its angles. */
template <int V> __global__ void rope(rope_args a)
{
    unsigned n = blockIdx.x * TD_CUDA_THREADS + threadIdx.x, half = (unsigned)a.x.dim[3] / 2;
    unsigned tokens = (unsigned)a.x.dim[2], heads = (unsigned)a.x.dim[1], parts = half / V;
    unsigned e = n % parts * V, h = n / parts % heads, t = n / parts / heads % tokens,
             b = n / parts / heads / tokens;
    int64_t from = b * a.x.stride[0] + h * a.x.stride[1] + t * a.x.stride[2] + e * a.x.stride[3];
    int64_t to = b * a.y.stride[0] + h * a.y.stride[1] + t * a.y.stride[2] + e * a.y.stride[3];
    float   u[V], v[V], cos[V], sin[V];
    td_begin();
    if (n >= a.count)
        return;
    td_get_some<V>(a.in, from, u);
    td_get_some<V>(a.in, from + half * a.x.stride[3], v);
    load_angles<V>(cos, a.c, a.cosine, b, t, e, a.tables);
    load_angles<V>(sin, a.s, a.sine, b, t, e, a.tables);
    for (int k = 0; k < V; k++) {
        float x = u[k], y = v[k], s = a.sign * sin[k];
        u[k] = td_first_turned(x, y, cos[k], s);
        v[k] = td_second_turned(x, y, cos[k], s);
    }
    td_set_some<V>(a.out, to, u);
    td_set_some<V>(a.out, to + half * a.y.stride[3], v);
}

/* Thread indices have 32 bits. */
bool td_cuda_accepts_rope(const td_call *call)
{
    return call->in[0].rank == 4 && call->in[1].rank == 3 && call->in[2].rank == 3 &&
           td_cuda_count(&call->in[0]) < 0xffffffffLL;
}

int td_cuda_rope(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];
    td_cuda       *cuda = td_cuda_of(call);
    int64_t        count = td_cuda_count(x) / 2;
    /* a vector must not reach from one half of a head into the other */
    bool      vectors = td_has_vectors(x) && td_has_vectors(y) && x->dim[3] % (2 * TD_VECTOR) == 0;
    rope_args a = {};

    a.x = td_strided_of(x);
    a.y = td_strided_of(y);
    a.c = td_strided_of(&call->in[1]);
    a.s = td_strided_of(&call->in[2]);
    a.in = td_reals_of(x);
    a.out = td_reals_of(y);
    a.cosine = (const float *)call->in[1].data;
    a.sine = (const float *)call->in[2].data;
    a.sign = call->attrs->i[0] ? -1.0f : 1.0f;
    a.tables = td_has_vectors(&call->in[1]) && td_has_vectors(&call->in[2]);
    a.count = (unsigned)(vectors ? count / TD_VECTOR : count);
    if (!count)
        return 0;
    return td_cuda_launch(cuda, td_cuda_grid(a.count, TD_CUDA_THREADS), 0, 1,
                          vectors ? rope<TD_VECTOR> : rope<1>, a);
}
