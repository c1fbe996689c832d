/* sgemm.c - matrix products on one thread, and the same in tiles over the whole pool. */
#include <cblas.h>

#include "sgemm.h"

/* A few rows times a matrix whose columns are contiguous, as those of W^T are: dot products. Such a
 * product is bound by reading b once, so packing b would only add to that. */
TD_CPU_CLONES static void thin(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                               float alpha, float beta, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            float x = alpha * td_vdot((const float *)a.data + i * a.ld,
                                      (const float *)b.data + j * b.ld, k);
            c[i * ldc + j] = beta == 0 ? x : x + beta * c[i * ldc + j];
        }
}

TD_CPU_INLINE td_vf load_any(const td_cpu_matrix *x, int64_t at, int64_t n)
{
    return x->narrow ? td_vwiden_n((const uint16_t *)x->data + at, n)
                     : td_vload_n((const float *)x->data + at, n);
}

/* The same with one or both in bf16. */
TD_CPU_CLONES static void thin_narrow(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n,
                                      int64_t k, float alpha, float beta, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            td_vf sum = { 0 };
            for (int64_t p = 0; p < k; p += TD_LANES)
                sum += load_any(&a, i * a.ld + p, k - p) * load_any(&b, j * b.ld + p, k - p);
            c[i * ldc + j] = alpha * td_vsum(sum) + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}

/* With AVX2 our own kernels, whose sums depend neither on OPENBLAS_CORETYPE nor, for a b that was
 * packed ahead of time, on the number of rows; OpenBLAS on other machines, and for products too narrow
 * to fill the kernel's 8 x 32. OpenBLAS does not read bf16: kernels must not pass it on other machines. */
td_cpu_way td_cpu_sgemm_way(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k)
{
    if (b.packed)
        return TD_CPU_PACKED;
    if (m < 8 && !a.trans && b.trans)
        return TD_CPU_DOTS;
    if ((a.narrow || b.narrow) && k > 0)
        return TD_CPU_PACKED;
    return td_cpu_has_avx2() && m >= 8 && n >= 16 && k > 0 ? TD_CPU_PACKED : TD_CPU_OPENBLAS;
}

size_t td_cpu_packing_floats(void)
{
    return td_cpu_has_avx2() ? TD_CPU_PACKED_A + TD_CPU_PACKED_B : 0;
}

size_t td_cpu_packed_count(int64_t k, int64_t n)
{
    int64_t slices = td_cpu_ceil(k, TD_CPU_SLICE), panels = td_cpu_ceil(n, TD_CPU_PANEL);
    return td_cpu_has_avx2() ? (size_t)(slices * panels) * TD_CPU_PACKED_B : 0;
}

/* On this thread alone, as the pool already has the threads. In OpenBLAS's OpenMP build, a limit
 * holds for the thread that sets it, so each call must. */
static void by_openblas(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                        float alpha, float beta, float *c, int64_t ldc)
{
    if (openblas_get_parallel() == OPENBLAS_OPENMP)
        openblas_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, a.trans ? CblasTrans : CblasNoTrans,
                b.trans ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha,
                a.data, (blasint)td_cpu_max(1, a.ld), b.data, (blasint)td_cpu_max(1, b.ld), beta, c,
                (blasint)td_cpu_max(1, ldc));
}

void td_cpu_sgemm(const td_cpu *cpu, int thread, td_cpu_way way, td_cpu_matrix a, td_cpu_matrix b,
                  int64_t m, int64_t n, int64_t k, float alpha, float beta, float *c, int64_t ldc)
{
    /* BLAS would refuse a leading dimension of 0 */
    if (m == 0 || n == 0)
        return;
    if (way == TD_CPU_DOTS && (a.narrow || b.narrow))
        thin_narrow(a, b, m, n, k, alpha, beta, c, ldc);
    else if (way == TD_CPU_DOTS)
        thin(a, b, m, n, k, alpha, beta, c, ldc);
#if TD_CPU_AVX
    else if (way == TD_CPU_PACKED)
        td_cpu_sgemm_packed(a, b, m, n, k, alpha, beta, c, ldc,
                            cpu->packing + (size_t)thread * td_cpu_packing_floats());
#endif
    else
        by_openblas(a, b, m, n, k, alpha, beta, c, ldc);
}

const char *td_cpu_sgemm_name(void)
{
    if (td_cpu_has_avx512())
        return "own AVX-512 kernel";
    return td_cpu_has_avx2() ? "own AVX2 kernel" : "OpenBLAS";
}

/* ---- packing ahead of time ------------------------------------------------------------------- */

#if TD_CPU_AVX
typedef struct pack_job {
    td_cpu_matrix b;
    int64_t       k, n;
    void         *to;
} pack_job;

static void pack_slice(void *arg, int64_t slice, int thread)
{
    const pack_job *j = arg;
    td_cpu_pack_slice(j->b, j->k, j->n, slice * TD_CPU_SLICE, j->to);
}
#endif

