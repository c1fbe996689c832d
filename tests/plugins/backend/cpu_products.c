/* cpu_products.c - AVX-512's and AVX2's kernels compute the same bits, on a machine that has both:
 * a model that was trained on one can be checked on the other. Rows have the same bits in any batch,
 * and so have products with a b that was packed ahead of time. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "../../../plugins/backend/cpu/cpu.h"

static bool with_avx512; /* which kernels the functions below use */
#define td_cpu_has_avx512() with_avx512
#include "../../../plugins/backend/cpu/sgemm_pack.c"
#include "../../../plugins/backend/cpu/sgemm_packed.c"
#undef td_cpu_has_avx512

#if TD_CPU_AVX

typedef struct shape {
    int64_t m, n, k;
} shape;

/* Edges of every kind: rows of a strip, columns of a panel, slices of k, more rows than a block. */
static const shape SHAPES[] = { { 8, 16, 1 },
                                { 16, 32, 256 },
                                { 13, 37, 251 },
                                { 29, 17, 257 },
                                { 6, 31, 16 },
                                { 12, 33, 512 },
                                { 17, 64, 769 },
                                { 523, 41, 19 },
                                { 1031, 48, 263 },
                                /* the last panel has fewer bytes than kernels to fetch it */
                                { 512, 70, 1 },
                                { 128, 33, 257 },
                                { 504, 65, 8 } };

enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

typedef struct product {
    shape         s;
    td_cpu_matrix a, b;
    float         alpha, beta;
    float        *c;
    float        *packing;
} product;

static void *room(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    cr_assert(p);
    return p;
}

/* Numbers between -1 and 1 that need all of their bits. */
static float *numbers(int64_t n, unsigned seed)
{
    float *x = room((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed / 2147483648.0f;
    }
    return x;
}

static uint16_t *rounded(const float *x, int64_t n)
{
    uint16_t *to = room((size_t)n * sizeof *to);
    for (int64_t i = 0; i < n; i++)
        to[i] = td_bf16_from_float(x[i]);
    return to;
}

static td_cpu_matrix matrix(int64_t rows, int64_t columns, bool trans, bool narrow, unsigned seed)
{
    float        *x = numbers(rows * columns, seed);
    td_cpu_matrix m = { .data = x, .ld = trans ? rows : columns, .trans = trans, .narrow = narrow };
    if (narrow) {
        m.data = rounded(x, rows * columns);
        free(x);
    }
    return m;
}

/* The rows first .. end of c, into `to`. */
static void multiply(const product *p, bool avx512, int64_t first, int64_t end, float *to)
{
    with_avx512 = avx512;
    memcpy(to, p->c + first * p->s.n, (size_t)((end - first) * p->s.n) * sizeof *to);
    td_cpu_sgemm_packed(td_cpu_part(p->a, first, 0), p->b, end - first, p->s.n, p->s.k, p->alpha,
                        p->beta, to, p->s.n, p->packing);
}

static void expect_same(const product *p, const char *what, const float *x, const float *y,
                        int64_t rows)
{
    for (int64_t i = 0; i < rows * p->s.n; i++)
        cr_assert(!memcmp(x + i, y + i, sizeof *x),
                  "%s, %ld x %ld x %ld: row %ld, column %ld: %.9g and %.9g", what, (long)p->s.m,
                  (long)p->s.n, (long)p->s.k, (long)(i / p->s.n), (long)(i % p->s.n), (double)x[i],
                  (double)y[i]);
}

/* The product of both kernels, and its last rows alone. */
static void check(product *p)
{
    size_t  bytes = (size_t)(p->s.m * p->s.n) * sizeof(float);
    float  *x = room(bytes), *y = room(bytes);
    int64_t last = td_cpu_min(p->s.m, 5);
    bool    both = td_cpu_has_avx512();

    multiply(p, both, 0, p->s.m, x);
    if (both) {
        multiply(p, false, 0, p->s.m, y);
        expect_same(p, "AVX-512 and AVX2", x, y, p->s.m);
    }
    multiply(p, both, p->s.m - last, p->s.m, y);
    expect_same(p, "all rows and the last", x + (p->s.m - last) * p->s.n, y, last);
    free(x);
    free(y);
}

/* b as it is, then packed ahead of time by either. */
static void check_with_packed(product *p)
{
    size_t        count = (size_t)(td_cpu_ceil(p->s.k, KC) * td_cpu_ceil(p->s.n, PANEL));
    size_t        bytes = count * TD_CPU_PACKED_B * sizeof(float);
    float        *plain = room((size_t)(p->s.m * p->s.n) * sizeof(float));
    float        *again = room((size_t)(p->s.m * p->s.n) * sizeof(float));
    td_cpu_matrix b = p->b;

    check(p);
    multiply(p, td_cpu_has_avx512(), 0, p->s.m, plain);
    for (int avx512 = 0; avx512 <= td_cpu_has_avx512(); avx512++) {
        void *packed = room(bytes);
        with_avx512 = avx512;
        for (int64_t first = 0; first < p->s.k; first += KC)
            td_cpu_pack_slice(b, p->s.k, p->s.n, first, packed);
        p->b = td_cpu_packed(packed, p->s.n, b.narrow);
        check(p);
        multiply(p, avx512, 0, p->s.m, again);
        expect_same(p, "packed now and ahead of time", plain, again, p->s.m);
        p->b = b;
        free(packed);
    }
    free(plain);
    free(again);
}

Test(cpu_products, are_the_same_bits_with_any_kernel)
{
    float *packing = room((TD_CPU_PACKED_A + TD_CPU_PACKED_B) * sizeof *packing);

    if (!td_cpu_has_avx2())
        cr_skip_test("this processor has no AVX2");
    /* bits of `form`: a turned, b turned, a narrow, b narrow, c added to */
    for (int form = 0; form < 32; form++)
        for (int i = 0; i < N_SHAPES; i++) {
            shape   s = SHAPES[i];
            product p = { .s = s,
                          .a = matrix(s.m, s.k, form & 1, form & 4, 1u + (unsigned)i),
                          .b = matrix(s.k, s.n, form & 2, form & 8, 91u + (unsigned)i),
                          .alpha = form & 16 ? 0.75f : 1.0f,
                          .beta = form & 16 ? 1.5f : 0.0f,
                          .c = numbers(s.m * s.n, 7),
                          .packing = packing };
            check_with_packed(&p);
            free((void *)(uintptr_t)p.a.data);
            free((void *)(uintptr_t)p.b.data);
            free(p.c);
        }
    free(packing);
}

#else
Test(cpu_products, are_openblas_s_without_avx) { cr_skip_test("not an x86-64 build by gcc"); }
#endif
