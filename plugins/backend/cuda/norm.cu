/* norm.cu - RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last axis.
 *
 * y = (x - mean) r w + b, r = 1 / sqrt(mean((x - mean)^2) + eps); in RMSNorm the mean is taken as 0
 * and there is no b. Rows may lie anywhere, their elements `step` apart.
 *
 * Rows that can be read in vectors, of up to 4096 elements, are held in registers by 16, 32 or 256
 * threads, so that memory is read once. Others take a block for each row, which reads them twice.
 */
#include "device.cuh"
#include "kernels.h"

/* Sums over the LANES threads that share a row, for all of them. */
template <int LANES> __device__ inline float row_sum(float x)
{
    if constexpr (LANES > 32)
        return td_block_sum(x);
    else {
        for (int k = LANES / 2; k > 0; k /= 2)
            x += __shfl_xor_sync(0xffffffffu, x, k);
        return x;
    }
}

/* Operands of a walk over rows. */
enum { ROW_IN, ROW_OUT, ROW_MEAN, ROW_ROOT, ROW_OPERANDS };

typedef struct norm_args {
    td_walk  rows;
    int64_t  width, step_in, step_out;
    td_reals in, out, weight, bias, means, roots;
    float    eps;
    bool     centre;
} norm_args;

/* The statistics of a row, by one of its threads. */
__device__ inline void store_statistics(const norm_args &a, const int64_t (&at)[ROW_OPERANDS],
                                        float mean, float root)
{
    if (a.means.data)
        td_set(a.means, at[ROW_MEAN], mean);
    if (a.roots.data)
        td_set(a.roots, at[ROW_ROOT], root);
}

__global__ void norm_any(norm_args a)
{
    int64_t at[ROW_OPERANDS], from, to;
    float   mean = 0, square = 0, root;
    td_begin();
    td_walk_at<ROW_OPERANDS>(a.rows, blockIdx.x, at);
    from = at[ROW_IN];
    to = at[ROW_OUT];
    for (int64_t k = threadIdx.x; a.centre && k < a.width; k += TD_CUDA_THREADS)
        mean += td_get(a.in, from + k * a.step_in);
    if (a.centre)
        mean = td_block_sum(mean) / (float)a.width;
    /* of differences, in a pass of its own: mean(x^2) - mean^2 would cancel */
    for (int64_t k = threadIdx.x; k < a.width; k += TD_CUDA_THREADS) {
        float x = td_get(a.in, from + k * a.step_in) - mean;
        square += x * x;
    }
    root = 1 / sqrtf(td_block_sum(square) / (float)a.width + a.eps);
    for (int64_t k = threadIdx.x; a.out.data && k < a.width; k += TD_CUDA_THREADS)
        td_set(a.out, to + k * a.step_out,
               (td_get(a.in, from + k * a.step_in) - mean) * root *
                       (a.weight.data ? td_get(a.weight, k) : 1) +
                   (a.bias.data ? td_get(a.bias, k) : 0));
    if (threadIdx.x == 0)
        store_statistics(a, at, mean, root);
}

/* The vectors of a row that a thread has: its i-th begins at element V (lane + i LANES). Zeros
 * beyond the row. */
template <int LANES, int V, int ROUNDS>
__device__ inline void load_row(float (&to)[ROUNDS][V], const td_reals &x, int64_t at, int lane,
                                int64_t width)
{
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        int64_t k = (int64_t)(lane + i * LANES) * V;
        if (k < width)
            td_get_some<V>(x, at + k, to[i]);
        else
            for (int j = 0; j < V; j++)
                to[i][j] = 0;
    }
}

