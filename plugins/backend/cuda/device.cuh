/* device.cuh - shared by the .cu files: launching, walking over strided tensors, sums in a block.
 *
 * Reals are f32 or bf16, as their views say: td_reals reads and writes either, so that one kernel
 * serves both. Arithmetic is in float, long sums in double.
 */
#ifndef TD_CUDA_DEVICE_CUH
#define TD_CUDA_DEVICE_CUH

#include <cuda_runtime.h>

#include "state.h"

enum { TD_CUDA_THREADS = 256, TD_CUDA_OPERANDS = 5 };

/* Note for `sync` what failed last; the result is what an op's kernel returns. */
static inline int td_cuda_noted(td_cuda *cuda)
{
    cudaError_t code = cudaGetLastError();
    if (code != cudaSuccess && cuda->failed == cudaSuccess)
        cuda->failed = code;
    return code == cudaSuccess ? 0 : TD_EIO;
}

static inline int td_cuda_launched(td_cuda *cuda)
{
    cuda->launches++;
    return td_cuda_noted(cuda);
}

static inline unsigned td_cuda_grid(int64_t n, int64_t per_block)
{
    int64_t blocks = td_cuda_pieces(n, per_block);
    return (unsigned)(blocks < 1 ? 1 : blocks > 0x7fffffff ? 0x7fffffff : blocks);
}

/* ---- kernels that begin early ---------------------------------------------------------------
 *
 * The steps of generation are short, and starting a kernel takes as long as running it. A kernel
 * launched by td_cuda_launch starts while the one in front of it ends.
 */

/* Blocks of the next kernel may start beside this one's, where there is room. */
__device__ inline void td_let_next()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* All kernels in front have ended when this returns. Before it, only what td_call.fixed allows may be
 * read, and nothing may be written. */
__device__ inline void td_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Both, for kernels that read nothing ahead. */
__device__ inline void td_begin()
{
    td_let_next();
    td_wait();
}

/* Code for other GPUs lacks the instructions above: there kernels start one after another. */
static inline bool td_cuda_overlaps(const td_cuda *cuda)
{
#ifdef TD_CUDA_CORES
    return cuda->properties.major == 9 && cuda->properties.minor == 0;
#else
    return false;
#endif
}

/* Once for each kernel with dynamic shared memory: let it have all there is, in clusters of any size.
 * Kernels overlap only on multiprocessors that are divided into shared memory and cache in the same
 * way, so all of these ask for the same. */
static inline int td_cuda_prepare(td_cuda *cuda, const void *kernel)
{
    struct cudaFuncAttributes about;
    int                       most = (int)cuda->properties.sharedMemPerBlockOptin;
    for (int k = 0; k < cuda->n_prepared; k++)
        if (cuda->prepared[k] == kernel)
            return 0;
    if (cudaFuncGetAttributes(&about, kernel) ||
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             most - (int)about.sharedSizeBytes) ||
        cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared) ||
        (td_cuda_overlaps(cuda) &&
         cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1)))
        return TD_EIO;
    /* with a full list kernels are prepared again, which is only slower */
    if (cuda->n_prepared < TD_CUDA_PREPARED)
        cuda->prepared[cuda->n_prepared++] = kernel;
    return 0;
}

/* Launch blocks of TD_CUDA_THREADS threads, `cluster` of which can read each other's shared
 * memory. */
