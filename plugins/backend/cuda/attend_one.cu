/* attend_one.cu - attention of one query in bf16, as in a step of generation: the time is that of
 * reading the keys and values once.
 *
 * The keys of a head are divided among the blocks of a cluster, and those of a block among groups
 * of LANES threads. Sixteen elements of the head belong to each thread of a group. A group keeps a
 * running maximum and sum, as in attend.cu; these are combined first in a warp, then in a block,
 * and then in the cluster, in a fixed order.
 *
 * A thread copies its parts of keys and values to shared memory, some stages ahead, and reads them back
 * itself. A block fetches its first keys before it knows how many there are: what lies beyond
 * is read, since the tensor is that large, but does not count.
 */
#include "attend_cores.cuh"
#include "kernels.h"

#ifdef TD_CUDA_CORES

#include <cooperative_groups.h>

enum {
    MOST_BLOCKS = 8,     /* of a cluster */
    MOST_KEYS = 1 << 30, /* their numbers have 32 bits */
    KEYS_OF_BLOCK = 128, /* worth a block of their own */
    ENOUGH = 256, /* blocks that keep a GPU busy; a constant, so that bits do not depend on it */
    AT_ONCE = 2,  /* keys of a group that are added together: a stage */
    STAGES = 2,   /* on their way at a time */
    VECTORS = 2,  /* of a thread; a group's are neighbours */
    WARPS = TD_CUDA_THREADS / 32
};

/* The logarithm of e to the base 2, and its inverse. */
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

/* Sums of some keys: of 2^(s - top), and of values with these weights. */
template <int LANES> struct partial {
    static constexpr int GROUPS = TD_CUDA_THREADS / LANES, WIDTH = LANES * VECTORS * TD_VECTOR;
    float                top[WARPS], sum[WARPS], values[WARPS][WIDTH]; /* of warps */
    /* of the cluster's blocks, in its first block */
    float block_top[MOST_BLOCKS], block_sum[MOST_BLOCKS], block_values[MOST_BLOCKS][WIDTH];
};

/* What a group has so far; `values` are the thread's. */
typedef struct running {
    float top, sum, values[VECTORS][TD_VECTOR];
} running;

/* Keys of a group, as they arrive in shared memory: the thread's elements, and what the mask needs to
 * know. */
typedef struct stage {
    uint4 keys[AT_ONCE][VECTORS][TD_CUDA_THREADS], values[AT_ONCE][VECTORS][TD_CUDA_THREADS];
    int   index[AT_ONCE][TD_CUDA_THREADS], segment[AT_ONCE][TD_CUDA_THREADS],
        input[AT_ONCE][TD_CUDA_THREADS];
} stage;

/* The query, what it sees, and where the thread's part of keys and values is. */
typedef struct reader {
    int64_t         b, h;
    bounds          visible;
    token_row       tokens;
    /* the thread's vectors of them; NULL: it has none there */
    const uint16_t *from[VECTORS], *keys[VECTORS], *values[VECTORS];
    float           query[VECTORS][TD_VECTOR];
} reader;

template <int LANES> __device__ inline float group_sum(float x)
{
    for (int k = LANES / 2; k > 0; k /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, k);
    return x;
}

__device__ inline void widen(float (&to)[TD_VECTOR], const uint4 &from)
{
    const uint32_t words[] = { from.x, from.y, from.z, from.w };
#pragma unroll
    for (int k = 0; k < TD_VECTOR / 2; k++) {
        to[2 * k] = td_wide_low(words[k]);
        to[2 * k + 1] = td_wide_high(words[k]);
    }
}

/* The thread's vectors of the first row of a head of `width`. */
template <int LANES>
__device__ inline void find_vectors(const uint16_t *(&to)[VECTORS], const axes4 &x, int64_t b,
                                    int64_t h, int64_t width)
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        int e = ((int)threadIdx.x % LANES + v * LANES) * TD_VECTOR;
        to[v] = e < width ? (const uint16_t *)x.at.data + place(x, b, h, 0, e) : NULL;
    }
}

