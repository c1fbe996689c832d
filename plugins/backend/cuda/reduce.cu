/* reduce.cu - sum, max, cumsum, topk, sum of squares. NaN propagates.
 *
 * The elements that one output sums are cut into pieces; the cuts depend only on how many there
 * are. A block adds a piece, thread by thread and then as a tree; the pieces' sums, in the
 * workspace, are added in order by a second launch. So a sum over everything uses the whole GPU,
 * and its bits depend only on dims.
 */
#include <limits.h>
#include <math_constants.h>

#include "device.cuh"
#include "kernels.h"

enum { PIECE = 1 << 12, COLUMN_ROWS = 256 };

/* A reduction as two nested walks: over the outputs, and over what one of them reduces. */
typedef struct reduction {
    td_walk out; /* operand 0: y, operand 1: x */
    td_walk in;  /* operand 0: x */
} reduction;

/* Axis by axis, x belongs to one of the walks: y has a dim of 1 where x is reduced. */
static reduction reduction_of(const td_view *x, const td_view *y)
{
    td_view        kept = *x, base = *x, gone = *x;
    const td_view *outer[2] = { y, &base }, *inner[1] = { &gone };
    reduction      r;
    for (int a = 0; a < x->rank; a++) {
        bool reduced = y->dim[a] == 1 && x->dim[a] != 1;
        kept.dim[a] = reduced ? 1 : x->dim[a];
        base.dim[a] = kept.dim[a];
        gone.dim[a] = reduced ? x->dim[a] : 1;
    }
    r.out = td_walk_of(&kept, outer, 2);
    r.in = td_walk_of(&gone, inner, 1);
    return r;
}

/* How an element enters a sum, and the value of an empty sum. */
struct plain_sum {
    typedef double           sum;
    __device__ static double from(float x) { return x; }
    __device__ static double empty() { return 0; }
    __device__ double        operator()(double x, double y) const { return x + y; }
};
struct integer_sum {
    typedef int           sum;
    __device__ static int from(int x) { return x; }
    __device__ static int empty() { return 0; }
    __device__ int operator()(int x, int y) const { return (int)((unsigned)x + (unsigned)y); }
};
struct square_sum : plain_sum {
    __device__ static double from(float x) { return (double)x * x; }
};
struct real_max : td_larger {
    typedef float           sum;
    __device__ static float from(float x) { return x; }
    __device__ static float empty() { return -CUDART_INF_F; }
};
struct integer_max : td_larger {
    typedef int           sum;
    __device__ static int from(int x) { return x; }
    __device__ static int empty() { return INT_MIN; }
};

/* Block (piece, output). With one piece the result goes straight to y. */
template <class T, class F, bool FLAT>
__global__ void reduce_pieces(reduction r, const T *x, T *y, typename F::sum *parts, int64_t pieces)
{
    F               f;
    typename F::sum sum = F::empty();
    for (int64_t o = blockIdx.y; o < r.out.count; o += gridDim.y) {
        int64_t at[2], end = min(r.in.count, (int64_t)(blockIdx.x + 1) * PIECE), inner[1];
        td_walk_at<2>(r.out, o, at);
        sum = F::empty();
        for (int64_t n = (int64_t)blockIdx.x * PIECE + threadIdx.x; n < end; n += TD_CUDA_THREADS) {
            if (FLAT)
                inner[0] = n * r.in.step[0][0];
            else
                td_walk_at<1>(r.in, n, inner);
            sum = f(sum, F::from(x[at[1] + inner[0]]));
        }
        sum = td_block_reduce(sum, f);
        if (threadIdx.x)
            continue;
        /* a single piece is the result: no second kernel adds the parts */
        if (pieces == 1)
            y[at[0]] = (T)sum;
        else
            parts[o * pieces + blockIdx.x] = sum;
    }
}

/* A thread for each output; the pieces in order. */
template <class T, class F>
__global__ void reduce_few_parts(reduction r, T *y, const typename F::sum *parts, int64_t pieces)
{
    F               f;
    int64_t         o = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x, at[2];
    typename F::sum sum = F::empty();
    if (o >= r.out.count)
        return;
    td_walk_at<2>(r.out, o, at);
    for (int64_t k = 0; k < pieces; k++)
        sum = f(sum, parts[o * pieces + k]);
    y[at[0]] = (T)sum;
}

