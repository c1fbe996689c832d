/* sgemm_packed.c - matrix products with AVX-512 or AVX2, packed as in Goto and van de Geijn, "Anatomy
 * of high-performance matrix multiplication", ACM TOMS 2008.
 *
 * A block of a, up to 512 x 256 (512 KiB), is packed into strips of as many rows as a kernel reads, 8
 * or, for AVX2, 16, and stays in the second-level cache. Of b, one panel of 32 columns at a time is
 * packed (32 KiB), which stays in the first. The kernel keeps 8 x 32 of c in registers of AVX-512: 16
 * sums of the 32, enough to hide the latency of FMA, with registers left for a row of b. AVX2 has half
 * as many, half as long: there the same block is computed in quarters of 4 x 16, 8 sums of the 16. The
 * order of additions depends on the place in k alone, so both give the same bits. On Zen 5 the first is
 * about 1.6 times as fast as OpenBLAS's AVX2 kernels.
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

/* In AVX2's own width: gcc keeps longer vectors in memory there. */
enum { EIGHT = 8 };
typedef float    eight __attribute__((vector_size(32)));
typedef uint32_t eight_words __attribute__((vector_size(32)));
typedef float    eight_at __attribute__((vector_size(32), aligned(4), may_alias));

/* Elements at, at + 1 .. of a row, n of them. */
TD_CPU_INLINE td_vf load(const void *row, bool narrow, int64_t at, int64_t n)
{
    return narrow ? td_vwiden_n((const uint16_t *)row + at, n)
                  : td_vload_n((const float *)row + at, n);
}

/* Where 16 packed elements of each p are written: at to + p step, or, `halved`, the first 8 at
 * to + 8 p and the others as far behind as a strip of 8 is long. */
typedef struct destination {
    float  *to;
    int64_t step;
    bool    halved;
} destination;

TD_CPU_INLINE void put_packed(destination d, int64_t p, td_vf x)
{
    if (!d.halved) {
        td_vstore(d.to + p * d.step, x);
        return;
    }
    *(eight_at *)(d.to + p * EIGHT) = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
    *(eight_at *)(d.to + p * EIGHT + EIGHT * KC) = __builtin_shufflevector(x, x, 8, 9, 10, 11, 12,
                                                                           13, 14, 15);
}

/* to[p][i] = from[i * ld + p] for i < 16, p < depth, with zeros for i >= width: 16 x 16 at a time in
 * registers, so that both sides are read and written by whole cache lines. */
TD_CPU_INLINE void pack_turned(destination to, const void *from, bool narrow, int64_t ld,
                               int64_t width, int64_t depth)
{
    for (int64_t p = 0; p < depth; p += STRIP) {
        td_vf   x[STRIP];
        int64_t left = td_cpu_min(STRIP, depth - p);
        for (int i = 0; i < STRIP; i++)
            x[i] = i < width ? load(from, narrow, i * ld + p, left) : td_vset(0);
        td_vturn(x);
        for (int i = 0; i < left; i++)
            put_packed(to, p + i, x[i]);
    }
}

/* to[p][i] = from[p * ld + i] for i < 16, with zeros for i >= width. */
TD_CPU_INLINE void pack_straight(destination to, const void *from, bool narrow, int64_t ld,
                                 int64_t width, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++)
        put_packed(to, p, load(from, narrow, p * ld, width));
}

