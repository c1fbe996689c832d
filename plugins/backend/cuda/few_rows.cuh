/* few_rows.cuh - the kernel for products in bf16 of few rows with matrices whose columns are
 * contiguous, as in generation: the time is that of reading the matrices once.
 *
 * Blocks have units of some columns, one after the other, and the warps of a block share the inner
 * dimension, 32 terms at a time. A thread copies its pieces of the matrix, 16 bytes each, to shared
 * memory, several steps ahead and across units, and reads them back itself: no thread waits for
 * another before the end of a unit. What it reads are already operands of the tensor cores
 * (mma.m16n8k16, where columns take the place of 16 rows): terms may take any place that both operands
 * agree on. The matrix does not depend on the kernels in front, so its first pieces are on their way
 * before these have ended.
 *
 * Sums are in float32: first of a warp, then over the warps in their order. With more than 16 rows, the
 * blocks of a cluster share the inner dimension, so that each reads less of the rows; their sums are
 * added in their order. So sums depend on nothing but the row, the column, the number of terms, the
 * numbers of columns, and whether there are more than 16 rows.
 *
 * One launch serves several matrices that multiply the same rows. It can compute the RMSNorm that the
 * rows come from, and combine two products to a gated linear unit.
 */
#ifndef TD_CUDA_FEW_ROWS_CUH
#define TD_CUDA_FEW_ROWS_CUH

#include <cooperative_groups.h>

#include "activation.cuh"
#include "device.cuh"

enum {
    FEW_TERMS = 32, /* of the inner dimension, at a time */
    FEW_PIECE = 8,  /* elements in 16 bytes */
    FEW_TILE = 16,  /* columns of an operation of the tensor cores */
    FEW_WARPS = TD_CUDA_THREADS / 32,
    FEW_PARTS = 3,        /* matrices of a launch */
    FEW_AHEAD = 80 << 10, /* bytes of a block that are on their way: two blocks fit side by side */
    FEW_AHEAD_ALONE = 128 << 10, /* the same, if they do not */
    FEW_NORM_ROWS = 8,           /* that are normalized here, */
    FEW_NORM_LEAST = 129,        /* of at least so many elements, and at most FEW_NORM_MOST */
    FEW_NORM_MIDDLE = 1024,
    FEW_NORM_MOST = 4096
};

/* A matrix, and its product. */
typedef struct few_part {
    const uint16_t *w;
    int64_t         column, y_row, acc_row; /* column: the distance of columns */
    td_reals        y, acc;                 /* y.data is NULL: it is not stored */
    int             n, end;                 /* columns; the unit after its last one */
} few_part;

/* The rows' norm; in.data is NULL: there is none. */
typedef struct few_norm {
    td_reals in, weight, out; /* out.data is NULL: it is not stored */
    int64_t  in_row, out_row;
    float    eps;
} few_norm;

typedef struct few_args {
    const uint16_t *x;
    int64_t         x_row;
    int             m, k, units;
    int             split, terms; /* blocks that share the inner dimension, and the terms of each */
    int             span;         /* times as many terms of a warp lie together: a power of two */
    int             steps;        /* of a warp for a unit */
    bool            fixed;        /* the matrices are */
    few_part        part[FEW_PARTS];
    few_norm        norm;
    td_reals        gated; /* f(product 0) * product 1 */
    int64_t         gated_row;
    int             activation;
} few_args;

/* Sizes for up to ROWS rows and units of TILES tiles. GATED: the first half of the tiles is of matrix
 * 0, the other of matrix 1. */
template <int ROWS, int TILES, bool GATED> struct few_shape {
    static constexpr int PIECES = 2 * TILES; /* of a thread in a step */
    static constexpr int DEPTH = (ROWS > 16 ? FEW_AHEAD_ALONE : FEW_AHEAD) /
                                 (PIECES * 16 * TD_CUDA_THREADS);
    static constexpr int COLUMNS = TILES * FEW_TILE;           /* of a unit, of all matrices */
    static constexpr int UNIT = GATED ? COLUMNS / 2 : COLUMNS; /* of one matrix */
    static constexpr int WIDTH = COLUMNS + 4;                  /* 4: rows start in other banks */
    static constexpr int SUMS = FEW_WARPS * ROWS * WIDTH;      /* floats */
    static constexpr int BYTES = DEPTH * PIECES * 16 * TD_CUDA_THREADS + SUMS * 4;
    static constexpr int HALVES = ROWS / 8; /* groups of 8 rows */
};

/* The blocks of a unit follow each other. */
__device__ inline int few_rank(const few_args &a) { return (int)blockIdx.x % a.split; }
__device__ inline int few_first_unit(const few_args &a) { return (int)blockIdx.x / a.split; }
__device__ inline int few_next_unit(const few_args &a, int unit)
{
    return unit + (int)gridDim.x / a.split;
}

