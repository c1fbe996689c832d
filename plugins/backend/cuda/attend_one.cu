/* attend_one.cu - attention of one query in bf16, as in a step of generation: the time is that of
 * reading the keys and values once.
 *
 * The keys of a head are divided among the blocks of a cluster, and those of a block among groups
 * of LANES threads. Eight elements of the head belong to each thread of a group. A group keeps a
 * running maximum and sum, as in attend.cu; these are put together first in a block, and then in
 * the cluster, in a fixed order.
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
    AHEAD = 4     /* keys of a group that are read together */
};

/* The logarithm of e to the base 2, and its inverse. */
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

/* Sums of some keys: of 2^(s - top), and of values with these weights. */
template <int LANES> struct partial {
    static constexpr int GROUPS = TD_CUDA_THREADS / LANES, WIDTH = LANES * TD_VECTOR;
    float                top[GROUPS], sum[GROUPS], values[GROUPS][WIDTH]; /* of groups */
    float                block_top, block_sum, block_values[WIDTH];
};

/* What a group has so far; `values` are the thread's. */
typedef struct running {
    float top, sum, values[TD_VECTOR];
} running;

/* Keys of a group, the thread's elements, and which of them the query sees. */
typedef struct stage {
    uint4 keys[AHEAD], values[AHEAD];
    bool  seen[AHEAD];
} stage;

/* The query, what it sees, and where the thread's part of keys and values is. */
typedef struct reader {
    int64_t         b, h;
    bounds          visible;
    token_row       tokens;
    const uint16_t *keys, *values; /* NULL: the thread has no part of them */
    float           query[TD_VECTOR];
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

/* The thread's 8 elements of the first row of a head of `width`. */
template <int LANES>
__device__ inline const uint16_t *part_of(const axes4 &x, int64_t b, int64_t h, int64_t width)
{
    int e = threadIdx.x % LANES * TD_VECTOR;
    return e < width ? (const uint16_t *)x.at.data + place(x, b, h, 0, e) : NULL;
}

/* The keys before `end`. */
template <int LANES>
__device__ inline reader reader_of(const attend_args &a, int64_t b, int64_t h, int64_t end)
{
    int64_t         g = a.g == a.h ? h : h / (a.h / a.g);
    const uint16_t *query = part_of<LANES>(a.q, b, h, a.e);
    reader          r = { b,
                          h,
                          bounds_at(a, query_row(a, b), 0),
                          key_row(a, b, end),
                          part_of<LANES>(a.k, b, g, a.e),
                          part_of<LANES>(a.v, b, g, a.f) };
    widen(r.query, query ? *(const uint4 *)query : uint4());
    return r;
}

/* The group's keys from `from` on, every GROUPS-th. Nothing is waited for before all that is to be
 * read is on its way, so hidden keys are read, too. */
template <int LANES>
__device__ inline void load_stage(stage &to, const attend_args &a, const reader &r, int from)
{
    int   j = from + threadIdx.x / LANES;
    facts f[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
        int  i = j + u * partial<LANES>::GROUPS;
        bool there = i < r.tokens.count;
        to.keys[u] = there && r.keys ? *(const uint4 *)(r.keys + i * a.k.step[2]) : uint4();
        to.values[u] = there && r.values ? *(const uint4 *)(r.values + i * a.v.step[2]) : uint4();
        f[u] = facts_of(r.tokens, i);
    }
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
        to.seen[u] = (j + u * partial<LANES>::GROUPS < r.tokens.count) & within(r.visible, f[u]);
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

/* Add keys with their scores. */
__device__ inline void add_keys(running &sums, const float (&score)[AHEAD], const stage &from)
{
    float best = sums.top, shrink;
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
        best = from.seen[u] ? fmaxf(best, score[u]) : best;
    shrink = share(sums.top, best);
    sums.sum *= shrink;
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        sums.values[k] *= shrink;
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
        bool  counts = from.seen[u] && score[u] != -CUDART_INF_F;
        float p = counts ? exp2_fast(score[u] - best) : 0, value[TD_VECTOR];
        widen(value, counts ? from.values[u] : uint4()); /* hidden values may be NaN */
        sums.sum += p;
#pragma unroll
        for (int k = 0; k < TD_VECTOR; k++)
            sums.values[k] += p * value[k];
    }
    sums.top = best;
}

/* Scores are in units of log 2. */
template <int LANES>
__device__ inline void add_stage(running &sums, const attend_args &a, const reader &r,
                                 const stage &from, int first)
{
    float score[AHEAD], key[TD_VECTOR];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
        float product = 0;
        widen(key, from.keys[u]);
#pragma unroll
        for (int k = 0; k < TD_VECTOR; k++)
            product += r.query[k] * key[k];
        product = group_sum<LANES>(product);
        score[u] = a.cap > 0 ? capped(a, product) * LOG2_E : product * (a.scale * LOG2_E);
        if (from.seen[u] && (a.table.at.data || a.dense.at.data))
            score[u] += LOG2_E *
                        bias_of(a, r, first + u * partial<LANES>::GROUPS + threadIdx.x / LANES);
    }
    add_keys(sums, score, from);
}

