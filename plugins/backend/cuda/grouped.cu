/* grouped.cu - products of rows with the matrices of their groups, as a mixture of experts needs
 * them. A tile of rows meets the groups that occur in it one after the other: one or two if the
 * rows are sorted by group, and the result is right in any order. */
#include "device.cuh"
#include "kernels.h"

enum { TILE = 32 };

typedef struct grouped_args {
    td_reals   x, w, y;
    const int *group;
    int64_t    rows, inner, width, groups;
    bool       transposed;
} grouped_args;

/* y_n = x_n W_g(n), or x_n W_g(n)^T. A block of 32 x 8 threads computes 32 rows by 32 columns; a
 * thread has rows ty, ty + 8, .. of column tx. A row of no group becomes 0. */
__global__ void grouped_matmul(grouped_args a)
{
    __shared__ float xs[TILE][TILE + 1], ws[TILE][TILE + 1];
    __shared__ int   groups[TILE];
    int              tx = threadIdx.x, ty = threadIdx.y;
    int64_t          row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
    float            sum[TILE / 8] = {};

    if (ty == 0) {
        int g = row + tx < a.rows ? a.group[row + tx] : -1;
        groups[tx] = g < a.groups ? g : -1;
    }
    __syncthreads();
    for (int first = 0; first < TILE; first++) {
        int  g = groups[first];
        bool seen = g < 0;
        for (int k = 0; k < first; k++)
            seen = seen || groups[k] == g;
        if (seen) /* the same for all threads */
            continue;
        for (int64_t k = 0; k < a.inner; k += TILE) {
            for (int r = ty; r < TILE; r += 8) {
                int64_t i = k + r, j = column + tx;
                xs[r][tx] = groups[r] == g && k + tx < a.inner
                                ? td_get(a.x, (row + r) * a.inner + k + tx)
                                : 0;
                if (a.transposed) {
                    i = k + tx;
                    j = column + r;
                    ws[tx][r] = i < a.inner && j < a.width
                                    ? td_get(a.w, (g * a.width + j) * a.inner + i)
                                    : 0;
                } else
                    ws[r][tx] = i < a.inner && j < a.width
                                    ? td_get(a.w, (g * a.inner + i) * a.width + j)
                                    : 0;
            }
            __syncthreads();
            for (int r = 0; r < TILE / 8; r++)
                if (groups[ty + 8 * r] == g)
                    for (int i = 0; i < TILE; i++)
                        sum[r] += xs[ty + 8 * r][i] * ws[i][tx];
            __syncthreads();
        }
    }
    for (int r = 0; r < TILE / 8; r++)
        if (row + ty + 8 * r < a.rows && column + tx < a.width)
            td_set(a.y, (row + ty + 8 * r) * a.width + column + tx, sum[r]);
}

int td_cuda_grouped_matmul(const td_call *call)
{
    const td_view *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    td_cuda       *cuda = td_cuda_of(call);
    grouped_args   a = {};

    a.x = td_reals_of(x);
    a.w = td_reals_of(w);
    a.group = (const int *)call->in[2].data;
    a.y = td_reals_of(y);
    a.rows = y->dim[0];
    a.inner = x->dim[1];
    a.width = y->dim[1];
    a.groups = w->dim[0];
    a.transposed = call->attrs->i[0] != 0;
    if (!td_cuda_count(y))
        return 0;
    grouped_matmul<<<dim3(td_cuda_grid(a.width, TILE), td_cuda_grid(a.rows, TILE)), dim3(TILE, 8),
                     0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}

typedef struct outer_args {
    td_reals   x, y, start, out;
    const int *group;
    int64_t    rows, p, q;
} outer_args;

/* out_g = sum of x_n^T y_n over the rows of group g, in their order. Block (q tile, p tile, g). */
__global__ void grouped_outer(outer_args a)
{
    __shared__ float xs[TILE][TILE + 1], ys[TILE][TILE + 1];
    int              tx = threadIdx.x, ty = threadIdx.y, g = blockIdx.z;
    int64_t          p = (int64_t)blockIdx.y * TILE, q = (int64_t)blockIdx.x * TILE;
    float            sum[TILE / 8] = {};

    for (int64_t n = 0; n < a.rows; n += TILE) {
        bool mine = false;
        for (int r = ty; r < TILE; r += 8)
            mine = mine || (n + r < a.rows && a.group[n + r] == g);
        /* rows of a group are usually adjacent, so most tiles have none of them */
        if (!__syncthreads_or(mine))
            continue;
        for (int r = ty; r < TILE; r += 8) {
            bool in = n + r < a.rows && a.group[n + r] == g;
            xs[r][tx] = in && p + tx < a.p ? td_get(a.x, (n + r) * a.p + p + tx) : 0;
            ys[r][tx] = in && q + tx < a.q ? td_get(a.y, (n + r) * a.q + q + tx) : 0;
        }
        __syncthreads();
        for (int i = 0; i < TILE; i++)
            for (int r = 0; r < TILE / 8; r++)
                sum[r] += xs[i][ty + 8 * r] * ys[i][tx];
        __syncthreads();
    }
    for (int r = 0; r < TILE / 8; r++) {
        int64_t i = p + ty + 8 * r, j = q + tx, at = (g * a.p + i) * a.q + j;
        if (i < a.p && j < a.q)
            td_set(a.out, at, sum[r] + (a.start.data ? td_get(a.start, at) : 0));
    }
}

int td_cuda_grouped_outer(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->in[1], *out = &call->out[0];
    const td_view *start = td_cuda_in(call, 3);
    td_cuda       *cuda = td_cuda_of(call);
    outer_args     a = {};

    a.x = td_reals_of(x);
    a.y = td_reals_of(y);
    a.start = td_reals_of(start);
    a.group = (const int *)call->in[2].data;
    a.out = td_reals_of(out);
    a.rows = x->dim[0];
    a.p = x->dim[1];
    a.q = y->dim[1];
    if (!td_cuda_count(out))
        return 0;
    grouped_outer<<<dim3(td_cuda_grid(a.q, TILE), td_cuda_grid(a.p, TILE), (unsigned)out->dim[0]),
                    dim3(TILE, 8), 0, cuda->stream>>>(a);
    return td_cuda_launched(cuda);
}
