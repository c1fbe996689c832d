/* cuda-attend.c - attention in bf16 on an NVIDIA GPU's tensor cores against the kernels in f32, which
 * `tandem plugins check` compares with double precision: at sizes of several tiles, under all masks.
 * Skipped without a GPU that has such kernels. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "tandem/bf16.h"
#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"
#include "tandem/ops.h"

enum { PADDED = 1, PACKED = 2, INPUTS = 4, INDEXED = 8, LENGTHS = 16 };
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

static const td_backend *backend;
static const td_kernels *kernels;
static void             *gpu;
static td_pool          *pool;

static void find_plugins(void)
{
    void *module = dlopen(TANDEM_PLUGINS "/backend-cuda.so", RTLD_NOW | RTLD_LOCAL);
    if (!module)
        return;
    for (const td_plugin *const *p = ((const td_module *)dlsym(module, TD_MODULE_SYMBOL))->plugins;
         *p; p++) {
        if (!strcmp((*p)->kind, TD_BACKEND_KIND))
            backend = (const void *)*p;
        else
            kernels = (const void *)*p;
    }
}

static void setup(void)
{
    td_error e = { 0 };
    int64_t  config[4] = { 0 }; /* the first GPU */
    pool = td_pool_new(1, 0, &e);
    cr_assert(pool, "%s", e.text);
    find_plugins();
    if (!backend || backend->open(config, td_pool_services(pool), &gpu, &e))
        cr_skip_test("there is no GPU that CUDA can use");
}

static void teardown(void)
{
    if (gpu)
        backend->close(gpu);
    td_pool_free(pool);
}

TestSuite(cuda_attend, .init = setup, .fini = teardown);

/* ---- data ------------------------------------------------------------------------------------ */

static double random_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

static int64_t count_of(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return n;
}

static size_t bytes_of(const td_view *v)
{
    return (size_t)count_of(v) * (v->dtype == TD_BF16 ? 2 : 4);
}

/* Unwritten elements are NaN. */
static void allocate(td_view *v)
{
    void *host = malloc(bytes_of(v));
    v->data = backend->allocate(gpu, bytes_of(v));
    cr_assert(v->data && host);
    memset(host, 0xFF, bytes_of(v));
    cr_assert_eq(backend->upload(gpu, v->data, host, bytes_of(v)), 0);
    free(host);
}

/* [B, H, T, E], laid out as [B, T, H, E]. */
static td_view heads_view(int dtype, int64_t b, int64_t h, int64_t t, int64_t e)
{
    td_view v = { NULL, dtype, 4, { b, h, t, e }, { t * h * e, e, h * e, 1 } };
    allocate(&v);
    return v;
}

/* The same numbers in either dtype: bf16 holds them exactly. */
static void randomize(td_view *v, uint64_t stream, double scale)
{
    int64_t   n = count_of(v);
    float    *wide = malloc((size_t)n * sizeof *wide);
    uint16_t *narrow = malloc((size_t)n * sizeof *narrow);
    for (int64_t i = 0; i < n; i++) {
        narrow[i] = td_bf16_from_float((float)(scale * random_number(&stream)));
        wide[i] = td_bf16_to_float(narrow[i]);
    }
    backend->upload(gpu, v->data, v->dtype == TD_BF16 ? (void *)narrow : wide, bytes_of(v));
    free(wide);
    free(narrow);
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
        if (d->v[k].data)
            backend->release(gpu, d->v[k].data, bytes_of(d->v + k));
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The first row of the op, which is that for tensor cores in bf16. */
static const td_kernel *row_of(const char *op, int dtype)
{
    for (size_t i = 0; i < kernels->count; i++)
        if (!strcmp(kernels->rows[i].op, op) && kernels->rows[i].dtype == dtype)
            return kernels->rows + i;
    return NULL;
}

static void call(data *d, const char *op, int n_in, int first_out, int n_out)
{
    const td_kernel *k = row_of(op, d->v[0].dtype);
    td_attrs         a = { { d->p->causal, d->p->window, d->p->self, 0 }, { 0.15 } };
    td_call          c = { .attrs = &a, .n_in = n_in, .n_out = n_out, .backend = gpu };
    size_t           bytes;
    memcpy(c.in, d->v, (size_t)n_in * sizeof(td_view));
    memcpy(c.out, d->v + first_out, (size_t)n_out * sizeof(td_view));
    if (!k->accepts(&c))
        cr_skip_test("the GPU has no tensor cores of compute capability 9.0");
    bytes = k->workspace ? k->workspace(&c) : 0;
    c.workspace = backend->allocate(gpu, bytes);
    cr_assert_eq(k->run(&c), 0);
    cr_assert_eq(backend->sync(gpu), 0);
    backend->release(gpu, c.workspace, bytes);
}

static void compute(data *d)
{
    call(d, "attend", TD_ATTEND_INPUTS, OUT, 2);
    call(d, "attend_grad", TD_ATTEND_GRAD_INPUTS, GRADS, 3);
}

/* The elements of a view, as float; free() them. */
static float *download(const td_view *v)
{
    int64_t n = count_of(v);
    char   *raw = malloc(bytes_of(v));
    float  *wide = malloc((size_t)n * sizeof *wide);
    cr_assert_eq(backend->download(gpu, raw, v->data, bytes_of(v)), 0);
    for (int64_t i = 0; i < n; i++)
        wide[i] = v->dtype == TD_BF16 ? td_bf16_to_float(((uint16_t *)(void *)raw)[i])
                                      : ((float *)(void *)raw)[i];
    free(raw);
    return wide;
}

/* Root mean square of the error over that of the values: weights are rounded to 8 bits, and so are
 * results, which makes 2^-9 at most of each. */
static void expect_close(const data *have, const data *want, int k, const char *name)
{
    const problem *p = have->p;
    float         *x = download(have->v + k), *y = download(want->v + k);
    double         error = 0, size = 0;
    for (int64_t i = 0; i < count_of(have->v + k); i++)
        if (x[i] != y[i]) { /* infinities are equal */
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

static void check(const problem *p)
{
    static const int results[] = { OUT, LSE, GRADS, GRADS + 1, GRADS + 2 };
    const char      *names[] = { "the output", "the logsumexp", "dq", "dk", "dv" };
    data             wide, narrow, again;
    set_up(&wide, p, TD_F32);
    set_up(&narrow, p, TD_BF16);
    set_up(&again, p, TD_BF16);
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
        { 1, 8, 8, 2048, 2048, 128, 128, 1, 0, 0, 0 },
    };
    for (size_t k = 0; k < sizeof problems / sizeof *problems; k++)
        check(problems + k);
}
