/* few_rows.cu - products in bf16 of at most 16 rows with a matrix whose columns are contiguous, as in
 * generation: the time is that of reading the matrix once.
 *
 * A block has some columns, and its warps share the inner dimension, 32 terms at a time. The matrix
 * goes from memory to registers in pieces of 16 bytes and into tensor cores (mma.m16n8k16), where the
 * rows take the place of 16 rows. Terms may take any place that both operands agree on, so a
 * thread's pieces need not be exchanged. Sums are in float32: first of a warp, then over the warps in
 * their order. They depend on nothing but the row, the column and the number of terms.
 */
#include "device.cuh"
#include "kernels.h"

enum {
    MOST_ROWS = 16,
    MOST_TERMS = 1 << 30, /* their numbers have 32 bits */
    TERMS = 32,           /* of the inner dimension, at a time */
    SPAN = 8,             /* times as many of a warp lie together */
    PIECE = 8,            /* elements in 16 bytes */
    WARPS = TD_CUDA_THREADS / 32,
    LOADS = 8,  /* pieces of the matrix that a thread loads together, half as many for 16 rows */
    MANY = 4096 /* columns, of which a block then has 32 and not 8 */
};

/* The distance between rows if it is the same throughout; -1: it is not. */
static int64_t row_distance(const td_view *v)
{
    int64_t distance = 0, next = 0;
    for (int a = v->rank - 2; a >= 0; a--) {
        if (v->dim[a] == 1)
            continue;
        if (next && v->stride[a] != next)
            return -1;
        distance = next ? distance : v->stride[a];
        next = v->stride[a] * v->dim[a];
    }
    return distance;
}

static bool has_rows(const td_view *v, int64_t rows)
{
    return v->rank > 0 && td_cuda_rows(v) == rows && row_distance(v) >= 0 &&
           (v->dim[v->rank - 1] == 1 || v->stride[v->rank - 1] == 1);
}

/* One matrix, of contiguous columns in whole pieces. */
static bool has_columns(const td_view *b)
{
    return b->rank >= 2 && td_cuda_rows(b) == b->dim[b->rank - 2] && td_cuda_count(b) > 0 &&
           b->dim[b->rank - 2] % TERMS == 0 && b->stride[b->rank - 2] == 1 &&
           b->stride[b->rank - 1] % PIECE == 0;
}

#ifdef TD_CUDA_CORES

typedef struct few_args {
    const uint16_t *x, *w;
    int64_t         m, n, k, x_row, column, y_row, acc_row; /* column: the distance of columns */
    td_reals        y, acc;
} few_args;

/* What a thread loads together: its pieces of columns g, g + 8, .. and of rows g and g + 8 of the
 * same terms, where g = lane / 4. Of each 32 terms it has the 8 from 8 (lane % 4) on. */
template <int ROWS, int COLUMNS> struct stage {
    static constexpr int TILES = COLUMNS / 8, STEPS = LOADS / TILES / (ROWS / 8);
    uint4                w[STEPS][TILES], x[STEPS][ROWS / 8];
};

/* The thread's columns and rows. In place of those that do not exist it has the last, and its sums are
 * not stored. */
template <int ROWS, int COLUMNS> struct sources {
    const uint16_t *w[COLUMNS / 8], *x[ROWS / 8];
    __device__      sources(const few_args &a, int64_t first)
    {
        int g = threadIdx.x % 32 / 4, piece = threadIdx.x % 4 * PIECE;
        for (int i = 0; i < COLUMNS / 8; i++)
            w[i] = a.w + min(first + 8 * i + g, a.n - 1) * a.column + piece;
        for (int i = 0; i < ROWS / 8; i++)
            x[i] = a.x + min((int64_t)8 * i + g, a.m - 1) * a.x_row + piece;
    }
};

/* Where a warp's n-th 32 terms begin. It has SPAN times 32 that lie together, 512 bytes of a column,
 * then those that are SPAN * WARPS times 32 further on. */
__device__ inline int term_of(int n)
{
    return ((n / SPAN * WARPS + (int)threadIdx.x / 32) * SPAN + n % SPAN) * TERMS;
}

/* From the warp's n-th 32 terms on; zeros beyond the end. */
template <int ROWS, int COLUMNS>
__device__ inline void load_stage(stage<ROWS, COLUMNS> &to, const sources<ROWS, COLUMNS> &from,
                                  int terms, int n)
{
#pragma unroll
    for (int s = 0; s < to.STEPS; s++) {
        int term = term_of(n) + s * TERMS;
#pragma unroll
        for (int i = 0; i < COLUMNS / 8; i++)
            to.w[s][i] = term < terms ? __ldcs((const uint4 *)(from.w[i] + term)) : uint4();
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++)
            to.x[s][i] = term < terms ? *(const uint4 *)(from.x[i] + term) : uint4();
    }
}

/* d += x w: 16 rows, 8 columns, 16 terms. */
__device__ inline void multiply(float (&d)[4], uint32_t x0, uint32_t x1, uint32_t x2, uint32_t x3,
                                uint32_t w0, uint32_t w1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(w0), "r"(w1));
}

