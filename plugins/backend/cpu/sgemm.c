/* sgemm.c - matrix products on one thread, and the same spread over the pool in tiles cut by shape
 * alone. */
#include <cblas.h>

#include "sgemm.h"

/* A few rows against a matrix whose columns lie in a row each, as weights do: dot products, nothing
 * is packed. */
TD_CPU_CLONES static void thin(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k,
                               float alpha, float beta, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            float x = alpha * td_vdot(a.data + i * a.ld, b.data + j * b.ld, k);
            c[i * ldc + j] = beta == 0 ? x : x + beta * c[i * ldc + j];
        }
}

/* With AVX-512 our own kernel, which does not ask OPENBLAS_CORETYPE; elsewhere, and for what is
 * narrow, OpenBLAS. */
td_cpu_way td_cpu_sgemm_way(td_cpu_matrix a, td_cpu_matrix b, int64_t m, int64_t n, int64_t k)
{
    if (m < 8 && !a.trans && b.trans)
        return TD_CPU_DOTS;
    return td_cpu_has_avx512() && m >= 8 && n >= 16 && k > 0 ? TD_CPU_PACKED : TD_CPU_OPENBLAS;
}

size_t td_cpu_packing_floats(void)
{
    return td_cpu_has_avx512() ? TD_CPU_PACKED_A + TD_CPU_PACKED_B : 0;
}

/* On this thread alone: the pool has the threads. In OpenBLAS's OpenMP build the limit belongs to
 * the thread that sets it, so each call does. */
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
    if (m == 0 || n == 0)
        return;
    if (way == TD_CPU_DOTS)
        thin(a, b, m, n, k, alpha, beta, c, ldc);
#if TD_CPU_AVX
    else if (way == TD_CPU_PACKED)
        td_cpu_sgemm_avx512(a, b, m, n, k, alpha, beta, c, ldc,
                            cpu->packing + (size_t)thread * td_cpu_packing_floats());
#endif
    else
        by_openblas(a, b, m, n, k, alpha, beta, c, ldc);
}

const char *td_cpu_sgemm_name(void)
{
    return td_cpu_has_avx512() ? "own AVX-512 kernel" : "OpenBLAS";
}

typedef struct gemm_job {
    const td_cpu *cpu;
    td_cpu_way    way;
    td_cpu_matrix a, b;
    int64_t       m, n, k, ldc, tile_m, tile_n, across;
    float         alpha, beta, *c;
} gemm_job;

td_cpu_matrix td_cpu_part(td_cpu_matrix x, int64_t i, int64_t j)
{
    x.data += x.trans ? j * x.ld + i : i * x.ld + j;
    return x;
}

static void gemm_tile(void *arg, int64_t item, int thread)
{
    const gemm_job *j = arg;
    int64_t         i0 = item / j->across * j->tile_m, j0 = item % j->across * j->tile_n;

    td_cpu_sgemm(j->cpu, thread, j->way, td_cpu_part(j->a, i0, 0), td_cpu_part(j->b, 0, j0),
                 td_cpu_min(j->tile_m, j->m - i0), td_cpu_min(j->tile_n, j->n - j0), j->k, j->alpha,
                 j->beta, j->c + i0 * j->ldc + j0, j->ldc);
}

static int64_t equal_tiles(int64_t n, int64_t most, int64_t multiple)
{
    int64_t parts = td_cpu_ceil(n, most);
    return td_cpu_max(multiple, td_cpu_ceil(td_cpu_ceil(n, parts), multiple) * multiple);
}

/* Packing costs what a tile reads anew, so tiles are wide: as many as occupy all threads evenly.
 * Elements of c are the same bits in any tile. */
static void packed_tiles(int threads, int64_t m, int64_t n, int64_t *tile_m, int64_t *tile_n)
{
    int64_t down, across = 1;
    *tile_m = equal_tiles(m, 512, 16);
    down = td_cpu_ceil(m, *tile_m);
    while (down * across % threads && down * across < 4 * (int64_t)threads && across * 64 < n)
        across++;
    *tile_n = equal_tiles(n, td_cpu_ceil(n, across), 32);
}

/* About 512 x 512, and at least two tiles of a product that is worth two threads; by shape
 * alone. */
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

void td_cpu_gemm_tiles(const td_services *services, td_cpu_way way, int64_t m, int64_t n, int64_t k,
                       int64_t *tile_m, int64_t *tile_n)
{
    if (m * n * k <= 1 << 18) {
        *tile_m = td_cpu_max(1, m);
        *tile_n = td_cpu_max(1, n);
    } else if (way == TD_CPU_PACKED)
        packed_tiles(services->threads, m, n, tile_m, tile_n);
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

    j.way = td_cpu_sgemm_way(a, b, m, n, k);
    td_cpu_gemm_tiles(cpu->services, j.way, m, n, k, &j.tile_m, &j.tile_n);
    j.across = td_cpu_ceil(n, j.tile_n);
    td_parallel(cpu->services, td_cpu_ceil(m, j.tile_m) * j.across, gemm_tile, &j);
}