template <int LANES> __device__ inline reader reader_of(const attend_args &a, int64_t b, int64_t h)
{
    int64_t g = a.g == a.h ? h : h / (a.h / a.g);
    reader  r = {};
    r.b = b;
    r.h = h;
    r.tokens = key_row(a, b, a.tk);
    find_vectors<LANES>(r.from, a.q, b, h, a.e);
    find_vectors<LANES>(r.keys, a.k, b, g, a.e);
    find_vectors<LANES>(r.values, a.v, b, g, a.f);
    return r;
}

/* Read the query, and find what it sees. */
__device__ inline void look(const attend_args &a, reader &r)
{
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
        widen(r.query[v], r.from[v] ? *(const uint4 *)r.from[v] : uint4());
    r.visible = bounds_at(a, query_row(a, r.b), 0);
}

template <int SIZE> __device__ inline void copy(void *to, const void *from, bool there)
{
#if __CUDA_ARCH__ >= 900
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    if constexpr (SIZE == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                     "r"(there ? 16 : 0)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from),
                     "r"(there ? 4 : 0)
                     : "memory");
#endif
}

/* The group's keys from `from` on, every GROUPS-th, up to `end`; hidden ones, too. A group of copies
 * each time, so that groups can be counted. */
template <int LANES>
__device__ inline void load_stage(stage &to, const attend_args &a, const reader &r, int from,
                                  int end)
{
#if __CUDA_ARCH__ >= 900
    int t = (int)threadIdx.x;
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++) {
        int  i = from + t / LANES + u * partial<LANES>::GROUPS;
        bool there = i < end;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            copy<16>(&to.keys[u][v][t], r.keys[v] + i * a.k.step[2], there && r.keys[v]);
            copy<16>(&to.values[u][v][t], r.values[v] + i * a.v.step[2], there && r.values[v]);
        }
        if (r.tokens.index)
            copy<4>(&to.index[u][t], r.tokens.index + i * r.tokens.index_step, there);
        if (r.tokens.segment)
            copy<4>(&to.segment[u][t], r.tokens.segment + i * r.tokens.segment_step, there);
        if (r.tokens.input)
            copy<4>(&to.input[u][t], r.tokens.input + i * r.tokens.input_step, there);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Whether the query sees key i, the u-th of the thread's in a stage. */
__device__ inline bool is_seen(const reader &r, const stage &from, int u, int i)
{
    int   t = (int)threadIdx.x;
    facts f = { r.tokens.index ? from.index[u][t] : i, r.tokens.segment ? from.segment[u][t] : 1,
                r.tokens.input ? from.input[u][t] : 0 };
    return within(r.visible, f);
}

/* What the query's score of a key has besides the product. */
__device__ inline float bias_of(const attend_args &a, const reader &r, int64_t key)
{
    float bias = 0;
    if (a.table.at.data) {
        int64_t d = (int64_t)token(a.k_position, r.b, key, 0) - token(a.q_position, r.b, 0, 0) +
                    a.offset;
        d = d < 0 ? 0 : d > a.r - 1 ? a.r - 1 : d;
        bias += td_get(a.table.at, r.h * a.table.step[0] + d * a.table.step[1]);
    }
    if (a.dense.at.data)
        bias += td_get(a.dense.at, place(a.dense, r.b, r.h, 0, key));
    return bias;
}

/* By how much sums relative to `top` count among those relative to `best`. */
__device__ inline float share(float top, float best)
{
    return top == -CUDART_INF_F ? 0 : exp2_fast(top - best);
}

/* values += weight value, for one of the thread's vectors. */
__device__ inline void add_vector(float (&values)[TD_VECTOR], float weight, const uint4 &from)
{
    float value[TD_VECTOR];
    widen(value, from);
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        values[k] += weight * value[k];
}

__device__ inline void scale(running &sums, float by)
{
    sums.sum *= by;
#pragma unroll
    for (int v = 0; v < VECTORS; v++)
#pragma unroll
        for (int k = 0; k < TD_VECTOR; k++)
            sums.values[v][k] *= by;
}

/* Add keys with their scores. */
__device__ inline void add_keys(running &sums, const float (&score)[AT_ONCE],
                                const bool (&seen)[AT_ONCE], const stage &from)
{
    float best = sums.top;
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++)
        best = seen[u] ? fmaxf(best, score[u]) : best;
    scale(sums, share(sums.top, best));
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++) {
        bool  counts = seen[u] && score[u] != -CUDART_INF_F;
        float p = counts ? exp2_fast(score[u] - best) : 0;
        sums.sum += p;
        /* hidden values may be NaN */
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            add_vector(sums.values[v], p, counts ? from.values[u][v][threadIdx.x] : uint4());
    }
    sums.top = best;
}