template <int ROWS, int COLUMNS>
__device__ inline void add_stage(float (&d)[COLUMNS / 8][4], const stage<ROWS, COLUMNS> &from)
{
    const uint4 none = uint4();
#pragma unroll
    for (int s = 0; s < from.STEPS; s++)
#pragma unroll
        for (int i = 0; i < from.TILES; i++) {
            const uint4 &w = from.w[s][i], &x = from.x[s][0];
            const uint4 &z = ROWS > 8 ? from.x[s][ROWS / 8 - 1] : none;
            multiply(d[i], x.x, z.x, x.y, z.y, w.x, w.y);
            multiply(d[i], x.z, z.z, x.w, z.w, w.z, w.w);
        }
}

/* Add up the warps' sums. */
template <int ROWS, int COLUMNS>
__device__ inline void store_sums(const few_args &a, const float (&d)[COLUMNS / 8][4],
                                  int64_t         first)
{
    __shared__ float sums[WARPS][ROWS][COLUMNS + PIECE];
    int              warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < COLUMNS / 8; i++)
        for (int r = 0; r < ROWS / 8; r++)
            *(float2 *)&sums[warp][g + 8 * r][PIECE * i + 2 * q] = make_float2(d[i][2 * r],
                                                                               d[i][2 * r + 1]);
    __syncthreads();
    for (int e = threadIdx.x; e < a.m * COLUMNS; e += TD_CUDA_THREADS) {
        int     r = e / COLUMNS, c = e % COLUMNS;
        int64_t n = first + c;
        float   sum = 0, more = a.acc.data && n < a.n ? td_get(a.acc, r * a.acc_row + n) : 0;
#pragma unroll
        for (int k = 0; k < WARPS; k++)
            sum += sums[k][r][c];
        if (n < a.n)
            td_set(a.y, r * a.y_row + n, a.acc.data ? sum + more : sum);
    }
}

template <int ROWS, int COLUMNS>
__global__ void __launch_bounds__(TD_CUDA_THREADS, 2) few_rows(few_args a)
{
#if __CUDA_ARCH__ >= 900
    constexpr int        STEPS = stage<ROWS, COLUMNS>::STEPS;
    int64_t              first = (int64_t)blockIdx.x * COLUMNS;
    float                d[COLUMNS / 8][4] = {};
    stage<ROWS, COLUMNS> now, next;

    sources<ROWS, COLUMNS> from(a, first);
    int                    terms = (int)a.k;

    td_begin();
    load_stage(now, from, terms, 0);
    /* A stage is loaded while the other is multiplied. What is loaded past the end is zeros. */
    for (int n = 0; term_of(n) < terms; n += 2 * STEPS) {
        load_stage(next, from, terms, n + STEPS);
        add_stage(d, now);
        load_stage(now, from, terms, n + 2 * STEPS);
        add_stage(d, next);
    }
    store_sums<ROWS, COLUMNS>(a, d, first);
#endif
}

template <int ROWS, int COLUMNS> static int launch(td_cuda *cuda, const few_args &a)
{
    return td_cuda_launch(cuda, td_cuda_grid(a.n, COLUMNS), 0, 1, few_rows<ROWS, COLUMNS>, a);
}

bool td_cuda_accepts_few_rows(const td_call *call)
{
    const td_view *x = &call->in[0], *b = &call->in[1], *acc = td_cuda_in(call, 2),
                  *y = &call->out[0];
    const struct cudaDeviceProp *gpu = &td_cuda_of(call)->properties;
    int64_t                      rows = td_cuda_rows(y);
    return gpu->major == 9 && gpu->minor == 0 && x->dtype == TD_BF16 && b->dtype == TD_BF16 &&
           has_columns(b) && rows > 0 && rows <= MOST_ROWS && has_rows(x, rows) &&
           row_distance(x) % PIECE == 0 && b->dim[b->rank - 2] < MOST_TERMS && has_rows(y, rows) &&
           (!acc || has_rows(acc, rows));
}

int td_cuda_few_rows(const td_call *call)
{
    const td_view *x = &call->in[0], *b = &call->in[1], *acc = td_cuda_in(call, 2),
                  *y = &call->out[0];
    td_cuda *cuda = td_cuda_of(call);
    few_args a = {};

    /* addresses are known only now; strides were checked when the plan was made */
    if (!td_is_aligned(x) || !td_is_aligned(b))
        return td_cuda_matmul(call);
    a.x = (const uint16_t *)x->data;
    a.w = (const uint16_t *)b->data;
    a.m = td_cuda_rows(y);
    a.n = b->dim[b->rank - 1];
    a.k = b->dim[b->rank - 2];
    a.x_row = row_distance(x);
    a.column = b->stride[b->rank - 1];
    a.y = td_reals_of(y);
    a.acc = td_reals_of(acc);
    a.y_row = row_distance(y);
    a.acc_row = acc ? row_distance(acc) : 0;
    if (a.m <= 8)
        return a.n < MANY ? launch<8, 8>(cuda, a) : launch<8, 32>(cuda, a);
    return a.n < MANY ? launch<MOST_ROWS, 8>(cuda, a) : launch<MOST_ROWS, 32>(cuda, a);
}

#else

bool td_cuda_accepts_few_rows(const td_call *call) { return false; }
int  td_cuda_few_rows(const td_call *call) { return TD_EUNSUPPORTED; }

#endif