/* The keys from `first` to `end`, by all groups of the block. */
template <int LANES>
__device__ inline running read_keys(const attend_args &a, int64_t b, int64_t h, int first, int end)
{
    constexpr int STAGE = AHEAD * partial<LANES>::GROUPS;
    running       sums = { -CUDART_INF_F, 0, {} };
    reader        r = reader_of<LANES>(a, b, h, end);
    stage         now, next;

    load_stage<LANES>(now, a, r, first);
    for (; first < end; first += 2 * STAGE) {
        if (first + STAGE < end)
            load_stage<LANES>(next, a, r, first + STAGE);
        add_stage<LANES>(sums, a, r, now, first);
        if (first + STAGE >= end)
            break;
        load_stage<LANES>(now, a, r, first + 2 * STAGE);
        add_stage<LANES>(sums, a, r, next, first + STAGE);
    }
    return sums;
}

/* Put the groups of a block together. */
template <int LANES> __device__ inline void join_groups(partial<LANES> &p, const running &r)
{
    constexpr int GROUPS = partial<LANES>::GROUPS, WIDTH = partial<LANES>::WIDTH;
    int           group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    float         best = -CUDART_INF_F, sum = 0, value = 0;

    p.top[group] = r.top;
    p.sum[group] = r.sum;
#pragma unroll
    for (int k = 0; k < TD_VECTOR; k++)
        p.values[group][lane * TD_VECTOR + k] = r.values[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < GROUPS; k++)
        best = fmaxf(best, p.top[k]);
#pragma unroll
    for (int k = 0; k < GROUPS; k++) {
        float by = share(p.top[k], best);
        sum += by * p.sum[k];
        value += by * p.values[k][threadIdx.x % WIDTH];
    }
    if (threadIdx.x < WIDTH)
        p.block_values[threadIdx.x] = value;
    if (threadIdx.x == 0) {
        p.block_top = best;
        p.block_sum = sum;
    }
}

/* Put the blocks of a cluster together, in its first block. */
template <int LANES>
__device__ inline void store_joined(const attend_args &a, partial<LANES> &p, int64_t b, int64_t h)
{
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    int   blocks = (int)cluster.num_blocks(), f = threadIdx.x % partial<LANES>::WIDTH;
    float top[MOST_BLOCKS], sums[MOST_BLOCKS], values[MOST_BLOCKS];
    float best = -CUDART_INF_F, sum = 0, value = 0;

    /* all that lies in other blocks is on its way before the first of it is used */
#pragma unroll
    for (int k = 0; k < MOST_BLOCKS; k++) {
        const partial<LANES> *other = cluster.map_shared_rank(&p, k < blocks ? k : 0);
        top[k] = k < blocks ? other->block_top : -CUDART_INF_F;
        sums[k] = other->block_sum;
        values[k] = other->block_values[f];
    }
#pragma unroll
    for (int k = 0; k < MOST_BLOCKS; k++)
        best = fmaxf(best, top[k]);
#pragma unroll
    for (int k = 0; k < MOST_BLOCKS; k++)
        if (k < blocks) {
            sum += share(top[k], best) * sums[k];
            value += share(top[k], best) * values[k];
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
    __shared__ partial<LANES>         p;
    cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
    int64_t                           h = blockIdx.y, b = blockIdx.z;
    int                               keys, each, first;

    td_begin();
    keys = (int)keys_of(a, b);
    each = (keys + (int)gridDim.x - 1) / (int)gridDim.x;
    first = (int)blockIdx.x * each;
    join_groups(p, read_keys<LANES>(a, b, h, first, min(first + each, keys)));
    cluster.sync();
    if (cluster.block_rank() == 0)
        store_joined(a, p, b, h);
    cluster.sync(); /* the first still reads the others' memory */
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
    return a.e <= 128 && a.f <= 128 ? td_cuda_launch(cuda, grid, 0, size, attend_one<16>, a)
                                    : td_cuda_launch(cuda, grid, 0, size, attend_one<32>, a);
}

#else

bool td_cuda_accepts_attend_one(const td_call *call) { return false; }
int  td_cuda_attend_one(const td_call *call) { return TD_EUNSUPPORTED; }

#endif