/* Keys from `first` on, of which there are `keys` in all. Scores are in units of log 2. */
template <int LANES>
__device__ inline void add_stage(running &sums, const attend_args &a, const reader &r,
                                 const stage &from, int first, int keys)
{
    float score[AT_ONCE], key[TD_VECTOR];
    bool  seen[AT_ONCE];
#pragma unroll
    for (int u = 0; u < AT_ONCE; u++) {
        int   i = first + u * partial<LANES>::GROUPS + (int)threadIdx.x / LANES;
        float product = 0;
        seen[u] = i < keys && is_seen(r, from, u, i);
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            widen(key, from.keys[u][v][threadIdx.x]);
#pragma unroll
            for (int k = 0; k < TD_VECTOR; k++)
                product += r.query[v][k] * key[k];
        }
        product = group_sum<LANES>(product);
        score[u] = a.cap > 0 ? capped(a, product) * LOG2_E : product * (a.scale * LOG2_E);
        if (seen[u] && (a.table.at.data || a.dense.at.data))
            score[u] += LOG2_E * bias_of(a, r, i);
    }
    add_keys(sums, score, seen, from);
}

/* The block's keys, by all its groups: every `blocks`-th stage. */
template <int LANES>
__device__ inline running read_keys(const attend_args &a, stage *stages, int64_t b, int64_t h,
                                    int block, int blocks)
{
    constexpr int STAGE = AT_ONCE * partial<LANES>::GROUPS;
    running       sums = { -CUDART_INF_F, 0, {} };
    reader        r = reader_of<LANES>(a, b, h);
    int           first = block * STAGE, step = blocks * STAGE, keys, at = 0;

    for (int k = 0; k < STAGES; k++)
        load_stage<LANES>(stages[k], a, r, first + k * step, (int)a.tk);
    look(a, r);
    keys = (int)keys_of(a, b);
    for (; first < keys; first += step) {
#if __CUDA_ARCH__ >= 900
        /* all groups of copies but the newest have arrived: so the oldest, which is read now, has */
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
#endif
        add_stage<LANES>(sums, a, r, stages[at], first, keys);
        load_stage<LANES>(stages[at], a, r, first + STAGES * step, keys);
        at = at + 1 == STAGES ? 0 : at + 1;
    }
    return sums;
}

/* All blocks of the cluster have started and so can be written to, or have written. */
__device__ inline void arrive()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

__device__ inline void meet()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* Combine the groups of a warp in its first. */
template <int LANES> __device__ inline void join_groups(running &r)
{
#pragma unroll
    for (int apart = LANES; apart < 32; apart *= 2) {
        float top = __shfl_down_sync(0xffffffffu, r.top, apart), best = fmaxf(r.top, top);
        float mine = share(r.top, best), theirs = share(top, best);
        r.sum = mine * r.sum + theirs * __shfl_down_sync(0xffffffffu, r.sum, apart);
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
#pragma unroll
            for (int k = 0; k < TD_VECTOR; k++) {
                float other = __shfl_down_sync(0xffffffffu, r.values[v][k], apart);
                r.values[v][k] = mine * r.values[v][k] + theirs * other;
            }
        r.top = best;
    }
}

