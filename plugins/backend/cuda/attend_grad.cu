/* attend_grad.cu - the gradient of attention, from its output and logsumexp (Dao et al. 2022).
 *
 * With weights p:  dv = p^T do,  ds = p (do v^T - sum_f do o),  dq = scale ds k,  dk = scale ds^T q,
 * where a cap multiplies ds by its slope, but not the gradients of biases, which are ds as well
 *
 * Two passes compute the weights again, tile by tile: one with a block for each tile of queries,
 * which owns its rows of dq, and one with a block for each tile of keys, which owns its rows of dk
 * and dv. That takes 7 products instead of the 5 of a single pass, but no two blocks add to the
 * same memory, so the order of arrival does not matter.
 */
#include "attend.cuh"
#include "kernels.h"

enum { DQ, DK, DV, DTABLE, DDENSE };

/* sum_f do o for each query, by one warp per query. */
__global__ void output_means(attend_args a)
{
    int64_t n = (int64_t)blockIdx.x * (TD_CUDA_THREADS / 32) + threadIdx.x / 32;
    int64_t i = n % a.tq, h = n / a.tq % a.h, b = n / a.tq / a.h;
    float   sum = 0;
    if (n >= a.b * a.h * a.tq)
        return;
    for (int64_t f = threadIdx.x % 32; f < a.f; f += 32)
        sum += td_get(a.grad.at, place(a.grad, b, h, i, f)) *
               td_get(a.o.at, place(a.o, b, h, i, f));
    for (int k = 16; k > 0; k /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, k);
    if (threadIdx.x % 32 == 0)
        a.means[n] = sum;
}

/* ---- one tile -------------------------------------------------------------------------------- */

/* Queries and their output's gradients, keys, values, weights or score gradients, statistics. */
template <int WIDTH, int TILE> struct grad_tile {
    float q[TILE * (WIDTH + 4)], go[TILE * (WIDTH + 4)], k[TILE * (WIDTH + 4)],
        v[TILE * (WIDTH + 4)], p[TILE * (TILE + 4)], ds[TILE * (TILE + 4)], lse[TILE], mean[TILE];
    tile_tokens<TILE> qt, kt;
};

template <int WIDTH, int TILE>
__device__ inline void load_queries(grad_tile<WIDTH, TILE> &t, const attend_args &a, int64_t b,
                                    int64_t h, int64_t first)
{
    int64_t i = first + threadIdx.x;
    load_tile<WIDTH, TILE>(t.q, a.q, b, h, first, a.tq, a.e);
    load_tile<WIDTH, TILE>(t.go, a.grad, b, h, first, a.tq, a.f);
    if (threadIdx.x < TILE && i < a.tq) {
        t.lse[threadIdx.x] = td_get(a.lse.at, place(a.lse, b, h, i, 0));
        t.mean[threadIdx.x] = a.means[(b * a.h + h) * a.means_row + i * a.means_step];
    }
}

/* Weights and score gradients of the tile's pairs. With `slopes`, these are the gradients after the
 * cap, and its slopes take the place of the weights. */
template <int WIDTH, int TILE>
__device__ inline void pair_gradients(grad_tile<WIDTH, TILE> &t, const attend_args &a,
                                      unsigned bits, int64_t b, int64_t h, int64_t first,
                                      int64_t from, bool slopes)
{
    constexpr int N = TILE / ATTEND_SIDE, LS = TILE + 4;
    int           tx = threadIdx.x % ATTEND_SIDE, ty = threadIdx.x / ATTEND_SIDE;
    float         s[N][N], dp[N][N];
    pair_products<WIDTH, TILE>(s, t.q, t.k, (int)a.e);
    pair_products<WIDTH, TILE>(dp, t.go, t.v, (int)a.f);
    for (int r = 0; r < N; r++)
        for (int c = 0; c < N; c++) {
            int   i = ty + ATTEND_SIDE * r, j = tx + ATTEND_SIDE * c;
            bool  seen = bits >> (r * N + c) & 1;
            float p = 0;
            if (seen && t.lse[i] != -CUDART_INF_F)
                p = expf(score<TILE>(a, s[r][c], t.qt, t.kt, b, h, i, j, first + i, from + j) -
                         t.lse[i]);
            float slope = cap_slope(a, s[r][c]);
            t.p[i * LS + j] = slopes ? slope : p;
            t.ds[i * LS + j] = p == 0 ? 0 : p * (dp[r][c] - t.mean[i]) * (slopes ? 1 : slope);
        }
}

