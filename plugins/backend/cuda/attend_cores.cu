/* attend_cores.cu - attention in bf16 on the tensor cores of compute capability 9.0: like
 * attend.cu, but with tiles of 128 queries by 128 keys, and the schedule of Shah et al. (2024). */
#include "attend_cores.cuh"
#include "kernels.h"

enum { TILE_KEYS = 128, SCORES = TILE_KEYS / 2, STAGES = 2, WIDEST = 128 };

#ifdef TD_CUDA_CORES

/* ---- ranges ---------------------------------------------------------------------------------- */

/* A warp for each range. */
__global__ void find_ranges(attend_args a)
{
    int64_t n = (int64_t)blockIdx.x * (TD_CUDA_THREADS / 32) + threadIdx.x / 32;
    int64_t of_q = (a.tq + RANGE - 1) / RANGE, of_k = (a.tk + RANGE - 1) / RANGE;
    bool    keys = n >= a.b * of_q;
    int64_t m = keys ? n - a.b * of_q : n, each = keys ? of_k : of_q, b = m / each;
    int64_t first = m % each * RANGE, count = keys ? a.tk : a.tq;
    range   r;
    if (blockIdx.x == 0 && threadIdx.x < COUNTERS)
        ((int *)((range *)a.ranges + a.b * (of_q + of_k)))[threadIdx.x] = 0;
    if (n >= a.b * (of_q + of_k))
        return;
    for (int k = 0; k < RANGE / 32; k++) {
        /* beyond the end the last token counts again, which widens no range */
        int64_t i = min(first + 32 * k + threadIdx.x % 32, count - 1);
        facts   f = facts_of(keys ? key_row(a, b, a.tk) : query_row(a, b), (int)i);
        range   one = { f.index, f.index, f.segment, f.segment, f.input != 0, f.input != 0 };
        r = k ? both(r, one) : one;
    }
    for (int k = 16; k > 0; k /= 2) {
        range other = { __shfl_xor_sync(0xffffffffu, r.low, k),
                        __shfl_xor_sync(0xffffffffu, r.high, k),
                        __shfl_xor_sync(0xffffffffu, r.segment_low, k),
                        __shfl_xor_sync(0xffffffffu, r.segment_high, k),
                        __shfl_xor_sync(0xffffffffu, r.any_input, k),
                        __shfl_xor_sync(0xffffffffu, r.all_input, k) };
        r = both(r, other);
    }
    if (threadIdx.x % 32 == 0)
        ((range *)a.ranges)[n] = r;
}