/* A block for each output. */
template <class T, class F>
__global__ void reduce_many_parts(reduction r, T *y, const typename F::sum *parts, int64_t pieces)
{
    F               f;
    int64_t         at[2];
    typename F::sum sum = F::empty();
    td_walk_at<2>(r.out, blockIdx.x, at);
    for (int64_t k = threadIdx.x; k < pieces; k += TD_CUDA_THREADS)
        sum = f(sum, parts[blockIdx.x * pieces + k]);
    sum = td_block_reduce(sum, f);
    if (threadIdx.x == 0)
        y[at[0]] = (T)sum;
}

/* Neighbouring outputs lie side by side in x: a thread for each, down a piece of the rows. */
template <class T, class F>
__global__ void reduce_columns(reduction r, const T *x, typename F::sum *parts, int64_t pieces)
{
    F               f;
    int64_t         o = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x, at[2], inner[1];
    int64_t         end = min(r.in.count, (int64_t)(blockIdx.y + 1) * COLUMN_ROWS);
    typename F::sum sum = F::empty();
    if (o >= r.out.count)
        return;
    td_walk_at<2>(r.out, o, at);
    for (int64_t n = (int64_t)blockIdx.y * COLUMN_ROWS; n < end; n++) {
        td_walk_at<1>(r.in, n, inner);
        sum = f(sum, F::from(x[at[1] + inner[0]]));
    }
    parts[o * pieces + blockIdx.y] = sum;
}

/* Whether outputs are side by side in x while what they reduce is not; the grid's y must hold the
 * pieces. */
static bool is_by_column(const reduction *r)
{
    const td_walk *o = &r->out, *i = &r->in;
    return o->rank && o->step[1][o->rank - 1] == 1 && i->rank && i->step[0][i->rank - 1] != 1 &&
           o->count >= 32 && i->count > 1 && td_cuda_pieces(i->count, COLUMN_ROWS) < 65536;
}

static int64_t pieces_of(const reduction *r)
{
    int64_t pieces = td_cuda_pieces(r->in.count, is_by_column(r) ? COLUMN_ROWS : PIECE);
    return pieces < 1 ? 1 : pieces;
}

template <class T, class F> static int reduce(const td_call *call, const td_view *y)
{
    td_cuda         *cuda = td_cuda_of(call);
    reduction        r = reduction_of(&call->in[0], y);
    int64_t          pieces = pieces_of(&r);
    const T         *x = (const T *)call->in[0].data;
    typename F::sum *parts = (typename F::sum *)call->workspace;
    bool             columns = is_by_column(&r);
    unsigned         across = td_cuda_grid(r.out.count, TD_CUDA_THREADS);
    dim3             grid((unsigned)pieces, r.out.count < 65535 ? (unsigned)r.out.count : 65535u);

    if (!r.out.count)
        return 0;
    if (columns)
        reduce_columns<T, F>
            <<<dim3(across, (unsigned)pieces), TD_CUDA_THREADS, 0, cuda->stream>>>(r, x, parts,
                                                                                   pieces);
    else if (r.in.rank == 1)
        reduce_pieces<T, F, true>
            <<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>(r, x, (T *)y->data, parts, pieces);
    else
        reduce_pieces<T, F, false>
            <<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>(r, x, (T *)y->data, parts, pieces);
    if (td_cuda_launched(cuda))
        return TD_EIO;
    if (!columns && pieces == 1)
        return 0;
    /* one thread for each output would add too many parts one after another */
    if (pieces > 32)
        reduce_many_parts<T, F>
            <<<(unsigned)r.out.count, TD_CUDA_THREADS, 0, cuda->stream>>>(r, (T *)y->data, parts,
                                                                          pieces);
    else
        reduce_few_parts<T, F>
            <<<across, TD_CUDA_THREADS, 0, cuda->stream>>>(r, (T *)y->data, parts, pieces);
    return td_cuda_launched(cuda);
}