template <class K, class... A>
static inline int td_cuda_launch(td_cuda *cuda, dim3 grid, size_t shared, unsigned cluster,
                                 K kernel, const A &...arguments)
{
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t  how = {};
    how.gridDim = grid;
    how.blockDim = dim3(TD_CUDA_THREADS);
    how.dynamicSmemBytes = shared;
    how.stream = cuda->stream;
    how.attrs = attributes;
    if (td_cuda_overlaps(cuda)) {
        attributes[how.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[how.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (shared && td_cuda_prepare(cuda, (const void *)kernel)) {
        td_cuda_noted(cuda);
        return TD_EIO;
    }
    if (cluster > 1) {
        attributes[how.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[how.numAttrs].val.clusterDim.x = cluster;
        attributes[how.numAttrs].val.clusterDim.y = 1;
        attributes[how.numAttrs++].val.clusterDim.z = 1;
    }
    cudaLaunchKernelEx(&how, kernel, arguments...);
    return td_cuda_launched(cuda);
}

/* ---- reals -----------------------------------------------------------------------------------
 *
 * Elements of f32 or bf16. The choice is the same for all threads of a launch, so the branch costs
 * nothing compared with the memory access.
 */

typedef struct td_reals {
    void *data; /* NULL: absent */
    int   narrow;
} td_reals;

static inline td_reals td_reals_of(const td_view *v)
{
    td_reals x = { v ? v->data : NULL, v && v->dtype == TD_BF16 };
    return x;
}

/* Two floats, each rounded to the nearest bf16, ties to even; `low` is first in memory. */
__device__ inline uint32_t td_narrow2(float low, float high)
{
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

/* What a real becomes when it is stored. */
__device__ inline float td_rounded(float x, bool narrow)
{
    return narrow ? __uint_as_float(td_narrow2(x, 0) << 16) : x;
}

__device__ inline float td_wide_low(uint32_t word) { return __uint_as_float(word << 16); }
__device__ inline float td_wide_high(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

__device__ inline float td_get(const td_reals &x, int64_t n)
{
    return x.narrow ? __uint_as_float((uint32_t)((const uint16_t *)x.data)[n] << 16)
                    : ((const float *)x.data)[n];
}

__device__ inline void td_set(const td_reals &y, int64_t n, float value)
{
    if (y.narrow)
        ((uint16_t *)y.data)[n] = (uint16_t)td_narrow2(value, 0);
    else
        ((float *)y.data)[n] = value;
}

/* Elements from n on: one, or V by accesses of 8 or 16 bytes, to which they must be aligned.
 * Vectors of bf16 have TD_VECTOR elements; where f32 prevails, TD_VECTOR_F32, so that
 * neighbouring threads access neighbouring bytes. */
enum { TD_VECTOR = 8, TD_VECTOR_F32 = 4 };

template <int V> __device__ inline void td_get_some(const td_reals &x, int64_t n, float (&to)[V])
{
    if constexpr (V == 1)
        to[0] = td_get(x, n);
    else if (x.narrow) {
        uint32_t word[V / 2];
        /* one load for all elements: separate ones of 2 bytes would not reach the memory's rate */
        if constexpr (V == 8)
            *(uint4 *)word = *(const uint4 *)((const uint16_t *)x.data + n);
        else
            *(uint2 *)word = *(const uint2 *)((const uint16_t *)x.data + n);
#pragma unroll
        for (int k = 0; k < V / 2; k++) {
            to[2 * k] = td_wide_low(word[k]);
            to[2 * k + 1] = td_wide_high(word[k]);
        }
    } else {
        const float4 *from = (const float4 *)((const float *)x.data + n);
#pragma unroll
        for (int k = 0; k < V / 4; k++) {
            float4 four = from[k];
            to[4 * k] = four.x;
            to[4 * k + 1] = four.y;
            to[4 * k + 2] = four.z;
            to[4 * k + 3] = four.w;
        }
    }
}

template <int V>
__device__ inline void td_set_some(const td_reals &y, int64_t n, const float (&from)[V])
{
    if constexpr (V == 1)
        td_set(y, n, from[0]);
    else if (y.narrow) {
        uint2 *to = (uint2 *)((uint16_t *)y.data + n);
        /* one store for all elements, as in td_get_some */
        if constexpr (V == 8)
            *(uint4 *)to = make_uint4(td_narrow2(from[0], from[1]), td_narrow2(from[2], from[3]),
                                      td_narrow2(from[4], from[5]), td_narrow2(from[6], from[7]));
        else
            *to = make_uint2(td_narrow2(from[0], from[1]), td_narrow2(from[2], from[3]));
    } else {
        float4 *to = (float4 *)((float *)y.data + n);
#pragma unroll
        for (int k = 0; k < V / 4; k++)
            to[k] = make_float4(from[4 * k], from[4 * k + 1], from[4 * k + 2], from[4 * k + 3]);
    }
}

/* Whether rows along the last axis are contiguous, at distances that vectors allow. */
static inline bool td_has_vector_steps(const td_view *v)
{
    int last = v->rank - 1;
    if (v->rank < 1 || v->dim[last] % TD_VECTOR || (v->stride[last] != 1 && v->dim[last] != 1))
        return false;
    for (int a = 0; a < last; a++)
        if (v->dim[a] != 1 && v->stride[a] % TD_VECTOR)
            return false;
    return true;
}

static inline bool td_is_aligned(const td_view *v) { return (uintptr_t)v->data % 16 == 0; }

/* Whether rows can be accessed TD_VECTOR elements at a time; only where addresses are known. */
static inline bool td_has_vectors(const td_view *v)
{
    return td_has_vector_steps(v) && td_is_aligned(v);
}

/* ---- walks -----------------------------------------------------------------------------------
 *
 * Several tensors of the same dims, element by element. Axes that are contiguous with each other in
 * all of them are merged into one, and the axis with the smallest steps of operand 0 is the last:
 * consecutive threads then write consecutive elements, whatever order of axes the planner has
 * chosen.
 */

typedef struct td_walk {
    int32_t rank, operands;
    int64_t count;
    int64_t dim[TD_MAX_RANK];
    int64_t step[TD_CUDA_OPERANDS][TD_MAX_RANK];
} td_walk;

static inline bool td_walk_merges(const td_walk *w, int a)
{
    for (int k = 0; k < w->operands; k++)
        if (w->step[k][a] != w->step[k][a + 1] * w->dim[a + 1])
            return false;
    return true;
}

/* Drop axis a, which has been merged into axis a + 1 or has one element. */
static inline void td_walk_drop(td_walk *w, int a)
{
    for (int b = a; b + 1 < w->rank; b++) {
        w->dim[b] = w->dim[b + 1];
        for (int k = 0; k < w->operands; k++)
            w->step[k][b] = w->step[k][b + 1];
    }
    w->rank--;
}

static inline void td_walk_swap(td_walk *w, int a, int b)
{
    int64_t t = w->dim[a];
    w->dim[a] = w->dim[b];
    w->dim[b] = t;
    for (int k = 0; k < w->operands; k++) {
        t = w->step[k][a];
        w->step[k][a] = w->step[k][b];
        w->step[k][b] = t;
    }
}

/* The dims are those of `dims`; operands are aligned with it at the right, and broadcast. */
static inline td_walk td_walk_of(const td_view *dims, const td_view *const *operand, int operands)
{
    td_walk w = {};
    w.rank = dims->rank;
    w.operands = operands;
    w.count = td_cuda_count(dims);
    for (int a = 0; a < dims->rank; a++)
        w.dim[a] = dims->dim[a];
    for (int k = 0; k < operands; k++)
        for (int a = 0; a < operand[k]->rank; a++)
            w.step[k][dims->rank - operand[k]->rank + a] = operand[k]->dim[a] == 1
                                                               ? 0
                                                               : operand[k]->stride[a];
    for (int a = w.rank - 1; a >= 0; a--)
        if (w.dim[a] == 1)
            td_walk_drop(&w, a);
    /* in the order of operand 0, so that neighbouring threads write neighbouring elements */
    for (int a = 1; a < w.rank; a++)
        for (int b = a; b > 0 && w.step[0][b - 1] < w.step[0][b]; b--)
            td_walk_swap(&w, b - 1, b);
    for (int a = w.rank - 2; a >= 0; a--)
        if (td_walk_merges(&w, a)) {
            w.dim[a + 1] *= w.dim[a];
            td_walk_drop(&w, a);
        }
    return w;
}

/* The rows of several tensors whose dims are the same except the last: the walk is over all
 * other axes. An operand that is NULL moves like the first. */
static inline td_walk td_walk_rows(const td_view *const *operand, int operands)
{
    td_view        view[TD_CUDA_OPERANDS];
    const td_view *rows[TD_CUDA_OPERANDS];
    for (int k = 0; k < operands; k++) {
        view[k] = operand[k] ? *operand[k] : *operand[0];
        view[k].rank = view[k].rank ? view[k].rank - 1 : 0;
        rows[k] = &view[k];
    }
    return td_walk_of(rows[0], rows, operands);
}

/* Walk in vectors of `by` elements along the last axis, if every operand either has them, aligned
 * to 16 bytes, or repeats one element along that axis: such operands are the bits of `repeated`. */
static inline bool td_walk_widen(td_walk *w, int by, const void *const *data, unsigned *repeated)
{
    int last = w->rank - 1;
    if (by == 1 || w->rank < 1 || w->dim[last] % by)
        return false;
    *repeated = 0;
    for (int k = 0; k < w->operands; k++) {
        bool vectors = w->step[k][last] == 1 && (uintptr_t)data[k] % 16 == 0;
        for (int a = 0; a < last; a++)
            vectors = vectors && w->step[k][a] % by == 0;
        if (!vectors && w->step[k][last])
            return false;
        *repeated |= vectors ? 0 : 1u << k;
    }
    w->dim[last] /= by;
    w->count /= by;
    for (int k = 0; k < w->operands; k++)
        w->step[k][last] *= by;
    return true;
}

/* Where element n of each operand is. */
template <int N> __device__ inline void td_walk_at(const td_walk &w, int64_t n, int64_t (&at)[N])
{
    for (int k = 0; k < N; k++)
        at[k] = 0;
    if (w.count < 0x7fffffff) {
        unsigned rest = (unsigned)n; /* 32-bit division is several times faster */
        for (int a = w.rank - 1; a >= 0; a--) {
            unsigned d = (unsigned)w.dim[a], i = a ? rest % d : rest;
            rest /= d;
            for (int k = 0; k < N; k++)
                at[k] += i * w.step[k][a];
        }
        return;
    }
    for (int a = w.rank - 1; a >= 0; a--) {
        int64_t i = a ? n % w.dim[a] : n;
        n /= w.dim[a];
        for (int k = 0; k < N; k++)
            at[k] += i * w.step[k][a];
    }
}

/* ---- one view -------------------------------------------------------------------------------- */

/* A view for device code: the offset of element n in row-major order. */
typedef struct td_strided {
    int32_t rank;
    int64_t dim[TD_MAX_RANK], stride[TD_MAX_RANK];
} td_strided;

static inline td_strided td_strided_of(const td_view *v)
{
    td_strided s = {};
    s.rank = v->rank;
    for (int a = 0; a < v->rank; a++) {
        s.dim[a] = v->dim[a];
        s.stride[a] = v->stride[a];
    }
    return s;
}

__device__ inline int64_t td_strided_at(const td_strided &s, int64_t n)
{
    int64_t at = 0;
    for (int a = s.rank - 1; a >= 0; a--) {
        at += n % s.dim[a] * s.stride[a];
        n /= s.dim[a];
    }
    return at;
}

static inline int64_t td_last_stride(const td_view *v)
{
    return v->rank ? v->stride[v->rank - 1] : 1;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* f(x, y) over all threads of a block of whole warps, in one fixed order, for all of them. */
template <class T, class F> __device__ inline T td_block_reduce(T x, F f)
{
    __shared__ T part[32];
    for (int k = 16; k > 0; k /= 2)
        x = f(x, __shfl_xor_sync(0xffffffffu, x, k));
    __syncthreads(); /* an earlier reduction may still be read */
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    x = part[0];
    for (int k = 1; k < blockDim.x / 32; k++)
        x = f(x, part[k]);
    return x;
}

struct td_plus {
    template <class T> __device__ T operator()(T x, T y) const { return x + y; }
};

/* The larger; NaN if either is. */
struct td_larger {
    __device__ float  operator()(float x, float y) const { return x > y || x != x ? x : y; }
    __device__ double operator()(double x, double y) const { return x > y || x != x ? x : y; }
    __device__ int    operator()(int x, int y) const { return x > y ? x : y; }
};

template <class T> __device__ inline T td_block_sum(T x) { return td_block_reduce(x, td_plus()); }

/* A scalar input, or `absent`. */
__device__ inline float td_scalar_at(const float *x, float absent) { return x ? *x : absent; }

static inline const float *td_cuda_scalar(const td_call *call, int k)
{
    const td_view *v = td_cuda_in(call, k);
    return v ? (const float *)v->data : NULL;
}

#endif
