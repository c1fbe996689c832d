/* cpu.h - shared by the kernels of this backend: vectors of 16 floats, loops over strided views,
 * matrix products.
 *
 * A function marked TD_CPU_CLONES is compiled three times, for AVX-512, AVX2 with FMA, and plain
 * x86-64; the loader picks one. The helpers over td_vf are always inlined, so they take on the
 * instruction set of the clone that uses them. A vector has 16 lanes on every machine: narrower
 * machines use two or four registers for it.
 *
 * Bits. No result may depend on the number of threads, so work is cut by shape alone, each output
 * belongs to one task, and sums are added in a fixed order: within a vector's lanes first, then
 * over spans, in double where they are long. They may depend on the instruction set, because of FMA.
 */
#ifndef TD_CPU_H
#define TD_CPU_H

#include <math.h>
#include <string.h>

#include "tandem/bf16.h"
#include "tandem/kind/kernels.h"

/* TD_CPU_AVX: whether there are AVX versions of functions. Not with clang, which refuses to
 * pass vectors between functions for different instruction sets, even if they are inlined. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TD_CPU_AVX 1
#define TD_CPU_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#define TD_CPU_AVX2 __attribute__((target("avx2,fma")))
#else
#define TD_CPU_AVX 0
#endif

/* The loader picks a clone before a sanitizer's runtime is ready, so sanitized builds have one
 * version of each function. */
#if TD_CPU_AVX && !defined(TANDEM_SANITIZED)
#define TD_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TD_CPU_CLONES
#endif
#define TD_CPU_INLINE static inline __attribute__((always_inline))

enum { TD_LANES = 16 };
typedef float    td_vf __attribute__((vector_size(64)));
typedef int32_t  td_vi __attribute__((vector_size(64)));
typedef uint32_t td_vu __attribute__((vector_size(64))); /* for arithmetic that may wrap */
/* Sixteen floats anywhere in memory. memcpy would be compiled to copies of 16 bytes for AVX2. */
typedef float    td_vf_at __attribute__((vector_size(64), aligned(4), may_alias));

TD_CPU_INLINE int64_t td_cpu_min(int64_t a, int64_t b) { return a < b ? a : b; }
TD_CPU_INLINE int64_t td_cpu_max(int64_t a, int64_t b) { return a > b ? a : b; }
TD_CPU_INLINE int64_t td_cpu_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- vectors of 16 --------------------------------------------------------------------------- */

TD_CPU_INLINE td_vf td_vset(float x)
{
    return (td_vf){ x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x };
}

TD_CPU_INLINE td_vf td_vload(const float *p) { return *(const td_vf_at *)p; }

/* Sixteen elements of bf16, or the first n and zeros. */
TD_CPU_INLINE td_vf td_vwiden_n(const uint16_t *p, int64_t n)
{
    typedef uint16_t halves __attribute__((vector_size(32)));
    halves           h = { 0 };
    memcpy(&h, p, n >= TD_LANES ? sizeof h : (size_t)n * sizeof *p);
    return (td_vf)(__builtin_convertvector(h, td_vu) << 16);
}

TD_CPU_INLINE void td_vstore(float *p, td_vf v) { *(td_vf_at *)p = v; }

/* The first n <= 16 elements, the other lanes 0. */
TD_CPU_INLINE td_vf td_vload_n(const float *p, int64_t n)
{
    /* only the address depends on n: the compiler would merge two vectors through the stack */
    float lanes[TD_LANES];
    if (n < TD_LANES) {
        memset(lanes, 0, sizeof lanes);
        memcpy(lanes, p, (size_t)n * sizeof *p);
        p = lanes;
    }
    return td_vload(p);
}

TD_CPU_INLINE void td_vstore_n(float *p, td_vf v, int64_t n)
{
    if (n >= TD_LANES)
        td_vstore(p, v);
    else
        memcpy(p, &v, (size_t)n * sizeof(float));
}

/* a where the mask's lane is -1, b where it is 0. */
TD_CPU_INLINE td_vf td_vpick(td_vi mask, td_vf a, td_vf b)
{
    return (td_vf)((mask & (td_vi)a) | (~mask & (td_vi)b));
}

/* -1 in lanes where a > b, 0 elsewhere. In halves, because for AVX2 gcc turns a comparison of 64
 * bytes into one per lane. */