/* From gradients after the cap to those before it; a hidden pair's slope may be NaN. */
template <int WIDTH, int TILE> __device__ inline void apply_slopes(grad_tile<WIDTH, TILE> &t)
{
    constexpr int LS = TILE + 4;
    for (int n = threadIdx.x; n < TILE * TILE; n += TD_CUDA_THREADS) {
        int at = n / TILE * LS + n % TILE;
        t.ds[at] = t.ds[at] == 0 ? 0 : t.ds[at] * t.p[at];
    }
}

/* ---- queries --------------------------------------------------------------------------------- */

/* The score gradients of one tile to the block's own entries of the table, and to the dense
 * mask's. Each entry belongs to one thread, which adds the pairs in order. */
template <int WIDTH, int TILE>
__device__ inline void bias_gradients(grad_tile<WIDTH, TILE> &t, const attend_args &a, int64_t b,
                                      int64_t h, int64_t first, int64_t from, int64_t keys)
{
    constexpr int LS = TILE + 4;
    int           rows = (int)min((int64_t)TILE, a.tq - first);
    int           columns = (int)min((int64_t)TILE, keys - from);
    for (int n = threadIdx.x; a.ddense.at.data && n < rows * columns; n += TD_CUDA_THREADS) {
        int i = n / columns, j = n % columns;
        td_set(a.ddense.at, place(a.ddense, b, h, first + i, from + j), t.ds[i * LS + j]);
    }
    if (!a.parts)
        return;
    int lowest = 0, highest = 0;
    for (int j = 1; j < columns; j++) {
        lowest = t.kt.position[j] < t.kt.position[lowest] ? j : lowest;
        highest = t.kt.position[j] > t.kt.position[highest] ? j : highest;
    }
    float  *own = a.parts + ((b * a.h + h) * a.tiles + first / TILE) * a.r;
    int64_t low = a.r - 1, high = 0;
    /* a distance grows with the key's position and falls with the query's: the extremes of a tile
     * are among the pairs of its extremes, in whatever order the positions come */
    for (int i = 0; i < rows; i++) {
        low = min(low, distance<TILE>(a, t.qt, t.kt, i, lowest));
        high = max(high, distance<TILE>(a, t.qt, t.kt, i, highest));
    }
    for (int64_t r = low + threadIdx.x; r <= high; r += TD_CUDA_THREADS) {
        float sum = 0;
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                if (distance<TILE>(a, t.qt, t.kt, i, j) == r)
                    sum += t.ds[i * LS + j];
        own[r] += sum;
    }
}

/* A tile of queries, from `first` on. */
template <int WIDTH, int TILE>
__device__ inline void query_tile(const attend_args &a, int64_t first, int64_t h, int64_t b)
{
    constexpr int     N = TILE / ATTEND_SIDE, C = WIDTH / ATTEND_SIDE;
    extern __shared__ __align__(16) float memory[];
    grad_tile<WIDTH, TILE>               &t = *(grad_tile<WIDTH, TILE> *)memory;
    int                                   ty = threadIdx.x / ATTEND_SIDE;
    int64_t                               g = h / (a.h / a.g), keys = keys_of(a, b);
    bool                                  biases = a.parts || a.ddense.at.data;
    bool                                  slopes = biases && a.cap > 0;
    float                                 dq[N][C] = {};

    for (int64_t r = threadIdx.x; a.parts && r < a.r; r += TD_CUDA_THREADS)
        a.parts[((b * a.h + h) * a.tiles + first / TILE) * a.r + r] = 0;
    load_queries<WIDTH, TILE>(t, a, b, h, first);
    load_tokens<TILE>(t.qt, a.q_index, a.q_segment, a.q_input, a.q_position, b, first, a.tq);
    for (int64_t from = 0; from < keys; from += TILE) {
        unsigned bits;
        load_tokens<TILE>(t.kt, a.k_index, a.k_segment, a.k_input, a.k_position, b, from, keys);
        __syncthreads();
        bits = visible_pairs<TILE>(a, t.qt, t.kt, a.tq - first, keys - from);
        /* no thread of the block sees a visible pair: keys and values are not even loaded */
        if (!__syncthreads_or(bits != 0))
            continue;
        load_tile<WIDTH, TILE>(t.k, a.k, b, g, from, keys, a.e);
        load_tile<WIDTH, TILE>(t.v, a.v, b, g, from, keys, a.f);
        __syncthreads();
        pair_gradients<WIDTH, TILE>(t, a, bits, b, h, first, from, slopes);
        __syncthreads();
        if (biases)
            bias_gradients<WIDTH, TILE>(t, a, b, h, first, from, keys);
        if (slopes) {
            __syncthreads();
            apply_slopes<WIDTH, TILE>(t);
            __syncthreads();
        }
        weighted_rows<WIDTH, TILE, false>(dq, t.ds, t.k);
        __syncthreads();
    }
    for (int r = 0; a.dq.at.data && r < N; r++)
        for (int c = 0; c < C; c++) {
            int64_t i = first + ty + ATTEND_SIDE * r, e = output_column(c);
            if (i < a.tq && e < a.e)
                store(a, a.dq, place(a.dq, b, h, i, e), a.scale * dq[r][c]);
        }
}