size_t td_cuda_reduce_workspace(const td_call *call)
{
    reduction r = reduction_of(&call->in[0], &call->out[0]);
    return (size_t)(r.out.count * pieces_of(&r)) * sizeof(double);
}

int td_cuda_sum(const td_call *call)
{
    return call->in[0].dtype == TD_I32 ? reduce<int, integer_sum>(call, &call->out[0])
                                       : reduce<float, plain_sum>(call, &call->out[0]);
}

int td_cuda_max(const td_call *call)
{
    return call->in[0].dtype == TD_I32 ? reduce<int, integer_max>(call, &call->out[0])
                                       : reduce<float, real_max>(call, &call->out[0]);
}

/* A block for each piece of a dense tensor that is aligned to 16 bytes: four loads to a thread. */
__global__ void square_pieces(const float4 *x, float *y, double *parts, int64_t count)
{
    int64_t first = (int64_t)blockIdx.x * (PIECE / 4) + threadIdx.x;
    float4  four[PIECE / 4 / TD_CUDA_THREADS];
    double  sum = 0;
#pragma unroll
    /* all loads are under way before the first is used */
    for (int k = 0; k < PIECE / 4 / TD_CUDA_THREADS; k++) {
        int64_t n = first + k * TD_CUDA_THREADS;
        four[k] = n < count / 4 ? x[n] : make_float4(0, 0, 0, 0);
    }
#pragma unroll
    for (int k = 0; k < PIECE / 4 / TD_CUDA_THREADS; k++)
        sum += (double)four[k].x * four[k].x + (double)four[k].y * four[k].y +
               (double)four[k].z * four[k].z + (double)four[k].w * four[k].w;
    sum = td_block_sum(sum);
    if (threadIdx.x)
        return;
    if (gridDim.x == 1)
        *y = (float)sum;
    else
        parts[blockIdx.x] = sum;
}

/* The output is a scalar: seen as the input's dims, all reduced to 1. */
static td_view scalar_like(const td_view *x, void *data)
{
    td_view y = *x;
    y.data = data;
    for (int a = 0; a < y.rank; a++)
        y.dim[a] = y.stride[a] = 1;
    return y;
}

static bool is_plain(const td_view *x)
{
    td_walk w = td_walk_of(x, &x, 1);
    return w.rank == 1 && w.count && w.step[0][0] == 1 && w.count % 4 == 0 && td_is_aligned(x);
}

int td_cuda_sum_squares(const td_call *call)
{
    const td_view *x = &call->in[0];
    td_view        y = scalar_like(x, call->out[0].data);
    int64_t        count = td_cuda_count(x), pieces = td_cuda_pieces(count, PIECE);
    td_cuda       *cuda = td_cuda_of(call);
    reduction      r;
    double        *parts = (double *)call->workspace;

    if (!is_plain(x))
        return reduce<float, square_sum>(call, &y);
    square_pieces<<<(unsigned)pieces, TD_CUDA_THREADS, 0, cuda->stream>>>((const float4 *)x->data,
                                                                          (float *)y.data, parts,
                                                                          count);
    if (td_cuda_launched(cuda))
        return TD_EIO;
    /* a single block has stored the result itself */
    if (pieces == 1)
        return 0;
    r = reduction_of(x, &y);
    reduce_many_parts<float, square_sum>
        <<<1, TD_CUDA_THREADS, 0, cuda->stream>>>(r, (float *)y.data, parts, pieces);
    return td_cuda_launched(cuda);
}

size_t td_cuda_sum_squares_workspace(const td_call *call)
{
    return (size_t)(td_cuda_pieces(td_cuda_count(&call->in[0]), PIECE) + 1) * sizeof(double);
}

/* ---- cumsum ---------------------------------------------------------------------------------- */

/* A thread for each line along the axis. */
template <class T>
__global__ void running_sum(const T *x, T *y, int64_t outer, int64_t length, int64_t inner,
                            bool reverse)
{
    int64_t k = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    T       sum = 0;
    if (k >= outer * inner)
        return;
    x += k / inner * length * inner + k % inner;
    y += k / inner * length * inner + k % inner;
    for (int64_t n = 0; n < length; n++) {
        int64_t at = (reverse ? length - 1 - n : n) * inner;
        sum += x[at];
        y[at] = sum;
    }
}

