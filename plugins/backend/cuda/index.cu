/* index.cu - gather, scatter_add, append.
 *
 * Ids and lengths come from data. A kernel that finds one outside its range leaves that row alone
 * and notes a fault, which `sync` turns into the run's failure.
 */
#include <cub/device/device_radix_sort.cuh>

#include "device.cuh"
#include "kernels.h"
#include "tandem/generation.h"

/* ---- gather ---------------------------------------------------------------------------------- */

/* Rows are `width` words; 0 where the id is bad. */
template <class W>
__global__ void gather(const W *table, const int *ids, W *y, int64_t count, int64_t width,
                       int64_t rows, int *fault)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int     id;
    if (n >= count)
        return;
    id = ids[n / width];
    if (id < 0 || id >= rows)
        *fault = 1;
    y[n] = id < 0 || id >= rows ? W() : table[id * width + n % width];
}

template <class W> static int run_gather(const td_call *call)
{
    const td_view *table = &call->in[0], *y = &call->out[0];
    td_cuda       *cuda = td_cuda_of(call);
    int64_t        count = td_cuda_count(y) * td_cuda_size(y) / (int64_t)sizeof(W);
    gather<W><<<td_cuda_grid(count, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(
        (const W *)table->data, (const int *)call->in[1].data, (W *)y->data, count,
        count / td_cuda_count(&call->in[1]), table->dim[0], cuda->faults_seen + TD_CUDA_BAD_ID);
    return td_cuda_launched(cuda);
}

int td_cuda_gather(const td_call *call)
{
    const td_view *table = &call->in[0], *y = &call->out[0];
    int64_t        row;
    if (!td_cuda_count(y))
        return 0;
    row = td_cuda_count(y) / td_cuda_count(&call->in[1]) * td_cuda_size(y);
    if (row % 16 == 0 && ((uintptr_t)table->data | (uintptr_t)y->data) % 16 == 0)
        return run_gather<uint4>(call);
    return td_cuda_size(y) == 2 ? run_gather<uint16_t>(call) : run_gather<uint32_t>(call);
}

/* ---- scatter_add -----------------------------------------------------------------------------
 *
 * The row numbers are sorted by id; rows with the same id keep their order. Then each id's rows are
 * added one after another, by the block of threads at which its stretch begins. Only integers are
 * sorted, so the order is the same every time.
 */

typedef struct sorting {
    uint32_t *keys, *values, *sorted_keys, *sorted_values;
    void     *temporary;
    size_t    temporary_bytes, bytes;
} sorting;

static size_t sort_bytes(int64_t n)
{
    size_t    bytes = 0;
    uint32_t *none = NULL;
    cub::DeviceRadixSort::SortPairs((void *)NULL, bytes, none, none, none, none, (int)n);
    return bytes;
}

/* The parts of a workspace; NULL: only compute its size. */
static sorting sorting_of(void *workspace, int64_t n)
{
    sorting s = {};
    char   *at = (char *)workspace;
    size_t  list = td_cuda_align((size_t)n * sizeof(uint32_t));
    s.keys = (uint32_t *)at;
    s.values = (uint32_t *)(at + list);
    s.sorted_keys = (uint32_t *)(at + 2 * list);
    s.sorted_values = (uint32_t *)(at + 3 * list);
    s.temporary = at + 4 * list;
    s.temporary_bytes = sort_bytes(n);
    s.bytes = 4 * list + td_cuda_align(s.temporary_bytes);
    return s;
}

/* Bad ids are sorted after all others, as row `rows`. */
__global__ void number_rows(const int *ids, uint32_t *keys, uint32_t *values, int64_t n,
                            int64_t rows, int *fault)
{
    int64_t k = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    bool    bad;
    if (k >= n)
        return;
    bad = ids[k] < 0 || ids[k] >= rows;
    if (bad)
        *fault = 1;
    keys[k] = bad ? (uint32_t)rows : (uint32_t)ids[k];
    values[k] = (uint32_t)k;
}

/* Block (position, part of the width). The rows of an id are read ahead, but added in order. */
template <class T>
__global__ void add_stretches(const uint32_t *keys, const uint32_t *values, const T *src, T *y,
                              int64_t n, int64_t width, int64_t rows)
{
    enum { AHEAD = 8 };
    int64_t  p = blockIdx.x, column = (int64_t)blockIdx.y * 128 + threadIdx.x;
    uint32_t id = keys[p];
    T        sum, next[AHEAD];
    /* the thread at the first row of an id adds all its rows, in order: always the same bits */
    if (column >= width || id >= rows || (p > 0 && keys[p - 1] == id))
        return;
    sum = y[id * width + column];
    while (p < n && keys[p] == id) {
        int found = 0;
        for (int k = 0; k < AHEAD; k++)
            if (p + k < n && keys[p + k] == id) {
                next[k] = src[values[p + k] * width + column];
                found = k + 1;
            }
        for (int k = 0; k < AHEAD; k++)
            if (k < found)
                sum += next[k];
        p += AHEAD;
    }
    y[id * width + column] = sum;
}

size_t td_cuda_scatter_add_workspace(const td_call *call)
{
    int64_t n = td_cuda_count(&call->in[0]);
    return n ? sorting_of(NULL, n).bytes : 0;
}

/* Start from the accumulator, which may be the output's own memory, or from zeros. */
static int start_from(td_cuda *cuda, const td_view *accumulator, const td_view *y)
{
    size_t      bytes = (size_t)td_cuda_count(y) * 4;
    cudaError_t code = cudaSuccess;
    if (!accumulator)
        code = cudaMemsetAsync(y->data, 0, bytes, cuda->stream);
    else if (accumulator->data != y->data)
        code = cudaMemcpyAsync(y->data, accumulator->data, bytes, cudaMemcpyDeviceToDevice,
                               cuda->stream);
    return code == cudaSuccess ? 0 : TD_EIO;
}

int td_cuda_scatter_add(const td_call *call)
{
    const td_view *ids = &call->in[0], *src = &call->in[1], *y = &call->out[0];
    td_cuda       *cuda = td_cuda_of(call);
    int64_t        n = td_cuda_count(ids), rows = y->dim[0], width;
    sorting        s;

    if (start_from(cuda, td_cuda_in(call, 2), y))
        return TD_EIO;
    if (!n || !td_cuda_count(y))
        return 0;
    width = td_cuda_count(src) / n;
    s = sorting_of(call->workspace, n);
    number_rows<<<td_cuda_grid(n, TD_CUDA_THREADS), TD_CUDA_THREADS, 0, cuda->stream>>>(
        (const int *)ids->data, s.keys, s.values, n, rows, cuda->faults_seen + TD_CUDA_BAD_ID);
    /* stable: rows of one id keep their order */
    if (cub::DeviceRadixSort::SortPairs(s.temporary, s.temporary_bytes, s.keys, s.sorted_keys,
                                        s.values, s.sorted_values, (int)n, 0, 32, cuda->stream))
        return TD_EIO;
    dim3 grid((unsigned)n, td_cuda_grid(width, 128));
    if (src->dtype == TD_I32)
        add_stretches<unsigned><<<grid, 128, 0, cuda->stream>>>(s.sorted_keys, s.sorted_values,
                                                                (const unsigned *)src->data,
                                                                (unsigned *)y->data, n, width,
                                                                rows);
    else
        add_stretches<float><<<grid, 128, 0, cuda->stream>>>(s.sorted_keys, s.sorted_values,
                                                             (const float *)src->data,
                                                             (float *)y->data, n, width, rows);
    return td_cuda_launched(cuda);
}

/* ---- append ---------------------------------------------------------------------------------- */

typedef struct append_args {
    td_strided     x, buffer;
    int64_t        count, slots, tokens, rows;
    int            axis;
    bool           ring;
    const int32_t *lengths, *counts;
    int64_t        length_step, count_step;
    const void    *from;
    void          *to;
    int           *fault;
} append_args;

__device__ inline bool has_room(const append_args &a, int64_t row)
{
    int64_t length = a.lengths[row * a.length_step], count = a.counts[row * a.count_step];
    return length >= 0 && count >= 0 && count <= a.tokens && count <= a.slots &&
           (a.ring || length + count <= a.slots);
}

/* Nothing is written unless all rows have room, so every block looks at all of them. Elements are
 * words. */
template <class W> __global__ void append(append_args a)
{
    int64_t n = (int64_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x;
    int64_t rest = n, from = 0, to = 0, row = 0, token = 0;
    bool    full = false;
    td_begin();
    for (int64_t r = threadIdx.x; r < a.rows; r += TD_CUDA_THREADS)
        full |= !has_room(a, r);
    if (__syncthreads_or(full)) {
        *a.fault = 1;
        return;
    }
    if (n >= a.count)
        return;
    for (int k = a.x.rank - 1; k >= 0; k--) {
        int64_t i = rest % a.x.dim[k];
        rest /= a.x.dim[k];
        from += i * a.x.stride[k];
        if (k == a.axis)
            token = i;
        else
            to += i * a.buffer.stride[k];
        row = k == 0 ? i : row;
    }
    if (token >= a.counts[row * a.count_step])
        return;
    to += (a.lengths[row * a.length_step] + token) % a.slots * a.buffer.stride[a.axis];
    ((W *)a.to)[to] = ((const W *)a.from)[from];
}

int td_cuda_append(const td_call *call)
{
    const td_view *x = &call->in[TD_APPEND_NEW], *buffer = &call->out[0];
    const td_view *lengths = &call->in[TD_APPEND_LENGTHS], *counts = &call->in[TD_APPEND_COUNTS];
    td_cuda       *cuda = td_cuda_of(call);
    append_args    a = {};

    a.x = td_strided_of(x);
    a.buffer = td_strided_of(buffer);
    a.axis = (int)call->attrs->i[0];
    a.ring = call->attrs->i[1] != 0;
    a.count = td_cuda_count(x);
    a.slots = buffer->dim[a.axis];
    a.tokens = x->dim[a.axis];
    a.rows = buffer->dim[0];
    a.lengths = (const int32_t *)lengths->data;
    a.counts = (const int32_t *)counts->data;
    /* one number may serve all rows */
    a.length_step = lengths->dim[0] == 1 ? 0 : lengths->stride[0];
    a.count_step = counts->dim[0] == 1 ? 0 : counts->stride[0];
    a.from = x->data;
    a.to = buffer->data;
    a.fault = cuda->faults_seen + TD_CUDA_NO_ROOM;
    if (!a.count)
        return 0;
    /* words are moved as they are, so their size is all that matters */
    return td_cuda_launch(cuda, td_cuda_grid(a.count, TD_CUDA_THREADS), 0, 1,
                          td_cuda_size(x) == 2 ? append<uint16_t> : append<uint32_t>, a);
}
