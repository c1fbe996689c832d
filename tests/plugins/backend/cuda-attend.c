/* cuda-attend.c - attention in bf16 on an NVIDIA GPU's tensor cores against the kernels in f32, which
 * `tandem plugins check` compares with double precision: at sizes of several tiles, under all masks.
 * Skipped without a GPU that has such kernels. */
#include <math.h>

#include "plugins/backend/cuda_calls.h"
#include "tandem/ops.h"

enum { PADDED = 1, PACKED = 2, INPUTS = 4, INDEXED = 8, LENGTHS = 16, CAPPED = 32 };
enum { OUT = TD_ATTEND_OUT, LSE = TD_ATTEND_LSE, GRADS = TD_ATTEND_GRAD_INPUTS, VIEWS = GRADS + 3 };

typedef struct problem {
    int B, H, G, Tq, Tk, E, F, causal, self, window, flags;
} problem;

/* Inputs of "attend_grad", of which the outputs of "attend" are two, and its first three outputs; in
 * the GPU's memory. */
typedef struct data {
    const problem *p;
    td_view        v[VIEWS];
} data;

TestSuite(cuda_attend, .init = setup, .fini = teardown);

/* ---- data ------------------------------------------------------------------------------------ */

/* [B, H, T, E], laid out as [B, T, H, E]. */
static td_view heads_view(int dtype, int64_t b, int64_t h, int64_t t, int64_t e)
{
    td_view v = { NULL, dtype, 4, { b, h, t, e }, { t * h * e, e, h * e, 1 } };
    allocate(&v);
    return v;
}

static int segment_of(const problem *p, int b, int t, int length)
{
    if ((p->flags & PADDED) && t >= length - 1 - 40 * b)
        return 0;
    return p->flags & PACKED ? 1 + 3 * t / length : 1;
}

static void set_tokens(data *d, int input, int length, int (*value)(const problem *, int, int, int))
{
    td_view v = { NULL, TD_I32, 2, { d->p->B, length }, { length, 1 } };
    int    *host = malloc((size_t)(d->p->B * length) * sizeof *host);
    for (int b = 0; b < d->p->B; b++)
        for (int t = 0; t < length; t++)
            host[b * length + t] = value(d->p, b, t, length);
    allocate(&v);
    backend->upload(gpu, v.data, host, bytes_of(&v));
    free(host);
    d->v[input] = v;
}

static int input_of(const problem *p, int b, int t, int length) { return t < 2 + length / 3; }
static int index_of(const problem *p, int b, int t, int length) { return t + 2 * b; }

static void set_marks(data *d, int input, int length)
{
    if (d->p->flags & (PADDED | PACKED))
        set_tokens(d, input, length, segment_of);
    if (d->p->flags & INPUTS)
        set_tokens(d, input + 2, length, input_of);
    if (d->p->flags & INDEXED)
        set_tokens(d, input + 4, length, index_of);
}

static int length_of(const problem *p, int b, int t, int length) { return p->Tk - 70 * b; }

static void set_up(data *d, const problem *p, int dtype)
{
    td_view lse = { NULL, TD_F32, 3, { p->B, p->H, p->Tq }, { p->H * p->Tq, p->Tq, 1 } };
    memset(d, 0, sizeof *d);
    d->p = p;
    for (int k = 0; k < 2; k++) { /* the operands, and their gradients */
        d->v[k * GRADS] = heads_view(dtype, p->B, p->H, p->Tq, p->E);
        d->v[k * GRADS + 1] = heads_view(dtype, p->B, p->G, p->Tk, p->E);
        d->v[k * GRADS + 2] = heads_view(dtype, p->B, p->G, p->Tk, p->F);
    }
    d->v[OUT] = heads_view(dtype, p->B, p->H, p->Tq, p->F);
    d->v[TD_ATTEND_GRAD] = heads_view(dtype, p->B, p->H, p->Tq, p->F);
    for (int k = 0; k < 3; k++)
        randomize(d->v + k, 11 + (uint64_t)k, 1.5);
    randomize(d->v + TD_ATTEND_GRAD, 5, 1);
    allocate(&lse);
    d->v[LSE] = lse;
    set_marks(d, TD_ATTEND_Q_SEGMENT, p->Tq);
    set_marks(d, TD_ATTEND_K_SEGMENT, p->Tk);
    if (p->flags & LENGTHS) {
        set_tokens(d, TD_ATTEND_K_LENGTH, 1, length_of);
        d->v[TD_ATTEND_K_LENGTH].rank = 1;
    }
}