int td_cuda_cumsum(const td_call *call)
{
    const td_view *x = &call->in[0];
    td_cuda       *cuda = td_cuda_of(call);
    int            axis = (int)call->attrs->i[0];
    int64_t        outer = 1, inner = 1;
    bool           reverse = call->attrs->i[1] != 0;
    unsigned       grid;

    for (int a = 0; a < axis; a++)
        outer *= x->dim[a];
    for (int a = axis + 1; a < x->rank; a++)
        inner *= x->dim[a];
    if (!td_cuda_count(x))
        return 0;
    grid = td_cuda_grid(outer * inner, TD_CUDA_THREADS);
    /* unsigned: sums of integers wrap around */
    if (x->dtype == TD_I32)
        running_sum<unsigned>
            <<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>((const unsigned *)x->data,
                                                         (unsigned *)call->out[0].data, outer,
                                                         x->dim[axis], inner, reverse);
    else
        running_sum<float><<<grid, TD_CUDA_THREADS, 0, cuda->stream>>>((const float *)x->data,
                                                                       (float *)call->out[0].data,
                                                                       outer, x->dim[axis], inner,
                                                                       reverse);
    return td_cuda_launched(cuda);
}

/* ---- topk ------------------------------------------------------------------------------------ */

/* An entry of a row; -1: none. */
typedef struct entry {
    float   x;
    int64_t at;
} entry;

/* Does p rank before q: larger, or equal and further left? Any entry ranks before none. */
__device__ inline bool ranks_before(entry p, entry q)
{
    return p.at >= 0 && (q.at < 0 || p.x > q.x || (p.x == q.x && p.at < q.at));
}

/* The best of a block; NaN ranks after everything. */
__device__ entry best_of(entry mine)
{
    __shared__ entry all[TD_CUDA_THREADS];
    __syncthreads();
    all[threadIdx.x] = mine;
    __syncthreads();
    for (int k = TD_CUDA_THREADS / 2; k > 0; k /= 2) {
        if (threadIdx.x < k && ranks_before(all[threadIdx.x + k], all[threadIdx.x]))
            all[threadIdx.x] = all[threadIdx.x + k];
        __syncthreads();
    }
    return all[0];
}

/* A block for each row: k times the best of those that rank after the last one. */
__global__ void largest(const float *x, float *values, int *places, int64_t width, int k)
{
    int64_t r = blockIdx.x;
    entry   last = { 0, -1 };
    x += r * width;
    for (int i = 0; i < k; i++) {
        entry best = { 0, -1 };
        for (int64_t n = threadIdx.x; n < width; n += TD_CUDA_THREADS) {
            entry e = { x[n], n };
            if (e.x == e.x && (last.at < 0 || ranks_before(last, e)) && ranks_before(e, best))
                best = e;
        }
        best = best_of(best);
        if (best.at >= 0)
            last = best; /* only NaN is left otherwise, and the last entry is repeated */
        if (threadIdx.x == 0) {
            int64_t at = last.at < 0 ? 0 : last.at;
            if (values)
                values[r * k + i] = x[at];
            if (places)
                places[r * k + i] = (int)at;
        }
    }
}

int td_cuda_topk(const td_call *call)
{
    const td_view *x = &call->in[0], *values = td_cuda_out(call, 0), *places = td_cuda_out(call, 1);
    td_cuda       *cuda = td_cuda_of(call);
    int64_t        rows = td_cuda_rows(x);

    if (!td_cuda_count(x) || !call->attrs->i[0])
        return 0;
    largest<<<(unsigned)rows, TD_CUDA_THREADS, 0, cuda->stream>>>((const float *)x->data,
                                                                  values ? (float *)values->data
                                                                         : NULL,
                                                                  places ? (int *)places->data
                                                                         : NULL,
                                                                  td_cuda_last(x),
                                                                  (int)call->attrs->i[0]);
    return td_cuda_launched(cuda);
}