#define TD_VABOVE(name_, vector_, element_)                          \
    TD_CPU_INLINE td_vi name_(vector_ a, vector_ b)                  \
    {                                                                \
        typedef element_ half __attribute__((vector_size(32)));      \
        typedef int32_t  half_mask __attribute__((vector_size(32))); \
        half             x[2], y[2];                                 \
        half_mask        m[2];                                       \
        td_vi            mask;                                       \
        memcpy(x, &a, sizeof a);                                     \
        memcpy(y, &b, sizeof b);                                     \
        m[0] = x[0] > y[0];                                          \
        m[1] = x[1] > y[1];                                          \
        memcpy(&mask, m, sizeof mask);                               \
        return mask;                                                 \
    }
TD_VABOVE(td_vabove, td_vf, float)
TD_VABOVE(td_vabove_i, td_vi, int32_t)

/* -1 in lanes where a = b: a ^ b = 0 is the only value of which neither it nor its negative has the
 * sign bit set. */
TD_CPU_INLINE td_vi td_vsame_i(td_vi a, td_vi b)
{
    td_vu differ = (td_vu)(a ^ b);
    return ~((td_vi)(differ | (0u - differ)) >> 31);
}

/* -1 in lanes whose sign bit is set, even of -0 and NaN. Instead of a comparison with a number c,
 * the sign of x - c, which is exact near c. */
TD_CPU_INLINE td_vi td_vsign(td_vf x) { return (td_vi)x >> 31; }

/* -1 in lanes that are NaN: their bits, without the sign, are above infinity's. */
TD_CPU_INLINE td_vi td_vnan(td_vf x) { return (0x7F800000 - ((td_vi)x & 0x7FFFFFFF)) >> 31; }

/* Lane by lane; b where either is NaN. */
TD_CPU_INLINE td_vf td_vmax(td_vf a, td_vf b) { return td_vpick(td_vabove(a, b), a, b); }

/* The compiler turns the loop into one instruction: the module is built without math errno. */
TD_CPU_INLINE td_vf td_vsqrt(td_vf x)
{
    for (int i = 0; i < TD_LANES; i++)
        x[i] = sqrtf(x[i]);
    return x;
}

TD_CPU_INLINE td_vf td_vabs(td_vf x) { return (td_vf)((td_vi)x & 0x7FFFFFFF); }

/* The sum of the lanes, halves added pairwise: the same order on every machine. */
TD_CPU_INLINE float td_vsum(td_vf v)
{
    typedef float eight __attribute__((vector_size(32)));
    typedef float four __attribute__((vector_size(16)));
    eight         a[2];
    four          b[2];

    memcpy(a, &v, sizeof a);
    a[0] += a[1];
    memcpy(b, &a[0], sizeof b);
    b[0] += b[1];
    return (b[0][0] + b[0][2]) + (b[0][1] + b[0][3]);
}

/* The largest lane. */
TD_CPU_INLINE float td_vlargest(td_vf v)
{
    float a[TD_LANES];
    td_vstore(a, v);
    for (int half = TD_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            a[i] = a[i] > a[i + half] ? a[i] : a[i + half];
    return a[0];
}

/* exp to about 1 ulp: 2^n exp(r) with |r| <= ln 2 / 2; the polynomial is Cephes's. Below -87 it is
 * 0, above 88.72 infinite; NaN propagates. */
TD_CPU_INLINE td_vf td_vexp(td_vf x)
{
    /* adding 1.5 * 2^23 rounds to an integer, and leaves it in the low bits of the sum */
    const td_vf magic = td_vset(12582912.0f);
    td_vf       z = x * 1.44269504f + magic, n = z - magic;
    td_vf       r = x - n * 0.693359375f, p = td_vset(1.9875691500e-4f);
    /* the bits of 2^(n-1): 2^128, needed for the largest x, would be infinite. Garbage where x is
     * out of range, which is replaced at the end. */
    td_vu       half = ((td_vu)z - (td_vu)magic + 126u) << 23;

    /* ln 2 in two parts, the first with few enough bits that n times it is exact */
    r = r - n * -2.12194440e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    p = p * (td_vf)half * 2.0f;
    p = td_vpick(td_vsign(x + 87.0f), td_vset(0), p);
    p = td_vpick(td_vsign(88.72283f - x), td_vset(INFINITY), p);
    return td_vpick(td_vnan(x), x, p);
}

TD_CPU_INLINE td_vf td_vsigmoid(td_vf x) { return 1.0f / (1.0f + td_vexp(-x)); }

/* tanh: 1 - 2 / (e^2x + 1), or Cephes's polynomial below 0.625, where that would cancel. */
TD_CPU_INLINE td_vf td_vtanh(td_vf x)
{
    td_vf a = td_vabs(x), z = x * x, p = td_vset(-5.70498872745e-3f);
    td_vf big = 1.0f - 2.0f / (td_vexp(a + a) + 1.0f);

    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    p = p * z * x + x;
    /* computed for |x|, so put the sign of x back */
    big = (td_vf)((td_vi)big | ((td_vi)x & (int32_t)0x80000000));
    return td_vpick(td_vsign(a - 0.625f), p, big);
}

/* sum x[i] y[i], always in the same order. Four sums at a time hide the latency of FMA. */
TD_CPU_INLINE float td_vdot(const float *x, const float *y, int64_t n)
{
    td_vf   s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
        s0 += td_vload(x + i) * td_vload(y + i);
        s1 += td_vload(x + i + 16) * td_vload(y + i + 16);
        s2 += td_vload(x + i + 32) * td_vload(y + i + 32);
        s3 += td_vload(x + i + 48) * td_vload(y + i + 48);
    }
    for (; i < n; i += TD_LANES)
        s0 += td_vload_n(x + i, n - i) * td_vload_n(y + i, n - i);
    return td_vsum((s0 + s1) + (s2 + s3));
}