/* The distance of rows in shared memory: they begin in different banks. */
__host__ __device__ inline int few_norm_row(int k) { return k + FEW_TERMS; }

/* ---- the matrix ------------------------------------------------------------------------------ */

/* Copy 16 bytes to shared memory, or zeros. */
__device__ inline void few_copy(uint4 *to, const uint16_t *from, bool there)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
#endif
}

/* Where a warp's n-th terms begin, in its block's part: it has `span` times FEW_TERMS that lie together, then those that
 * are as many times the warps further on. */
__device__ inline int few_term(const few_args &a, int n)
{
    int within = n & (a.span - 1), round = (n - within) * FEW_WARPS;
    return (round + (int)threadIdx.x / 32 * a.span + within) * FEW_TERMS;
}

/* What a thread will copy next. Of each tile it has columns g and g + 8, where g = lane / 4, and of
 * each 32 terms the 8 from 8 (lane % 4) on. In place of columns that do not exist it has the last, and
 * its sums are not stored. */
template <class SHAPE, bool GATED> struct few_reader {
    const uint16_t *at[SHAPE::PIECES];
    int             unit, step;

    __device__ inline void find(const few_args &a)
    {
        constexpr int OF_PART = GATED ? SHAPE::PIECES / 2 : SHAPE::PIECES;
        int           part = few_rank(a) * a.terms + (int)threadIdx.x % 4 * FEW_PIECE;
        int           g = threadIdx.x % 32 / 4, p = 0, first;
        while (!GATED && unit >= a.part[p].end)
            p++;
        first = (p ? unit - a.part[p - 1].end : unit) * SHAPE::UNIT;
#pragma unroll
        for (int j = 0; j < SHAPE::PIECES; j++) {
            const few_part &from = a.part[GATED ? j / OF_PART : p];
            int             c = first + 8 * (j % OF_PART) + g;
            at[j] = from.w + min(c, from.n - 1) * from.column + part;
        }
    }

    __device__ inline few_reader(const few_args &a) : unit(few_first_unit(a)), step(0) { find(a); }

    /* A step's pieces to `to`; nothing after the last. A group each time, so that groups can be
     * counted. */
    __device__ inline void copy(const few_args &a, uint4 *to)
    {
#if __CUDA_ARCH__ >= 900
        if (unit < a.units) {
            int term = few_term(a, step);
#pragma unroll
            for (int j = 0; j < SHAPE::PIECES; j++)
                few_copy(to + j * TD_CUDA_THREADS, at[j] + term, term < a.terms);
            if (++step == a.steps) {
                step = 0;
                unit = few_next_unit(a, unit);
                if (unit < a.units)
                    find(a);
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
#endif
    }
};

/* ---- the rows -------------------------------------------------------------------------------- */

/* A thread's part of the rows: of row g of each 8, the terms that it has of the matrix. */
template <int HALVES> struct few_rows_of {
    const uint16_t *at[HALVES];

    __device__ inline few_rows_of(const few_args &a, const uint16_t *x, int64_t row)
    {
#pragma unroll
        for (int i = 0; i < HALVES; i++)
            at[i] = x + min(8 * i + (int)threadIdx.x % 32 / 4, a.m - 1) * row +
                    few_rank(a) * a.terms + threadIdx.x % 4 * FEW_PIECE;
    }

    __device__ inline void load(uint4 (&to)[HALVES], const few_args &a, int n) const
    {
        int term = few_term(a, n);
#pragma unroll
        for (int i = 0; i < HALVES; i++)
            to[i] = term < a.terms ? *(const uint4 *)(at[i] + term) : uint4();
    }
};

/* The sum of the squares of a row, in the order in which norm.cu adds them: it has 32 threads or
 * 256, that is, 8 times a warp. */
__device__ inline float few_square(const few_args &a, int64_t row)
{
    int   warps = a.k <= FEW_NORM_MIDDLE ? 1 : FEW_WARPS, lane = threadIdx.x % 32;
    float all = 0;
    for (int w = 0; w < warps; w++) {
        float square = 0, x[TD_VECTOR_F32];
        for (int e = (lane + 32 * w) * TD_VECTOR_F32; e < a.k; e += 32 * warps * TD_VECTOR_F32) {
            td_get_some<TD_VECTOR_F32>(a.norm.in, row + e, x);
#pragma unroll
            for (int j = 0; j < TD_VECTOR_F32; j++)
                square += x[j] * x[j];
        }
        for (int k = 16; k > 0; k /= 2)
            square += __shfl_xor_sync(0xffffffffu, square, k);
        all = w ? all + square : square;
    }
    return all;
}

/* Normalize the rows into shared memory, a warp each. One block stores them, too, if others read
 * them. */
__device__ inline void few_normalize(const few_args &a, uint16_t *to)
{
    const few_norm &n = a.norm;
    for (int r = threadIdx.x / 32; r < a.m; r += FEW_WARPS) {
        float root = 1 / sqrtf(few_square(a, r * n.in_row) / (float)a.k + n.eps);
        for (int e = threadIdx.x % 32 * TD_VECTOR_F32; e < a.k; e += 32 * TD_VECTOR_F32) {
            td_reals rows = { to, true };
            float    x[TD_VECTOR_F32];
            td_get_some<TD_VECTOR_F32>(n.in, r * n.in_row + e, x);
#pragma unroll
            for (int j = 0; j < TD_VECTOR_F32; j++)
                x[j] = x[j] * root * (n.weight.data ? td_get(n.weight, e + j) : 1) + 0.0f;
            td_set_some<TD_VECTOR_F32>(rows, r * few_norm_row(a.k) + e, x);
            if (n.out.data && blockIdx.x == 0)
                td_set_some<TD_VECTOR_F32>(n.out, r * n.out_row + e, x);
        }
    }
    __syncthreads();
}

/* ---- products -------------------------------------------------------------------------------- */

/* d += w x: 16 columns, 8 rows, 16 terms. */
__device__ inline void few_multiply(float (&d)[4], uint32_t w0, uint32_t w1, uint32_t w2,
                                    uint32_t w3, uint32_t x0, uint32_t x1)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(w0), "r"(w1), "r"(w2), "r"(w3), "r"(x0), "r"(x1));
#endif
}

