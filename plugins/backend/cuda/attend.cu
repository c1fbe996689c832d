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

template <int WIDTH, int TILE> constexpr size_t attend_shared()
{
    return (2 * TILE * (WIDTH + 4) + TILE * (TILE + 4)) * sizeof(float) +
           2 * sizeof(tile_tokens<TILE>);
}

/* A tile of queries of head h, from `first` on. Shared memory: queries, keys and then values,
 * weights. */
template <int WIDTH, int TILE>
__device__ inline void attend_tile(const attend_args &a, int64_t first, int64_t h, int64_t b)
{
    constexpr int N = TILE / ATTEND_SIDE, C = WIDTH / ATTEND_SIDE, LD = WIDTH + 4, LS = TILE + 4;
    extern __shared__ __align__(16) float memory[];
    float                                *qs = memory, *ks = qs + TILE * LD, *ws = ks + TILE * LD;
    tile_tokens<TILE>                    *qt = (tile_tokens<TILE> *)(ws + TILE * LS), *kt = qt + 1;
    int     tx = threadIdx.x % ATTEND_SIDE, ty = threadIdx.x / ATTEND_SIDE;
    int64_t g = h / (a.h / a.g), keys = keys_of(a, b);
    float   top[N], sum[N], o[N][C] = {};

    for (int r = 0; r < N; r++) {
        top[r] = -CUDART_INF_F;
        sum[r] = 0;
    }
    load_tile<WIDTH, TILE>(qs, a.q, b, h, first, a.tq, a.e);
    load_tokens<TILE>(*qt, a.q_index, a.q_segment, a.q_input, a.q_position, b, first, a.tq);
    for (int64_t from = 0; from < keys; from += TILE) {
        float    s[N][N];
        unsigned bits;
        load_tokens<TILE>(*kt, a.k_index, a.k_segment, a.k_input, a.k_position, b, from, keys);
        __syncthreads();
        bits = visible_pairs<TILE>(a, *qt, *kt, a.tq - first, keys - from);
        if (!__syncthreads_or(bits != 0))
            continue;
        load_tile<WIDTH, TILE>(ks, a.k, b, g, from, keys, a.e);
        __syncthreads();
        pair_products<WIDTH, TILE>(s, qs, ks, (int)a.e);
        for (int r = 0; r < N; r++) {
            int   i = ty + ATTEND_SIDE * r;
            float best = top[r], shrink, total = 0;
            for (int c = 0; c < N; c++) {
                int j = tx + ATTEND_SIDE * c;
                s[r][c] = bits >> (r * N + c) & 1
                              ? score<TILE>(a, s[r][c], *qt, *kt, b, h, i, j, first + i, from + j)
                              : -CUDART_INF_F;
                best = fmaxf(best, s[r][c]);
            }
            best = row_top(best);
            /* when a larger score comes, the sum so far shrinks by e^(old - new) */
            shrink = top[r] == -CUDART_INF_F ? 0 : expf(top[r] - best);
            for (int c = 0; c < N; c++) {
                bool  seen = (bits >> (r * N + c) & 1) && s[r][c] != -CUDART_INF_F;
                float p = seen ? expf(s[r][c] - best) : 0;
                ws[i * LS + tx + ATTEND_SIDE * c] = p;
                total += p;
            }
            sum[r] = sum[r] * shrink + row_total(total);
            top[r] = best;
            for (int c = 0; c < C; c++)
                o[r][c] *= shrink;
        }
        __syncthreads(); /* all threads have read the keys, and the weights are ready */
        load_tile<WIDTH, TILE>(ks, a.v, b, g, from, keys, a.f);
        __syncthreads();
        weighted_rows<WIDTH, TILE, false>(o, ws, ks);
        __syncthreads();
    }
    for (int r = 0; r < N; r++) {
        int64_t i = first + ty + ATTEND_SIDE * r;
        if (i >= a.tq)
            continue;
        for (int c = 0; a.o.at.data && c < C; c++) {
            int64_t f = output_column(c);
            if (f < a.f)
                store(a, a.o, place(a.o, b, h, i, f), sum[r] == 0 ? 0 : o[r][c] / sum[r]);
        }
        if (a.lse.at.data && tx == 0)
            td_set(a.lse.at, place(a.lse, b, h, i, 0),
                   sum[r] == 0 ? -CUDART_INF_F : top[r] + logf(sum[r]));
    }
}

template <int WIDTH, int TILE> __global__ void attend(attend_args a)
{
    each_tile(a, (a.tq + TILE - 1) / TILE, a.h, [&](int64_t tile, int64_t h, int64_t b) {
        attend_tile<WIDTH, TILE>(a, tile * TILE, h, b);
    });
}

template <int WIDTH, int TILE> static int launch(td_cuda *cuda, const attend_args &a)
{
    constexpr size_t shared = attend_shared<WIDTH, TILE>();
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