template <int LANES, int ROUNDS, int V> __global__ void norm_rows(norm_args a)
{
    int64_t r = (int64_t)blockIdx.x * (TD_CUDA_THREADS / LANES) + threadIdx.x / LANES;
    int     lane = threadIdx.x % LANES;
    bool    there = r < a.rows.count;
    int64_t at[ROW_OPERANDS];
    float   x[ROUNDS][V], mean = 0, square = 0, root;

    td_begin();
    td_walk_at<ROW_OPERANDS>(a.rows, there ? r : 0, at);
    /* threads beyond the last row take part as well, since sums need whole warps */
    load_row<LANES, V>(x, a.in, at[ROW_IN], lane, there ? a.width : 0);
    if (a.centre) {
        for (int i = 0; i < ROUNDS; i++)
            for (int j = 0; j < V; j++)
                mean += x[i][j];
        mean = row_sum<LANES>(mean) / (float)a.width;
    }
#pragma unroll
    for (int i = 0; i < ROUNDS; i++)
        if ((int64_t)(lane + i * LANES) * V < a.width)
            for (int j = 0; j < V; j++) {
                x[i][j] -= mean;
                square += x[i][j] * x[i][j];
            }
    root = 1 / sqrtf(row_sum<LANES>(square) / (float)a.width + a.eps);
    if (!there)
        return;
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        int64_t k = (int64_t)(lane + i * LANES) * V;
        if (k >= a.width || !a.out.data)
            continue;
        for (int j = 0; j < V; j++)
            x[i][j] = x[i][j] * root * (a.weight.data ? td_get(a.weight, k + j) : 1) +
                      (a.bias.data ? td_get(a.bias, k + j) : 0);
        td_set_some<V>(a.out, at[ROW_OUT] + k, x[i]);
    }
    if (lane == 0)
        store_statistics(a, at, mean, root);
}

enum { SHORT = 128, MIDDLE = 1024, LONG = 4096 };

/* f(LANES, ROUNDS, V) as the width requires; LONG is the maximum. Short rows are those of heads,
 * in bf16 if anything is; among others there are sums of layers in f32. */
#define BY_WIDTH(width, f)                        \
    do {                                          \
        if ((width) <= SHORT)                     \
            f(16, 1, TD_VECTOR);                  \
        else if ((width) <= MIDDLE)               \
            f(32, 8, TD_VECTOR_F32);              \
        else                                      \
            f(TD_CUDA_THREADS, 4, TD_VECTOR_F32); \
    } while (0)

static float *wanted(const td_call *call, int k)
{
    const td_view *v = td_cuda_out(call, k);
    return v ? (float *)v->data : NULL;
}

static int run_norm(const td_call *call, bool centre)
{
    const td_view *x = &call->in[0], *y = td_cuda_out(call, 0);
    const td_view *mean = centre ? td_cuda_out(call, 1) : NULL;
    const td_view *root = td_cuda_out(call, centre ? 2 : 1), *row[] = { x, y, mean, root };
    td_cuda       *cuda = td_cuda_of(call);
    int            code = 0;
    norm_args      a = {};

    a.rows = td_walk_rows(row, ROW_OPERANDS);
    a.width = td_cuda_last(x);
    a.step_in = td_last_stride(x);
    a.step_out = y ? td_last_stride(y) : 1;
    a.in = td_reals_of(x);
    a.weight = td_reals_of(td_cuda_in(call, 1));
    a.bias = td_reals_of(centre ? td_cuda_in(call, 2) : NULL);
    a.out = td_reals_of(y);
    a.means = td_reals_of(mean);
    a.roots = td_reals_of(root);
    a.eps = (float)call->attrs->f[0];
    a.centre = centre;
    if (!td_cuda_count(x))
        return 0;
#define ROWS(lanes, rounds, vector)                                                          \
    code = td_cuda_launch(cuda, td_cuda_grid(a.rows.count, TD_CUDA_THREADS / (lanes)), 0, 1, \
                          norm_rows<lanes, rounds, vector>, a)
    if (a.width <= LONG && td_has_vectors(x) && (!y || td_has_vectors(y)))
        BY_WIDTH(a.width, ROWS);
    else
        code = td_cuda_launch(cuda, td_cuda_grid(a.rows.count, 1), 0, 1, norm_any, a);
#undef ROWS
    return code;
}

int td_cuda_rms_norm(const td_call *call) { return run_norm(call, false); }
int td_cuda_layer_norm(const td_call *call) { return run_norm(call, true); }

