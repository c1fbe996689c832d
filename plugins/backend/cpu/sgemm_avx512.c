/* sgemm_avx512.c - matrix products with AVX-512, packed as in Goto and van de Geijn, "Anatomy of
 * high-performance matrix multiplication", ACM TOMS 2008.
 *
 * A block of a, up to 512 x 256 (512 KiB), is packed into strips of 16 rows and stays in the
 * second-level cache. Of b, one panel of 32 columns at a time is packed (32 KiB), which stays in
 * the first. The kernel keeps 8 x 32 of c in registers: 16 sums of the 32, enough to hide the
 * latency of FMA, with registers left for a row of b. The order of additions depends on the place
 * in k alone. On Zen 5 this is about 1.6 times as fast as OpenBLAS's AVX2 kernels.
 *
 * A b that was packed ahead of time is read in place. With few rows of a, the product is then bound
 * by reading b, front to back.
 *
 * Operands in bf16 become floats as they are packed, so the kernel and its sums are the same. Only a
 * b that is packed ahead of time stays bf16, in half the memory: a word holds the elements of two
 * columns, 16 apart, which a mask and a shift take out.
 */
#include "sgemm.h"

#if TD_CPU_AVX

/* Goto's names: MC x KC is the block of a, KC x PANEL the panel of b, MR x PANEL the kernel. */
enum { MC = 512, KC = TD_CPU_SLICE, STRIP = 16, PANEL = TD_CPU_PANEL, MR = 8 };

/* Prefetch distance in floats, for b in memory: 4 KiB, found by experiment. */
enum { AHEAD = 1024 };

_Static_assert((MC) * (KC) == TD_CPU_PACKED_A, "size of a packed block of a in sgemm.h");
_Static_assert((KC) * (PANEL) == TD_CPU_PACKED_B, "size of a packed panel of b in sgemm.h");

/* ---- packing --------------------------------------------------------------------------------- */

/* Elements at, at + 1 .. of a row, n of them. */
__attribute__((always_inline)) TD_CPU_AVX512 static inline td_vf load(const void *row, bool narrow,
                                                                      int64_t at, int64_t n)
{
    return narrow ? td_vwiden_n((const uint16_t *)row + at, n)
                  : td_vload_n((const float *)row + at, n);
}

/* to[p * step + i] = from[i * ld + p] for i < 16, p < depth, with zeros for i >= width: 16 x 16 at
 * a time in registers, so that both sides are read and written by whole cache lines. */
__attribute__((always_inline)) TD_CPU_AVX512 static inline void pack_turned(float *to, int64_t step,
                                                                            const void *from,
                                                                            bool narrow, int64_t ld,
                                                                            int64_t width,
                                                                            int64_t depth)
{
    for (int64_t p = 0; p < depth; p += STRIP) {
        td_vf   x[STRIP];
        int64_t left = td_cpu_min(STRIP, depth - p);
        for (int i = 0; i < STRIP; i++)
            x[i] = i < width ? load(from, narrow, i * ld + p, left) : td_vset(0);
        td_vturn(x);
        for (int i = 0; i < left; i++)
            td_vstore(to + (p + i) * step, x[i]);
    }
}

/* to[p * step + i] = from[p * ld + i] for i < 16, with zeros for i >= width. */
__attribute__((always_inline)) TD_CPU_AVX512 static inline void pack_straight(
    float *to, int64_t step, const void *from, bool narrow, int64_t ld, int64_t width,
    int64_t depth)
{
    for (int64_t p = 0; p < depth; p++)
        td_vstore(to + p * step, load(from, narrow, p * ld, width));
}

/* `narrow` is a constant in each call: it decides nothing in the loops. */
TD_CPU_AVX512 static void pack_any(float *to, int64_t step, const td_cpu_matrix *x, bool turned,
                                   int64_t width, int64_t depth)
{
    if (turned && x->narrow)
        pack_turned(to, step, x->data, true, x->ld, width, depth);
    else if (turned)
        pack_turned(to, step, x->data, false, x->ld, width, depth);
    else if (x->narrow)
        pack_straight(to, step, x->data, true, x->ld, width, depth);
    else
        pack_straight(to, step, x->data, false, x->ld, width, depth);
}

/* 16 rows of a, or columns of b. Padded with zeros, because the kernel always computes a whole
 * block. */