void td_cpu_pack(const td_cpu *cpu, td_cpu_matrix b, int64_t k, int64_t n, void *to)
{
#if TD_CPU_AVX
    pack_job j = { b, k, n, to };
    td_parallel(cpu->services, td_cpu_ceil(k, TD_CPU_SLICE), pack_slice, &j);
#endif
}

/* ---- tiles over the pool --------------------------------------------------------------------- */

typedef struct gemm_job {
    const td_cpu *cpu;
    td_cpu_way    way;
    td_cpu_matrix a, b;
    int64_t       m, n, k, ldc, tile_m, tile_n;
    int64_t       across; /* tiles in a row of tiles */
    float         alpha, beta, *c;
} gemm_job;

static void gemm_tile(void *arg, int64_t item, int thread)
{
    const gemm_job *j = arg;
    int64_t         i0 = item / j->across * j->tile_m, j0 = item % j->across * j->tile_n;

    td_cpu_sgemm(j->cpu, thread, j->way, td_cpu_part(j->a, i0, 0), td_cpu_part(j->b, 0, j0),
                 td_cpu_min(j->tile_m, j->m - i0), td_cpu_min(j->tile_n, j->n - j0), j->k, j->alpha,
                 j->beta, j->c + i0 * j->ldc + j0, j->ldc);
}

/* Cut n into tiles of at most `most`, all of about one size: the size, rounded up to a multiple. */
static int64_t equal_tiles(int64_t n, int64_t most, int64_t multiple)
{
    int64_t parts = td_cpu_ceil(n, most);
    return td_cpu_max(multiple, td_cpu_ceil(td_cpu_ceil(n, parts), multiple) * multiple);
}

/* About 128 rows, and one tile for up to 192, since two of unequal height would keep threads waiting. */
static int64_t low_tiles(int64_t m) { return equal_tiles(m, m <= 192 ? 192 : 144, 16); }

/* Every tile packs its own a and b, so tiles are wide: only as many as occupy all threads evenly,
 * up to four for each. That depends on the number of threads, which is harmless: this kernel adds
 * up an element of c in the order of k, whatever tile it is in. Without a b to pack, tiles are low, so
 * that their part of c stays in the second-level cache from one slice of k to the next. */
static void packed_tiles(int threads, bool b_packed, int64_t m, int64_t n, int64_t *tile_m,
                         int64_t *tile_n)
{
    int64_t down, across = 1;
    *tile_m = b_packed ? low_tiles(m) : equal_tiles(m, 512, 16);
    down = td_cpu_ceil(m, *tile_m);
    while (down * across % threads && down * across < 4 * (int64_t)threads && across * 64 < n)
        across++;
    *tile_n = equal_tiles(n, td_cpu_ceil(n, across), 32);
}

/* About 512 x 512, and at least two tiles for two threads. By shape alone, as OpenBLAS may add up
 * an element differently in a tile of another size. */
static void plain_tiles(int64_t m, int64_t n, int64_t *tile_m, int64_t *tile_n)
{
    *tile_m = equal_tiles(m, 512, 16);
    *tile_n = equal_tiles(n, 512, 32);
    if (m <= *tile_m && n <= *tile_n) {
        if (n >= m)
            *tile_n = equal_tiles(n, td_cpu_ceil(n, 2), 32);
        else
            *tile_m = equal_tiles(m, td_cpu_ceil(m, 2), 16);
    }
}

void td_cpu_gemm_tiles(const td_services *services, td_cpu_way way, bool b_packed, int64_t m,
                       int64_t n, int64_t k, int64_t *tile_m, int64_t *tile_n)
{
    /* half a megaflop is too little to hand out */
    if (m * n * k <= 1 << 18) {
        *tile_m = td_cpu_max(1, m);
        *tile_n = td_cpu_max(1, n);
    } else if (way == TD_CPU_PACKED)
        packed_tiles(services->threads, b_packed, m, n, tile_m, tile_n);
    else
        plain_tiles(m, n, tile_m, tile_n);
}

void td_cpu_gemm(const td_cpu *cpu, td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n,
                 int64_t k, float alpha, float beta, float *c, int64_t ldc)
{
    gemm_job j = { .cpu = cpu,
                   .a = a,
                   .b = b,
                   .m = m,
                   .n = n,
                   .k = k,
                   .ldc = ldc,
                   .alpha = alpha,
                   .beta = beta,
                   .c = c };

    /* decided for the whole product, so that a narrow tile at the edge uses the same method */
    j.way = td_cpu_sgemm_way(a, b, m, n, k);
    td_cpu_gemm_tiles(cpu->services, j.way, b.packed, m, n, k, &j.tile_m, &j.tile_n);
    j.across = td_cpu_ceil(n, j.tile_n);
    td_parallel(cpu->services, td_cpu_ceil(m, j.tile_m) * j.across, gemm_tile, &j);
}