template <int WIDTH, int TILE> __global__ void query_gradients(attend_args a)
{
    each_tile(a, (a.tq + TILE - 1) / TILE, a.h, [&](int64_t tile, int64_t h, int64_t b) {
        query_tile<WIDTH, TILE>(a, tile * TILE, h, b);
    });
}

/* The table's gradient: the blocks' own sums, in order. */
__global__ void table_gradient(attend_args a, axes4 to)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x, h = n / a.r, r = n % a.r;
    double  sum = 0;
    if (n >= a.h * a.r)
        return;
    for (int64_t b = 0; b < a.b; b++)
        for (int64_t k = 0; k < a.tiles; k++)
            sum += a.parts[((b * a.h + h) * a.tiles + k) * a.r + r];
    td_set(to.at, h * to.step[0] + r * to.step[1], (float)sum);
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A tile of keys of key head g, from `from` on: all query heads of the group, one after another. */
template <int WIDTH, int TILE>
__device__ inline void key_tile(const attend_args &a, int64_t from, int64_t g, int64_t b)
{
    constexpr int     N = TILE / ATTEND_SIDE, C = WIDTH / ATTEND_SIDE;
    extern __shared__ __align__(16) float memory[];
    grad_tile<WIDTH, TILE>               &t = *(grad_tile<WIDTH, TILE> *)memory;
    int                                   ty = threadIdx.x / ATTEND_SIDE;
    int64_t                               share = a.h / a.g, keys = keys_of(a, b);
    float                                 dk[N][C] = {}, dv[N][C] = {};

    load_tile<WIDTH, TILE>(t.k, a.k, b, g, from, keys, a.e);
    load_tile<WIDTH, TILE>(t.v, a.v, b, g, from, keys, a.f);
    load_tokens<TILE>(t.kt, a.k_index, a.k_segment, a.k_input, a.k_position, b, from, keys);
    for (int64_t h = g * share; from < keys && h < (g + 1) * share; h++)
        for (int64_t first = 0; first < a.tq; first += TILE) {
            unsigned bits;
            load_tokens<TILE>(t.qt, a.q_index, a.q_segment, a.q_input, a.q_position, b, first,
                              a.tq);
            __syncthreads();
            bits = visible_pairs<TILE>(a, t.qt, t.kt, a.tq - first, keys - from);
            /* queries are loaded only for tiles with a visible pair */
            if (!__syncthreads_or(bits != 0))
                continue;
            load_queries<WIDTH, TILE>(t, a, b, h, first);
            __syncthreads();
            pair_gradients<WIDTH, TILE>(t, a, bits, b, h, first, from, false);
            __syncthreads();
            weighted_rows<WIDTH, TILE, true>(dk, t.ds, t.q);
            weighted_rows<WIDTH, TILE, true>(dv, t.p, t.go);
            __syncthreads();
        }
    for (int r = 0; r < N; r++)
        for (int c = 0; c < C; c++) {
            int64_t j = from + ty + ATTEND_SIDE * r, e = output_column(c);
            if (j >= a.tk)
                continue;
            if (a.dk.at.data && e < a.e)
                store(a, a.dk, place(a.dk, b, g, j, e), a.scale * dk[r][c]);
            if (a.dv.at.data && e < a.f)
                store(a, a.dv, place(a.dv, b, g, j, e), dv[r][c]);
        }
}

