/* attend_grad_cores.cu - the gradient of attention in bf16 on the tensor cores of compute
 * capability 9.0, in the two passes of attend_grad.cu. A block owns 128 queries or keys, and
 * walks over tiles of 64 of the others. */
#include "attend_cores.cuh"
#include "kernels.h"

enum { TILE = 64, PAIRS = TILE / 2, STAGES = 3 };

#ifdef TD_CUDA_CORES

/* ---- statistics ------------------------------------------------------------------------------ */

/* For a query: log2(e) times its logsumexp, and sum_f do o. Each head has whole tiles of
 * queries. */
typedef float2 statistics;

static inline __host__ __device__ int64_t padded(int64_t queries)
{
    return (queries + TILE - 1) / TILE * TILE;
}

/* 16 threads for each query. A query that sees nothing, or does not exist, has weights of 0:
 * 2^(s - infinity). */
__global__ void find_statistics(attend_args a)
{
    int64_t n = (int64_t)blockIdx.x * (TD_CUDA_THREADS / 16) + threadIdx.x / 16, all = padded(a.tq);
    int64_t i = n % all, h = n / all % a.h, b = n / all / a.h, e = threadIdx.x % 16 * TD_VECTOR;
    bool    there = b < a.b && i < a.tq;
    float   sum = 0, lse, x[TD_VECTOR], y[TD_VECTOR];
    if (there && e < a.f) {
        td_get_some<TD_VECTOR>(a.grad.at, place(a.grad, b, h, i, e), x);
        td_get_some<TD_VECTOR>(a.o.at, place(a.o, b, h, i, e), y);
        for (int k = 0; k < TD_VECTOR; k++)
            sum += x[k] * y[k];
    }
    for (int k = 8; k > 0; k /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, k);
    if (b >= a.b || threadIdx.x % 16)
        return;
    lse = there ? td_get(a.lse.at, place(a.lse, b, h, i, 0)) : -CUDART_INF_F;
    ((statistics *)a.statistics)[n] = make_float2(lse == -CUDART_INF_F ? CUDART_INF_F
                                                                       : lse * 1.4426950408889634f,
                                                  sum);
}

