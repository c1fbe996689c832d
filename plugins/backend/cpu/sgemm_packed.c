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
 * Operands in bf16 become floats as they are packed (sgemm_pack.c), so the kernel and its sums are
 * the same. Only a b that is packed ahead of time stays bf16, in half the memory: a word holds the
 * elements of two columns, 16 apart, which a mask and a shift take out.
 */
#include "sgemm.h"

#if TD_CPU_AVX

/* Goto's names: MC x KC is the block of a, KC x PANEL the panel of b, MR x PANEL the kernel. */
enum { MC = 512, KC = TD_CPU_SLICE, STRIP = TD_CPU_STRIP, PANEL = TD_CPU_PANEL, MR = 8 };

/* Prefetch distance in floats, for b in memory: 4 KiB, found by experiment. */
enum { AHEAD = 1024 };

_Static_assert((MC) * (KC) == TD_CPU_PACKED_A, "size of a packed block of a in sgemm.h");
_Static_assert((KC) * (PANEL) == TD_CPU_PACKED_B, "size of a packed panel of b in sgemm.h");

/* ---- fetching -------------------------------------------------------------------------------- */

/* Memory to be read soon: `runs` of `bytes`, `stride` bytes apart. */
typedef struct region {
    const char *at;
    int64_t     runs, bytes, stride;
} region;

/* How kernels share a region. Each fetches its part into the second-level cache while it multiplies,
 * one address every p or every few: in a burst, all line buffers would be occupied, and the kernel
 * would wait. AVX2's kernels have less room for further loads.
 * A kernel takes `runs` of the region or, if that is 0, one of 1 << parts parts of a run. The
 * addresses come from a table, because computing them would occupy ports that multiply. */
enum { EVERY_WHOLE = 1, EVERY_HALF = 4 };
typedef struct shares {
    int64_t runs;
    int     parts;
    int64_t offsets[KC]; /* from where the kernel's part begins */
} shares;

/* The largest k with 1 << k <= n, for n >= 1; 0 for less. */
static int log2_of(int64_t n) { return n < 2 ? 0 : 63 - __builtin_clzll((uint64_t)n); }

static void share(shares *s, region of, int64_t kernels, int64_t depth)
{
    int64_t addresses = td_cpu_ceil(depth, td_cpu_has_avx512() ? EVERY_WHOLE : EVERY_HALF);
    bool    parts = of.runs < kernels; /* of a run, and at least a byte long */
    int64_t bytes, step;
    s->runs = parts ? 0 : td_cpu_ceil(of.runs, td_cpu_max(1, kernels));
    s->parts = parts ? log2_of(td_cpu_min(kernels / td_cpu_max(1, of.runs), of.bytes)) : 0;
    bytes = of.bytes >> s->parts;
    if (of.runs <= 0 || bytes <= 0)
        return;
    step = td_cpu_ceil(td_cpu_max(1, s->runs) * bytes, addresses);
    for (int64_t i = 0, run = 0, at = 0; i < addresses; i++, at += step) {
        for (; at >= bytes; at -= bytes)
            run++;
        s->offsets[i] = run * of.stride + at;
    }
}

/* What a kernel fetches: at + offsets[0], [1] .. */
typedef struct soon {
    const char    *at;
    const int64_t *offsets;
} soon;

/* The share of kernel k. */
static soon share_of(const shares *s, region of, int64_t k)
{
    static const int64_t nothing[KC]; /* stays in place */
    int64_t              run = s->runs ? k * s->runs : k >> s->parts;
    int64_t              part = s->runs ? 0 : k & (((int64_t)1 << s->parts) - 1);
    if (run >= of.runs)
        return (soon){ of.at, nothing };
    return (soon){ of.at + run * of.stride + part * (of.bytes >> s->parts), s->offsets };
}

/* Rows of x or, where that is how its elements lie, columns. */
static region region_of(td_cpu_matrix x, int64_t rows, int64_t columns)
{
    int64_t size = x.narrow ? 2 : 4;
    if (rows <= 0 || columns <= 0)
        return (region){ .at = x.data };
    return (region){ x.data, x.trans ? columns : rows, (x.trans ? rows : columns) * size,
                     x.ld * size };
}

/* ---- the kernels ------------------------------------------------------------------------------ */

