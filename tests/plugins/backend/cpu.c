/* cpu.c - the kernels of the backend 'cpu' for movement, elementwise, reduction, index and matmul,
 * against plain loops. */
#include <pthread.h>

#include "cpu.h"

typedef double (*unary)(double);

static double neg(double x) { return -x; }
static double rsqrt(double x) { return 1 / sqrt(x); }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double sign(double x) { return (x > 0) - (x < 0); }

Test(cpu, unary)
{
    static const struct {
        const char *op;
        unary       f;
    } ops[] = { { "neg", neg },         { "exp", exp },  { "log", log },   { "sqrt", sqrt },
                { "rsqrt", rsqrt },     { "sin", sin },  { "cos", cos },   { "tanh", tanh },
                { "sigmoid", sigmoid }, { "abs", fabs }, { "sign", sign }, { "floor", floor } };
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++) {
        bool    positive = ops[k].f == log || ops[k].f == sqrt || ops[k].f == rsqrt;
        int64_t n = 13 * 17 * 5;
        float  *x = randoms(n, 1), y[13 * 17 * 5];
        for (int64_t i = 0; i < n; i++)
            x[i] = positive ? fabsf(x[i]) + 0.01f : x[i] * 8;
        td_call c = {
            .n_in = 1, .n_out = 1, .in = { REAL(x, 13, 17, 5) }, .out = { REAL(y, 13, 5, 17) }
        };
        c.in[0] = swapped(c.in[0], 1, 2);
        cr_assert_eq(cpu_run(ops[k].op, TD_F32, &c, NULL), 0);
        for (int64_t b = 0; b < 13; b++)
            for (int64_t i = 0; i < 5; i++)
                for (int64_t j = 0; j < 17; j++)
                    near(ops[k].op, y[(b * 5 + i) * 17 + j], ops[k].f(x[(b * 17 + j) * 5 + i]),
                         3e-7);
        free(x);
    }
}

Test(cpu, exp_at_its_ends)
{
    float x[] = { -INFINITY, -3e38f, -1e30f, -200,  -80,   -1e-8f,   0,  1e-8f,
                  80,        88.7f,  100,    1e30f, 3e38f, INFINITY, NAN },
          y[15];
    td_call c = { .n_in = 1, .n_out = 1, .in = { REAL(x, 15) }, .out = { REAL(y, 15) } };
    cpu_run("exp", TD_F32, &c, NULL);
    for (int i = 0; i < 14; i++) {
        double want = exp((double)x[i]);
        if (want > 1e38 && !isfinite((float)want))
            cr_assert(isinf(y[i]));
        else
            cr_assert(fabs(y[i] - want) <= 3e-7 * want + 1e-37, "exp(%g) = %g", x[i], y[i]);
    }
    cr_assert(isnan(y[14]));
}

/* [7, 1, 11] combined with [5, 1], with a scalar, and with itself. */
Test(cpu, binary_broadcasts)
{
    float             *x = randoms(77, 1), *y = randoms(5, 2), s = 3, z[7 * 5 * 11];
    td_call            c = { .n_in = 2,
                             .n_out = 1,
                             .in = { REAL(x, 7, 1, 11), REAL(y, 5, 1) },
                             .out = { REAL(z, 7, 5, 11) } };
    static const char *ops[] = { "add", "sub", "mul", "div", "maximum", "less", "equal" };
    for (int k = 0; k < 7; k++) {
        cpu_run(ops[k], TD_F32, &c, NULL);
        for (int i = 0; i < 7 * 5 * 11; i++) {
            double a = x[i / 55 * 11 + i % 11], b = y[i / 11 % 5];
            double want[] = { a + b, a - b, a * b, a / b, fmax(a, b), a < b, a == b };
            near(ops[k], z[i], want[k], 3e-7);
        }
    }
    td_call d = {
        .n_in = 2, .n_out = 1, .in = { SCALAR(&s), REAL(x, 77) }, .out = { REAL(z, 77) }
    };
    cpu_run("sub", TD_F32, &d, NULL);
    for (int i = 0; i < 77; i++)
        near("scalar", z[i], 3 - (double)x[i], 3e-7);
    free(x);
    free(y);
}