/* ---- gradients -------------------------------------------------------------------------------
 *
 * With n = (x - mean) r and dn = dy w: dx = r (dn - mean(dn) - n mean(dn n)), dw += dy n, db += dy;
 * without mean(dn) in RMSNorm. A block has GRAD_ROWS rows, and leaves their sums for dw and db.
 */

enum { GRAD_ROWS = 64, SIDE = 8 };

/* Operands of a walk over rows. */
enum { GRAD_DY, GRAD_X, GRAD_DX, GRAD_MEAN, GRAD_ROOT, GRAD_OPERANDS };

typedef struct norm_grad_args {
    td_walk  rows;
    int64_t  width, pieces, step_dy, step_x, step_dx;
    td_reals grad, in, out, weight, means, roots;
    float   *dw, *db;
    float   *parts; /* [2][pieces][width]: sums of a piece of rows, for dw and db */
    bool     sums;
} norm_grad_args;

/* Where a row's parts are, and its statistics. */
typedef struct row_facts {
    int64_t at[GRAD_OPERANDS];
    float   mean, root;
} row_facts;

__device__ inline row_facts facts_of(const norm_grad_args &a, int64_t r)
{
    row_facts f;
    td_walk_at<GRAD_OPERANDS>(a.rows, r, f.at);
    f.mean = a.means.data ? td_get(a.means, f.at[GRAD_MEAN]) : 0;
    f.root = td_get(a.roots, f.at[GRAD_ROOT]);
    return f;
}

__global__ void norm_grad_any(norm_grad_args a)
{
    row_facts f = facts_of(a, blockIdx.x);
    int64_t   dy = f.at[GRAD_DY], x = f.at[GRAD_X], dx = f.at[GRAD_DX];
    float     sum = 0, dot = 0;
    for (int64_t k = threadIdx.x; k < a.width; k += TD_CUDA_THREADS) {
        float dn = td_get(a.grad, dy + k * a.step_dy) * (a.weight.data ? td_get(a.weight, k) : 1);
        sum += dn;
        dot += dn * (td_get(a.in, x + k * a.step_x) - f.mean) * f.root;
    }
    /* RMSNorm has no means, and no such term */
    sum = a.means.data ? td_block_sum(sum) / (float)a.width : 0;
    dot = td_block_sum(dot) / (float)a.width;
    for (int64_t k = threadIdx.x; k < a.width; k += TD_CUDA_THREADS) {
        float dn = td_get(a.grad, dy + k * a.step_dy) * (a.weight.data ? td_get(a.weight, k) : 1);
        float n = (td_get(a.in, x + k * a.step_x) - f.mean) * f.root;
        td_set(a.out, dx + k * a.step_dx, f.root * (dn - sum - n * dot));
    }
}

/* The sum over the SIDE threads of a column, in order, for those of row 0 of a 32 x SIDE block. */
template <class T> __device__ inline T column_sum(T x)
{
    __shared__ T part[SIDE][32];
    __syncthreads();
    part[threadIdx.y][threadIdx.x] = x;
    __syncthreads();
    x = part[0][threadIdx.x];
    for (int k = 1; k < SIDE; k++)
        x += part[k][threadIdx.x];
    return x;
}

/* SIDE threads for each column, down a piece of the rows. */
__global__ void norm_columns(norm_grad_args a)
{
    int64_t k = (int64_t)blockIdx.y * 32 + threadIdx.x, piece = blockIdx.x;
    int64_t end = min(a.rows.count, (piece + 1) * GRAD_ROWS);
    float   dw = 0, db = 0;
    for (int64_t r = piece * GRAD_ROWS + threadIdx.y; k < a.width && r < end; r += SIDE) {
        row_facts f = facts_of(a, r);
        float     dy = td_get(a.grad, f.at[GRAD_DY] + k * a.step_dy);
        dw += dy * (td_get(a.in, f.at[GRAD_X] + k * a.step_x) - f.mean) * f.root;
        db += dy;
    }
    dw = column_sum(dw);
    db = column_sum(db);
    if (threadIdx.y || k >= a.width)
        return;
    a.parts[piece * a.width + k] = dw;
    a.parts[(a.pieces + piece) * a.width + k] = db;
}