/* What the same block is computed from. All but `depth` are constants once this is inlined. */
typedef struct kernel_form {
    int  rows;   /* of the block: at most 8 */
    bool narrow; /* b is bf16, packed ahead of time */
    int  ahead;  /* 0, or how far to fetch b in advance */
} kernel_form;

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
                                  float *c, int64_t ldc, float alpha, float beta, const soon *next)
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
        if (!f.ahead && p % EVERY_WHOLE == 0)
            __builtin_prefetch(next->at + next->offsets[p / EVERY_WHOLE], 0, 2);
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

TD_CPU_INLINE td_eight load_eight(const float *p, bool narrow, int half)
{
    td_eight x = *(const td_eight_at *)p;
    if (!narrow)
        return x;
    return half ? (td_eight)((td_eight_words)x << 16) : (td_eight)((td_eight_words)x & 0xFFFF0000u);
}

TD_CPU_INLINE void put_eight(float *c, td_eight sum, float alpha, float beta)
{
    td_eight_at *to = (td_eight_at *)c;
    sum *= alpha;
    if (beta != 0)
        sum += *to * beta;
    *to = sum;
}

/* Up to 6 rows, and one half of the columns. */
TD_CPU_INLINE void multiply_half(kernel_form f, int half, int64_t depth, const float *a,
                                 const float *b, float *c, int64_t ldc, float alpha, float beta,
                                 const soon *next)
{
    td_eight s[SIX][2] = { 0 };
    b += f.narrow ? 0 : half * TD_LANES;
    c += half * TD_LANES;
    expect_rows(c, ldc, f.rows, TD_LANES);
    for (int64_t p = 0; p < depth; p++, a += STRIP, b += f.narrow ? TD_LANES : PANEL) {
        td_eight b0 = load_eight(b, f.narrow, half),
                 b1 = load_eight(b + TD_CPU_EIGHT, f.narrow, half);
        /* both halves share a panel, so one of them fetches the next */
        if (!f.ahead && half == 0 && p % EVERY_HALF == 0)
            __builtin_prefetch(next->at + next->offsets[p / EVERY_HALF], 0, 2);
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
        put_eight(c + i * ldc + TD_CPU_EIGHT, s[i][1], alpha, beta);
    }
}

typedef void kernel(int64_t depth, const float *a, const void *b, float *c, int64_t ldc,
                    float alpha, float beta, const soon *next);

#define KERNEL(name_, target_, multiply_)                                                          \
    target_ static void name_(int64_t depth, const float *a, const void *b, float *c, int64_t ldc, \
                              float alpha, float beta, const soon *next)                           \
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
                    int64_t ldc, float alpha, float beta, const soon *next, int64_t rows,
                    int64_t first, int64_t end)
{
    float  block[MR * PANEL] = { 0 };
    size_t bytes = (size_t)(end - first) * sizeof(float);
    for (int64_t i = 0; i < rows && beta != 0; i++)
        memcpy(block + i * PANEL + first, c + i * ldc + first, bytes);
    run(depth, a, b, block, PANEL, alpha, beta, next);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * ldc + first, block + i * PANEL + first, bytes);
}

/* A block of a and one panel of b to multiply it with. */
typedef struct panel_job {
    int64_t       depth, rows, columns, ldc;
    td_cpu_matrix source; /* is packed into `a` on the way, if `packs` */
    bool          packs;
    float        *a;
    const void   *b;
    float        *c;
    float         alpha, beta;
    bool          narrow, in_cache; /* of b */
    region        next;             /* the panel to come */
    const shares *strips, *panels;  /* of the next strip of a, and of `next` */
} panel_job;

/* Rows that a kernel computes, from row i of a strip of 16 on: 8 and 8, or 6, 6 and 4. */
static int64_t rows_from(int64_t i, part part)
{
    if (part == WHOLE)
        return MR;
    return i % STRIP < 2 * SIX ? SIX : FOUR;
}

/* The strip of a from row i on. */
static void pack_strip(const panel_job *j, int64_t i)
{
    td_cpu_pack_strip(j->a + i * KC, td_cpu_part(j->source, i, 0), td_cpu_min(STRIP, j->rows - i),
                      j->depth);
}

static region strip_at(const panel_job *j, int64_t i)
{
    return region_of(td_cpu_part(j->source, i, 0), td_cpu_min(STRIP, j->rows - i), j->depth);
}