Test(cpu, long_elementwise_in_place)
{
    int64_t  n = 100003;
    float   *x = randoms(n, 1), *want = randoms(n, 1);
    td_attrs a = { .f = { 2, 0.5 } };
    td_call  c = { .n_in = 1, .n_out = 1, .in = { REAL(x, n) }, .out = { REAL(x, n) } };
    cpu_run("affine", TD_F32, &c, &a);
    for (int64_t i = 0; i < n; i++)
        near("affine", x[i], 2 * (double)want[i] + 0.5, 3e-7);
    free(x);
    free(want);
}

Test(cpu, integers_where_cast)
{
    int32_t x[] = { 3, -5, 0, INT32_MAX, 7 }, y[] = { 2, -5, 1, 1, 9 }, z[5], back[5];
    float   real[5], minus_zero[] = { -0.0f, 1, 0, NAN, -3 },
                   far[] = { 1e20f, -1e20f, NAN, 2.9f, -2.9f }, chosen[5];
    td_call c = {
        .n_in = 2, .n_out = 1, .in = { WHOLE(x, 5), WHOLE(y, 5) }, .out = { WHOLE(z, 5) }
    };
    cpu_run("add", TD_I32, &c, NULL);
    cr_assert(z[0] == 5 && z[1] == -10 && z[3] == INT32_MIN);
    cpu_run("less", TD_I32, &c, NULL);
    cr_assert(z[0] == 0 && z[1] == 0 && z[2] == 1 && z[4] == 1);
    td_call f = { .n_in = 1, .n_out = 1, .in = { WHOLE(y, 5) }, .out = { REAL(real, 5) } };
    cpu_run("cast", TD_I32, &f, NULL);
    cr_assert(real[1] == -5 && real[4] == 9);
    td_call i = { .n_in = 1, .n_out = 1, .in = { REAL(far, 5) }, .out = { WHOLE(back, 5) } };
    cpu_run("cast", TD_F32, &i, NULL);
    cr_assert(back[0] == INT32_MAX && back[1] == INT32_MIN && back[2] == 0 && back[3] == 2 &&
              back[4] == -2);
    td_call w = { .n_in = 3,
                  .n_out = 1,
                  .in = { REAL(minus_zero, 5), REAL(real, 5), REAL(far, 5) },
                  .out = { REAL(chosen, 5) } };
    cpu_run("where", TD_F32, &w, NULL);
    cr_assert(chosen[0] == far[0] && chosen[1] == real[1] && chosen[3] == real[3] &&
              chosen[4] == real[4]);
}

Test(cpu, copy_pad_concat)
{
    float  *x = randoms(3 * 37 * 29, 1), *y = malloc(4 * 3 * 40 * 40);
    td_call c = { .n_in = 1,
                  .n_out = 1,
                  .in = { swapped(REAL(x, 3, 37, 29), 1, 2) },
                  .out = { REAL(y, 3, 29, 37) } };
    cpu_run("copy", TD_F32, &c, NULL);
    for (int b = 0; b < 3; b++)
        for (int i = 0; i < 29; i++)
            for (int j = 0; j < 37; j++)
                cr_assert_eq(y[(b * 29 + i) * 37 + j], x[(b * 37 + j) * 29 + i]);
    td_attrs a = { .i = { 1, 2, 1 } };
    td_call  p = {
         .n_in = 1, .n_out = 1, .in = { REAL(x, 3, 37, 29) }, .out = { REAL(y, 3, 40, 29) }
    };
    cpu_run("pad", TD_F32, &p, &a);
    for (int i = 0; i < 3 * 40 * 29; i++) {
        int t = i / 29 % 40;
        cr_assert_eq(y[i], t < 2 || t == 39 ? 0 : x[(i / (40 * 29) * 37 + t - 2) * 29 + i % 29]);
    }
    td_attrs one = { .i = { 1 } };
    td_call  j = { .n_in = 2,
                   .n_out = 1,
                   .in = { REAL(x, 3, 2, 5), REAL(x + 100, 3, 1, 5) },
                   .out = { REAL(y, 3, 3, 5) } };
    cpu_run("concat", TD_F32, &j, &one);
    for (int i = 0; i < 45; i++) {
        int t = i / 5 % 3, b = i / 15;
        cr_assert_eq(y[i], t < 2 ? x[(b * 2 + t) * 5 + i % 5] : x[100 + b * 5 + i % 5]);
    }
    free(x);
    free(y);
}