/* A row's dx, and its terms of dw and db. CENTRE: of LayerNorm. */
template <int LANES, bool CENTRE, int V, int ROUNDS>
__device__ inline void grad_row(const norm_grad_args &a, int64_t r, int lane,
                                float (&dw)[ROUNDS][V], float (&db)[ROUNDS][V])
{
    bool      there = r < a.rows.count;
    row_facts f = facts_of(a, there ? r : 0);
    int64_t   width = there ? a.width : 0;
    float     dy[ROUNDS][V], n[ROUNDS][V], sum = 0, dot = 0;

    /* lanes without a row still take part in the sums of their warp, with zeros */
    load_row<LANES, V>(dy, a.grad, f.at[GRAD_DY], lane, width);
    load_row<LANES, V>(n, a.in, f.at[GRAD_X], lane, width);
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        int64_t k = (int64_t)(lane + i * LANES) * V;
        if (k < width)
            for (int j = 0; j < V; j++) {
                n[i][j] = (CENTRE ? n[i][j] - f.mean : n[i][j]) * f.root;
                dw[i][j] += dy[i][j] * n[i][j];
                if (CENTRE)
                    db[i][j] += dy[i][j];
                dy[i][j] *= a.weight.data ? td_get(a.weight, k + j) : 1;
                sum += dy[i][j];
                dot += dy[i][j] * n[i][j];
            }
    }
    sum = CENTRE ? row_sum<LANES>(sum) / (float)a.width : 0;
    dot = row_sum<LANES>(dot) / (float)a.width;
    if (!a.out.data || !there)
        return;
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        int64_t k = (int64_t)(lane + i * LANES) * V;
        for (int j = 0; j < V; j++)
            dy[i][j] = f.root * (dy[i][j] - sum - n[i][j] * dot);
        if (k < width)
            td_set_some<V>(a.out, f.at[GRAD_DX] + k, dy[i]);
    }
}

/* The sums of one vector over the block's rows, which GROUPS groups of LANES threads have, in their
 * order. */
template <int LANES, int V>
__device__ inline void store_sums(float *to, const float (&x)[V], int lane, int64_t k,
                                  int64_t width)
{
    constexpr int    GROUPS = TD_CUDA_THREADS / LANES;
    __shared__ float part[V][TD_CUDA_THREADS];
    __syncthreads();
    for (int j = 0; j < V; j++)
        part[j][threadIdx.x] = x[j];
    __syncthreads();
    if (threadIdx.x >= LANES || k >= width)
        return;
    for (int j = 0; j < V; j++) {
        float sum = 0;
        for (int g = 0; g < GROUPS; g++)
            sum += part[j][g * LANES + lane];
        to[k + j] = sum;
    }
}

/* So many registers that two blocks of long rows still share a multiprocessor. */
template <int LANES, int ROUNDS, int V, bool CENTRE>
__global__ void __launch_bounds__(TD_CUDA_THREADS, 2) norm_grad_rows(norm_grad_args a)
{
    constexpr int GROUPS = TD_CUDA_THREADS / LANES;
    int           lane = threadIdx.x % LANES, group = threadIdx.x / LANES;
    int64_t       piece = blockIdx.x;
    float         dw[ROUNDS][V] = {}, db[ROUNDS][V] = {};

    for (int64_t r = piece * GRAD_ROWS + group; r < (piece + 1) * GRAD_ROWS; r += GROUPS)
        grad_row<LANES, CENTRE, V>(a, r, lane, dw, db);
    for (int i = 0; a.sums && i < ROUNDS; i++) {
        int64_t k = (int64_t)(lane + i * LANES) * V;
        store_sums<LANES, V>(a.parts + piece * a.width, dw[i], lane, k, a.width);
        if (CENTRE)
            store_sums<LANES, V>(a.parts + (a.pieces + piece) * a.width, db[i], lane, k, a.width);
    }
}

