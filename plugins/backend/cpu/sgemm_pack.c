/* sgemm_pack.c - packs the operands of sgemm_packed.c. Those in bf16 become floats on the way. */
#include "sgemm.h"

#if TD_CPU_AVX

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
    *(td_eight_at *)(d.to + p * TD_CPU_EIGHT) = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6,
                                                                        7);
    *(td_eight_at *)(d.to + p * TD_CPU_EIGHT +
                     TD_CPU_EIGHT * TD_CPU_SLICE) = __builtin_shufflevector(x, x, 8, 9, 10, 11, 12,
                                                                            13, 14, 15);
}

/* to[p][i] = from[i * ld + p] for i < 16, p < depth, with zeros for i >= width: 16 x 16 at a time in
 * registers, so that both sides are read and written by whole cache lines. */
TD_CPU_INLINE void pack_turned(destination to, const void *from, bool narrow, int64_t ld,
                               int64_t width, int64_t depth)
{
    for (int64_t p = 0; p < depth; p += TD_CPU_STRIP) {
        td_vf   x[TD_CPU_STRIP];
        int64_t left = td_cpu_min(TD_CPU_STRIP, depth - p);
        for (int i = 0; i < TD_CPU_STRIP; i++)
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
TD_CPU_INLINE void deal_eight(td_eight *to, const td_eight *from)
{
    for (int i = 0; i < TD_CPU_EIGHT / 2; i++) {
        to[2 * i] = __builtin_shufflevector(from[i], from[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        to[2 * i + 1] = __builtin_shufflevector(from[i], from[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
}

/* Like pack_turned, 8 x 8 at a time, for floats, with none missing. */
TD_CPU_AVX2 static void turn_eights(float *to, int64_t step, const float *from, int64_t ld,
                                    int64_t depth)
{
    for (int64_t p = 0; p < depth; p += TD_CPU_EIGHT)
        for (int64_t half = 0; half < TD_CPU_STRIP; half += TD_CPU_EIGHT) {
            td_eight x[TD_CPU_EIGHT], y[TD_CPU_EIGHT];
            for (int i = 0; i < TD_CPU_EIGHT; i++)
                x[i] = *(const td_eight_at *)(from + (half + i) * ld + p);
            deal_eight(y, x);
            deal_eight(x, y);
            deal_eight(y, x);
            for (int i = 0; i < TD_CPU_EIGHT; i++)
                *(td_eight_at *)(to + (p + i) * step + half) = y[i];
        }
}

/* `narrow` is a constant in each call, so the loops do not branch on it. */
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

/* 16 columns beyond the end of b. */
static void pack_zeros(destination to, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++)
        memset(to.to + p * to.step, 0, TD_CPU_STRIP * sizeof(float));
}

/* 16 rows of a, or columns of b. Padded with zeros, because the kernel always computes a whole
 * block. */
static void pack(destination to, td_cpu_matrix x, bool turned, int64_t width, int64_t depth)
{
    if (width <= 0)
        pack_zeros(to, depth);
    else if (turned && width == TD_CPU_STRIP && !x.narrow && !td_cpu_has_avx512()) {
        int64_t whole = depth / TD_CPU_EIGHT * TD_CPU_EIGHT;
        turn_eights(to.to, to.step, x.data, x.ld, whole);
        x = td_cpu_from(x, whole);
        to.to += whole * to.step;
        pack_any(&to, &x, true, width, depth - whole);
    } else
        pack_any(&to, &x, turned, width, depth);
}

/* ---- strips and panels ----------------------------------------------------------------------- */

void td_cpu_pack_strip(float *to, td_cpu_matrix a, int64_t rows, int64_t depth)
{
    pack((destination){ to, TD_CPU_STRIP, td_cpu_has_avx512() }, a, !a.trans, rows, depth);
}

void td_cpu_pack_panel(float *to, td_cpu_matrix b, int64_t columns, int64_t depth)
{
    pack((destination){ to, TD_CPU_PANEL, false }, b, b.trans, td_cpu_min(TD_CPU_STRIP, columns),
         depth);
    pack((destination){ to + TD_CPU_STRIP, TD_CPU_PANEL, false }, td_cpu_part(b, 0, TD_CPU_STRIP),
         b.trans, columns - TD_CPU_STRIP, depth);
}

/* The upper halves of words: columns 0 .. 15 above 16 .. 31. Exact, as the floats were bf16. */
TD_CPU_CLONES static void pair_columns(uint32_t *to, const float *from, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++) {
        td_vu high = (td_vu)td_vload(from + p * TD_CPU_PANEL);
        td_vu low = (td_vu)td_vload(from + p * TD_CPU_PANEL + TD_LANES);
        td_vu both = (high & 0xFFFF0000u) | low >> 16;
        memcpy(to + p * TD_LANES, &both, sizeof both);
    }
}

void td_cpu_pack_slice(td_cpu_matrix b, int64_t k, int64_t n, int64_t first, void *to)
{
    td_cpu_matrix packed = td_cpu_part(td_cpu_packed(to, n, b.narrow), first, 0);
    int64_t       depth = td_cpu_min(TD_CPU_SLICE, k - first);
    float         wide[TD_CPU_SLICE * TD_CPU_PANEL];

    for (int64_t j = 0; j < n; j += TD_CPU_PANEL) {
        void *at = (void *)(uintptr_t)td_cpu_part(packed, 0, j).data;
        td_cpu_pack_panel(b.narrow ? wide : at, td_cpu_part(b, first, j),
                          td_cpu_min(TD_CPU_PANEL, n - j), depth);
        if (b.narrow)
            pair_columns(at, wide, depth);
    }
}

#endif