int td_cuda_find_ranges(td_cuda *cuda, const attend_args &a)
{
    find_ranges<<<td_cuda_grid(range_count(&a), TD_CUDA_THREADS / 32), TD_CUDA_THREADS, 0,
                  cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Where a block's tiles and barriers are in shared memory. */
template <int WIDTH> struct layout {
    static constexpr uint32_t QUERIES = BLOCK_ROWS * WIDTH * 2, KEYS = TILE_KEYS * WIDTH * 2;
    static constexpr uint32_t BYTES = QUERIES + 2 * STAGES * KEYS + 1024;
    uint32_t                  q, k, v;
    __device__ explicit layout(const char *memory)
        : q(shared_start(memory)), k(q + QUERIES), v(k + STAGES * KEYS)
    {
    }
};

/* Barriers of a ring of stages. */
typedef struct gates {
    desk     own; /* queries */
    uint64_t k_there[STAGES], k_free[STAGES], v_there[STAGES], v_free[STAGES];
    int      number[STAGES];
} gates;

__device__ inline void make_gates(gates &g)
{
    make_desk(g.own);
    for (int s = 0; s < STAGES; s++) {
        make_barrier(shared_address(&g.k_there[s]), 1);
        make_barrier(shared_address(&g.v_there[s]), 1);
        make_barrier(shared_address(&g.k_free[s]), WORKER_WARPS);
        make_barrier(shared_address(&g.v_free[s]), WORKER_WARPS);
    }
}

/* The work of a block. */
typedef struct block {
    int64_t first, h, g, b, keys;
} block;

/* Items of a head are neighbours, because they share its keys. Under a causal mask the last
 * tiles see most keys, so they come first. */
__device__ inline block block_of(const attend_args &a, int item)
{
    int   tiles = (int)((a.tq + BLOCK_ROWS - 1) / BLOCK_ROWS), head = item / tiles;
    block w = { (int64_t)(tiles - 1 - item % tiles) * BLOCK_ROWS, head % (int)a.h, 0,
                head / (int)a.h, 0 };
    w.g = w.h / (a.h / a.g);
    w.keys = keys_of(a, w.b);
    return w;
}

/* The rings of keys and of values; there are no values at the end of an item. */
typedef struct rings {
    ring<STAGES> k, v;
} rings;

/* Copy a tile of keys and its values as soon as there is room. */
template <int WIDTH>
__device__ inline void send_tile(const core_maps &maps, const layout<WIDTH> &at, gates &g,
                                 const block &w, rings &r, int64_t n, bool mixed)
{
    constexpr uint32_t KEYS = layout<WIDTH>::KEYS;
    uint32_t           k_there = shared_address(&g.k_there[r.k.stage]);
    uint32_t           v_there = shared_address(&g.v_there[r.v.stage]);
    await(shared_address(&g.k_free[r.k.stage]), r.k.phase ^ 1);
    g.number[r.k.stage] = stage_number(n, mixed);
    arrive_expecting(k_there, KEYS);
    copy_tile<TILE_KEYS, WIDTH>(at.k + r.k.stage * KEYS, maps.k, k_there, (int)(n * TILE_KEYS),
                                (int)w.g, (int)w.b);
    await(shared_address(&g.v_free[r.v.stage]), r.v.phase ^ 1);
    arrive_expecting(v_there, KEYS);
    copy_tile<TILE_KEYS, WIDTH>(at.v + r.v.stage * KEYS, maps.v, v_there, (int)(n * TILE_KEYS),
                                (int)w.g, (int)w.b);
    r.k.advance();
    r.v.advance();
}

/* A warp: send the tiles of an item. */
template <int WIDTH>
__device__ inline void feed_item(const attend_args &a, const core_maps &maps,
                                 const layout<WIDTH> &at, gates &g, const block &w, rings &r)
{
    range q = wide_range(query_ranges(a, w.b), w.first, a.tq);
    each_shown((w.keys + TILE_KEYS - 1) / TILE_KEYS,
               [&](int64_t n) {
                   int how = relation(a, q, wide_range(key_ranges(a, w.b), n * TILE_KEYS, a.tk));
                   return how != HIDDEN && (n + 1) * TILE_KEYS > w.keys ? (int)MIXED : how;
               },
               [&](int64_t n, bool mixed) { send_tile<WIDTH>(maps, at, g, w, r, n, mixed); });
    if (threadIdx.x)
        return;
    await(shared_address(&g.k_free[r.k.stage]), r.k.phase ^ 1);
    g.number[r.k.stage] = LAST;
    arrive(shared_address(&g.k_there[r.k.stage]));
    r.k.advance();
}

template <int WIDTH>
__device__ inline void feed(const attend_args &a, const core_maps &maps, const layout<WIDTH> &at,
                            gates &g, int items)
{
    rings r;
    each_item(
        a, g.own, items, layout<WIDTH>::QUERIES,
        [&](int item) {
            block w = block_of(a, item);
            copy_tile<BLOCK_ROWS, WIDTH>(at.q, maps.q, shared_address(&g.own.there), (int)w.first,
                                         (int)w.h, (int)w.b);
        },
        [&](int item) { feed_item<WIDTH>(a, maps, at, g, block_of(a, item), r); });
}

/* What a thread knows about its two rows. */
typedef struct rows {
    bounds q[2];
    float  top[2], sum[2];
} rows;

__device__ inline float quad_top(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ inline float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Scores become weights e^(scale (s - top)); `shrink` is the factor for the sums so far. */
__device__ inline void weigh(float (&s)[SCORES], rows &r, float scale2, float (&shrink)[2])
{
    for (int i = 0; i < 2; i++) {
        float top = r.top[i], minus, sum = 0;
#pragma unroll
        for (int n = 0; n < SCORES / 4; n++)
            top = fmaxf(top, fmaxf(s[4 * n + 2 * i], s[4 * n + 2 * i + 1]));
        top = quad_top(top);
        /* while nothing is visible, nothing may become NaN */
        minus = top == -CUDART_INF_F ? 0 : -top * scale2;
        shrink[i] = exp2_fast(fmaf(r.top[i], scale2, minus));
#pragma unroll
        for (int n = 0; n < SCORES / 4; n++)
            for (int j = 0; j < 2; j++) {
                float p = exp2_fast(fmaf(s[4 * n + 2 * i + j], scale2, minus));
                s[4 * n + 2 * i + j] = p;
                sum += p;
            }
        r.sum[i] = r.sum[i] * shrink[i] + sum;
        r.top[i] = top;
    }
}

/* The two workers take turns, so that one multiplies while the other computes weights. */
__device__ inline void await_turn(int worker)
{
    asm volatile("bar.sync %0, 256;" ::"r"(1 + worker) : "memory");
}

__device__ inline void give_turn(int worker)
{
    asm volatile("bar.arrive %0, 256;" ::"r"(1 + (worker ^ 1)) : "memory");
}

/* o += p v, a tile's values; the products are still under way when this returns. */
template <int N>
__device__ inline void add_values(float (&o)[N], const uint32_t (&p)[TILE_KEYS / 16][4],
                                  uint32_t values)
{
#pragma unroll
    for (int k = 0; k < TILE_KEYS / 16; k++)
        multiply<1>(o, p[k], along_rows<TILE_KEYS>(values, k), 1);
    end_group();
}

/* s = q k^T of a tile of keys, likewise. */
template <int WIDTH>
__device__ inline void find_scores(float (&s)[SCORES], uint32_t queries, int group, uint32_t keys)
{
#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++)
        multiply<0>(s, along_columns<BLOCK_ROWS>(queries, group, k),
                    along_columns<TILE_KEYS>(keys, 0, k), k > 0);
    end_group();
}

template <int WIDTH>
__device__ inline void store_results(const attend_args &a, const block &w, rows &r, int64_t first,
                                     int64_t row, const float (&o)[WIDTH / 2])
{
    float by[2];
    for (int i = 0; i < 2; i++) {
        /* the keys of a row are divided among four threads; a row that saw none becomes 0 */
        r.sum[i] = quad_sum(r.sum[i]);
        by[i] = r.sum[i] == 0 ? 0 : 1 / r.sum[i];
        if (a.lse.at.data && threadIdx.x % 4 == 0 && row + 8 * i < a.tq)
            td_set(a.lse.at, place(a.lse, w.b, w.h, row + 8 * i, 0),
                   r.sum[i] == 0 ? -CUDART_INF_F : r.top[i] * a.scale + logf(r.sum[i]));
    }
    suspect_nan(a, o);
    if (a.o.at.data)
        store_rows(a.o, w.b, w.h, first, a.tq, a.f, o, by);
}

/* The index of a worker's next tile of keys. */
__device__ inline int await_keys(gates &g, const rings &ring)
{
    await(shared_address(&g.k_there[ring.k.stage]), ring.k.phase);
    return ((volatile int *)g.number)[ring.k.stage];
}

__device__ inline void release_keys(gates &g, rings &ring)
{
    release(shared_address(&g.k_free[ring.k.stage]));
    ring.k.advance();
}

__device__ inline void release_values(gates &g, rings &ring)
{
    release(shared_address(&g.v_free[ring.v.stage]));
    ring.v.advance();
}

__device__ inline void pack_weights(uint32_t (&p)[TILE_KEYS / 16][4], const float (&s)[SCORES])
{
#pragma unroll
    for (int i = 0; i < TILE_KEYS / 16; i++)
        operand_of(p[i], s, i);
}

/* All tiles of an item that are not hidden; the first has the index `number`. The scores of a
 * tile and the values of the one before are multiplied while the weights of the tile are
 * computed. */
template <int WIDTH>
__device__ inline void attend_tiles(const attend_args &a, const layout<WIDTH> &at, gates &g,
                                    const block &w, rings &ring, rows &r, float (&o)[WIDTH / 2],
                                    int number)
{
    constexpr uint32_t KEYS = layout<WIDTH>::KEYS;
    int                worker = threadIdx.x / 128 - 1, group = worker * GROUP_ROWS;
    float              scale2 = a.scale * 1.4426950408889634f, s[SCORES], shrink[2];
    uint32_t           p[TILE_KEYS / 16][4];

    await_turn(worker);
    begin_products();
    find_scores<WIDTH>(s, at.q, group, at.k + ring.k.stage * KEYS);
    give_turn(worker);
    wait_groups<0>();
    settle(s);
    release_keys(g, ring);
    if (is_mixed(number))
        hide_columns(s, r.q, key_row(a, w.b, w.keys), (int)tile_of_stage(number) * TILE_KEYS);
    weigh(s, r, scale2, shrink); /* there are no sums yet */
    pack_weights(p, s);
    while ((number = await_keys(g, ring)) != LAST) {
        await_turn(worker);
        begin_products();
        find_scores<WIDTH>(s, at.q, group, at.k + ring.k.stage * KEYS);
        await(shared_address(&g.v_there[ring.v.stage]), ring.v.phase);
        add_values(o, p, at.v + ring.v.stage * KEYS);
        give_turn(worker);
        wait_groups<1>();
        settle(s);
        release_keys(g, ring);
        if (is_mixed(number))
            hide_columns(s, r.q, key_row(a, w.b, w.keys), (int)tile_of_stage(number) * TILE_KEYS);
        weigh(s, r, scale2, shrink);
        wait_groups<0>();
        settle(o);
        release_values(g, ring);
#pragma unroll
        for (int i = 0; i < WIDTH / 2; i++)
            o[i] *= shrink[i / 2 % 2];
        pack_weights(p, s);
    }
    await(shared_address(&g.v_there[ring.v.stage]), ring.v.phase);
    begin_products();
    add_values(o, p, at.v + ring.v.stage * KEYS);
    wait_groups<0>();
    settle(o);
    release_values(g, ring);
}

/* A warpgroup: 64 rows of an item. */
template <int WIDTH>
__device__ inline void work_on(const attend_args &a, const layout<WIDTH> &at, gates &g,
                               const block &w, rings &ring)
{
    int     group = (threadIdx.x / 128 - 1) * GROUP_ROWS, t = threadIdx.x % 128, number;
    int64_t row = w.first + group + t / 32 * 16 + t % 32 / 4;
    float   o[WIDTH / 2];
    rows    r;

    /* an accumulator of wgmma gives each thread two rows, 8 apart */
    for (int i = 0; i < 2; i++) {
        r.q[i] = bounds_at(a, query_row(a, w.b), (int)row + 8 * i);
        r.top[i] = -CUDART_INF_F;
        r.sum[i] = 0;
    }
    for (int i = 0; i < WIDTH / 2; i++)
        o[i] = 0;
    settle(o);
    number = await_keys(g, ring);
    if (number != LAST)
        attend_tiles<WIDTH>(a, at, g, w, ring, r, o, number);
    release_keys(g, ring);
    release(shared_address(&g.own.free));
    store_results<WIDTH>(a, w, r, w.first + group, row, o);
}

template <int WIDTH>
__device__ inline void work(const attend_args &a, const layout<WIDTH> &at, gates &g)
{
    int   worker = threadIdx.x / 128 - 1, item;
    rings r;
    if (worker)
        give_turn(worker); /* the first goes first */
    for (int phase = 0; (item = await_item(g.own, phase)) != LAST; phase ^= 1)
        work_on<WIDTH>(a, at, g, block_of(a, item), r);
}

template <int WIDTH>
__global__ void __launch_bounds__(CORE_THREADS, 1)
    attend_cores(attend_args a, const __grid_constant__ core_maps maps, int items)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char memory[];
    __shared__ gates       g;
    layout<WIDTH>          at(memory);
    if (threadIdx.x == 0)
        make_gates(g);
    publish_barriers();
    /* Registers are given up and taken by whole warpgroups, so one of them is there to copy, although
     * a single warp does it. */
    if (threadIdx.x < 128) {
        give_registers<FEEDER_REGISTERS>();
        if (threadIdx.x < 32)
            feed<WIDTH>(a, maps, at, g, items);
    } else {
        take_registers<WORKER_REGISTERS>();
        work<WIDTH>(a, at, g);
    }
#endif
}

template <int WIDTH> static int launch(td_cuda *cuda, const attend_args &a, const core_maps &maps)
{
    int     shared = (int)layout<WIDTH>::BYTES;
    int64_t items = item_count(a.tq, a.h, a.b);
    if (cudaFuncSetAttribute(attend_cores<WIDTH>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             shared))
        return TD_EUNSUPPORTED;
    attend_cores<WIDTH>
        <<<block_count(cuda, items), CORE_THREADS, shared, cuda->stream>>>(a, maps, (int)items);
    return td_cuda_launched(cuda);
}

/* ---- maps ------------------------------------------------------------------------------------ */

typedef CUresult encoder(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                         const cuuint64_t *, const cuuint32_t *, const cuuint32_t *,
                         CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                         CUtensorMapFloatOOBfill);

/* The driver's function; NULL if the driver lacks it. */
static encoder *find_encoder(void)
{
    static void                    *found;
    cudaDriverEntryPointQueryResult how;
    if (!found && cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                   cudaEnableDefault, &how))
        found = NULL;
    return (encoder *)found;
}

