/* measure.cu - the rate at which the device reads memory, for `tandem bench`. */
#include "device.cuh"
#include "kernels.h"

enum { READ_RUNS = 8 };

/* Far more than the caches hold. */
#define READ_BYTES ((size_t)2 << 30)

/* A sum, so that no read can be left out. */
__global__ void read_all(const float4 *x, int64_t n, float *sums)
{
    float  sum = 0;
    size_t step = (size_t)gridDim.x * TD_CUDA_THREADS;
    for (size_t k = (size_t)blockIdx.x * TD_CUDA_THREADS + threadIdx.x; k < (size_t)n; k += step) {
        float4 v = x[k];
        sum += (v.x + v.y) + (v.z + v.w);
    }
    sum = td_block_sum(sum);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

/* The best of several runs, after one to warm up. */
static double best_rate(td_cuda *cuda, const float4 *memory, float *sums, unsigned blocks)
{
    cudaEvent_t start, end;
    double      best = 0;
    if (cudaEventCreate(&start) || cudaEventCreate(&end))
        return 0;
    for (int k = 0; k <= READ_RUNS; k++) {
        float ms = 0;
        cudaEventRecord(start, cuda->stream);
        read_all<<<blocks, TD_CUDA_THREADS, 0, cuda->stream>>>(memory, READ_BYTES / 16, sums);
        cudaEventRecord(end, cuda->stream);
        if (cudaEventSynchronize(end) == cudaSuccess && !cudaEventElapsedTime(&ms, start, end) &&
            ms > 0 && k > 0)
            best = fmax(best, (double)READ_BYTES / (1e-3 * ms));
    }
    cudaEventDestroy(start);
    cudaEventDestroy(end);
    return best;
}

double td_cuda_read_rate(td_cuda *cuda)
{
    unsigned blocks = (unsigned)cuda->properties.multiProcessorCount * 8;
    char    *memory = NULL;
    double   rate = 0;
    if (cudaMalloc((void **)&memory, READ_BYTES + blocks * sizeof(float)) != cudaSuccess) {
        cudaGetLastError(); /* running out of memory here must not fail later calls */
        return 0;
    }
    if (cudaMemsetAsync(memory, 1, READ_BYTES, cuda->stream) == cudaSuccess)
        rate = best_rate(cuda, (const float4 *)memory, (float *)(memory + READ_BYTES), blocks);
    cudaStreamSynchronize(cuda->stream);
    cudaFree(memory);
    return rate;
}