/* One of three rounds of a transposition, like td_vdeal. */
TD_CPU_INLINE void deal_eight(eight *to, const eight *from)
{
    for (int i = 0; i < EIGHT / 2; i++) {
        to[2 * i] = __builtin_shufflevector(from[i], from[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        to[2 * i + 1] = __builtin_shufflevector(from[i], from[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
}

/* Like pack_turned, 8 x 8 at a time, for floats of which all are there. */
TD_CPU_AVX2 static void turn_eights(float *to, int64_t step, const float *from, int64_t ld,
                                    int64_t depth)
{
    for (int64_t p = 0; p < depth; p += EIGHT)
        for (int64_t half = 0; half < STRIP; half += EIGHT) {
            eight x[EIGHT], y[EIGHT];
            for (int i = 0; i < EIGHT; i++)
                x[i] = *(const eight_at *)(from + (half + i) * ld + p);
            deal_eight(y, x);
            deal_eight(x, y);
            deal_eight(y, x);
            for (int i = 0; i < EIGHT; i++)
                *(eight_at *)(to + (p + i) * step + half) = y[i];
        }
}

/* `narrow` is a constant in each call: it decides nothing in the loops. */
TD_CPU_CLONES static void pack_any(const destination *to, const td_cpu_matrix *x, bool turned,
                                   int64_t width, int64_t depth)
{
    if (turned && x->narrow)
        pack_turned(*to, x->data, true, x->ld, width, depth);
    else if (turned)
        pack_turned(*to, x->data, false, x->ld, width, depth);
    else if (x->narrow)
        pack_straight(*to, x->data, true, x->ld, width, depth);
    else
        pack_straight(*to, x->data, false, x->ld, width, depth);
}

/* 16 columns of b that are not there. */
static void pack_zeros(destination to, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++)
        memset(to.to + p * to.step, 0, STRIP * sizeof(float));
}

/* 16 rows of a, or columns of b. Padded with zeros, because the kernel always computes a whole
 * block. */
static void pack(destination to, td_cpu_matrix x, bool turned, int64_t width, int64_t depth)
{
    if (width <= 0)
        pack_zeros(to, depth);
    else if (turned && width == STRIP && !x.narrow && !td_cpu_has_avx512()) {
        int64_t whole = depth / EIGHT * EIGHT;
        turn_eights(to.to, to.step, x.data, x.ld, whole);
        x = td_cpu_from(x, whole);
        to.to += whole * to.step;
        pack_any(&to, &x, true, width, depth - whole);
    } else
        pack_any(&to, &x, turned, width, depth);
}

/* ---- the kernels ------------------------------------------------------------------------------ */

/* What the same block is computed from. All but `depth` are constants once this is inlined. */
typedef struct kernel_form {
    int  rows;   /* of the block: at most 8 */
    bool narrow; /* b is bf16, packed ahead of time */
    int  ahead;  /* 0, or how far to fetch b in advance */
} kernel_form;

/* What to fetch into the second-level cache meanwhile: a line at `at` + p step for each p. */
typedef struct soon {
    const char *at;
    int64_t     step; /* bytes, usually less than a line */
} soon;

/* Sums times alpha, plus beta c. */
TD_CPU_INLINE void put(float *c, td_vf sum, float alpha, float beta)
{
    sum *= alpha;
    if (beta != 0)
        sum += td_vload(c) * beta;
    td_vstore(c, sum);
}

/* c is needed only at the end: it can come from memory meanwhile. */
TD_CPU_INLINE void expect_rows(const float *c, int64_t ldc, int rows, int columns)
{
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < columns; k += TD_LANES)
            __builtin_prefetch(c + i * ldc + k, 1);
}

/* Columns 0 .. 15 or 16 .. 31 of a word's bf16. */
TD_CPU_INLINE td_vf half_of(td_vf words, int half)
{
    return half ? (td_vf)((td_vu)words << 16) : (td_vf)((td_vu)words & 0xFFFF0000u);
}

/* c[rows, 32] = alpha sum_p a[p][i] b[p][j] + beta c. */
TD_CPU_INLINE void multiply_whole(kernel_form f, int64_t depth, const float *a, const float *b,
                                  float *c, int64_t ldc, float alpha, float beta, soon next)
{
    td_vf s[MR][2] = { 0 };
    expect_rows(c, ldc, f.rows, PANEL);
    for (int64_t p = 0; p < depth; p++, a += MR, b += f.narrow ? TD_LANES : PANEL) {
        td_vf b0 = td_vload(b), b1;
        if (f.narrow) {
            b1 = half_of(b0, 1);
            b0 = half_of(b0, 0);
        } else
            b1 = td_vload(b + TD_LANES);
        if (!f.ahead)
            __builtin_prefetch(next.at + p * next.step, 0, 2);
        if (f.ahead)
            __builtin_prefetch(b + f.ahead, 0, 2);
        if (f.ahead && !f.narrow)
            __builtin_prefetch(b + f.ahead + TD_LANES, 0, 2);
#pragma GCC unroll 8
        for (int i = 0; i < f.rows; i++) {
            /* a factor, not td_vset(): of that gcc makes shuffles, for which Intel's processors
             * have no port but one of those of FMA */
            s[i][0] += a[i] * b0;
            s[i][1] += a[i] * b1;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < f.rows; i++) {
        put(c + i * ldc, s[i][0], alpha, beta);
        put(c + i * ldc + TD_LANES, s[i][1], alpha, beta);
    }
}

enum { SIX = 6, FOUR = 4 };

TD_CPU_INLINE eight load_eight(const float *p, bool narrow, int half)
{
    eight x = *(const eight_at *)p;
    if (!narrow)
        return x;
    return half ? (eight)((eight_words)x << 16) : (eight)((eight_words)x & 0xFFFF0000u);
}

TD_CPU_INLINE void put_eight(float *c, eight sum, float alpha, float beta)
{
    eight_at *to = (eight_at *)c;
    sum *= alpha;
    if (beta != 0)
        sum += *to * beta;
    *to = sum;
}

/* Up to 6 rows, and one half of the columns. */
TD_CPU_INLINE void multiply_half(kernel_form f, int half, int64_t depth, const float *a,
                                 const float *b, float *c, int64_t ldc, float alpha, float beta,
                                 soon next)
{
    eight s[SIX][2] = { 0 };
    b += f.narrow ? 0 : half * TD_LANES;
    c += half * TD_LANES;
    expect_rows(c, ldc, f.rows, TD_LANES);
    for (int64_t p = 0; p < depth; p++, a += STRIP, b += f.narrow ? TD_LANES : PANEL) {
        eight b0 = load_eight(b, f.narrow, half), b1 = load_eight(b + EIGHT, f.narrow, half);
        if (!f.ahead && half == 0)
            __builtin_prefetch(next.at + p * next.step, 0, 2);
        if (f.ahead)
            __builtin_prefetch(b + f.ahead, 0, 2);
#pragma GCC unroll 6
        for (int i = 0; i < f.rows; i++) {
            s[i][0] += a[i] * b0;
            s[i][1] += a[i] * b1;
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < f.rows; i++) {
        put_eight(c + i * ldc, s[i][0], alpha, beta);
        put_eight(c + i * ldc + EIGHT, s[i][1], alpha, beta);
    }
}

typedef void kernel(int64_t depth, const float *a, const void *b, float *c, int64_t ldc,
                    float alpha, float beta, soon next);

#define KERNEL(name_, target_, multiply_)                                                          \
    target_ static void name_(int64_t depth, const float *a, const void *b, float *c, int64_t ldc, \
                              float alpha, float beta, soon next)                                  \
    {                                                                                              \
        multiply_;                                                                                 \
    }
#define WHOLE_KERNEL(name_, ...) \
    KERNEL(name_, TD_CPU_AVX512, \
           multiply_whole((kernel_form){ __VA_ARGS__ }, depth, a, b, c, ldc, alpha, beta, next))
/* One for each half. */
#define HALF_KERNELS(name_, ...)                                                                   \
    KERNEL(name_##_left, TD_CPU_AVX2,                                                              \
           multiply_half((kernel_form){ __VA_ARGS__ }, 0, depth, a, b, c, ldc, alpha, beta, next)) \
    KERNEL(name_##_right, TD_CPU_AVX2,                                                             \
           multiply_half((kernel_form){ __VA_ARGS__ }, 1, depth, a, b, c, ldc, alpha, beta, next)) \
    static kernel *const name_[] = { name_##_left, name_##_right };

/* rows, b in bf16 (packed ahead of time), how far to fetch it in advance */
WHOLE_KERNEL(whole_from_cache, MR, false, 0)
WHOLE_KERNEL(whole_from_memory, MR, false, AHEAD)
WHOLE_KERNEL(whole_narrow_from_cache, MR, true, 0)
WHOLE_KERNEL(whole_narrow_from_memory, MR, true, AHEAD)
/* one row: eight would take longer to multiply than b takes to arrive */
WHOLE_KERNEL(whole_row, 1, false, AHEAD)
WHOLE_KERNEL(whole_narrow_row, 1, true, AHEAD)
HALF_KERNELS(six_from_cache, SIX, false, 0)
HALF_KERNELS(six_from_memory, SIX, false, AHEAD)
HALF_KERNELS(six_narrow_from_cache, SIX, true, 0)
HALF_KERNELS(six_narrow_from_memory, SIX, true, AHEAD)
HALF_KERNELS(four_from_cache, FOUR, false, 0)
HALF_KERNELS(four_from_memory, FOUR, false, AHEAD)
HALF_KERNELS(four_narrow_from_cache, FOUR, true, 0)
HALF_KERNELS(four_narrow_from_memory, FOUR, true, AHEAD)

/* What a kernel computes of the 32 columns. */
typedef enum part { LEFT, RIGHT, WHOLE } part;

static kernel *whole_kernel(bool narrow, bool in_cache, int64_t rows)
{
    if (rows == 1 && !in_cache)
        return narrow ? whole_narrow_row : whole_row;
    if (narrow)
        return in_cache ? whole_narrow_from_cache : whole_narrow_from_memory;
    return in_cache ? whole_from_cache : whole_from_memory;
}

static kernel *half_kernel(bool narrow, bool in_cache, bool six, part half)
{
    if (six && narrow)
        return (in_cache ? six_narrow_from_cache : six_narrow_from_memory)[half];
    if (six)
        return (in_cache ? six_from_cache : six_from_memory)[half];
    if (narrow)
        return (in_cache ? four_narrow_from_cache : four_narrow_from_memory)[half];
    return (in_cache ? four_from_cache : four_from_memory)[half];
}

/* At the edges of c, the kernel works on a copy, of which only the inside is written back: columns
 * first .. end. */
static void at_edge(kernel *run, int64_t depth, const float *a, const void *b, float *c,
                    int64_t ldc, float alpha, float beta, soon next, int64_t rows, int64_t first,
                    int64_t end)
{
    float  block[MR * PANEL] = { 0 };
    size_t bytes = (size_t)(end - first) * sizeof(float);
    for (int64_t i = 0; i < rows && beta != 0; i++)
        memcpy(block + i * PANEL + first, c + i * ldc + first, bytes);
    run(depth, a, b, block, PANEL, alpha, beta, next);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * ldc + first, block + i * PANEL + first, bytes);
}

/* Prefetch a part of the next panel's source, so that it arrives while this one is multiplied: with
 * rows first .. end of `rows`, as the processor can only wait for a few lines at a time. */
static void prefetch(td_cpu_matrix next, int64_t width, int64_t depth, int64_t first, int64_t end,
                     int64_t rows)
{
    int64_t lines = next.trans ? width : depth, length = next.trans ? depth : width;
    for (int64_t i = lines * first / rows; i < lines * end / rows; i++)
        for (int64_t k = 0; k < length; k += TD_LANES)
            __builtin_prefetch(td_cpu_from(next, i * next.ld + k).data);
}

/* A block of a and one panel of b to multiply it with. */
typedef struct panel_job {
    int64_t       depth, rows, columns, ldc;
    const float  *a;
    const void   *b;
    float        *c;
    float         alpha, beta;
    bool          narrow, in_cache; /* of b */
    const char   *soon;             /* the panel to come, packed ahead of time; or NULL */
    td_cpu_matrix next;             /* the panel to come, not packed yet */
    int64_t       next_columns;
} panel_job;

/* The part of a packed panel that is fetched while rows i .. are multiplied by this one. */
static soon fetch_next(const panel_job *j, int64_t i, int64_t rows)
{
    int64_t bytes = j->depth * PANEL * (j->narrow ? 2 : 4);
    if (!j->soon)
        return (soon){ j->b, 0 };
    return (soon){ j->soon + bytes * i / j->rows, td_cpu_ceil(bytes * rows / j->rows, j->depth) };
}

/* Rows that a kernel computes, from row i of a strip of 16 on: 8 and 8, or 6, 6 and 4. */
static int64_t rows_from(int64_t i, part part)
{
    if (part == WHOLE)
        return MR;
    return i % STRIP < 2 * SIX ? SIX : FOUR;
}

static void panel_part(const panel_job *j, part part)
{
    int64_t first = part == RIGHT ? TD_LANES : 0, end = part == LEFT ? TD_LANES : PANEL, whole;
    end = td_cpu_min(end, j->columns);
    for (int64_t i = 0; i < j->rows && first < end; i += whole) {
        const float *strip = part == WHOLE ? j->a + i * KC
                                           : j->a + i / STRIP * STRIP * KC + i % STRIP;
        float       *c = j->c + i * j->ldc;
        whole = rows_from(i, part);
        /* the last rows may be few */
        int64_t rows = td_cpu_min(whole, j->rows - i);
        /* the first rows bring the panel into the cache */
        bool    in_cache = j->in_cache || i > 0;
        kernel *run = part == WHOLE ? whole_kernel(j->narrow, in_cache, rows)
                                    : half_kernel(j->narrow, in_cache, rows > FOUR, part);
        if (part != RIGHT)
            prefetch(j->next, j->next_columns, j->depth, i, i + rows, j->rows);
        soon next = fetch_next(j, i, rows);
        if (rows == whole && j->columns == PANEL)
            run(j->depth, strip, j->b, c, j->ldc, j->alpha, j->beta, next);
        else
            at_edge(run, j->depth, strip, j->b, c, j->ldc, j->alpha, j->beta, next, rows, first,
                    end);
    }
}

/* With AVX2 one half after the other: half a panel fits into the first-level cache beside a. */
static void panel(const panel_job *j)
{
    if (td_cpu_has_avx512()) {
        panel_part(j, WHOLE);
        return;
    }
    panel_part(j, LEFT);
    panel_part(j, RIGHT);
}

/* Two strips of 16 columns side by side. */
static void pack_panel(float *to, td_cpu_matrix b, int64_t columns, int64_t depth)
{
    pack((destination){ to, PANEL, false }, b, b.trans, td_cpu_min(STRIP, columns), depth);
    pack((destination){ to + STRIP, PANEL, false }, td_cpu_part(b, 0, STRIP), b.trans,
         columns - STRIP, depth);
}

/* A block of a with all columns of b. Unless b is packed, it is packed again for each block, a cost
 * shared by 512 rows. */
static void block(td_cpu_matrix a, td_cpu_matrix b, int64_t rows, int64_t n, int64_t depth,
                  float alpha, float beta, float *c, int64_t ldc, float *pa)
{
    float *pb = pa + TD_CPU_PACKED_A;

    for (int64_t i = 0; i < rows; i += STRIP)
        pack((destination){ pa + i * KC, STRIP, td_cpu_has_avx512() }, td_cpu_part(a, i, 0),
             !a.trans, td_cpu_min(STRIP, rows - i), depth);
    for (int64_t j = 0; j < n; j += PANEL) {
        int64_t       columns = td_cpu_min(PANEL, n - j);
        td_cpu_matrix here = td_cpu_part(b, 0, j), next = td_cpu_part(b, 0, j + PANEL);
        /* the kernel itself prefetches a b that was packed ahead of time */
        int64_t       then = b.packed ? 0 : td_cpu_max(0, td_cpu_min(PANEL, n - j - PANEL));
        if (!b.packed)
            pack_panel(pb, here, columns, depth);
        panel(&(panel_job){ .depth = depth,
                            .rows = rows,
                            .columns = columns,
                            .ldc = ldc,
                            .a = pa,
                            .b = b.packed ? here.data : pb,
                            .c = c + j,
                            .alpha = alpha,
                            .beta = beta,
                            .narrow = b.packed && b.narrow,
                            .in_cache = !b.packed || (j > 0 && rows >= 32),
                            .soon = b.packed && j + PANEL < n ? next.data : NULL,
                            .next = next,
                            .next_columns = then });
    }
}

/* The upper halves of words: columns 0 .. 15 above 16 .. 31. Exact, as the floats were bf16. */
TD_CPU_CLONES static void pair_columns(uint32_t *to, const float *from, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++) {
        td_vu high = (td_vu)td_vload(from + p * PANEL);
        td_vu low = (td_vu)td_vload(from + p * PANEL + TD_LANES);
        td_vu both = (high & 0xFFFF0000u) | low >> 16;
        memcpy(to + p * TD_LANES, &both, sizeof both);
    }
}

void td_cpu_pack_slice(td_cpu_matrix b, int64_t k, int64_t n, int64_t first, void *to)
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

void td_cpu_sgemm_packed(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                         float alpha, float beta, float *c, int64_t ldc, float *packing)
{
    /* the first slice of k scales c by beta, the others add to it */
    for (int64_t p = 0; p < k; p += KC)
        for (int64_t i = 0; i < m; i += MC)
            block(td_cpu_part(a, i, p), td_cpu_part(b, p, 0), td_cpu_min(MC, m - i), n,
                  td_cpu_min(KC, k - p), alpha, p ? 1.0f : beta, c + i * ldc, ldc, packing);
}

#endif