static void pack(float *to, int64_t step, td_cpu_matrix x, bool turned, int64_t width,
                 int64_t depth)
{
    if (width <= 0)
        for (int64_t p = 0; p < depth; p++)
            memset(to + p * step, 0, STRIP * sizeof(float));
    else
        pack_any(to, step, &x, turned, width, depth);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

/* c[rows, 32] = alpha sum_p a[p][i] b[p][j] + beta c. `rows`, `narrow` and `ahead` are constants: at
 * most 8, b's form, and 0 or how far to fetch b in advance. */
__attribute__((always_inline)) TD_CPU_AVX512 static inline void multiply(
    int rows, bool narrow, int64_t depth, const float *a, const void *panel, float *c, int64_t ldc,
    float alpha, float beta, int ahead)
{
    const float *b = panel;
    td_vf        s[MR][2] = { 0 };

    /* c is needed only at the end: it can come from memory meanwhile */
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(c + i * ldc, 1);
        __builtin_prefetch(c + i * ldc + TD_LANES, 1);
    }

    for (int64_t p = 0; p < depth; p++, a += STRIP, b += narrow ? TD_LANES : PANEL) {
        td_vf b0 = td_vload(b), b1;
        if (narrow) {
            b1 = (td_vf)((td_vu)b0 << 16);
            b0 = (td_vf)((td_vu)b0 & 0xFFFF0000u);
        } else
            b1 = td_vload(b + TD_LANES);
        if (ahead)
            __builtin_prefetch(b + ahead, 0, 2);
        if (ahead && !narrow)
            __builtin_prefetch(b + ahead + TD_LANES, 0, 2);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            td_vf x = td_vset(a[i]);
            s[i][0] += x * b0;
            s[i][1] += x * b1;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        float *to = c + i * ldc;
        if (beta == 0) {
            td_vstore(to, s[i][0] * alpha);
            td_vstore(to + TD_LANES, s[i][1] * alpha);
        } else {
            td_vstore(to, s[i][0] * alpha + td_vload(to) * beta);
            td_vstore(to + TD_LANES, s[i][1] * alpha + td_vload(to + TD_LANES) * beta);
        }
    }
}

typedef void kernel(int64_t depth, const float *a, const void *b, float *c, int64_t ldc,
                    float alpha, float beta);

/* b is in the cache. */
TD_CPU_AVX512 static void from_cache(int64_t depth, const float *a, const void *b, float *c,
                                     int64_t ldc, float alpha, float beta)
{
    multiply(MR, false, depth, a, b, c, ldc, alpha, beta, 0);
}

TD_CPU_AVX512 static void from_memory(int64_t depth, const float *a, const void *b, float *c,
                                      int64_t ldc, float alpha, float beta)
{
    multiply(MR, false, depth, a, b, c, ldc, alpha, beta, AHEAD);
}

/* The same from bf16, which was packed ahead of time. */
TD_CPU_AVX512 static void narrow_from_cache(int64_t depth, const float *a, const void *b, float *c,
                                            int64_t ldc, float alpha, float beta)
{
    multiply(MR, true, depth, a, b, c, ldc, alpha, beta, 0);
}

TD_CPU_AVX512 static void narrow_from_memory(int64_t depth, const float *a, const void *b, float *c,
                                             int64_t ldc, float alpha, float beta)
{
    multiply(MR, true, depth, a, b, c, ldc, alpha, beta, AHEAD);
}

/* One row: eight would take longer to multiply than b, in bf16, takes to arrive. */
TD_CPU_AVX512 static void narrow_row(int64_t depth, const float *a, const void *b, float *c,
                                     int64_t ldc, float alpha, float beta)
{
    multiply(1, true, depth, a, b, c, ldc, alpha, beta, AHEAD);
}

static kernel *kernel_for(bool narrow, bool in_cache, bool single)
{
    if (narrow && single)
        return narrow_row;
    if (narrow)
        return in_cache ? narrow_from_cache : narrow_from_memory;
    return in_cache ? from_cache : from_memory;
}

/* At the edges of c, the kernel works on a copy, of which only the inside is written back. */
static void at_edge(kernel *run, int64_t depth, const float *a, const void *b, float *c,
                    int64_t ldc, float alpha, float beta, int64_t rows, int64_t columns)
{
    float block[MR * PANEL] = { 0 };
    for (int64_t i = 0; i < rows && beta != 0; i++)
        memcpy(block + i * PANEL, c + i * ldc, (size_t)columns * sizeof(float));
    run(depth, a, b, block, PANEL, alpha, beta);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * ldc, block + i * PANEL, (size_t)columns * sizeof(float));
}

/* Prefetch a part of the next panel's source, so that it arrives while this one is multiplied.
 * In parts, as the processor can only wait for a few lines at a time. */
static void prefetch(td_cpu_matrix next, int64_t width, int64_t depth, int64_t part, int64_t parts)
{
    int64_t lines = next.trans ? width : depth, length = next.trans ? depth : width;
    for (int64_t i = lines * part / parts; i < lines * (part + 1) / parts; i++)
        for (int64_t k = 0; k < length; k += TD_LANES)
            __builtin_prefetch(td_cpu_from(next, i * next.ld + k).data);
}

