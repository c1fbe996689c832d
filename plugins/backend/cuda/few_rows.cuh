/* few_rows.cuh - the kernel for products in bf16 of few rows with matrices whose columns are
 * contiguous, as in generation: the time is that of reading the matrices once.
 *
 * A block computes units of a few columns, one after the other, and the warps of a block share the
 * inner dimension, 32 terms at a time. A thread copies its pieces of the matrix, 16 bytes each, to
 * shared memory, several steps ahead and across units, and reads them back itself: no thread waits
 * for another before the end of a unit. What it reads are already operands of the tensor cores
 * (mma.m16n8k16, where columns take the place of 16 rows): terms may take any place that both
 * operands agree on. The matrix does not depend on the kernels in front, so its first pieces are on
 * their way before these have ended.
 *
 * Sums are in float32: first of a warp, then over the warps in their order. They depend on nothing
 * but the row, the column and the number of terms.
 *
 * One launch serves several matrices that multiply the same rows. It can compute the RMSNorm that the
 * rows come from, and combine two products into a gated linear unit.
 */
#ifndef TD_CUDA_FEW_ROWS_CUH
#define TD_CUDA_FEW_ROWS_CUH

#include "activation.cuh"
#include "device.cuh"

enum {
    FEW_TERMS = 32, /* of the inner dimension, at a time */
    FEW_PIECE = 8,  /* elements in 16 bytes */
    FEW_TILE = 16,  /* columns of an operation of the tensor cores */
    FEW_WARPS = TD_CUDA_THREADS / 32,
    FEW_PARTS = 3,        /* matrices of a launch */
    FEW_AHEAD = 80 << 10, /* bytes of a block that are on their way: two blocks fit side by side */
    FEW_NORM_LEAST = 129, /* elements of rows that are normalized here; */
    FEW_NORM_MIDDLE = 1024, /* up to here by a warp each, */
    FEW_NORM_MOST = 4096,   /* and up to here by a whole block, */
    FEW_NORM_ROWS = 8,      /* the most rows of the former, */
    FEW_NORM_LONG_ROWS = 2  /* and of the latter */
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
    int             steps; /* of a warp for a unit */
    bool            fixed; /* the matrices are */
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
    static constexpr int DEPTH = FEW_AHEAD / (PIECES * 16 * TD_CUDA_THREADS);
    static constexpr int COLUMNS = TILES * FEW_TILE;           /* of a unit, of all matrices */
    static constexpr int UNIT = GATED ? COLUMNS / 2 : COLUMNS; /* of one matrix */
    static constexpr int WIDTH = COLUMNS + 4;                  /* 4: rows start in other banks */
    static constexpr int SUMS = FEW_WARPS * ROWS * WIDTH;      /* floats */
    static constexpr int BYTES = DEPTH * PIECES * 16 * TD_CUDA_THREADS + SUMS * 4;
    static constexpr int HALVES = ROWS / 8; /* groups of 8 rows */
    /* steps whose part of the rows is read at the same time, while those before are computed */
    static constexpr int AT_ONCE = 2;
};

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

/* Where a warp's n-th terms begin. The warps of a block have neighbouring terms
 * and keep about the same pace, so that memory is read in stretches of 512 bytes. */
