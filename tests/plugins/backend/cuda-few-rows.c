/* cuda-few-rows.c - products of few rows in bf16 on an NVIDIA GPU against sums in double, at odd
 * sizes; the bits of a row must not depend on how many rows there are. Skipped without a GPU. */
#include <math.h>

#include "plugins/backend/cuda_calls.h"

TestSuite(cuda_few_rows, .init = setup, .fini = teardown);

/* y [m, n] = x [m, k] w [k, n] (+ acc), where w is stored as [n, k]. */
typedef struct problem {
    int m, n, k, dtype, acc; /* acc: the dtype of a summand; 0: none, -1: it is y */
} problem;

enum { X, W, ACC, Y, VIEWS };

static td_view matrix(int dtype, int64_t rows, int64_t columns)
{
    td_view v = { NULL, dtype, 2, { rows, columns }, { columns, 1 } };
    allocate(&v);
    return v;
}

static void multiply(const problem *p, td_view *v)
{
    td_call c = {
        .n_in = p->acc ? 3 : 2, .n_out = 1, .in = { v[X], v[W], v[ACC] }, .out = { v[Y] }
    };
    td_attrs a = { { 0 }, { 0 } };
    c.attrs = &a;
    c.in[1] = (td_view){ v[W].data, TD_BF16, 2, { p->k, p->n }, { 1, p->k } };
    run_row(&c, "matmul", TD_BF16, false);
}

static void set_up(const problem *p, td_view *v)
{
    memset(v, 0, VIEWS * sizeof *v);
    v[X] = matrix(TD_BF16, p->m, p->k);
    v[W] = matrix(TD_BF16, p->n, p->k);
    v[Y] = matrix(p->dtype, p->m, p->n);
    randomize(v + X, 3, 1);
    randomize(v + W, 4, 1);
    if (p->acc > 0)
        v[ACC] = matrix(p->acc, p->m, p->n);
    if (p->acc < 0)
        v[ACC] = v[Y];
    if (p->acc)
        randomize(v + ACC, 5, 1);
}

static void tear_down(const problem *p, td_view *v)
{
    for (int k = 0; k < VIEWS; k++)
        if (k != ACC || p->acc > 0)
            release(v + k);
}

static double sum_of(const problem *p, const float *x, const float *w, int i, int j)
{
    double sum = 0;
    for (int t = 0; t < p->k; t++)
        sum += (double)x[i * p->k + t] * w[j * p->k + t];
    return sum;
}

/* Terms of at most 1: the errors of sums in float grow with their number, and a result in bf16 is off
 * by 2^-9 of itself. */
static void check(const problem *p)
{
    td_view v[VIEWS];
    float  *x, *w, *acc = NULL, *y;
    double  worst = 0;
    set_up(p, v);
    x = download(v + X);
    w = download(v + W);
    if (p->acc)
        acc = download(v + ACC);
    multiply(p, v);
    y = download(v + Y);
    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->n; j++) {
            double want = sum_of(p, x, w, i, j) + (acc ? acc[i * p->n + j] : 0);
            double off = fabs(y[i * p->n + j] - want);
            off -= p->dtype == TD_BF16 ? fabs(want) / 256 : 0;
            worst = off > worst || isnan(off) ? off : worst;
        }
    cr_expect(worst < 2e-6 * p->k, "off by %.3g: m %d n %d k %d dtype %d acc %d", worst, p->m, p->n,
              p->k, p->dtype, p->acc);
    free(x);
    free(w);
    free(acc);
    free(y);
    tear_down(p, v);
}

Test(cuda_few_rows, sums_are_those_in_double)
{
    static const int rows[] = { 1, 2, 7, 8, 9, 15, 16 }, columns[] = { 1, 8, 71, 520, 4100 };
    static const int terms[] = { 32, 96, 2048, 2080 };
    for (int k = 0; k < 7 * 5 * 4; k++) {
        problem p = { rows[k % 7], columns[k / 7 % 5], terms[k / 35], k % 3 ? TD_BF16 : TD_F32, 0 };
        p.acc = k % 4 == 1 ? TD_F32 : k % 4 == 2 ? -1 : k % 8 == 3 ? p.dtype : 0;
        check(&p);
    }
}

static void expect_same_rows(const problem *all, int m, const float *y)
{
    problem some = *all;
    td_view v[VIEWS];
    float  *z;
    some.m = m;
    set_up(&some, v); /* the same numbers, as rows come first */
    multiply(&some, v);
    z = download(v + Y);
    cr_expect(!memcmp(y, z, (size_t)(m * all->n) * sizeof *y),
              "rows of a product of %d have other bits than in one of %d", m, all->m);
    free(z);
    tear_down(&some, v);
}

Test(cuda_few_rows, bits_of_a_row_do_not_depend_on_the_others)
{
    for (int n = 2048; n <= 4096; n += 2048) {
        problem p = { 16, n, 1056, TD_F32, 0 };
        td_view v[VIEWS];
        float  *y;
        set_up(&p, v);
        multiply(&p, v);
        y = download(v + Y);
        for (int m = 1; m < 16; m += 3)
            expect_same_rows(&p, m, y);
        free(y);
        tear_down(&p, v);
    }
}

/* What lies beside a row that is not a number stays one. */
Test(cuda_few_rows, nan_stays_in_its_row)
{
    problem  p = { 5, 72, 96, TD_F32, 0 };
    td_view  v[VIEWS];
    uint16_t nan = 0x7fc0;
    float   *y;
    set_up(&p, v);
    backend->upload(gpu, (uint16_t *)v[X].data + 2 * p.k + 50, &nan, sizeof nan);
    multiply(&p, v);
    y = download(v + Y);
    for (int i = 0; i < p.m * p.n; i++)
        cr_expect_eq(!!isnan(y[i]), i / p.n == 2, "element %d", i);
    free(y);
    tear_down(&p, v);
}