template <int TILES, int HALVES>
__device__ inline void few_add(float (&d)[TILES][HALVES][4], const uint4 *w,
                               const uint4 (&x)[HALVES])
{
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        uint4 u = w[2 * i * TD_CUDA_THREADS], v = w[(2 * i + 1) * TD_CUDA_THREADS];
#pragma unroll
        for (int h = 0; h < HALVES; h++) {
            few_multiply(d[i][h], u.x, v.x, u.y, v.y, x[h].x, x[h].y);
            few_multiply(d[i][h], u.z, v.z, u.w, v.w, x[h].z, x[h].w);
        }
    }
}

/* The sums of a warp, as [row][column]. */
template <class SHAPE, int TILES>
__device__ inline void few_put(float *sums, const float (&d)[TILES][SHAPE::HALVES][4])
{
    int    g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    float *to = sums + threadIdx.x / 32 * (SHAPE::SUMS / FEW_WARPS);
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int h = 0; h < SHAPE::HALVES; h++)
#pragma unroll
            for (int k = 0; k < 4; k++)
                to[(8 * h + 2 * q + k % 2) * SHAPE::WIDTH + FEW_TILE * i + 8 * (k / 2) + g] =
                    d[i][h][k];
}

/* Add up the warps of a block, in place of the first's sums. */
template <class SHAPE> __device__ inline void few_join_warps(const few_args &a, float *sums)
{
    for (int e = threadIdx.x; e < a.m * SHAPE::COLUMNS; e += TD_CUDA_THREADS) {
        float *at = sums + e / SHAPE::COLUMNS * SHAPE::WIDTH + e % SHAPE::COLUMNS, sum = 0;
#pragma unroll
        for (int w = 0; w < FEW_WARPS; w++)
            sum += at[w * (SHAPE::SUMS / FEW_WARPS)];
        *at = sum;
    }
}

/* The sum over all warps; SPLIT: over all blocks, each of which has joined its warps. */
template <class SHAPE, bool SPLIT>
__device__ inline float few_sum(const few_args &a, float *sums, int r, int c)
{
    float *at = sums + r * SHAPE::WIDTH + c, sum = 0;
    if constexpr (SPLIT) {
        cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
        for (int k = 0; k < a.split; k++)
            sum += *cluster.map_shared_rank(at, k);
    } else {
#pragma unroll
        for (int w = 0; w < FEW_WARPS; w++)
            sum += at[w * (SHAPE::SUMS / FEW_WARPS)];
    }
    return sum;
}

/* A unit's products, plus the summand if there is one. The blocks of a unit share its elements. */
template <class SHAPE, bool SPLIT>
__device__ inline void few_store(const few_args &a, float *sums, int unit)
{
    int p = 0, first, e = few_rank(a) * TD_CUDA_THREADS + (int)threadIdx.x;
    while (unit >= a.part[p].end)
        p++;
    first = (p ? unit - a.part[p - 1].end : unit) * SHAPE::UNIT;
    const few_part &to = a.part[p];
    for (; e < a.m * SHAPE::UNIT; e += a.split * TD_CUDA_THREADS) {
        int   r = e / SHAPE::UNIT, c = e % SHAPE::UNIT, n = first + c;
        float more = to.acc.data && n < to.n ? td_get(to.acc, r * to.acc_row + n) : 0;
        float sum = few_sum<SHAPE, SPLIT>(a, sums, r, c);
        if (n < to.n)
            td_set(to.y, r * to.y_row + n, to.acc.data ? sum + more : sum);
    }
}