/* Combine the warps of a block, and put the result into the cluster's first block. */
template <int LANES> __device__ inline void join_warps(partial<LANES> &p, const running &r)
{
    constexpr int                     WIDTH = partial<LANES>::WIDTH;
    int                               warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    float                             best = -CUDART_INF_F, sum = 0, value = 0;
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    partial<LANES>                   *to = cluster.map_shared_rank(&p, 0);
    int                               rank = (int)cluster.block_rank();

    if (lane < LANES) {
        p.top[warp] = r.top;
        p.sum[warp] = r.sum;
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
#pragma unroll
            for (int k = 0; k < TD_VECTOR; k++)
                p.values[warp][(lane + v * LANES) * TD_VECTOR + k] = r.values[v][k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < WARPS; k++)
        best = fmaxf(best, p.top[k]);
#pragma unroll
    for (int k = 0; k < WARPS; k++) {
        float by = share(p.top[k], best);
        sum += by * p.sum[k];
        value += by * p.values[k][threadIdx.x % WIDTH];
    }
    meet();
    if (threadIdx.x < WIDTH)
        to->block_values[rank][threadIdx.x] = value;
    if (threadIdx.x == 0) {
        to->block_top[rank] = best;
        to->block_sum[rank] = sum;
    }
    arrive();
}

/* Put the blocks of a cluster together, in its first block. */
template <int LANES>
__device__ inline void store_joined(const attend_args &a, const partial<LANES> &p, int blocks,
                                    int64_t b, int64_t h)
{
    int   f = threadIdx.x % partial<LANES>::WIDTH;
    float best = -CUDART_INF_F, sum = 0, value = 0;

    for (int k = 0; k < blocks; k++)
        best = fmaxf(best, p.block_top[k]);
    for (int k = 0; k < blocks; k++) {
        float by = share(p.block_top[k], best);
        sum += by * p.block_sum[k];
        value += by * p.block_values[k][f];
    }
    if (a.o.at.data && threadIdx.x < a.f)
        td_set(a.o.at, place(a.o, b, h, 0, f), sum == 0 ? 0 : value / sum);
    if (a.lse.at.data && threadIdx.x == 0)
        td_set(a.lse.at, place(a.lse, b, h, 0, 0),
               sum == 0 ? -CUDART_INF_F : best * LN_2 + logf(sum));
}

/* Cluster (head, example). */
template <int LANES> __global__ void __launch_bounds__(TD_CUDA_THREADS, 2) attend_one(attend_args a)
{
#if __CUDA_ARCH__ >= 900
    extern __shared__ uint4 shared[]; /* the stages */
    __shared__ partial<LANES> p;
    int                       block = (int)blockIdx.x, blocks = (int)gridDim.x;
    int64_t                   h = blockIdx.y, b = blockIdx.z;

    td_let_next();
    arrive();
    td_wait();
    running r = read_keys<LANES>(a, (stage *)shared, b, h, block, blocks);
    join_groups<LANES>(r);
    join_warps(p, r);
    meet();
    if (block == 0)
        store_joined(a, p, blocks, b, h);
#endif
}

static unsigned cluster_size(const attend_args *a)
{
    unsigned size = 1;
    while (size < MOST_BLOCKS && size * KEYS_OF_BLOCK < a->tk && a->b * a->h * size < ENOUGH)
        size *= 2;
    return size;
}

static const int operands[] = { TD_ATTEND_Q, TD_ATTEND_K, TD_ATTEND_V };

bool td_cuda_accepts_attend_one(const td_call *call)
{
    const struct cudaDeviceProp *gpu = &td_cuda_of(call)->properties;
    for (int k = 0; k < 3; k++) {
        const td_view *v = &call->in[operands[k]];
        if (v->dtype != TD_BF16 || v->dim[3] > ATTEND_WIDEST || !td_has_vector_steps(v))
            return false;
    }
    return gpu->major == 9 && gpu->minor == 0 && call->in[TD_ATTEND_Q].dim[2] == 1 &&
           call->in[TD_ATTEND_K].dim[2] < MOST_KEYS;
}

int td_cuda_attend_one(const td_call *call)
{
    td_cuda    *cuda = td_cuda_of(call);
    attend_args a = attend_args_of(call);
    unsigned    size = cluster_size(&a);
    dim3        grid(size, (unsigned)a.h, (unsigned)a.b);

    /* addresses are known only now; strides were checked when the plan was made */
    for (int k = 0; k < 3; k++)
        if (!td_is_aligned(&call->in[operands[k]]))
            return td_cuda_attend(call);
    a.o = axes_of(td_cuda_out(call, 0));
    a.lse = axes_of(td_cuda_out(call, 1));
    if (!a.b || !a.h)
        return 0;
    return a.e <= 128 && a.f <= 128
               ? td_cuda_launch(cuda, grid, STAGES * sizeof(stage), size, attend_one<8>, a)
               : td_cuda_launch(cuda, grid, STAGES * sizeof(stage), size, attend_one<16>, a);
}

#else

bool td_cuda_accepts_attend_one(const td_call *call) { return false; }
int  td_cuda_attend_one(const td_call *call) { return TD_EUNSUPPORTED; }

#endif