__device__ inline int few_term(int n)
{
    return (n * FEW_WARPS + (int)threadIdx.x / 32) * FEW_TERMS;
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
        int           part = (int)threadIdx.x % 4 * FEW_PIECE;
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

    __device__ inline few_reader(const few_args &a) : unit((int)blockIdx.x), step(0) { find(a); }

    /* A step's pieces to `to`; nothing after the last. A group each time, so that groups can be
     * counted. */
    __device__ inline void copy(const few_args &a, uint4 *to)
    {
#if __CUDA_ARCH__ >= 900
        if (unit < a.units) {
            int term = few_term(step);
#pragma unroll
            for (int j = 0; j < SHAPE::PIECES; j++)
                few_copy(to + j * TD_CUDA_THREADS, at[j] + term, term < a.k);
            if (++step == a.steps) {
                step = 0;
                unit += (int)gridDim.x;
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
                    threadIdx.x % 4 * FEW_PIECE;
    }

    /* For the warp's steps from the n-th on. */
    template <int STEPS>
    __device__ inline void load(uint4 (&to)[STEPS][HALVES], const few_args &a, int n) const
    {
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            int term = few_term(n + s);
#pragma unroll
            for (int i = 0; i < HALVES; i++)
                to[s][i] = term < a.k ? *(const uint4 *)(at[i] + term) : uint4();
        }
    }
};

/* Sum over the LANES threads that have a row, as in norm.cu. */
template <int LANES> __device__ inline float few_norm_sum(float x)
{
    if constexpr (LANES > 32)
        return td_block_sum(x);
    else {
        for (int k = 16; k > 0; k /= 2)
            x += __shfl_xor_sync(0xffffffffu, x, k);
        return x;
    }
}

/* Normalize the rows into shared memory with the threads and the order of norm.cu: LANES of them have a
 * row of at most LANES * ROUNDS vectors. One block stores them, too, if others read them. */
template <int LANES, int ROUNDS>
__device__ inline void few_normalize(const few_args &a, uint16_t *to)
{
    const few_norm &n = a.norm;
    td_reals        rows = { to, true };
    int             lane = (int)threadIdx.x % LANES;
    float           x[ROUNDS][TD_VECTOR_F32], w[ROUNDS][TD_VECTOR_F32], square, root;
    for (int r = (int)threadIdx.x / LANES; r < a.m; r += TD_CUDA_THREADS / LANES) {
        square = 0;
        /* all is on its way before the first of it is used */
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            int e = (lane + i * LANES) * TD_VECTOR_F32;
#pragma unroll
            for (int j = 0; j < TD_VECTOR_F32; j++) {
                x[i][j] = 0;
                w[i][j] = e < a.k && n.weight.data ? td_get(n.weight, e + j) : 1;
            }
            if (e < a.k)
                td_get_some<TD_VECTOR_F32>(n.in, r * n.in_row + e, x[i]);
        }
#pragma unroll
        for (int i = 0; i < ROUNDS; i++)
#pragma unroll
            for (int j = 0; j < TD_VECTOR_F32; j++)
                square += x[i][j] * x[i][j];
        root = 1 / sqrtf(few_norm_sum<LANES>(square) / (float)a.k + n.eps);
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            int e = (lane + i * LANES) * TD_VECTOR_F32;
            if (e >= a.k)
                continue;
#pragma unroll
            for (int j = 0; j < TD_VECTOR_F32; j++)
                x[i][j] = x[i][j] * root * w[i][j] + 0.0f;
            td_set_some<TD_VECTOR_F32>(rows, r * few_norm_row(a.k) + e, x[i]);
            if (n.out.data && blockIdx.x == 0)
                td_set_some<TD_VECTOR_F32>(n.out, r * n.out_row + e, x[i]);
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

/* The sum over all warps. */
template <class SHAPE> __device__ inline float few_sum(const float *sums, int r, int c)
{
    float sum = 0;
#pragma unroll
    for (int w = 0; w < FEW_WARPS; w++)
        sum += sums[w * (SHAPE::SUMS / FEW_WARPS) + r * SHAPE::WIDTH + c];
    return sum;
}

/* A unit's products, plus the summand if there is one. */
template <class SHAPE> __device__ inline void few_store(const few_args &a, float *sums, int unit)
{
    int p = 0, first, e = (int)threadIdx.x;
    while (unit >= a.part[p].end)
        p++;
    first = (p ? unit - a.part[p - 1].end : unit) * SHAPE::UNIT;
    const few_part &to = a.part[p];
    for (; e < a.m * SHAPE::UNIT; e += TD_CUDA_THREADS) {
        int   r = e / SHAPE::UNIT, c = e % SHAPE::UNIT, n = first + c;
        float more = to.acc.data && n < to.n ? td_get(to.acc, r * to.acc_row + n) : 0;
        float sum = few_sum<SHAPE>(sums, r, c);
        if (n < to.n)
            td_set(to.y, r * to.y_row + n, to.acc.data ? sum + more : sum);
    }
}

/* The same for a gated linear unit, of products that are rounded as if they had been stored. */
template <class SHAPE>
__device__ inline void few_store_gated(const few_args &a, float *sums, int unit)
{
    const few_part &gate = a.part[0], &up = a.part[1];
    int             e = (int)threadIdx.x;
    for (; e < a.m * SHAPE::UNIT; e += TD_CUDA_THREADS) {
        int   r = e / SHAPE::UNIT, c = e % SHAPE::UNIT, n = unit * SHAPE::UNIT + c;
        float x, y;
        if (n >= gate.n)
            continue;
        x = td_rounded(few_sum<SHAPE>(sums, r, c), gate.y.narrow);
        y = td_rounded(few_sum<SHAPE>(sums, r, SHAPE::UNIT + c), up.y.narrow);
        td_set(a.gated, r * a.gated_row + n, value(x, a.activation) * y);
        if (gate.y.data)
            td_set(gate.y, r * gate.y_row + n, x);
        if (up.y.data)
            td_set(up.y, r * up.y_row + n, y);
    }
}

template <int ROWS, int TILES, bool GATED>
__global__ void __launch_bounds__(TD_CUDA_THREADS, 2) few_rows(const __grid_constant__ few_args a)
{
#if __CUDA_ARCH__ >= 900
    typedef few_shape<ROWS, TILES, GATED> shape;
    constexpr int                         SLOT = shape::PIECES * TD_CUDA_THREADS;
    extern __shared__ uint4               shared[];
    float                                *sums = (float *)(shared + shape::DEPTH * SLOT);
    uint16_t                             *normal = (uint16_t *)(sums + shape::SUMS);
    uint4                                *slots = shared + threadIdx.x;
    uint4 now[shape::AT_ONCE][shape::HALVES], next[shape::AT_ONCE][shape::HALVES];
    few_reader<shape, GATED> reader(a);
    int                      slot = 0;

    if (!a.fixed)
        td_wait();
    for (int k = 0; k < shape::DEPTH; k++)
        reader.copy(a, slots + k * SLOT);
    td_wait();
    if (a.norm.in.data && a.k <= FEW_NORM_MIDDLE)
        few_normalize<32, 8>(a, normal);
    else if (a.norm.in.data)
        few_normalize<TD_CUDA_THREADS, 4>(a, normal);
    few_rows_of<shape::HALVES> rows(a, a.norm.in.data ? normal : a.x,
                                    a.norm.in.data ? few_norm_row(a.k) : a.x_row);
    rows.load(now, a, 0);
    for (int unit = (int)blockIdx.x; unit < a.units; unit += (int)gridDim.x) {
        float d[TILES][shape::HALVES][4] = {};
        for (int n = 0; n < a.steps; n += shape::AT_ONCE) {
            rows.load(next, a, n + shape::AT_ONCE < a.steps ? n + shape::AT_ONCE : 0);
#pragma unroll
            for (int k = 0; k < shape::AT_ONCE; k++) {
                /* the next kernel's first pieces may follow this one's last */
                if (reader.unit >= a.units)
                    td_let_next();
                /* all groups but the newest have arrived: so the oldest, which is read now, has */
                asm volatile("cp.async.wait_group %0;" ::"n"(shape::DEPTH - 1) : "memory");
                few_add<TILES, shape::HALVES>(d, slots + slot * SLOT, now[k]);
                reader.copy(a, slots + slot * SLOT);
                slot = slot + 1 == shape::DEPTH ? 0 : slot + 1;
            }
#pragma unroll
            for (int k = 0; k < shape::AT_ONCE; k++)
#pragma unroll
                for (int h = 0; h < shape::HALVES; h++)
                    now[k][h] = next[k][h];
        }
        few_put<shape, TILES>(sums, d);
        __syncthreads();
        if constexpr (GATED)
            few_store_gated<shape>(a, sums, unit);
        else
            few_store<shape>(a, sums, unit);
        __syncthreads(); /* the sums have been read before the next unit's replace them */
    }
#endif
}

#endif