/* The same for a gated linear unit, of products that are rounded as if they had been stored. */
template <class SHAPE, bool SPLIT>
__device__ inline void few_store_gated(const few_args &a, float *sums, int unit)
{
    const few_part &gate = a.part[0], &up = a.part[1];
    int             e = few_rank(a) * TD_CUDA_THREADS + (int)threadIdx.x;
    for (; e < a.m * SHAPE::UNIT; e += a.split * TD_CUDA_THREADS) {
        int   r = e / SHAPE::UNIT, c = e % SHAPE::UNIT, n = unit * SHAPE::UNIT + c;
        float x, y;
        if (n >= gate.n)
            continue;
        x = td_rounded(few_sum<SHAPE, SPLIT>(a, sums, r, c), gate.y.narrow);
        y = td_rounded(few_sum<SHAPE, SPLIT>(a, sums, r, SHAPE::UNIT + c), up.y.narrow);
        td_set(a.gated, r * a.gated_row + n, value(x, a.activation) * y);
        if (gate.y.data)
            td_set(gate.y, r * gate.y_row + n, x);
        if (up.y.data)
            td_set(up.y, r * up.y_row + n, y);
    }
}

/* Wait for all that share a unit. */
template <bool SPLIT> __device__ inline void few_meet()
{
    if constexpr (SPLIT)
        cooperative_groups::this_cluster().sync();
    else
        __syncthreads();
}

/* From the warps' sums to a unit's results; afterwards their memory is free again. */
template <class SHAPE, bool GATED, bool SPLIT>
__device__ inline void few_finish(const few_args &a, float *sums, int unit)
{
    __syncthreads();
    if constexpr (SPLIT) {
        few_join_warps<SHAPE>(a, sums);
        few_meet<SPLIT>();
    }
    if constexpr (GATED)
        few_store_gated<SHAPE, SPLIT>(a, sums, unit);
    else
        few_store<SHAPE, SPLIT>(a, sums, unit);
    few_meet<SPLIT>();
}

template <int ROWS, int TILES, bool GATED, bool SPLIT>
__global__ void __launch_bounds__(TD_CUDA_THREADS, SPLIT ? 1 : 2)
    few_rows(const __grid_constant__ few_args a)
{
#if __CUDA_ARCH__ >= 900
    typedef few_shape<ROWS, TILES, GATED> shape;
    constexpr int                         SLOT = shape::PIECES * TD_CUDA_THREADS;
    extern __shared__ uint4               shared[];
    float                                *sums = (float *)(shared + shape::DEPTH * SLOT);
    uint16_t                             *normal = (uint16_t *)(sums + shape::SUMS);
    uint4                                *slots = shared + threadIdx.x;
    uint4                                 now[shape::HALVES], next[shape::HALVES];
    few_reader<shape, GATED>              reader(a);
    int                                   slot = 0;

    td_let_next();
    if (!a.fixed)
        td_wait();
    for (int k = 0; k < shape::DEPTH; k++)
        reader.copy(a, slots + k * SLOT);
    td_wait();
    if (a.norm.in.data)
        few_normalize(a, normal);
    few_rows_of<shape::HALVES> rows(a, a.norm.in.data ? normal : a.x,
                                    a.norm.in.data ? few_norm_row(a.k) : a.x_row);
    rows.load(now, a, 0);
    for (int unit = few_first_unit(a); unit < a.units; unit = few_next_unit(a, unit)) {
        float d[TILES][shape::HALVES][4] = {};
        for (int n = 0; n < a.steps; n++) {
            rows.load(next, a, n + 1 < a.steps ? n + 1 : 0);
            /* all groups but the newest have arrived, so the oldest, which is read now, is there */
            asm volatile("cp.async.wait_group %0;" ::"n"(shape::DEPTH - 1) : "memory");
            few_add<TILES, shape::HALVES>(d, slots + slot * SLOT, now);
            reader.copy(a, slots + slot * SLOT);
            slot = slot + 1 == shape::DEPTH ? 0 : slot + 1;
#pragma unroll
            for (int h = 0; h < shape::HALVES; h++)
                now[h] = next[h];
        }
        few_put<shape, TILES>(sums, d);
        few_finish<shape, GATED, SPLIT>(a, sums, unit);
    }
#endif
}

#endif
