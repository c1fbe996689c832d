/* attend_cores.cuh - shared by attention on tensor cores and its gradient: how a block works, and
 * which tiles the mask hides.
 *
 * A block has three warpgroups. One warp of the first warpgroup feeds the others: it finds the
 * tiles that are not hidden, and begins to copy them as soon as there is room. The other two
 * compute; each owns 64 of the block's 128 rows. A stage of tiles has a number, which says where it
 * begins and whether its mask matters; a negative number means that there are no more.
 *
 * There are as many blocks as multiprocessors. An item of work is 128 rows of a head; a block takes
 * one after another, and begins to fetch the next while the last results are stored. The bits of an
 * item do not depend on which block computes it.
 *
 * A hidden pair has a weight of 0, by which tensor cores multiply what is hidden: NaN remains NaN.
 * Results that are NaN are therefore noted as suspect, and computed again by the kernels for
 * float32, which leave hidden pairs out.
 */
#ifndef TD_CUDA_ATTEND_CORES_CUH
#define TD_CUDA_ATTEND_CORES_CUH

#include "attend.cuh"
#include "warpgroup.cuh"

enum {
    CORE_THREADS = 384,
    FEEDER_REGISTERS = 24, /* together, the registers of the launch: 384 threads of 168 */
    WORKER_REGISTERS = 240,
    WORKER_WARPS = 8,
    GROUP_ROWS = 64,
    BLOCK_ROWS = 128,
    RANGE = 64,
    LAST = -1
};

/* The tensors of a call, as the copies address them. */
typedef struct core_maps {
    CUtensorMap q, k, v, grad;
} core_maps;

/* A map of x [B, H, T, WIDTH] for tiles of `rows` rows; 0 or TD_EUNSUPPORTED.
 */
int td_cuda_map_tiles(CUtensorMap *map, const td_view *x, int rows);

/* Shared memory, starting at a multiple of 1024 bytes, as tiles require. */
__device__ inline uint32_t shared_start(const char *memory)
{
    return (shared_address(memory) + 1023) & ~1023u;
}

__device__ inline int     stage_number(int64_t n, bool mixed) { return (int)n * 2 + mixed; }
__device__ inline int64_t tile_of_stage(int number) { return number >> 1; }
__device__ inline bool    is_mixed(int number) { return number & 1; }