int td_cuda_map_tiles(CUtensorMap *map, const td_view *x, int rows)
{
    encoder   *encode = find_encoder();
    cuuint64_t dims[4], steps[3];
    cuuint32_t box[] = { 64, (cuuint32_t)rows, 1, 1 }, one[] = { 1, 1, 1, 1 };
    for (int k = 0; k < 4; k++)
        dims[k] = (cuuint64_t)x->dim[3 - k];
    /* in a dim of 1, the step is never used */
    for (int k = 0; k < 3; k++)
        steps[k] = x->dim[2 - k] == 1 ? 16 : (cuuint64_t)x->stride[2 - k] * 2;
    return encode && !encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, x->data, dims, steps, box,
                             one, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
               ? 0
               : TD_EUNSUPPORTED;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Rows of bf16 in whole pieces of 16 bytes. */
static bool has_pieces(const td_view *v)
{
    return v->dtype == TD_BF16 && v->dim[3] <= WIDEST && td_has_vector_steps(v);
}

static bool has_pairs(const td_view *v)
{
    return v->stride[3] == 1 && v->dim[3] % 2 == 0 && v->stride[0] % 2 == 0 &&
           v->stride[1] % 2 == 0 && v->stride[2] % 2 == 0;
}

bool td_cuda_cores_serve(const td_call *call, const int *in, int n_in, const int *out, int n_out)
{
    const struct cudaDeviceProp *gpu = &td_cuda_of(call)->properties;
    for (int k = 0; k < n_in; k++)
        if (!has_pieces(&call->in[in[k]]))
            return false;
    for (int k = 0; k < n_out; k++)
        if (td_cuda_out(call, out[k]) && !has_pairs(&call->out[out[k]]))
            return false;
    return gpu->major == 9 && gpu->minor == 0 && call->attrs->f[0] > 0 && call->attrs->f[1] <= 0 &&
           !td_cuda_in(call, TD_ATTEND_TABLE) && !td_cuda_in(call, TD_ATTEND_DENSE);
}

bool td_cuda_cores_reach(const td_call *call, const int *in, int n_in)
{
    for (int k = 0; k < n_in; k++)
        if (!td_is_aligned(&call->in[in[k]]))
            return false;
    return true;
}

static const int operands[] = { TD_ATTEND_Q, TD_ATTEND_K, TD_ATTEND_V }, results[] = { 0 };

bool td_cuda_accepts_attend_cores(const td_call *call)
{
    return td_cuda_cores_serve(call, operands, 3, results, 1);
}

size_t td_cuda_attend_cores_workspace(const td_call *call)
{
    attend_args a = attend_args_of(call);
    return ranges_bytes(&a);
}

int td_cuda_attend_cores(const td_call *call)
{
    td_cuda    *cuda = td_cuda_of(call);
    attend_args a = attend_args_of(call);
    core_maps   maps;
    int         code;

    if (!td_cuda_cores_reach(call, operands, 3))
        return td_cuda_attend(call);
    a.o = axes_of(td_cuda_out(call, 0));
    a.lse = axes_of(td_cuda_out(call, 1));
    a.ranges = call->workspace;
    a.taken = counters_of(&a);
    a.suspect = a.taken + SUSPECT;
    if (!a.b || !a.h || !a.tq)
        return 0;
    /* without keys there is no tile to map, and every result is 0 */
    if (!a.tk)
        return td_cuda_attend(call);
    if (td_cuda_map_tiles(&maps.q, &call->in[TD_ATTEND_Q], BLOCK_ROWS) ||
        td_cuda_map_tiles(&maps.k, &call->in[TD_ATTEND_K], TILE_KEYS) ||
        td_cuda_map_tiles(&maps.v, &call->in[TD_ATTEND_V], TILE_KEYS))
        return TD_EUNSUPPORTED;
    if (td_cuda_find_ranges(cuda, a))
        return TD_EIO;
    code = a.e <= 64 && a.f <= 64 ? launch<64>(cuda, a, maps) : launch<WIDEST>(cuda, a, maps);
    return code ? code : td_cuda_repair_attend(cuda, a);
}

#else

bool   td_cuda_accepts_attend_cores(const td_call *call) { return false; }
size_t td_cuda_attend_cores_workspace(const td_call *call) { return 0; }
int    td_cuda_attend_cores(const td_call *call) { return TD_EUNSUPPORTED; }

#endif