static void tear_down(data *d)
{
    for (int k = 0; k < VIEWS; k++)
        release(d->v + k);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Of the rows that accept the call, the first computes in bf16; in f32 the last, which is the
 * general one. */
static void call(data *d, const char *op, int n_in, int first_out, int n_out)
{
    td_attrs a = { { d->p->causal, d->p->window, d->p->self, 0 },
                   { 0.15, d->p->flags & CAPPED ? 1.25 : 0 } };
    td_call  c = { .attrs = &a, .n_in = n_in, .n_out = n_out };
    memcpy(c.in, d->v, (size_t)n_in * sizeof(td_view));
    memcpy(c.out, d->v + first_out, (size_t)n_out * sizeof(td_view));
    run_row(&c, op, d->v[0].dtype, d->v[0].dtype == TD_F32);
}

static void compute(data *d)
{
    call(d, "attend", TD_ATTEND_INPUTS, OUT, 2);
    call(d, "attend_grad", TD_ATTEND_GRAD_INPUTS, GRADS, 3);
}

/* Root mean square of the error over that of the values: weights are rounded to 8 bits, and so are
 * results, which makes 2^-9 at most of each. */
static void expect_close(const data *have, const data *want, int k, const char *name)
{
    const problem *p = have->p;
    float         *x = download(have->v + k), *y = download(want->v + k);
    double         error = 0, size = 0;
    for (int64_t i = 0; i < count_of(have->v + k); i++)
        if (x[i] != y[i] && !(isnan(x[i]) && isnan(y[i]))) { /* infinities are equal */
            error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
            size += (double)y[i] * y[i];
        }
    cr_expect(error == 0 || sqrt(error / size) < 6e-3,
              "%s is off by %.3g: B %d H %d G %d Tq %d Tk %d E %d F %d causal %d self %d window %d "
              "flags %d",
              name, sqrt(error / size), p->B, p->H, p->G, p->Tq, p->Tk, p->E, p->F, p->causal,
              p->self, p->window, p->flags);
    free(x);
    free(y);
}

static void expect_same(const data *one, const data *other, int k)
{
    float *x = download(one->v + k), *y = download(other->v + k);
    cr_expect(!memcmp(x, y, (size_t)count_of(one->v + k) * sizeof *x),
              "view %d has other bits the second time", k);
    free(x);
    free(y);
}

/* One element of [B, H, T, E] becomes NaN. */
static void spoil(td_view *v, int64_t h, int64_t t)
{
    float    wide = NAN;
    uint16_t narrow = td_bf16_from_float(NAN);
    int64_t  at = h * v->stride[1] + t * v->stride[2] + 3;
    if (v->dtype == TD_BF16)
        backend->upload(gpu, (uint16_t *)v->data + at, &narrow, sizeof narrow);
    else
        backend->upload(gpu, (float *)v->data + at, &wide, sizeof wide);
}

/* A key, a value, a query and an output's gradient in the middle, which some of the others see. */
static void spoil_all(data *d)
{
    const problem *p = d->p;
    spoil(d->v + TD_ATTEND_K, 0, p->Tk / 2);
    spoil(d->v + TD_ATTEND_V, p->G - 1, p->Tk / 2 + 3);
    spoil(d->v + TD_ATTEND_Q, 0, p->Tq / 3);
    spoil(d->v + TD_ATTEND_GRAD, p->H - 1, 2 * p->Tq / 3);
}

static void check(const problem *p, bool spoiled)
{
    static const int results[] = { OUT, LSE, GRADS, GRADS + 1, GRADS + 2 };
    const char      *names[] = { "the output", "the logsumexp", "dq", "dk", "dv" };
    data             wide, narrow, again;
    set_up(&wide, p, TD_F32);
    set_up(&narrow, p, TD_BF16);
    set_up(&again, p, TD_BF16);
    if (spoiled) {
        spoil_all(&wide);
        spoil_all(&narrow);
        spoil_all(&again);
    }
    compute(&wide);
    compute(&narrow);
    compute(&again);
    for (int k = 0; k < 5; k++) {
        expect_close(&narrow, &wide, results[k], names[k]);
        expect_same(&narrow, &again, results[k]);
    }
    tear_down(&wide);
    tear_down(&narrow);
    tear_down(&again);
}

Test(cuda_attend, tensor_cores_compute_what_float_does)
{
    static const problem problems[] = {
        { 2, 2, 2, 128, 128, 128, 128, 0, 0, 0, 0 },
        { 1, 2, 2, 300, 300, 128, 128, 1, 0, 0, 0 },
        { 2, 2, 1, 257, 257, 64, 64, 1, 0, 0, 0 },
        { 2, 4, 2, 200, 200, 40, 56, 1, 0, 0, 0 },
        { 2, 2, 2, 100, 333, 128, 64, 0, 0, 0, PACKED },
        { 2, 2, 2, 500, 500, 128, 128, 1, 0, 0, INPUTS },
        { 2, 2, 2, 500, 500, 64, 64, 1, 1, 0, PACKED | PADDED | INPUTS | INDEXED },
        { 2, 2, 2, 600, 600, 128, 128, 1, 0, 100, INDEXED },
        { 3, 2, 1, 400, 400, 128, 128, 1, 0, 0, PACKED | PADDED },
        { 2, 2, 2, 130, 700, 128, 128, 0, 0, 0, LENGTHS },
        { 2, 2, 2, 1, 333, 128, 128, 0, 0, 0, LENGTHS },
        { 3, 4, 2, 1, 1300, 72, 128, 0, 0, 0, LENGTHS | PACKED },
        { 1, 2, 2, 1, 40, 256, 200, 1, 0, 0, INPUTS },
        { 1, 8, 8, 2048, 2048, 128, 128, 1, 0, 0, 0 },
        { 2, 4, 2, 200, 200, 40, 56, 1, 0, 60, CAPPED }, /* without tensor cores */
        { 2, 2, 2, 1, 333, 128, 128, 0, 0, 0, LENGTHS | CAPPED },
    };
    for (size_t k = 0; k < sizeof problems / sizeof *problems; k++)
        check(problems + k, false);
}

/* NaN reaches what sees it and nothing else, also where a tile has both. */
Test(cuda_attend, hidden_nan_stays_hidden)
{
    static const problem problems[] = {
        { 2, 2, 2, 300, 300, 128, 128, 1, 0, 0, 0 },
        { 2, 4, 2, 200, 200, 64, 64, 1, 0, 0, PACKED | PADDED },
        { 2, 2, 1, 500, 500, 128, 128, 1, 0, 100, 0 },
        { 2, 2, 2, 130, 260, 128, 64, 0, 0, 0, PACKED },
        { 2, 2, 2, 1, 333, 128, 128, 0, 0, 0, LENGTHS | PACKED },
        { 2, 2, 2, 1, 200, 256, 200, 0, 0, 0, PACKED },
        { 2, 4, 2, 200, 200, 64, 64, 1, 0, 0, PACKED | PADDED | CAPPED },
    };
    for (size_t k = 0; k < sizeof problems / sizeof *problems; k++)
        check(problems + k, true);
}