Test(cpu, sum_and_max_over_any_axes)
{
    int64_t d[4] = { 3, 5, 7, 67 };
    float  *x = randoms(3 * 5 * 7 * 67, 1);
    for (int axes = 1; axes < 16; axes++) {
        int64_t  o[4], count = 1;
        double   sum[3 * 5 * 7 * 67] = { 0 }, top[3 * 5 * 7 * 67];
        float    y[3 * 5 * 7 * 67];
        td_attrs a = { .i = { axes } };
        for (int k = 0; k < 4; k++) {
            o[k] = axes >> k & 1 ? 1 : d[k];
            count *= o[k];
        }
        for (int64_t i = 0; i < count; i++)
            top[i] = -1e9;
        for (int64_t i = 0; i < 3 * 5 * 7 * 67; i++) {
            int64_t p[4] = { i / (5 * 7 * 67), i / (7 * 67) % 5, i / 67 % 7, i % 67 }, at = 0;
            for (int k = 0; k < 4; k++)
                at = at * o[k] + (o[k] == 1 ? 0 : p[k]);
            sum[at] += x[i];
            top[at] = fmax(top[at], x[i]);
        }
        td_call c = { .n_in = 1,
                      .n_out = 1,
                      .in = { view_of(x, TD_F32, 4, d) },
                      .out = { view_of(y, TD_F32, 4, o) } };
        cpu_run("sum", TD_F32, &c, &a);
        for (int64_t i = 0; i < count; i++)
            near("sum", y[i], sum[i], 1e-5);
        cpu_run("max", TD_F32, &c, &a);
        for (int64_t i = 0; i < count; i++)
            near("max", y[i], top[i], 0);
    }
    free(x);
}

Test(cpu, gather_scatter_topk_cumsum)
{
    float  *table = randoms(11 * 7, 1), y[5 * 7], *acc = randoms(11 * 7, 2), want[11 * 7];
    int32_t ids[] = { 3, 10, 3, 0, 3 }, outside[] = { 1, 11, 0, 0, 0 }, index[2 * 3];
    td_call g = {
        .n_in = 2, .n_out = 1, .in = { REAL(table, 11, 7), WHOLE(ids, 5) }, .out = { REAL(y, 5, 7) }
    };
    cpu_run("gather", TD_F32, &g, NULL);
    for (int i = 0; i < 35; i++)
        cr_assert_eq(y[i], table[ids[i / 7] * 7 + i % 7]);
    g.in[1] = WHOLE(outside, 5);
    cr_assert(cpu_run("gather", TD_F32, &g, NULL) < 0);
    memcpy(want, acc, sizeof want);
    for (int i = 0; i < 35; i++)
        want[ids[i / 7] * 7 + i % 7] += y[i];
    td_attrs a = { .i = { 11 } };
    td_call  s = { .n_in = 3,
                   .n_out = 1,
                   .in = { WHOLE(ids, 5), REAL(y, 5, 7), REAL(acc, 11, 7) },
                   .out = { REAL(acc, 11, 7) } };
    cpu_run("scatter_add", TD_F32, &s, &a);
    for (int i = 0; i < 77; i++)
        cr_assert_eq(acc[i], want[i]);
    float    x[] = { 1, 5, 5, 2, 5, -1, -1, -3, 0, 0 }, top[6], run[10];
    td_attrs three = { .i = { 3 } }, back = { .i = { 1, 1 } };
    td_call  t = { .n_in = 1,
                   .n_out = 2,
                   .in = { REAL(x, 2, 5) },
                   .out = { REAL(top, 2, 3), WHOLE(index, 2, 3) } };
    cpu_run("topk", TD_F32, &t, &three);
    cr_assert(index[0] == 1 && index[1] == 2 && index[2] == 4 && index[3] == 3 && index[4] == 4 &&
              index[5] == 0);
    cr_assert(top[2] == 5 && top[5] == -1);
    td_call c = { .n_in = 1, .n_out = 1, .in = { REAL(x, 2, 5) }, .out = { REAL(run, 2, 5) } };
    cpu_run("cumsum", TD_F32, &c, &back);
    cr_assert(run[0] == 18 && run[4] == 5 && run[5] == -5 && run[8] == 0);
    free(table);
    free(acc);
}