/* A ring of STAGES; `phase` is the phase of the next stage's barriers. */
template <int STAGES> struct ring {
    int             stage = 0, phase = 0;
    __device__ void advance()
    {
        if (++stage == STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
};

/* The item that a block works on: its own tiles, and its number; negative:
 * there are no more. */
typedef struct desk {
    uint64_t there, free;
    int      item;
} desk;

__device__ inline void make_desk(desk &d)
{
    make_barrier(shared_address(&d.there), 1);
    make_barrier(shared_address(&d.free), WORKER_WARPS);
}

/* The number of an item that no block has taken. Each block starts with one of the first
 * `gridDim.x`. */
__device__ inline int take_item(const attend_args &a)
{
    return (int)gridDim.x + atomicAdd(a.taken, 1);
}

/* Feed a block item by item: fetch(item) begins to copy the block's own tiles, `bytes` of them,
 * and feed(item) sends the others. A warp calls this; its first thread calls `fetch`. */
template <class F, class G>
__device__ inline void each_item(const attend_args &a, desk &d, int items, uint32_t bytes, F fetch,
                                 G feed)
{
    uint32_t there = shared_address(&d.there);
    int      item = blockIdx.x, phase = 0;
    for (; item < items; phase ^= 1) {
        int next = 0;
        if (threadIdx.x == 0) {
            await(shared_address(&d.free), phase ^ 1);
            d.item = item;
            arrive_expecting(there, bytes);
            fetch(item);
            next = take_item(a); /* now, because it takes a while */
        }
        feed(item);
        item = __shfl_sync(0xffffffffu, next, 0);
    }
    if (threadIdx.x)
        return;
    await(shared_address(&d.free), phase ^ 1);
    d.item = LAST;
    arrive(there);
}

/* A worker's next item, or LAST. */
__device__ inline int await_item(desk &d, int phase)
{
    await(shared_address(&d.there), phase);
    return *(volatile int *)&d.item;
}

/* A warp of a worker has read all it needs. */
__device__ inline void release(uint32_t barrier)
{
    if (threadIdx.x % 32 == 0)
        arrive(barrier);
}

/* Two neighbouring elements of a row, from column `e` on. */
__device__ inline void store_pair(const axes4 &y, int64_t b, int64_t h, int64_t i, int64_t e,
                                  float u, float v)
{
    int64_t at = place(y, b, h, i, e);
    if (y.at.narrow)
        *(uint32_t *)((uint16_t *)y.at.data + at) = td_narrow2(u, v);
    else
        *(float2 *)((float *)y.at.data + at) = make_float2(u, v);
}

/* Rows that can be written 16 bytes at a time. */
__device__ inline bool has_wide_rows(const axes4 &y, int64_t width)
{
    return y.at.narrow && ((uintptr_t)y.at.data & 15) == 0 && width % 8 == 0 && y.step[3] == 1 &&
           ((y.step[0] | y.step[1] | y.step[2]) & 7) == 0;
}

/* Of four threads with four words each, thread q gets word q of all of them. */
__device__ inline void turn_words(uint32_t (&v)[4], int q)
{
    uint32_t x = __shfl_xor_sync(0xffffffffu, q & 2 ? v[0] : v[2], 2);
    uint32_t y = __shfl_xor_sync(0xffffffffu, q & 2 ? v[1] : v[3], 2);
    v[0] = q & 2 ? x : v[0];
    v[1] = q & 2 ? y : v[1];
    v[2] = q & 2 ? v[2] : x;
    v[3] = q & 2 ? v[3] : y;
    x = __shfl_xor_sync(0xffffffffu, q & 1 ? v[0] : v[1], 1);
    y = __shfl_xor_sync(0xffffffffu, q & 1 ? v[2] : v[3], 1);
    v[0] = q & 1 ? x : v[0];
    v[1] = q & 1 ? v[1] : x;
    v[2] = q & 1 ? y : v[2];
    v[3] = q & 1 ? v[3] : y;
}

/* 64 rows of a warpgroup from row `first` on, times `by`; rows beyond `count` and columns beyond
 * `width` do not exist. */
template <int N>
__device__ inline void store_wide_rows(const axes4 &y, int64_t b, int64_t h, int64_t first,
                                       int64_t count, int64_t width, const float (&d)[N],
                                       const float (&by)[2])
{
    int t = threadIdx.x % 128, row = t / 32 * 16 + t % 32 / 4, q = t % 4;
#pragma unroll
    for (int n = 0; n < N / 16; n++)
        for (int i = 0; i < 2; i++) {
            int64_t  column = 8 * (4 * n + q);
            uint32_t v[4];
            for (int k = 0; k < 4; k++)
                v[k] = td_narrow2(by[i] * d[16 * n + 4 * k + 2 * i],
                                  by[i] * d[16 * n + 4 * k + 2 * i + 1]);
            turn_words(v, q);
            if (first + row + 8 * i < count && column < width)
                *(uint4 *)((uint16_t *)y.at.data +
                           place(y, b, h, first + row + 8 * i, column)) = make_uint4(v[0], v[1],
                                                                                     v[2], v[3]);
        }
}

template <int N>
__device__ inline void store_rows(const axes4 &y, int64_t b, int64_t h, int64_t first,
                                  int64_t count, int64_t width, const float (&d)[N],
                                  const float (&by)[2])
{
    /* of a wgmma accumulator a thread has pairs of columns, in two rows that are 8 apart */
    int t = threadIdx.x % 128, row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
    if (has_wide_rows(y, width)) {
        store_wide_rows(y, b, h, first, count, width, d, by);
        return;
    }
    for (int n = 0; n < N / 4; n++)
        for (int i = 0; i < 2; i++)
            if (first + row + 8 * i < count && 8 * n + column < width)
                store_pair(y, b, h, first + row + 8 * i, 8 * n + column, by[i] * d[4 * n + 2 * i],
                           by[i] * d[4 * n + 2 * i + 1]);
}

__device__ inline float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- which tiles the mask hides
 * -------------------------------------------------------------- */

/* Of the tokens of a tile. */
typedef struct range {
    int low, high;                 /* indices */
    int segment_low, segment_high; /* segments */
    int any_input, all_input;
} range;

/* Ranges of RANGE tokens each: of the queries of each example, then of the
 * keys. */
static inline int64_t range_count(const attend_args *a)
{
    return a->b * (td_cuda_pieces(a->tq, RANGE) + td_cuda_pieces(a->tk, RANGE));
}

__device__ inline const range *query_ranges(const attend_args &a, int64_t b)
{
    return (const range *)a.ranges + b * ((a.tq + RANGE - 1) / RANGE);
}

__device__ inline const range *key_ranges(const attend_args &a, int64_t b)
{
    return (const range *)a.ranges + a.b * ((a.tq + RANGE - 1) / RANGE) +
           b * ((a.tk + RANGE - 1) / RANGE);
}

__device__ inline range both(range x, const range &y)
{
    x.low = min(x.low, y.low);
    x.high = max(x.high, y.high);
    x.segment_low = min(x.segment_low, y.segment_low);
    x.segment_high = max(x.segment_high, y.segment_high);
    x.any_input |= y.any_input;
    x.all_input &= y.all_input;
    return x;
}

/* The ranges of BLOCK_ROWS tokens from `first` on, of `count`. */
__device__ inline range wide_range(const range *ranges, int64_t first, int64_t count)
{
    range r = ranges[first / RANGE];
    return first + RANGE < count ? both(r, ranges[first / RANGE + 1]) : r;
}

enum { HIDDEN, MIXED, SEEN };

/* Bits for 32 consecutive tiles: those that are not hidden, and those whose mask matters. */
typedef struct window {
    unsigned shown, mixed;
} window;

/* From tile `first` on, of `count`; how(n) classifies tile n. A warp looks at all of them at
 * once. */
template <class F> __device__ inline window look_ahead(int64_t first, int64_t count, F how)
{
    int64_t n = first + threadIdx.x % 32;
    int     r = n < count ? how(n) : HIDDEN;
    window  w = { __ballot_sync(0xffffffffu, r != HIDDEN), __ballot_sync(0xffffffffu, r == MIXED) };
    return w;
}

/* send(n, mixed) for each tile that is not hidden, in order, by the first
 * thread of the warp. */
template <class F, class S> __device__ inline void each_shown(int64_t count, F how, S send)
{
    for (int64_t first = 0; first < count; first += 32) {
        window w = look_ahead(first, count, how);
        while (threadIdx.x % 32 == 0 && w.shown) {
            int k = __ffs(w.shown) - 1;
            w.shown &= w.shown - 1;
            send(first + k, (bool)(w.mixed >> k & 1));
        }
        __syncwarp();
    }
}

/* Whether no query sees any key, or all queries see all keys. If in doubt, MIXED. */
__device__ inline int relation(const attend_args &a, const range &q, const range &k)
{
    bool apart = q.segment_high < k.segment_low || k.segment_high < q.segment_low;
    bool later = a.causal && k.low > q.high && !(q.any_input && k.any_input);
    bool past = a.window > 0 && (int64_t)q.low - k.high >= a.window;
    bool self = a.self && q.segment_low <= 0 && q.segment_high >= 0 && q.low <= k.high &&
                k.low <= q.high;
    bool one = q.segment_low == q.segment_high && q.segment_low == k.segment_low &&
               q.segment_low == k.segment_high && q.segment_low != 0;
    bool earlier = !a.causal || k.high <= q.low || (q.all_input && k.all_input);
    bool recent = a.window <= 0 || (int64_t)q.high - k.low < a.window;
    if ((apart || later || past) && !self)
        return HIDDEN;
    return one && earlier && recent ? SEEN : MIXED;
}

/* The queries or keys of one example. Tiles read many of them, so offsets have 32 bits. */
typedef struct token_row {
    const int *index, *segment, *input; /* NULL: absent */
    int        index_step, segment_step, input_step, count;
} token_row;

__device__ inline const int *row_of(const tokens &t, int64_t b)
{
    return t.data ? t.data + b * t.row : NULL;
}

__device__ inline token_row query_row(const attend_args &a, int64_t b)
{
    token_row r = { row_of(a.q_index, b),
                    row_of(a.q_segment, b),
                    row_of(a.q_input, b),
                    (int)a.q_index.step,
                    (int)a.q_segment.step,
                    (int)a.q_input.step,
                    (int)a.tq };
    return r;
}

/* Of the first `keys`. */
__device__ inline token_row key_row(const attend_args &a, int64_t b, int64_t keys)
{
    token_row r = { row_of(a.k_index, b),
                    row_of(a.k_segment, b),
                    row_of(a.k_input, b),
                    (int)a.k_index.step,
                    (int)a.k_segment.step,
                    (int)a.k_input.step,
                    (int)keys };
    return r;
}

/* A token that does not exist has an index outside all bounds. */
__device__ inline facts facts_of(const token_row &r, int i)
{
    facts f = { INT_MIN, 0, 0 };
    if (i < r.count) {
        f.index = r.index ? r.index[i * r.index_step] : i;
        f.segment = r.segment ? r.segment[i * r.segment_step] : 1;
        f.input = r.input ? r.input[i * r.input_step] : 0;
    }
    return f;
}

/* What query `i` sees; nothing if it does not exist. */
__device__ inline bounds bounds_at(const attend_args &a, const token_row &r, int i)
{
    return i < r.count ? bounds_of(a, facts_of(r, i)) : no_bounds();
}

/* Rows are queries, columns keys: hidden pairs get a score of minus infinity. The thread's
 * columns of a product begin at key `first`. */
template <int N>
__device__ inline void hide_columns(float (&s)[N], const bounds (&q)[2], const token_row &keys,
                                    int first)
{
#pragma unroll
    for (int n = 0; n < N / 4; n++)
        for (int j = 0; j < 2; j++) {
            facts k = facts_of(keys, first + 8 * n + threadIdx.x % 4 * 2 + j);
            for (int i = 0; i < 2; i++)
                if (!within(q[i], k))
                    s[4 * n + 2 * i + j] = -CUDART_INF_F;
        }
}

/* Bytes of the ranges, and of the counters of taken items after them; the last says whether there
 * are suspect results. */
enum { COUNTERS = 3, SUSPECT = 2 };
static inline size_t ranges_bytes(const attend_args *a)
{
    return (size_t)range_count(a) * sizeof(range) + COUNTERS * sizeof(int);
}

static inline int *counters_of(const attend_args *a)
{
    return (int *)((range *)a->ranges + range_count(a));
}

/* Items of `rows` rows in all, and the blocks that work on them. */
static inline int64_t item_count(int64_t rows, int64_t heads, int64_t examples)
{
    return td_cuda_pieces(rows, BLOCK_ROWS) * heads * examples;
}

static inline unsigned block_count(const td_cuda *cuda, int64_t items)
{
    int64_t processors = cuda->properties.multiProcessorCount;
    return (unsigned)(items < processors ? items : processors);
}

/* Whether some of a thread's results are NaN. */
template <int N> __device__ inline void suspect_nan(const attend_args &a, const float (&d)[N])
{
    bool nan = false;
#pragma unroll
    for (int k = 0; k < N; k++)
        nan |= d[k] != d[k];
    if (nan)
        *a.suspect = 1;
}

/* Fill a.ranges, mark all items as not taken, and no result as suspect. */
int td_cuda_find_ranges(td_cuda *cuda, const attend_args &a);

/* Whether the tensor cores can compute a call with these numbers of operands
 * and results: heads of up to 128 elements in whole pieces of 16 bytes, and no
 * bias. */
bool td_cuda_cores_serve(const td_call *call, const int *in, int n_in, const int *out, int n_out);
/* Whether the operands' addresses allow it, which is known only when the call is made. */
bool td_cuda_cores_reach(const td_call *call, const int *in, int n_in);

#endif