/* Kernels for a strip: 8 and 8 rows, or 6, 6 and 4. */
static int64_t kernels_of_strip(void) { return td_cpu_has_avx512() ? 2 : 3; }

/* What the k-th kernel for the strip at row i fetches: the next strip while a is packed, except for
 * the last kernel; otherwise a part of the next panel. */
static soon fetched_by(const panel_job *j, int64_t i, int64_t k)
{
    int64_t kernels = kernels_of_strip();
    if (!j->packs)
        return share_of(j->panels, j->next, i / STRIP * kernels + k);
    if (k < kernels - 1)
        return share_of(j->strips, strip_at(j, i + STRIP), k);
    return share_of(j->panels, j->next, i / STRIP);
}

static void panel_part(const panel_job *j, part part)
{
    int64_t first = part == RIGHT ? TD_LANES : 0, end = part == LEFT ? TD_LANES : PANEL, whole;
    int64_t k = 0;
    end = td_cpu_min(end, j->columns);
    for (int64_t i = 0; i < j->rows && first < end; i += whole, k++) {
        int64_t      at = i / STRIP * STRIP;
        const float *strip = part == WHOLE ? j->a + i * KC : j->a + at * KC + i % STRIP;
        float       *c = j->c + i * j->ldc;
        whole = rows_from(i, part);
        /* the last rows may be few */
        int64_t rows = td_cpu_min(whole, j->rows - i);
        /* the first rows bring the panel into the cache */
        bool    in_cache = j->in_cache || i > 0;
        kernel *run = part == WHOLE ? whole_kernel(j->narrow, in_cache, rows)
                                    : half_kernel(j->narrow, in_cache, rows > FOUR, part);
        k = i == at ? 0 : k;
        soon next = fetched_by(j, at, k);
        if (j->packs && part != RIGHT && k == 0)
            pack_strip(j, i);
        if (rows == whole && j->columns == PANEL)
            run(j->depth, strip, j->b, c, j->ldc, j->alpha, j->beta, &next);
        else
            at_edge(run, j->depth, strip, j->b, c, j->ldc, j->alpha, j->beta, &next, rows, first,
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

/* The panel of b from column j on; empty past the last. */
static region panel_at(td_cpu_matrix b, int64_t n, int64_t j, int64_t depth)
{
    td_cpu_matrix here = td_cpu_part(b, 0, j);
    if (!b.packed || j >= n)
        return region_of(here, depth, td_cpu_min(PANEL, n - j));
    return (region){ here.data, 1, depth * PANEL * (b.narrow ? 2 : 4), 0 };
}

/* Fewer rows take less time than the next panel takes to arrive. */
enum { FETCHED = 32 };

/* A block of a with all columns of b. Unless b is packed, it is packed again for each block, a cost
 * shared by 512 rows. */
static void block(td_cpu_matrix a, td_cpu_matrix b, int64_t rows, int64_t n, int64_t depth,
                  float alpha, float beta, float *c, int64_t ldc, float *pa)
{
    float    *pb = pa + TD_CPU_PACKED_A;
    shares    strips, panels;
    panel_job job = { .depth = depth,
                      .rows = rows,
                      .ldc = ldc,
                      .source = a,
                      .a = pa,
                      .alpha = alpha,
                      .beta = beta,
                      .narrow = b.packed && b.narrow,
                      .strips = &strips,
                      .panels = &panels };
    int64_t   kernels = kernels_of_strip(), in_block = td_cpu_ceil(rows, STRIP) * kernels;

    share(&strips, strip_at(&job, STRIP), kernels - 1, depth);
    for (int64_t j = 0; j < n; j += PANEL) {
        td_cpu_matrix here = td_cpu_part(b, 0, j);
        job.columns = td_cpu_min(PANEL, n - j);
        job.packs = j == 0;
        job.b = b.packed ? here.data : pb;
        job.c = c + j;
        job.in_cache = !b.packed || (j > 0 && rows >= FETCHED);
        job.next = panel_at(b, n, j + PANEL, depth);
        /* the first kernels also fetch strips of a */
        if (j == 0 || j == PANEL)
            share(&panels, job.next, j == 0 ? in_block / kernels : in_block, depth);
        if (!b.packed)
            td_cpu_pack_panel(pb, here, job.columns, depth);
        panel(&job);
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
