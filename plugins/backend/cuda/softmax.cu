/* softmax.cu - softmax and its gradient over the last axis, a block for each row. */
#include <math_constants.h>

#include "device.cuh"
#include "kernels.h"

__global__ void softmax(const float *x, float *y, int64_t width)
{
    float top = -CUDART_INF_F, sum = 0;
    x += (int64_t)blockIdx.x * width;
    y += (int64_t)blockIdx.x * width;
    for (int64_t k = threadIdx.x; k < width; k += TD_CUDA_THREADS)
        top = fmaxf(top, x[k]);
    top = td_block_reduce(top, td_larger());
    for (int64_t k = threadIdx.x; k < width; k += TD_CUDA_THREADS)
        sum += expf(x[k] - top);
    sum = td_block_sum(sum);
    for (int64_t k = threadIdx.x; k < width; k += TD_CUDA_THREADS)
        y[k] = expf(x[k] - top) / sum;
}

int td_cuda_softmax(const td_call *call)
{
    const td_view *x = &call->in[0];
    td_cuda       *cuda = td_cuda_of(call);
    if (!td_cuda_count(x))
        return 0;
    softmax<<<(unsigned)td_cuda_rows(x), TD_CUDA_THREADS, 0, cuda->stream>>>(
        (const float *)x->data, (float *)call->out[0].data, td_cuda_last(x));
    return td_cuda_launched(cuda);
}

/* dx = y (dy - sum dy y) */
__global__ void softmax_grad(const float *dy, const float *y, float *dx, int64_t width)
{
    int64_t row = (int64_t)blockIdx.x * width;
    float   dot = 0;
    for (int64_t k = threadIdx.x; k < width; k += TD_CUDA_THREADS)
        dot += dy[row + k] * y[row + k];
    dot = td_block_sum(dot);
    for (int64_t k = threadIdx.x; k < width; k += TD_CUDA_THREADS)
        dx[row + k] = y[row + k] * (dy[row + k] - dot);
}

int td_cuda_softmax_grad(const td_call *call)
{
    const td_view *y = &call->in[1];
    td_cuda       *cuda = td_cuda_of(call);
    if (!td_cuda_count(y))
        return 0;
    softmax_grad<<<(unsigned)td_cuda_rows(y), TD_CUDA_THREADS, 0, cuda->stream>>>(
        (const float *)call->in[0].data, (const float *)y->data, (float *)call->out[0].data,
        td_cuda_last(y));
    return td_cuda_launched(cuda);
}
