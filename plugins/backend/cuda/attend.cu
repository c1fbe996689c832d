/* attend.cu - attention that never stores the scores (Milakov and Gimelshein 2018; Dao et al.
 * 2022): a block for each tile of queries walks over the keys, keeping a running maximum and sum. Tiles in
 * which nothing is visible are skipped. */
#include "attend.cuh"
#include "kernels.h"

/* The largest, and the sum, over the 16 threads of a row. */
__device__ inline float row_top(float x)
{
    for (int k = ATTEND_SIDE / 2; k > 0; k /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, k));
    return x;
}

__device__ inline float row_total(float x)
{
    for (int k = ATTEND_SIDE / 2; k > 0; k /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, k);
    return x;
}

/* ---- one tile -------------------------------------------------------------------------------- */

/* In shared memory: queries, keys and then values, weights. */
template <int WIDTH, int TILE> struct forward_tile {
    float             q[TILE * (WIDTH + 4)], k[TILE * (WIDTH + 4)], p[TILE * (TILE + 4)];
    tile_tokens<TILE> qt, kt;
};

/* What a thread knows of its rows so far: their largest scores, and its part of the output with the
 * sums by which it will be divided. */
template <int WIDTH, int TILE> struct tile_rows {
    float top[TILE / ATTEND_SIDE], sum[TILE / ATTEND_SIDE];
    float o[TILE / ATTEND_SIDE][WIDTH / ATTEND_SIDE];
};

template <int WIDTH, int TILE> __device__ inline void start(tile_rows<WIDTH, TILE> &rows)
{
    for (int r = 0; r < TILE / ATTEND_SIDE; r++) {
        rows.top[r] = -CUDART_INF_F;
        rows.sum[r] = 0;
        for (int c = 0; c < WIDTH / ATTEND_SIDE; c++)
            rows.o[r][c] = 0;
    }
}

/* Weights of row r from its scores, relative to the largest so far. When a larger one comes, the
 * sums so far shrink by e^(old - new). */
template <int WIDTH, int TILE>
__device__ inline void weigh_row(forward_tile<WIDTH, TILE> &t, tile_rows<WIDTH, TILE> &rows, int r,
                                 const float (&s)[TILE / ATTEND_SIDE], unsigned bits)
{
    constexpr int N = TILE / ATTEND_SIDE, LS = TILE + 4;
    int           tx = threadIdx.x % ATTEND_SIDE, i = threadIdx.x / ATTEND_SIDE + ATTEND_SIDE * r;
    float         best = rows.top[r], shrink, total = 0;
    for (int c = 0; c < N; c++)
        best = fmaxf(best, s[c]);
    best = row_top(best);
    shrink = rows.top[r] == -CUDART_INF_F ? 0 : expf(rows.top[r] - best);
    for (int c = 0; c < N; c++) {
        bool  seen = (bits >> (r * N + c) & 1) && s[c] != -CUDART_INF_F;
        float p = seen ? expf(s[c] - best) : 0;
        t.p[i * LS + tx + ATTEND_SIDE * c] = p;
        total += p;
    }
    rows.sum[r] = rows.sum[r] * shrink + row_total(total);
    rows.top[r] = best;
    for (int c = 0; c < WIDTH / ATTEND_SIDE; c++)
        rows.o[r][c] *= shrink;
}

/* Weights of the tile's visible pairs. */
template <int WIDTH, int TILE>
__device__ inline void weigh(forward_tile<WIDTH, TILE> &t, tile_rows<WIDTH, TILE> &rows,
                             const attend_args &a, unsigned bits, int64_t b, int64_t h,
                             int64_t first, int64_t from)
{
    constexpr int N = TILE / ATTEND_SIDE;
    int           tx = threadIdx.x % ATTEND_SIDE, ty = threadIdx.x / ATTEND_SIDE;
    float         s[N][N];
    pair_products<WIDTH, TILE>(s, t.q, t.k, (int)a.e);
    for (int r = 0; r < N; r++) {
        int i = ty + ATTEND_SIDE * r;
        for (int c = 0; c < N; c++) {
            int j = tx + ATTEND_SIDE * c;
            s[r][c] = bits >> (r * N + c) & 1
                          ? score<TILE>(a, s[r][c], t.qt, t.kt, b, h, i, j, first + i, from + j)
                          : -CUDART_INF_F;
        }
        weigh_row<WIDTH, TILE>(t, rows, r, s[r], bits);
    }
}