template <int WIDTH, int TILE> __global__ void key_gradients(attend_args a)
{
    each_tile(a, (a.tk + TILE - 1) / TILE, a.g, [&](int64_t tile, int64_t g, int64_t b) {
        key_tile<WIDTH, TILE>(a, tile * TILE, g, b);
    });
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The largest tiles that fit into the shared memory of this GPU: large GPUs have 227 KiB of it,
 * others 99 or 163. */
static int64_t tile_of(const td_cuda *cuda, int64_t width)
{
    size_t shared = cuda->properties.sharedMemPerBlockOptin;
    return width <= 64 || (width <= 128 && sizeof(grad_tile<128, 64>) <= shared) ? 64 : 32;
}

static int64_t width_of(const attend_args *a) { return a->e > a->f ? a->e : a->f; }

static size_t means_bytes(const attend_args *a)
{
    return td_cuda_align((size_t)(a->b * a->h * a->tq) * sizeof(float));
}

size_t td_cuda_attend_grad_workspace(const td_call *call)
{
    attend_args a = attend_args_of(call);
    size_t      parts = (size_t)(a.b * a.h *
                            td_cuda_pieces(a.tq, tile_of(td_cuda_of(call), width_of(&a))) * a.r);
    return means_bytes(&a) + (td_cuda_out(call, DTABLE) ? parts * sizeof(float) : 0);
}

/* The gradient of a dense mask that broadcasts would be a sum over blocks. */
bool td_cuda_accepts_attend_grad(const td_call *call)
{
    const td_view *dense = td_cuda_out(call, DDENSE) ? td_cuda_in(call, TD_ATTEND_DENSE) : NULL;
    const td_view *q = &call->in[TD_ATTEND_Q];
    return td_cuda_accepts_attend(call) &&
           (!dense || (dense->dim[0] == q->dim[0] && dense->dim[1] == q->dim[1]));
}

template <int WIDTH, int TILE> static int launch(td_cuda *cuda, const attend_args &a)
{
    constexpr size_t  shared = sizeof(grad_tile<WIDTH, TILE>);
    cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    unsigned          queries = item_grid(&a, td_cuda_pieces(a.tq, TILE), a.h);
    unsigned          keys = item_grid(&a, td_cuda_pieces(a.tk, TILE), a.g);

    /* more than 48 KiB of shared memory must be asked for */
    if (cudaFuncSetAttribute(query_gradients<WIDTH, TILE>, most, (int)shared) ||
        cudaFuncSetAttribute(key_gradients<WIDTH, TILE>, most, (int)shared))
        return TD_EUNSUPPORTED;
    if (a.tq && (a.dq.at.data || a.parts || a.ddense.at.data))
        query_gradients<WIDTH, TILE><<<queries, TD_CUDA_THREADS, shared, cuda->stream>>>(a);
    if (a.tk && (a.dk.at.data || a.dv.at.data))
        key_gradients<WIDTH, TILE><<<keys, TD_CUDA_THREADS, shared, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

static int run(td_cuda *cuda, const attend_args &a)
{
    int64_t width = width_of(&a);
    if (width <= 64)
        return launch<64, 64>(cuda, a);
    if (width <= 128)
        return tile_of(cuda, width) == 64 ? launch<128, 64>(cuda, a) : launch<128, 32>(cuda, a);
    return launch<ATTEND_WIDEST, 32>(cuda, a);
}

int td_cuda_repair_attend_grad(td_cuda *cuda, const attend_args &a) { return run(cuda, a); }

int td_cuda_attend_grad(const td_call *call)
{
    const td_view *dtable = td_cuda_out(call, DTABLE), *ddense = td_cuda_out(call, DDENSE);
    td_cuda       *cuda = td_cuda_of(call);
    attend_args    a = attend_args_of(call);
    int64_t        width = width_of(&a), queries = a.b * a.h * a.tq;
    axes4          to = axes_of(dtable);
    int            code;

    a.o = axes_of(&call->in[TD_ATTEND_OUT]);
    a.lse = axes_of(&call->in[TD_ATTEND_LSE]);
    a.grad = axes_of(&call->in[TD_ATTEND_GRAD]);
    a.dq = axes_of(td_cuda_out(call, DQ));
    a.dk = axes_of(td_cuda_out(call, DK));
    a.dv = axes_of(td_cuda_out(call, DV));
    a.ddense = axes_of(ddense);
    a.tiles = td_cuda_pieces(a.tq, tile_of(cuda, width));
    a.means = (float *)call->workspace;
    a.means_row = a.tq;
    a.means_step = 1;
    if (dtable && a.table.at.data)
        a.parts = (float *)((char *)call->workspace + means_bytes(&a));
    /* skipped tiles write nothing */
    if (ddense && td_cuda_fill(cuda, ddense, 0))
        return TD_EIO;
    if (dtable && !a.table.at.data && td_cuda_fill(cuda, dtable, 0))
        return TD_EIO;
    if (!a.b || !a.h)
        return 0;
    if (queries) {
        output_means<<<td_cuda_grid(queries, TD_CUDA_THREADS / 32), TD_CUDA_THREADS, 0,
                       cuda->stream>>>(a);
        if (td_cuda_launched(cuda))
            return TD_EIO;
    }
    code = run(cuda, a);
    if (code || !a.parts || !a.r)
        return code;
    table_gradient<<<td_cuda_grid(a.h * a.r, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(
        a, to);
    return td_cuda_launched(cuda);
}