/* A block of a with one panel of b, in bf16 or not; `next` is the panel to come. */
static void panel(int64_t depth, const float *a, const void *b, bool narrow, bool in_cache,
                  float *c, int64_t ldc, float alpha, float beta, int64_t rows, int64_t columns,
                  td_cpu_matrix next, int64_t next_columns)
{
    for (int64_t i = 0; i < rows; i += MR) {
        /* strips have 16 rows, the kernel takes 8: an upper or a lower half */
        const float *strip = a + i / STRIP * STRIP * KC + i % STRIP;
        /* the first rows bring the panel into the cache */
        kernel      *run = kernel_for(narrow, in_cache || i > 0, rows - i == 1);
        prefetch(next, next_columns, depth, i / MR, td_cpu_ceil(rows, MR));
        if (rows - i >= MR && columns == PANEL)
            run(depth, strip, b, c + i * ldc, ldc, alpha, beta);
        else
            at_edge(run, depth, strip, b, c + i * ldc, ldc, alpha, beta, td_cpu_min(MR, rows - i),
                    columns);
    }
}

/* Two strips of 16 columns side by side. */
static void pack_panel(float *to, td_cpu_matrix b, int64_t columns, int64_t depth)
{
    pack(to, PANEL, b, b.trans, td_cpu_min(STRIP, columns), depth);
    pack(to + STRIP, PANEL, td_cpu_part(b, 0, STRIP), b.trans, columns - STRIP, depth);
}

/* A block of a with all columns of b. Unless b is packed, it is packed again for each block, a cost
 * shared by 512 rows. */
static void block(td_cpu_matrix a, td_cpu_matrix b, int64_t rows, int64_t n, int64_t depth,
                  float alpha, float beta, float *c, int64_t ldc, float *pa)
{
    float *pb = pa + TD_CPU_PACKED_A;

    for (int64_t i = 0; i < rows; i += STRIP)
        pack(pa + i * KC, STRIP, td_cpu_part(a, i, 0), !a.trans, td_cpu_min(STRIP, rows - i),
             depth);
    for (int64_t j = 0; j < n; j += PANEL) {
        int64_t       columns = td_cpu_min(PANEL, n - j);
        td_cpu_matrix here = td_cpu_part(b, 0, j), next = td_cpu_part(b, 0, j + PANEL);
        /* the kernel itself prefetches a b that was packed ahead of time */
        int64_t       then = b.packed ? 0 : td_cpu_max(0, td_cpu_min(PANEL, n - j - PANEL));
        if (!b.packed)
            pack_panel(pb, here, columns, depth);
        panel(depth, pa, b.packed ? here.data : pb, b.packed && b.narrow, !b.packed, c + j, ldc,
              alpha, beta, rows, columns, next, then);
    }
}

/* The upper halves of words: columns 0 .. 15 above 16 .. 31. Exact, as the floats were bf16. */
TD_CPU_AVX512 static void pair_columns(uint32_t *to, const float *from, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++) {
        td_vu high = (td_vu)td_vload(from + p * PANEL);
        td_vu low = (td_vu)td_vload(from + p * PANEL + TD_LANES);
        td_vu both = (high & 0xFFFF0000u) | low >> 16;
        memcpy(to + p * TD_LANES, &both, sizeof both);
    }
}

void td_cpu_pack_slice_avx512(td_cpu_matrix b, int64_t k, int64_t n, int64_t first, void *to)
{
    td_cpu_matrix packed = td_cpu_part(td_cpu_packed(to, n, b.narrow), first, 0);
    int64_t       depth = td_cpu_min(KC, k - first);
    float         wide[KC * PANEL];

    for (int64_t j = 0; j < n; j += PANEL) {
        void *at = (void *)(uintptr_t)td_cpu_part(packed, 0, j).data;
        pack_panel(b.narrow ? wide : at, td_cpu_part(b, first, j), td_cpu_min(PANEL, n - j), depth);
        if (b.narrow)
            pair_columns(at, wide, depth);
    }
}

void td_cpu_sgemm_avx512(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc, float *packing)
{
    /* the first slice of k scales c by beta, the others add to it */
    for (int64_t p = 0; p < k; p += KC)
        for (int64_t i = 0; i < m; i += MC)
            block(td_cpu_part(a, i, p), td_cpu_part(b, p, 0), td_cpu_min(MC, m - i), n,
                  td_cpu_min(KC, k - p), alpha, p ? 1.0f : beta, c + i * ldc, ldc, packing);
}

#endif