/* The largest number of a row; -INFINITY if it is empty. NaN is skipped. */
TD_CPU_INLINE float td_vtop(const float *x, int64_t n)
{
    td_vf   top = td_vset(-INFINITY);
    int64_t i = 0;
    float   largest;

    for (; i + TD_LANES <= n; i += TD_LANES)
        top = td_vmax(td_vload(x + i), top); /* in this order: top if x is NaN */
    for (largest = td_vlargest(top); i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* The sum of a row: within a span by lanes in float, over spans in double, so that the error does
 * not grow with the length. */
TD_CPU_INLINE double td_vtotal(const float *x, int64_t n)
{
    enum { SPAN = 1024 };
    double total = 0;
    for (int64_t start = 0; start < n; start += SPAN) {
        int64_t end = td_cpu_min(n, start + SPAN);
        td_vf   sum = { 0 };
        for (int64_t i = start; i < end; i += TD_LANES)
            sum += td_vload_n(x + i, end - i);
        total += (double)td_vsum(sum);
    }
    return total;
}

/* One of four rounds of a transposition. The lanes of x[i] and x[i + 8] are interleaved into y[2i]
 * and y[2i + 1], as cards are in a perfect shuffle; 16 x 16 is transposed after log2 16 of them. */
TD_CPU_INLINE void td_vdeal(td_vf *to, const td_vf *from)
{
    for (int i = 0; i < TD_LANES / 2; i++) {
        to[2 * i] = __builtin_shufflevector(from[i], from[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20,
                                            5, 21, 6, 22, 7, 23);
        to[2 * i + 1] = __builtin_shufflevector(from[i], from[i + 8], 8, 24, 9, 25, 10, 26, 11, 27,
                                                12, 28, 13, 29, 14, 30, 15, 31);
    }
}

/* Transpose 16 x 16 in registers. */
TD_CPU_INLINE void td_vturn(td_vf x[TD_LANES])
{
    td_vf y[TD_LANES];
    td_vdeal(y, x);
    td_vdeal(x, y);
    td_vdeal(y, x);
    td_vdeal(x, y);
}

/* ---- this processor -------------------------------------------------------------------------- */

TD_CPU_INLINE bool td_cpu_has_avx512(void)
{
#if TD_CPU_AVX
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#else
    return false;
#endif
}

TD_CPU_INLINE bool td_cpu_has_avx2(void)
{
#if TD_CPU_AVX
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

/* ---- matrix products ------------------------------------------------------------------------- */

/* Packed operands are cut into slices of rows, and these into panels of columns. */
enum { TD_CPU_SLICE = 256, TD_CPU_PANEL = 32 };

/* A matrix in memory: element (i, j) is data[i * ld + j], or data[j * ld + i] if `trans`. If it is
 * `packed`, as td_cpu_pack leaves it, `ld` is its number of columns, rounded up to whole panels. The
 * elements of a `narrow` one are bf16, which products read as floats. */
typedef struct td_cpu_matrix {
    const void *data;
    int64_t     ld;
    bool        trans, packed, narrow;
} td_cpu_matrix;

/* The matrix that begins `elements` further on. */
TD_CPU_INLINE td_cpu_matrix td_cpu_from(td_cpu_matrix x, int64_t elements)
{
    x.data = (const char *)x.data + elements * (x.narrow ? 2 : 4);
    return x;
}

/* The same from element (i, j) on; of a packed matrix, from a slice and a panel on. */
TD_CPU_INLINE td_cpu_matrix td_cpu_part(td_cpu_matrix x, int64_t i, int64_t j)
{
    if (x.packed)
        return td_cpu_from(x, i * x.ld + j * TD_CPU_SLICE);
    return td_cpu_from(x, x.trans ? j * x.ld + i : i * x.ld + j);
}

/* Ways to compute a product. The shape of the whole decides, not a tile's shape, so that all its
 * elements are computed alike, however it is cut. */
typedef enum td_cpu_way { TD_CPU_DOTS, TD_CPU_PACKED, TD_CPU_OPENBLAS } td_cpu_way;
td_cpu_way td_cpu_sgemm_way(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k);

/* The backend's state, `backend` in every call. */
typedef struct td_cpu {
    const td_services *services;
    float             *packing; /* td_cpu_packing_floats for each thread */
} td_cpu;

/* The size of td_cpu_sgemm's packing buffer on each thread; 0 if this machine's method does not
 * pack. */
size_t td_cpu_packing_floats(void);

/* A right operand [k, n] that many products share can be packed once. A product of any number of
 * rows then uses the packed kernel: few rows take only the time to read it, and an element's bits
 * do not depend on the number of rows. Returns the number of elements needed, or 0 if this machine
 * cannot. */
size_t td_cpu_packed_count(int64_t k, int64_t n);
/* Pack b[k, n] into `to`, which is aligned to 64 bytes, over the whole pool; bf16 stays bf16.
 * [worker] */
void   td_cpu_pack(const td_cpu *, td_cpu_matrix b, int64_t k, int64_t n, void *to);
/* The matrix [k, n] that td_cpu_pack left there. */
TD_CPU_INLINE td_cpu_matrix td_cpu_packed(const void *from, int64_t n, bool narrow)
{
    int64_t columns = (n + TD_CPU_PANEL - 1) / TD_CPU_PANEL * TD_CPU_PANEL;
    return (td_cpu_matrix){ .data = from, .ld = columns, .packed = true, .narrow = narrow };
}

/* c[m, n] = alpha a[m, k] b[k, n] + beta c, row-major, on the calling thread, number `thread` of
 * the pool. With beta 0, c is not read: it may be uninitialized. [any] */
void td_cpu_sgemm(const td_cpu *, int thread, td_cpu_way, td_cpu_matrix a, td_cpu_matrix b,
                  int64_t m, int64_t n, int64_t k, float alpha, float beta, float *c, int64_t ldc);

/* The same in tiles over the whole pool. The bits do not depend on the number of threads.
 * [worker] */
void td_cpu_gemm(const td_cpu *, td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                 float alpha, float beta, float *c, int64_t ldc);

/* The size of the tiles that td_cpu_gemm cuts; `b_packed`: b was packed ahead of time. */
void td_cpu_gemm_tiles(const td_services *, td_cpu_way, bool b_packed, int64_t m, int64_t n,
                       int64_t k, int64_t *tile_m, int64_t *tile_n);

/* The name of td_cpu_sgemm's usual method on this machine, for users. */
const char *td_cpu_sgemm_name(void);

/* ---- bf16 ------------------------------------------------------------------------------------ */

/* td_bf16_from_float without a branch, for loops that the compiler vectorizes. */
TD_CPU_INLINE uint16_t td_cpu_rounded(float x)
{
    uint32_t bits, nan;
    memcpy(&bits, &x, sizeof bits);
    nan = -(uint32_t)((bits & 0x7FFFFFFF) > 0x7F800000);
    bits = (nan & (bits | 0x400000)) | (~nan & (bits + 0x7FFF + (bits >> 16 & 1)));
    return (uint16_t)(bits >> 16);
}

/* to[i] = from[i * step], to[i * step] = from[i] */
void td_cpu_widen(float *to, const uint16_t *from, int64_t step, int64_t n);
void td_cpu_narrow(uint16_t *to, int64_t step, const float *from, int64_t n);

/* Bytes of an element of a view of reals or integers. */
TD_CPU_INLINE int64_t td_view_size(const td_view *v) { return v->dtype == TD_BF16 ? 2 : 4; }

/* ---- loops ----------------------------------------------------------------------------------- */

/* The inner loop of an elementwise kernel: n elements of every operand, all contiguous. An output
 * may be the memory of an input. */
typedef void td_cpu_leaf(void *const *out, const void *const *in, int64_t n, const td_attrs *attrs);

/* Run a leaf over all elements of the call's outputs, with the first n_in inputs broadcast to them.
 * Any strides, elements of four bytes; a leaf sees bf16 as floats. The results of an output without data are discarded. */
int td_cpu_map(const td_call *call, int n_in, td_cpu_leaf *leaf);

/* Where the rows (along the last axis) of a view begin. Neighbouring dims are merged if they can
 * be. */
typedef struct td_cpu_rows {
    float  *data; /* of a `narrow` view, bf16 */
    bool    narrow;
    int     rank;
    int64_t dim[TD_MAX_RANK], stride[TD_MAX_RANK];
} td_cpu_rows;

td_cpu_rows td_cpu_rows_of(const td_view *);

/* A walk over rows, which counts instead of dividing. `row` is NULL if the view has no data. */
typedef struct td_cpu_cursor {
    float  *row;
    int64_t at[TD_MAX_RANK];
} td_cpu_cursor;

/* A row further on, or back. */
TD_CPU_INLINE float *td_cpu_step(const td_cpu_rows *r, float *row, int64_t elements)
{
    return (float *)(void *)((char *)row + elements * (r->narrow ? 2 : 4));
}

/* A row of n elements as floats: itself, or of bf16 a copy in `room`. */
TD_CPU_INLINE const float *td_cpu_row(const td_cpu_rows *r, const float *row, float *room,
                                      int64_t n)
{
    if (!r->narrow || !row)
        return row;
    td_cpu_widen(room, (const uint16_t *)(const void *)row, 1, n);
    return room;
}

/* A cursor at row `index`. */
TD_CPU_INLINE td_cpu_cursor td_cpu_walk(const td_cpu_rows *r, int64_t index)
{
    td_cpu_cursor c = { .row = r->data };
    for (int a = r->rank - 1; a >= 0 && r->data; a--) {
        c.at[a] = index % r->dim[a];
        index /= r->dim[a];
        c.row = td_cpu_step(r, c.row, c.at[a] * r->stride[a]);
    }
    return c;
}

/* Move to the next row, like an odometer: the last axis first. */
TD_CPU_INLINE void td_cpu_next(const td_cpu_rows *r, td_cpu_cursor *c)
{
    for (int a = r->rank - 1; a >= 0 && c->row; a--) {
        c->row = td_cpu_step(r, c->row, r->stride[a]);
        if (++c->at[a] < r->dim[a])
            return;
        c->row = td_cpu_step(r, c->row, -r->stride[a] * r->dim[a]);
        c->at[a] = 0;
    }
}

/* ---- small things ---------------------------------------------------------------------------- */

/* Rounded up to a cache line. */
TD_CPU_INLINE size_t td_cpu_align(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

TD_CPU_INLINE int64_t td_view_count(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return n;
}

/* The offset of element `index`, in row-major order, of a tensor with these dims and strides. */
TD_CPU_INLINE int64_t td_cpu_offset(int64_t index, int rank, const int64_t *dim,
                                    const int64_t *stride)
{
    int64_t offset = 0;
    for (int a = rank - 1; a >= 0; a--) {
        offset += index % dim[a] * stride[a];
        index /= dim[a];
    }
    return offset;
}

TD_CPU_INLINE int64_t td_view_offset(const td_view *v, int64_t index)
{
    return td_cpu_offset(index, v->rank, v->dim, v->stride);
}

TD_CPU_INLINE int64_t td_view_last(const td_view *v) { return v->rank ? v->dim[v->rank - 1] : 1; }

/* A scalar input, or `otherwise` if it is absent. */
TD_CPU_INLINE float td_view_scalar(const td_view *v, float otherwise)
{
    return v->data ? *(const float *)v->data : otherwise;
}

#endif