/* A row that saw no key gets zeros, and the logarithm of a sum of 0. */
template <int WIDTH, int TILE>
__device__ inline void store_tile(const attend_args &a, const tile_rows<WIDTH, TILE> &rows,
                                  int64_t b, int64_t h, int64_t first)
{
    int tx = threadIdx.x % ATTEND_SIDE, ty = threadIdx.x / ATTEND_SIDE;
    for (int r = 0; r < TILE / ATTEND_SIDE; r++) {
        int64_t i = first + ty + ATTEND_SIDE * r;
        float   sum = rows.sum[r];
        if (i >= a.tq)
            continue;
        for (int c = 0; a.o.at.data && c < WIDTH / ATTEND_SIDE; c++) {
            int64_t f = output_column(c);
            if (f < a.f)
                store(a, a.o, place(a.o, b, h, i, f), sum == 0 ? 0 : rows.o[r][c] / sum);
        }
        if (a.lse.at.data && tx == 0)
            td_set(a.lse.at, place(a.lse, b, h, i, 0),
                   sum == 0 ? -CUDART_INF_F : rows.top[r] + logf(sum));
    }
}

/* A tile of queries of head h, from `first` on. */
template <int WIDTH, int TILE>
__device__ inline void attend_tile(const attend_args &a, int64_t first, int64_t h, int64_t b)
{
    extern __shared__ __align__(16) char memory[];
    forward_tile<WIDTH, TILE>           &t = *(forward_tile<WIDTH, TILE> *)memory;
    tile_rows<WIDTH, TILE>               rows;
    int64_t                              g = h / (a.h / a.g), keys = keys_of(a, b);

    start<WIDTH, TILE>(rows);
    load_tile<WIDTH, TILE>(t.q, a.q, b, h, first, a.tq, a.e);
    load_tokens<TILE>(t.qt, a.q_index, a.q_segment, a.q_input, a.q_position, b, first, a.tq);
    for (int64_t from = 0; from < keys; from += TILE) {
        unsigned bits;
        load_tokens<TILE>(t.kt, a.k_index, a.k_segment, a.k_input, a.k_position, b, from, keys);
        __syncthreads();
        bits = visible_pairs<TILE>(a, t.qt, t.kt, a.tq - first, keys - from);
        if (!__syncthreads_or(bits != 0))
            continue;
        load_tile<WIDTH, TILE>(t.k, a.k, b, g, from, keys, a.e);
        __syncthreads();
        weigh<WIDTH, TILE>(t, rows, a, bits, b, h, first, from);
        __syncthreads(); /* all threads have read the keys, and the weights are ready */
        load_tile<WIDTH, TILE>(t.k, a.v, b, g, from, keys, a.f);
        __syncthreads();
        weighted_rows<WIDTH, TILE, false>(rows.o, t.p, t.k);
        __syncthreads();
    }
    store_tile<WIDTH, TILE>(a, rows, b, h, first);
}

/* ---- calls ----------------------------------------------------------------------------------- */

template <int WIDTH, int TILE> __global__ void attend(attend_args a)
{
    each_tile(a, (a.tq + TILE - 1) / TILE, a.h, [&](int64_t tile, int64_t h, int64_t b) {
        attend_tile<WIDTH, TILE>(a, tile * TILE, h, b);
    });
}

template <int WIDTH, int TILE> static int launch(td_cuda *cuda, const attend_args &a)
{
    constexpr size_t shared = sizeof(forward_tile<WIDTH, TILE>);
    unsigned         grid = item_grid(&a, td_cuda_pieces(a.tq, TILE), a.h);
    if (cudaFuncSetAttribute(attend<WIDTH, TILE>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared))
        return TD_EUNSUPPORTED;
    attend<WIDTH, TILE><<<grid, TD_CUDA_THREADS, shared, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

/* Wider heads are left to the op's lowering. */
bool td_cuda_accepts_attend(const td_call *call)
{
    return call->in[TD_ATTEND_Q].dim[3] <= ATTEND_WIDEST &&
           call->in[TD_ATTEND_V].dim[3] <= ATTEND_WIDEST;
}

static int run(td_cuda *cuda, const attend_args &a)
{
    int64_t width = a.e > a.f ? a.e : a.f;
    if (!a.b || !a.h || !a.tq)
        return 0;
    if (width <= 64)
        return launch<64, 64>(cuda, a);
    return width <= 128 ? launch<128, 64>(cuda, a) : launch<ATTEND_WIDEST, 32>(cuda, a);
}

int td_cuda_attend(const td_call *call)
{
    attend_args a = attend_args_of(call);
    a.o = axes_of(td_cuda_out(call, 0));
    a.lse = axes_of(td_cuda_out(call, 1));
    return run(td_cuda_of(call), a);
}

int td_cuda_repair_attend(td_cuda *cuda, attend_args a)
{
    a.lse.at.data = NULL; /* no value enters it */
    return a.o.at.data ? run(cuda, a) : 0;
}