/* The statistics of a head's queries. */
__device__ inline const statistics *statistics_of(const attend_args &a, int64_t b, int64_t h)
{
    return (const statistics *)a.statistics + (b * a.h + h) * padded(a.tq);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Shared memory: two tiles of the block's own 128 rows, and a ring of pairs of tiles of 64 rows. */
template <int WIDTH> struct layout {
    static constexpr uint32_t OWN = BLOCK_ROWS * WIDTH * 2, OTHER = TILE * WIDTH * 2;
    static constexpr uint32_t BYTES = 2 * OWN + 2 * STAGES * OTHER + 1024;
    uint32_t                  own[2], start;
    __device__ explicit layout(const char *memory)
    {
        own[0] = shared_start(memory);
        own[1] = own[0] + OWN;
        start = own[1] + OWN;
    }
    __device__ uint32_t other(int stage, int which) const
    {
        return start + (2 * stage + which) * OTHER;
    }
};

typedef struct gates {
    desk     own;
    uint64_t there[STAGES], free[STAGES];
    int      number[STAGES];
    alignas(16) statistics known[STAGES][TILE]; /* of a stage's queries */
} gates;

/* An item: 128 rows of a head. */
typedef struct block {
    int64_t first, head, b;
} block;

/* Items of a head are neighbours, because they share its tiles. Those that have most pairs under
 * a causal mask come first: the last queries, the first keys. */
__device__ inline block block_of(int64_t rows, int64_t heads, int item, bool last_first)
{
    int   tiles = (int)((rows + BLOCK_ROWS - 1) / BLOCK_ROWS), head = item / tiles;
    int   tile = last_first ? tiles - 1 - item % tiles : item % tiles;
    block w = { (int64_t)tile * BLOCK_ROWS, head % (int)heads, head / (int)heads };
    return w;
}

__device__ inline void make_gates(gates &g)
{
    make_desk(g.own);
    for (int s = 0; s < STAGES; s++) {
        make_barrier(shared_address(&g.there[s]), 1);
        make_barrier(shared_address(&g.free[s]), WORKER_WARPS);
    }
}

/* No more tiles of this item. */
__device__ inline void finish(gates &g, ring<STAGES> &r)
{
    await(shared_address(&g.free[r.stage]), r.phase ^ 1);
    g.number[r.stage] = LAST;
    arrive(shared_address(&g.there[r.stage]));
    r.advance();
}

/* A worker's next tile; after the last, the block's own tiles are free, too. */
__device__ inline int await_tile(gates &g, ring<STAGES> &r)
{
    int number;
    await(shared_address(&g.there[r.stage]), r.phase);
    number = ((volatile int *)g.number)[r.stage];
    if (number == LAST) {
        release(shared_address(&g.free[r.stage]));
        r.advance();
        release(shared_address(&g.own.free));
    }
    return number;
}

/* s = x y^T, 64 of the block's rows by a tile's; the products are under way when this returns. */
template <int WIDTH>
__device__ inline void multiply_rows(float (&s)[PAIRS], uint32_t own, int group, uint32_t other)
{
#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++)
        multiply<0>(s, along_columns<BLOCK_ROWS>(own, group, k), along_columns<TILE>(other, 0, k),
                    k > 0);
    end_group();
}

/* d += x y, of 64 rows by a tile's rows and the tile. */
template <int N>
__device__ inline void add_rows(float (&d)[N], const float (&x)[PAIRS], uint32_t tile)
{
    uint32_t operand[TILE / 16][4];
#pragma unroll
    for (int k = 0; k < TILE / 16; k++)
        operand_of(operand[k], x, k);
    begin_products();
#pragma unroll
    for (int k = 0; k < TILE / 16; k++)
        multiply<1>(d, operand[k], along_rows<TILE>(tile, k), 1);
    end_group();
}

/* ---- queries --------------------------------------------------------------------------------- */

/* A warp: the keys and values of an item. */
template <int WIDTH>
__device__ inline void send_keys(const attend_args &a, const core_maps &maps,
                                 const layout<WIDTH> &at, gates &g, const block &w, ring<STAGES> &r)
{
    int64_t kv = w.head / (a.h / a.g), keys = keys_of(a, w.b);
    range   q = wide_range(query_ranges(a, w.b), w.first, a.tq);
    each_shown((keys + TILE - 1) / TILE,
               [&](int64_t n) {
                   int how = relation(a, q, key_ranges(a, w.b)[n]);
                   /* a tile that reaches beyond the keys has pairs to hide whatever the mask is */
                   return how != HIDDEN && (n + 1) * TILE > keys ? (int)MIXED : how;
               },
               [&](int64_t n, bool mixed) {
                   uint32_t there = shared_address(&g.there[r.stage]);
                   await(shared_address(&g.free[r.stage]), r.phase ^ 1);
                   g.number[r.stage] = stage_number(n, mixed);
                   arrive_expecting(there, 2 * layout<WIDTH>::OTHER);
                   copy_tile<TILE, WIDTH>(at.other(r.stage, 0), maps.k, there, (int)n * TILE,
                                          (int)kv, (int)w.b);
                   copy_tile<TILE, WIDTH>(at.other(r.stage, 1), maps.v, there, (int)n * TILE,
                                          (int)kv, (int)w.b);
                   r.advance();
               });
    if (threadIdx.x == 0)
        finish(g, r);
}

/* Queries with their output's gradients, then keys and values. */
template <int WIDTH>
__device__ inline void feed_keys(const attend_args &a, const core_maps &maps,
                                 const layout<WIDTH> &at, gates &g, int items)
{
    ring<STAGES> r;
    each_item(
        a, g.own, items, 2 * layout<WIDTH>::OWN,
        [&](int item) {
            block    w = block_of(a.tq, a.h, item, true);
            uint32_t there = shared_address(&g.own.there);
            copy_tile<BLOCK_ROWS, WIDTH>(at.own[0], maps.q, there, (int)w.first, (int)w.head,
                                         (int)w.b);
            copy_tile<BLOCK_ROWS, WIDTH>(at.own[1], maps.grad, there, (int)w.first, (int)w.head,
                                         (int)w.b);
        },
        [&](int item) { send_keys<WIDTH>(a, maps, at, g, block_of(a.tq, a.h, item, true), r); });
}

/* A warpgroup: 64 queries of an item. */
template <int WIDTH>
__device__ inline void work_on_queries(const attend_args &a, const layout<WIDTH> &at, gates &g,
                                       const block &w, ring<STAGES> &r)
{
    int        group = (threadIdx.x / 128 - 1) * GROUP_ROWS, t = threadIdx.x % 128, number;
    int64_t    row = w.first + group + t / 32 * 16 + t % 32 / 4, keys = keys_of(a, w.b);
    float      scale2 = a.scale * 1.4426950408889634f, s[PAIRS], dp[PAIRS], dq[WIDTH / 2];
    float      by[2] = { a.scale, a.scale };
    token_row  queries = query_row(a, w.b);
    bounds     q[2] = { bounds_at(a, queries, (int)row), bounds_at(a, queries, (int)row + 8) };
    statistics known[2];

    for (int i = 0; i < 2; i++)
        known[i] = row + 8 * i < a.tq ? statistics_of(a, w.b, w.head)[row + 8 * i]
                                      : make_float2(CUDART_INF_F, 0);
    for (int i = 0; i < WIDTH / 2; i++)
        dq[i] = 0;
    settle(dq); /* or the compiler zeroes them among the products, and none of those overlap */
    for (; (number = await_tile(g, r)) != LAST; r.advance()) {
        begin_products();
        multiply_rows<WIDTH>(s, at.own[0], group, at.other(r.stage, 0));
        multiply_rows<WIDTH>(dp, at.own[1], group, at.other(r.stage, 1));
        wait_groups<1>();
        settle(s);
        if (is_mixed(number))
            hide_columns(s, q, key_row(a, w.b, keys), (int)tile_of_stage(number) * TILE);
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
            s[i] = exp2_fast(fmaf(s[i], scale2, -known[i / 2 % 2].x));
        wait_groups<0>();
        settle(dp);
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
            s[i] *= dp[i] - known[i / 2 % 2].y;
        add_rows(dq, s, at.other(r.stage, 0));
        wait_groups<0>();
        settle(dq);
        release(shared_address(&g.free[r.stage]));
    }
    suspect_nan(a, dq);
    store_rows(a.dq, w.b, w.head, w.first + group, a.tq, a.e, dq, by);
}

template <int WIDTH>
__global__ void __launch_bounds__(CORE_THREADS, 1)
    query_gradients_cores(attend_args a, const __grid_constant__ core_maps maps, int items)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char memory[];
    __shared__ gates       g;
    layout<WIDTH>          at(memory);
    ring<STAGES>           r;
    int                    item;
    if (threadIdx.x == 0)
        make_gates(g);
    publish_barriers();
    if (threadIdx.x < 128) {
        /* copying needs few registers; the workers take those that its warpgroup gives up */
        give_registers<FEEDER_REGISTERS>();
        if (threadIdx.x < 32)
            feed_keys<WIDTH>(a, maps, at, g, items);
    } else {
        take_registers<WORKER_REGISTERS>();
        for (int phase = 0; (item = await_item(g.own, phase)) != LAST; phase ^= 1)
            work_on_queries<WIDTH>(a, at, g, block_of(a.tq, a.h, item, true), r);
    }
#endif
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A warp: the queries of an item, of all heads of the group, one head after the other, with their
 * output's gradients and statistics. */
template <int WIDTH>
__device__ inline void send_queries(const attend_args &a, const core_maps &maps,
                                    const layout<WIDTH> &at, gates &g, const block &w,
                                    ring<STAGES> &r)
{
    int64_t share = a.h / a.g, tiles = (a.tq + TILE - 1) / TILE, keys = keys_of(a, w.b);
    range   k = wide_range(key_ranges(a, w.b), w.first, a.tk);
    bool    partial = w.first + BLOCK_ROWS > keys;
    each_shown(
        w.first < keys ? share * tiles : 0,
        [&](int64_t m) {
            int how = relation(a, query_ranges(a, w.b)[m % tiles], k);
            /* some keys of this block are beyond the end: every pair must be checked */
            return how != HIDDEN && partial ? (int)MIXED : how;
        },
        [&](int64_t m, bool mixed) {
            int64_t  h = w.head * share + m / tiles, n = m % tiles;
            uint32_t there = shared_address(&g.there[r.stage]);
            await(shared_address(&g.free[r.stage]), r.phase ^ 1);
            g.number[r.stage] = stage_number(n, mixed);
            arrive_expecting(there, 2 * layout<WIDTH>::OTHER + TILE * sizeof(statistics));
            copy_tile<TILE, WIDTH>(at.other(r.stage, 0), maps.q, there, (int)n * TILE, (int)h,
                                   (int)w.b);
            copy_tile<TILE, WIDTH>(at.other(r.stage, 1), maps.grad, there, (int)n * TILE, (int)h,
                                   (int)w.b);
            copy_bytes(shared_address(g.known[r.stage]), statistics_of(a, w.b, h) + n * TILE,
                       TILE * sizeof(statistics), there);
            r.advance();
        });
    if (threadIdx.x == 0)
        finish(g, r);
}

/* Keys and values, then queries. */
template <int WIDTH>
__device__ inline void feed_queries(const attend_args &a, const core_maps &maps,
                                    const layout<WIDTH> &at, gates &g, int items)
{
    ring<STAGES> r;
    each_item(
        a, g.own, items, 2 * layout<WIDTH>::OWN,
        [&](int item) {
            block    w = block_of(a.tk, a.g, item, false);
            uint32_t there = shared_address(&g.own.there);
            copy_tile<BLOCK_ROWS, WIDTH>(at.own[0], maps.k, there, (int)w.first, (int)w.head,
                                         (int)w.b);
            copy_tile<BLOCK_ROWS, WIDTH>(at.own[1], maps.v, there, (int)w.first, (int)w.head,
                                         (int)w.b);
        },
        [&](int item) {
            send_queries<WIDTH>(a, maps, at, g, block_of(a.tk, a.g, item, false), r);
        });
}

/* Rows are keys, columns queries from number `first` on. */
__device__ inline void hide_rows(float (&s)[PAIRS], const attend_args &a, const facts (&k)[2],
                                 const token_row &queries, int first)
{
#pragma unroll
    for (int n = 0; n < PAIRS / 4; n++)
        for (int j = 0; j < 2; j++) {
            bounds q = bounds_at(a, queries, first + 8 * n + threadIdx.x % 4 * 2 + j);
            for (int i = 0; i < 2; i++)
                if (!within(q, k[i]))
                    s[4 * n + 2 * i + j] = -CUDART_INF_F;
        }
}

/* The statistics of the two neighbouring queries whose columns are 8 n + 2 (t % 4) and the next. */
__device__ inline float4 two_known(const statistics (&known)[TILE], int n)
{
    return *(const float4 *)&known[8 * n + threadIdx.x % 4 * 2];
}

/* Scores become weights. Rows are keys, columns queries. */
__device__ inline void weigh_columns(float (&s)[PAIRS], const statistics (&known)[TILE],
                                     float scale2)
{
#pragma unroll
    for (int n = 0; n < PAIRS / 4; n++) {
        float4 two = two_known(known, n);
        for (int i = 0; i < 2; i++) {
            s[4 * n + 2 * i] = exp2_fast(fmaf(s[4 * n + 2 * i], scale2, -two.x));
            s[4 * n + 2 * i + 1] = exp2_fast(fmaf(s[4 * n + 2 * i + 1], scale2, -two.z));
        }
    }
}

/* Weights become gradients of scores. */
__device__ inline void differentiate_columns(float (&s)[PAIRS], const float (&dp)[PAIRS],
                                             const statistics (&known)[TILE])
{
#pragma unroll
    for (int n = 0; n < PAIRS / 4; n++) {
        float4 two = two_known(known, n);
        for (int i = 0; i < 2; i++) {
            s[4 * n + 2 * i] *= dp[4 * n + 2 * i] - two.y;
            s[4 * n + 2 * i + 1] *= dp[4 * n + 2 * i + 1] - two.w;
        }
    }
}

/* A warpgroup: 64 keys of an item. */
template <int WIDTH>
__device__ inline void work_on_keys(const attend_args &a, const layout<WIDTH> &at, gates &g,
                                    const block &w, ring<STAGES> &r)
{
    int       group = (threadIdx.x / 128 - 1) * GROUP_ROWS, t = threadIdx.x % 128, number;
    int64_t   row = w.first + group + t / 32 * 16 + t % 32 / 4, keys = keys_of(a, w.b);
    float     scale2 = a.scale * 1.4426950408889634f, s[PAIRS], dp[PAIRS];
    float     dk[WIDTH / 2], dv[WIDTH / 2], by[2] = { a.scale, a.scale }, one[2] = { 1, 1 };
    token_row of_keys = key_row(a, w.b, keys);
    facts     k[2] = { facts_of(of_keys, (int)row), facts_of(of_keys, (int)row + 8) };

    for (int i = 0; i < WIDTH / 2; i++)
        dk[i] = dv[i] = 0;
    settle(dk);
    settle(dv);
    for (; (number = await_tile(g, r)) != LAST; r.advance()) {
        begin_products();
        multiply_rows<WIDTH>(s, at.own[0], group, at.other(r.stage, 0));
        multiply_rows<WIDTH>(dp, at.own[1], group, at.other(r.stage, 1));
        wait_groups<1>();
        settle(s);
        if (is_mixed(number))
            hide_rows(s, a, k, query_row(a, w.b), (int)tile_of_stage(number) * TILE);
        weigh_columns(s, g.known[r.stage], scale2);
        add_rows(dv, s, at.other(r.stage, 1));
        wait_groups<1>();
        settle(dp);
        differentiate_columns(s, dp, g.known[r.stage]);
        add_rows(dk, s, at.other(r.stage, 0));
        /* before the next products, which need the registers that these hold */
        wait_groups<0>();
        settle(dk);
        settle(dv);
        release(shared_address(&g.free[r.stage]));
    }
    suspect_nan(a, dk);
    suspect_nan(a, dv);
    if (a.dk.at.data)
        store_rows(a.dk, w.b, w.head, w.first + group, a.tk, a.e, dk, by);
    if (a.dv.at.data)
        store_rows(a.dv, w.b, w.head, w.first + group, a.tk, a.f, dv, one);
}

template <int WIDTH>
__global__ void __launch_bounds__(CORE_THREADS, 1)
    key_gradients_cores(attend_args a, const __grid_constant__ core_maps maps, int items)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char memory[];
    __shared__ gates       g;
    layout<WIDTH>          at(memory);
    ring<STAGES>           r;
    int                    item;
    if (threadIdx.x == 0)
        make_gates(g);
    publish_barriers();
    if (threadIdx.x < 128) {
        give_registers<FEEDER_REGISTERS>();
        if (threadIdx.x < 32)
            feed_queries<WIDTH>(a, maps, at, g, items);
    } else {
        take_registers<WORKER_REGISTERS>();
        /* a barrier's phase flips with every item */
        for (int phase = 0; (item = await_item(g.own, phase)) != LAST; phase ^= 1)
            work_on_keys<WIDTH>(a, at, g, block_of(a.tk, a.g, item, false), r);
    }
#endif
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Maps for tiles with these numbers of rows of queries and of keys. */
static int map_all(core_maps *maps, const td_call *call, int of_queries, int of_keys)
{
    int code = td_cuda_map_tiles(&maps->q, &call->in[TD_ATTEND_Q], of_queries);
    if (!code)
        code = td_cuda_map_tiles(&maps->grad, &call->in[TD_ATTEND_GRAD], of_queries);
    if (!code)
        code = td_cuda_map_tiles(&maps->k, &call->in[TD_ATTEND_K], of_keys);
    return code ? code : td_cuda_map_tiles(&maps->v, &call->in[TD_ATTEND_V], of_keys);
}

template <int WIDTH> static int launch(const td_call *call, attend_args a)
{
    td_cuda          *cuda = td_cuda_of(call);
    int               shared = (int)layout<WIDTH>::BYTES;
    cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    int64_t           queries = item_count(a.tq, a.h, a.b), keys = item_count(a.tk, a.g, a.b);
    core_maps         by_query, by_key;
    if (cudaFuncSetAttribute(query_gradients_cores<WIDTH>, most, shared) ||
        cudaFuncSetAttribute(key_gradients_cores<WIDTH>, most, shared) ||
        map_all(&by_query, call, BLOCK_ROWS, TILE) || map_all(&by_key, call, TILE, BLOCK_ROWS))
        return TD_EUNSUPPORTED;
    a.taken = counters_of(&a);
    a.suspect = a.taken + SUSPECT;
    a.means = (float *)a.statistics + 1;
    a.means_step = sizeof(statistics) / sizeof(float);
    a.means_row = padded(a.tq) * a.means_step;
    if (a.dq.at.data) {
        query_gradients_cores<WIDTH>
            <<<block_count(cuda, queries), CORE_THREADS, shared, cuda->stream>>>(a, by_query,
                                                                                 (int)queries);
        if (td_cuda_launched(cuda))
            return TD_EIO;
    }
    /* each kernel counts the items taken in a counter of its own */
    a.taken++;
    if (a.dk.at.data || a.dv.at.data)
        key_gradients_cores<WIDTH>
            <<<block_count(cuda, keys), CORE_THREADS, shared, cuda->stream>>>(a, by_key, (int)keys);
    if (td_cuda_launched(cuda))
        return TD_EIO;
    return td_cuda_repair_attend_grad(cuda, a);
}

static const int operands[] = { TD_ATTEND_Q, TD_ATTEND_K, TD_ATTEND_V, TD_ATTEND_GRAD,
                                TD_ATTEND_OUT };
static const int results[] = { 0, 1, 2 };

bool td_cuda_accepts_attend_grad_cores(const td_call *call)
{
    return td_cuda_cores_serve(call, operands, 5, results, 3);
}

static size_t statistics_bytes(const attend_args *a)
{
    return td_cuda_align((size_t)(a->b * a->h * padded(a->tq)) * sizeof(statistics));
}

/* Also the workspace of the kernels that take over if an address does not allow these. */
size_t td_cuda_attend_grad_cores_workspace(const td_call *call)
{
    attend_args a = attend_args_of(call);
    size_t      own = statistics_bytes(&a) + ranges_bytes(&a);
    size_t      other = td_cuda_attend_grad_workspace(call);
    return own > other ? own : other;
}

int td_cuda_attend_grad_cores(const td_call *call)
{
    td_cuda    *cuda = td_cuda_of(call);
    attend_args a = attend_args_of(call);

    if (!td_cuda_cores_reach(call, operands, 5))
        return td_cuda_attend_grad(call);
    a.o = axes_of(&call->in[TD_ATTEND_OUT]);
    a.lse = axes_of(&call->in[TD_ATTEND_LSE]);
    a.grad = axes_of(&call->in[TD_ATTEND_GRAD]);
    a.dq = axes_of(td_cuda_out(call, 0));
    a.dk = axes_of(td_cuda_out(call, 1));
    a.dv = axes_of(td_cuda_out(call, 2));
    a.statistics = call->workspace;
    a.ranges = (char *)call->workspace + statistics_bytes(&a);
    if (!a.b || !a.h)
        return 0;
    /* no tile to map, but the other side's gradients must still become 0 */
    if (!a.tq || !a.tk)
        return td_cuda_attend_grad(call);
    if (td_cuda_find_ranges(cuda, a))
        return TD_EIO;
    find_statistics<<<td_cuda_grid(a.b * a.h * padded(a.tq), TD_CUDA_THREADS / 16), TD_CUDA_THREADS,
                      0, cuda->stream>>>(a);
    if (td_cuda_launched(cuda))
        return TD_EIO;
    return a.e <= 64 && a.f <= 64 ? launch<64>(call, a) : launch<128>(call, a);
}

#else

bool   td_cuda_accepts_attend_grad_cores(const td_call *call) { return false; }
size_t td_cuda_attend_grad_cores_workspace(const td_call *call) { return 0; }
int    td_cuda_attend_grad_cores(const td_call *call) { return TD_EUNSUPPORTED; }

#endif