/* The pieces' sums. */
__global__ void norm_parts(norm_grad_args a)
{
    int64_t k = (int64_t)blockIdx.x * 32 + threadIdx.x;
    double  dw = 0, db = 0;
    for (int64_t p = threadIdx.y; k < a.width && p < a.pieces; p += SIDE) {
        dw += a.parts[p * a.width + k];
        if (a.db)
            db += a.parts[(a.pieces + p) * a.width + k];
    }
    dw = column_sum(dw);
    db = column_sum(db);
    if (threadIdx.y || k >= a.width)
        return;
    if (a.dw)
        a.dw[k] = (float)dw;
    if (a.db)
        a.db[k] = (float)db;
}

size_t td_cuda_norm_grad_workspace(const td_call *call)
{
    const td_view *x = &call->in[1];
    return (size_t)(2 * td_cuda_pieces(td_cuda_rows(x), GRAD_ROWS) * td_cuda_last(x)) *
           sizeof(float);
}

/* dx, and the pieces' sums, for rows of any width and strides. */
static int launch_grad_any(td_cuda *cuda, const norm_grad_args &a)
{
    dim3 pieces((unsigned)a.pieces, td_cuda_grid(a.width, 32));
    if (a.out.data)
        norm_grad_any<<<td_cuda_grid(a.rows.count, 1), TD_CUDA_THREADS, 0, cuda->stream>>>(a);
    if (a.sums)
        norm_columns<<<pieces, dim3(32, SIDE), 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

static int launch_grad(td_cuda *cuda, const norm_grad_args &a, bool vectors)
{
    if (a.width > LONG || !vectors)
        return launch_grad_any(cuda, a);
#define ROWS(lanes, rounds, vector)              \
    norm_grad_rows<lanes, rounds, vector, false> \
        <<<(unsigned)a.pieces, TD_CUDA_THREADS, 0, cuda->stream>>>(a)
#define CENTRED(lanes, rounds, vector)          \
    norm_grad_rows<lanes, rounds, vector, true> \
        <<<(unsigned)a.pieces, TD_CUDA_THREADS, 0, cuda->stream>>>(a)
    if (a.means.data)
        BY_WIDTH(a.width, CENTRED);
    else
        BY_WIDTH(a.width, ROWS);
#undef CENTRED
#undef ROWS
    return td_cuda_launched(cuda);
}

static int run_norm_grad(const td_call *call, const td_view *mean, const td_view *root)
{
    const td_view *dy = &call->in[0], *x = &call->in[1], *dx = td_cuda_out(call, 0);
    const td_view *row[] = { dy, x, dx, mean, root };
    td_cuda       *cuda = td_cuda_of(call);
    norm_grad_args a = {};
    bool           vectors = td_has_vectors(dy) && td_has_vectors(x) && (!dx || td_has_vectors(dx));

    a.rows = td_walk_rows(row, GRAD_OPERANDS);
    a.width = td_cuda_last(x);
    a.pieces = td_cuda_pieces(a.rows.count, GRAD_ROWS);
    a.step_dy = td_last_stride(dy);
    a.step_x = td_last_stride(x);
    a.step_dx = dx ? td_last_stride(dx) : 1;
    a.grad = td_reals_of(dy);
    a.in = td_reals_of(x);
    a.weight = td_reals_of(td_cuda_in(call, 2));
    a.means = td_reals_of(mean);
    a.roots = td_reals_of(root);
    a.out = td_reals_of(dx);
    a.dw = wanted(call, 1);
    a.db = wanted(call, 2);
    a.parts = (float *)call->workspace;
    a.sums = a.dw || a.db;
    if (!a.width)
        return 0;
    if (a.rows.count && launch_grad(cuda, a, vectors))
        return TD_EIO;
    if (!a.sums)
        return 0;
    /* sums over fixed pieces of the rows, added in order */
    norm_parts<<<td_cuda_grid(a.width, 32), dim3(32, SIDE), 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

int td_cuda_rms_norm_grad(const td_call *call)
{
    return run_norm_grad(call, NULL, td_cuda_in(call, 3));
}

int td_cuda_layer_norm_grad(const td_call *call)
{
    return run_norm_grad(call, td_cuda_in(call, 3), td_cuda_in(call, 4));
}