/* ---- matmul ---------------------------------------------------------------------------------- */

static void check_product(int64_t batch, int64_t m, int64_t n, int64_t k, int turn_a, int turn_b,
                          bool add)
{
    float  *a = randoms(batch * m * k, 1), *b = randoms(k * n, 2), *c = randoms(batch * m * n, 3);
    float  *old = randoms(batch * m * n, 3);
    td_call call = { .n_in = add ? 3 : 2, .n_out = 1, .out = { REAL(c, batch, m, n) } };
    call.in[0] = turn_a ? swapped(REAL(a, batch, k, m), 1, 2) : REAL(a, batch, m, k);
    call.in[1] = turn_b ? swapped(REAL(b, n, k), 0, 1) : REAL(b, k, n);
    if (add)
        call.in[2] = REAL(c, batch, m, n);
    cr_assert_eq(cpu_run("matmul", TD_F32, &call, NULL), 0);
    for (int64_t s = 0; s < batch; s++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = add ? old[(s * m + i) * n + j] : 0;
                for (int64_t p = 0; p < k; p++)
                    sum += (double)a[s * m * k + (turn_a ? p * m + i : i * k + p)] *
                           b[turn_b ? j * k + p : p * n + j];
                near("matmul", c[(s * m + i) * n + j], sum, 2e-6 * sqrt((double)k));
            }
    free(a);
    free(b);
    free(c);
    free(old);
}

/* OpenBLAS computes a product this narrow on every processor. If it split the product over
 * threads, the sums would differ. */
Test(cpu, openblas_gives_the_same_bits_every_time)
{
    for (int i = 0; i < 5; i++)
        check_product(3, 509, 13, 2053, 1, 0, false);
}

static void *run_product(void *unused)
{
    check_product(1, 131, 67, 300, 0, 0, false);
    return unused;
}

