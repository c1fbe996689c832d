/* attend_tile.c - products of small blocks for attention: a few rows by a few vectors in registers,
 * for each vector width. Macros, since vector types cannot be parameters: the same code is compiled
 * for vectors of 8 and of 16.
 *
 * Each element of c is added up in the order of k, so it does not depend on the size of the
 * tile. */
#include "attend.h"

typedef float vf8 __attribute__((vector_size(32)));

/* A tile of rows x cols vectors. Its bounds are constants once it is inlined, so the loops unroll
 * and `c` stays in registers; 6 x 4 is the largest that is used. */
#define TILE(name, vec)                                                                     \
    TD_CPU_INLINE void name(const td_tile_product *p, int64_t i, int64_t j, const int rows, \
                            const int cols)                                                 \
    {                                                                                       \
        enum { LANES = sizeof(vec) / sizeof(float) };                                       \
        const float *a = p->a + i * p->row, *b = p->b + j;                                  \
        float       *to = p->c + i * p->ldc + j;                                            \
        vec          c[6][4];                                                               \
        _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)                              \
            _Pragma("GCC unroll 8") for (int v = 0; v < cols; v++)                          \
                c[r][v] = p->add ? load_##vec(to + r * p->ldc + v * LANES) : (vec){ 0 };    \
        for (int64_t k = 0; k < p->k; k++, a += p->column, b += p->ldb) {                   \
            vec x[4];                                                                       \
            _Pragma("GCC unroll 8") for (int v = 0; v < cols; v++)                          \
                x[v] = load_##vec(b + v * LANES);                                           \
            _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)                          \
                _Pragma("GCC unroll 8") for (int v = 0; v < cols; v++)                      \
                    c[r][v] += a[r * p->row] * x[v];                                        \
        }                                                                                   \
        _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)                              \
            _Pragma("GCC unroll 8") for (int v = 0; v < cols; v++)                          \
                memcpy(to + r * p->ldc + v * LANES, &c[r][v], sizeof(vec));                 \
    }

/* A strip of `wide` vectors of columns, all its rows: `tall` at a time, the rest one by one. */
#define STRIP(name, tile)                                                                        \
    TD_CPU_INLINE void name(const td_tile_product *p, int64_t j, const int tall, const int wide) \
    {                                                                                            \
        int64_t i = 0;                                                                           \
        for (; i + tall <= p->m; i += tall)                                                      \
            tile(p, i, j, tall, wide);                                                           \
        for (; i < p->m; i++)                                                                    \
            tile(p, i, j, 1, wide);                                                              \
    }

/* The whole product by strips of `wide` vectors, at most 4, and one narrower strip for the rest. */
#define PRODUCT(name, strip, vec, tall, wide, isa)          \
    isa static void name(const td_tile_product *p)          \
    {                                                       \
        enum { LANES = sizeof(vec) / sizeof(float) };       \
        int64_t j = 0;                                      \
        for (; j + (wide)*LANES <= p->n; j += (wide)*LANES) \
            strip(p, j, tall, wide);                        \
        if (p->n - j == 3 * LANES)                          \
            strip(p, j, tall, 3);                           \
        else if (p->n - j == 2 * LANES)                     \
            strip(p, j, tall, 2);                           \
        else if (p->n - j == LANES)                         \
            strip(p, j, tall, 1);                           \
    }

TD_CPU_INLINE vf8 load_vf8(const float *p)
{
    vf8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Tiles by what fits in the registers: 2 x 1 in SSE's 16, where a vector of 8 takes two; 6 x 2 in
 * AVX2's 16; 4 x 4 in AVX-512's 32, with a row of b and a broadcast number beside. */
TILE(tile8, vf8)
STRIP(strip8, tile8)
PRODUCT(product_plain, strip8, vf8, 2, 1, )

#if TD_CPU_AVX
TD_CPU_INLINE td_vf load_td_vf(const float *p) { return td_vload(p); }

TILE(tile16, td_vf)
STRIP(strip16, tile16)
PRODUCT(product_avx2, strip8, vf8, 6, 2, TD_CPU_AVX2)
PRODUCT(product_avx512, strip16, td_vf, 4, 4, TD_CPU_AVX512)

td_tile_function *td_tile_product_here(void)
{
    return td_cpu_has_avx512() ? product_avx512 : td_cpu_has_avx2() ? product_avx2 : product_plain;
}
#else
td_tile_function *td_tile_product_here(void) { return product_plain; }
#endif

/* ---- transposes ------------------------------------------------------------------------------ */

static void transpose_plain(const float *from, int64_t ld_from, int64_t rows, int64_t columns,
                            float *to, int64_t ld)
{
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            to[c * ld + r] = from[r * ld_from + c];
}

#if TD_CPU_AVX
TD_CPU_AVX512 static void transpose_16(const float *from, int64_t ld_from, float *to, int64_t ld)
{
    td_vf x[TD_LANES];
    for (int i = 0; i < TD_LANES; i++)
        x[i] = td_vload(from + i * ld_from);
    td_vturn(x);
    for (int i = 0; i < TD_LANES; i++)
        td_vstore(to + i * ld, x[i]);
}
#endif

/* Tiles of 16 x 16, so that both sides are read and written by whole cache lines. */
void td_tile_transpose(const float *from, int64_t ld_from, int64_t rows, int64_t columns, float *to,
                       int64_t ld)
{
    for (int64_t r = 0; r < rows; r += 16)
        for (int64_t c = 0; c < columns; c += 16) {
            const float *x = from + r * ld_from + c;
            float       *y = to + c * ld + r;
            /* whole tiles in registers; the edges, and other machines, one by one */
#if TD_CPU_AVX
            if (rows - r >= 16 && columns - c >= 16 && td_cpu_has_avx512()) {
                transpose_16(x, ld_from, y, ld);
                continue;
            }
#endif
            transpose_plain(x, ld_from, td_cpu_min(16, rows - r), td_cpu_min(16, columns - c), y,
                            ld);
        }
}