Test(cpu, products_need_little_stack)
{
    pthread_attr_t attributes;
    pthread_t      thread;
    pthread_attr_init(&attributes);
    cr_assert_eq(pthread_attr_setstacksize(&attributes, 256 << 10), 0);
    cr_assert_eq(pthread_create(&thread, &attributes, run_product, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

/* This text names everything that decides the bits, so that a run can warn when it is resumed
 * elsewhere. */
Test(cpu, arithmetic_names_the_library)
{
    char     text[256];
    td_error error = { 0 };
    td_pool *pool = td_pool_new(1, NULL, &error);
    void    *state;
    cr_assert_eq(cpu_backend()->open(NULL, td_pool_services(pool), &state, &error), 0);
    cpu_backend()->arithmetic(state, text, sizeof text);
    cpu_backend()->close(state);
    td_pool_free(pool);
    cr_assert(strstr(text, "matrix products by ") && strstr(text, "OpenBLAS 0."), "%s", text);
    cr_assert(strstr(text, "(pthreads)") || strstr(text, "(OpenMP)") ||
                  strstr(text, "(sequential)"),
              "%s", text);
}

Test(cpu, matmul)
{
    static const int64_t sizes[][4] = { { 1, 1, 1, 1 },     { 1, 1, 37, 5 },
                                        { 2, 13, 1, 7 },    { 3, 17, 33, 29 },
                                        { 1, 53, 67, 401 }, { 2, 131, 97, 127 },
                                        { 1, 530, 37, 61 }, { 1, 31, 1031, 11 },
                                        { 1, 65, 129, 1 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int turn = 0; turn < 8; turn++)
            check_product(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], turn & 1,
                          turn >> 1 & 1, turn >> 2);
}

/* Neither of the last two axes has unit stride, and the batch of b stretches. */
Test(cpu, matmul_of_odd_views)
{
    float  *a = randoms(3 * 5 * 7 * 2, 1), *b = randoms(7 * 11, 2), c[3 * 5 * 11];
    td_call call = { .n_in = 2,
                     .n_out = 1,
                     .in = { REAL(a, 3, 5, 7), REAL(b, 1, 7, 11) },
                     .out = { REAL(c, 3, 5, 11) } };
    call.in[0].stride[0] = 70;
    call.in[0].stride[1] = 14;
    call.in[0].stride[2] = 2;
    cr_assert_eq(cpu_run("matmul", TD_F32, &call, NULL), 0);
    for (int i = 0; i < 3 * 5 * 11; i++) {
        double sum = 0;
        for (int p = 0; p < 7; p++)
            sum += (double)a[(i / 11 * 7 + p) * 2] * b[p * 11 + i % 11];
        near("matmul", c[i], sum, 1e-6);
    }
    free(a);
    free(b);
}

/* Input `in` in the layout that the op's kernel prefers, or NULL if it has no preference here.
 * The caller frees it. */
static void *prepared(const char *op, td_call *call, int in)
{
    const td_kernel *kernel = cpu_kernel(op, TD_F32);
    size_t           bytes = kernel->prepared(call, in);
    void            *memory = bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
    td_pool         *pool = td_pool_new(2, NULL, NULL);
    if (memory) {
        call->services = td_pool_services(pool);
        cr_assert_eq(cpu_backend()->open(NULL, call->services, &call->backend, NULL), 0);
        memset(memory, 0, bytes);
        cr_assert_eq(kernel->prepare(call, in, memory), 0);
        cpu_backend()->close(call->backend);
    }
    td_pool_free(pool);
    return memory;
}

/* A right operand that is packed once: the bits of a row of the product do not depend on the
 * other rows, even if sizes do not fill a panel or a slice. */
static void check_packed(int64_t m, int64_t n, int64_t k, bool turned, bool sums)
{
    float  *a = randoms(m * k, 1), *b = randoms(k * n, 2), *all = calloc((size_t)(m * n), 4);
    float  *some = calloc((size_t)(m * n), 4), *summand = randoms(m * n, 3);
    td_call c = { .n_in = sums ? 3 : 2,
                  .n_out = 1,
                  .in = { REAL(a, m, k), turned ? REAL(b, n, k) : REAL(b, k, n),
                          REAL(summand, m, n) },
                  .out = { REAL(all, m, n) } };
    void   *packed;

    if (turned)
        c.in[1] = swapped(c.in[1], 0, 1);
    packed = prepared("matmul", &c, 1);
    if (packed) { /* this machine packs */
        c.prepared[1] = packed;
        cr_assert_eq(cpu_run("matmul", TD_F32, &c, NULL), 0);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double want = sums ? (double)summand[i * n + j] : 0;
                for (int64_t p = 0; p < k; p++)
                    want += (double)a[i * k + p] * (double)(turned ? b[j * k + p] : b[p * n + j]);
                near("packed", all[i * n + j], want, 2e-6 * sqrt((double)k));
            }
        for (int64_t rows = 1; rows <= m; rows += 3) {
            c.in[0] = REAL(a + (m - rows) * k, rows, k);
            c.in[2] = REAL(summand + (m - rows) * n, rows, n);
            c.out[0] = REAL(some, rows, n);
            cr_assert_eq(cpu_run("matmul", TD_F32, &c, NULL), 0);
            cr_assert(!memcmp(some, all + (m - rows) * n, (size_t)(rows * n) * sizeof *all),
                      "%lld of %lld rows: different bits", (long long)rows, (long long)m);
        }
        free(packed);
    }
    free(a);
    free(b);
    free(all);
    free(some);
    free(summand);
}

Test(cpu, products_with_packed_operands)
{
    check_packed(1, 1, 1, true, false);
    check_packed(17, 33, 257, true, false);
    check_packed(19, 100, 300, false, true);
    check_packed(37, 64, 512, true, true);
    check_packed(5, 1031, 13, true, false);
}

Test(cpu, backend_opens_and_allocates)
{
    const td_backend *b = (const td_backend *)cpu_module()->plugins[0];
    td_error          error = { 0 };
    td_pool          *pool = td_pool_new(2, NULL, &error);
    void             *state = NULL;
    char              text[1024];
    cr_assert_eq(b->open(NULL, td_pool_services(pool), &state, &error), 0);
    for (size_t bytes = 1; bytes < 20000000; bytes = bytes * 97 + 1) {
        char *p = b->allocate(state, bytes);
        cr_assert(p && (uintptr_t)p % 64 == 0 && !p[0] && !p[bytes - 1]);
        b->release(state, p, bytes);
    }
    b->describe(state, text, sizeof text);
    cr_assert(strstr(text, "2 threads"));
    b->diagnose(state, text, sizeof text);
    cr_assert(b->peak(state) > 1e8);
    b->close(state);
    td_pool_free(pool);
}
