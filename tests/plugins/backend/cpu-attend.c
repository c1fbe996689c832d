/* cpu-attend.c - attention of the cpu backend and its gradients against plain loops in double
 * precision. */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "tandem/kind/kernels.h"
#include "tandem/ops.h"

enum {
    BIASED = 1,
    DENSE = 2,
    PADDED = 4,
    PACKED = 8,
    INPUTS = 16,
    NO_LSE = 32,
    SHARED_DENSE = 64,
    INDEXED = 128,
    CONSECUTIVE = 256
};

typedef struct problem {
    int B, H, G, Tq, Tk, E, F, causal, self, window, flags;
} problem;

typedef struct data {
    problem p;
    td_view in[TD_ATTEND_GRAD_INPUTS], out[2], grad[5];
    void   *blocks[64];
    int     n_blocks;
} data;

static double random_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 9007199254740992.0 * 2 - 1;
}

static void *keep(data *d, size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(p, 0x7F, (bytes + 127) / 64 * 64);
    return d->blocks[d->n_blocks++] = p;
}

/* A view [B, H, T, E] of memory that is laid out as [B, T, H, E]. */
static td_view heads_view(data *d, int64_t b, int64_t h, int64_t t, int64_t e)
{
    td_view v = {
        keep(d, (size_t)(b * h * t * e) * 4), TD_F32, 4, { b, h, t, e }, { t * h * e, e, h * e, 1 }
    };
    return v;
}

static td_view dense_view(data *d, int dtype, int rank, const int64_t *dims)
{
    td_view v = { 0, dtype, rank, { 0 }, { 0 } };
    int64_t n = 1;
    for (int a = rank - 1; a >= 0; a--) {
        v.dim[a] = dims[a];
        v.stride[a] = n;
        n *= dims[a];
    }
    v.data = keep(d, (size_t)n * 4);
    return v;
}

static void randomize(td_view *v, uint64_t *state, double scale)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    for (int64_t i = 0; i < n; i++)
        ((float *)v->data)[i] = (float)(scale * random_number(state));
}

static int segment_of(const problem *p, int b, int t, int length)
{
    if ((p->flags & PADDED) && t >= length - 1 - b % 3)
        return 0;
    return p->flags & PACKED ? 1 + 3 * t / length : 1;
}

static void marks(data *d, int input, int length)
{
    const problem *p = &d->p;
    int64_t        dims[] = { p->B, length };
    int            is_key = input == TD_ATTEND_K_SEGMENT;
    td_view segment = dense_view(d, TD_I32, 2, dims), inputs = dense_view(d, TD_I32, 2, dims);
    td_view index = dense_view(d, TD_I32, 2, dims), position = dense_view(d, TD_I32, 2, dims);
    for (int b = 0; b < p->B; b++)
        for (int t = 0; t < length; t++) {
            ((int32_t *)segment.data)[b * length + t] = segment_of(p, b, t, length);
            ((int32_t *)inputs.data)[b * length + t] = t < 2 + length / 3;
            ((int32_t *)index.data)[b * length + t] = t + 2;
            ((int32_t *)position.data)[b * length + t] = p->flags & CONSECUTIVE
                                                             ? t - (t < 70 ? 0 : b)
                                                             : 2 * t + b + is_key;
        }
    if (p->flags & (PADDED | PACKED))
        d->in[input] = segment;
    if (p->flags & INPUTS)
        d->in[input + 2] = inputs;
    if (p->flags & INDEXED)
        d->in[input + 4] = index;
    if (p->flags & BIASED)
        d->in[TD_ATTEND_Q_POSITION + is_key] = position;
}

static void set_up(data *d, const problem *p)
{
    uint64_t state = 11;
    int64_t  lse[] = { p->B, p->H, p->Tq }, table[] = { p->H, 13 };
    int      few = p->flags & SHARED_DENSE;
    int64_t  dense[] = { few ? 1 : p->B, few ? 1 : p->H, p->Tq, p->Tk };
    memset(d, 0, sizeof *d);
    d->p = *p;
    d->in[0] = heads_view(d, p->B, p->H, p->Tq, p->E);
    d->in[1] = heads_view(d, p->B, p->G, p->Tk, p->E);
    d->in[2] = heads_view(d, p->B, p->G, p->Tk, p->F);
    d->in[TD_ATTEND_GRAD] = heads_view(d, p->B, p->H, p->Tq, p->F);
    for (int i = 0; i < 3; i++)
        randomize(d->in + i, &state, 1.5);
    randomize(d->in + TD_ATTEND_GRAD, &state, 1);
    if (p->flags & BIASED) {
        d->in[TD_ATTEND_TABLE] = dense_view(d, TD_F32, 2, table);
        randomize(d->in + TD_ATTEND_TABLE, &state, 1);
        d->grad[3] = dense_view(d, TD_F32, 2, table);
    }
    if (p->flags & DENSE) {
        d->in[TD_ATTEND_DENSE] = dense_view(d, TD_F32, 4, dense);
        randomize(d->in + TD_ATTEND_DENSE, &state, 1);
        d->grad[4] = dense_view(d, TD_F32, 4, dense);
        for (int64_t i = 0; i < dense[0] * dense[1] * dense[2] * dense[3]; i += 5)
            ((float *)d->in[TD_ATTEND_DENSE].data)[i] = -INFINITY;
    }
    marks(d, TD_ATTEND_Q_SEGMENT, p->Tq);
    marks(d, TD_ATTEND_K_SEGMENT, p->Tk);
    d->out[0] = d->in[TD_ATTEND_OUT] = heads_view(d, p->B, p->H, p->Tq, p->F);
    d->out[1] = d->in[TD_ATTEND_LSE] = dense_view(d, TD_F32, 3, lse);
    for (int i = 0; i < 3; i++) {
        d->grad[i] = d->in[i];
        d->grad[i].data = keep(d, (size_t)(d->in[i].dim[0] * d->in[i].dim[1] * d->in[i].dim[2] *
                                           d->in[i].dim[3]) *
                                      4);
    }
}

static void tear_down(data *d)
{
    for (int i = 0; i < d->n_blocks; i++)
        free(d->blocks[i]);
}

/* ---- the kernels ----------------------------------------------------------------------------- */

static const td_kernel *kernel(const char *op)
{
    void *module = dlopen(TANDEM_PLUGINS "/backend-cpu.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert(module, "%s", dlerror());
    for (const td_plugin *const *p = ((const td_module *)dlsym(module, TD_MODULE_SYMBOL))->plugins;
         *p; p++) {
        const td_kernels *k = (const td_kernels *)(const void *)*p;
        for (size_t i = 0; !strcmp((*p)->kind, TD_KERNELS_KIND) && i < k->count; i++)
            if (!strcmp(k->rows[i].op, op) && k->rows[i].dtype == TD_F32)
                return k->rows + i;
    }
    cr_assert_fail("no kernel '%s'", op);
    return 0;
}

static void call(data *d, const char *op, int n_in, td_view *out, int n_out,
                 const td_services *services)
{
    const td_kernel *k = kernel(op);
    td_attrs         a = { { d->p.causal, d->p.window, d->p.self, 5 }, { 0.37 } };
    td_call          c = { .services = services, .attrs = &a, .n_in = n_in, .n_out = n_out };
    size_t           bytes;
    memcpy(c.in, d->in, (size_t)n_in * sizeof(td_view));
    memcpy(c.out, out, (size_t)n_out * sizeof(td_view));
    bytes = k->workspace ? k->workspace(&c) : 0;
    c.workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
    memset(c.workspace, 0xFF, bytes); /* NaN, since nothing may be read before it is written */
    cr_assert_eq(k->run(&c), 0);
    free(c.workspace);
}

static void compute(data *d, int threads)
{
    td_error error = { 0 };
    td_pool *pool = td_pool_new(threads, 0, &error);
    cr_assert(pool, "%s", error.text);
    call(d, "attend", TD_ATTEND_INPUTS, d->out, 2, td_pool_services(pool));
    call(d, "attend_grad", TD_ATTEND_GRAD_INPUTS, d->grad, 5, td_pool_services(pool));
    td_pool_free(pool);
}

/* ---- plain loops ----------------------------------------------------------------------------- */

static float *at(const td_view *v, int64_t b, int64_t h, int64_t t, int64_t e)
{
    return (float *)v->data + b * v->stride[0] + h * v->stride[1] + t * v->stride[2] +
           e * v->stride[3];
}

static int mark(const data *d, int input, int b, int t, int absent)
{
    return d->in[input].data ? ((int32_t *)d->in[input].data)[b * d->in[input].dim[1] + t] : absent;
}

static bool visible(const data *d, int b, int i, int j)
{
    const problem *p = &d->p;
    int qs = mark(d, TD_ATTEND_Q_SEGMENT, b, i, 1), ks = mark(d, TD_ATTEND_K_SEGMENT, b, j, 1);
    int qi = mark(d, TD_ATTEND_Q_INDEX, b, i, i), ki = mark(d, TD_ATTEND_K_INDEX, b, j, j);
    if (qs == 0)
        return p->self && qi == ki;
    if (qs != ks || (p->window > 0 && qi - ki >= p->window))
        return false;
    return !p->causal || ki <= qi ||
           (mark(d, TD_ATTEND_Q_INPUT, b, i, 0) && mark(d, TD_ATTEND_K_INPUT, b, j, 0));
}

static int distance(const data *d, int b, int i, int j)
{
    int x = mark(d, TD_ATTEND_K_POSITION, b, j, 0) - mark(d, TD_ATTEND_Q_POSITION, b, i, 0) + 5;
    return x < 0 ? 0 : x > 12 ? 12 : x;
}

static int64_t dense_at(const data *d, int b, int h, int i, int j)
{
    const td_view *v = d->in + TD_ATTEND_DENSE;
    return (v->dim[0] > 1 ? b * v->stride[0] : 0) + (v->dim[1] > 1 ? h * v->stride[1] : 0) +
           i * v->stride[2] + j;
}

/* The weights of one query; returns the logsumexp, -inf if it sees nothing. */
static double weights_of(const data *d, int b, int h, int i, double *w)
{
    double top = -INFINITY, sum = 0;
    int    g = h / (d->p.H / d->p.G);
    for (int j = 0; j < d->p.Tk; j++) {
        w[j] = 0;
        for (int e = 0; e < d->p.E; e++)
            w[j] += 0.37 * *at(d->in, b, h, i, e) * *at(d->in + 1, b, g, j, e);
        if (d->p.flags & BIASED)
            w[j] += ((float *)d->in[TD_ATTEND_TABLE].data)[h * 13 + distance(d, b, i, j)];
        if (d->p.flags & DENSE)
            w[j] += ((float *)d->in[TD_ATTEND_DENSE].data)[dense_at(d, b, h, i, j)];
        w[j] = visible(d, b, i, j) ? w[j] : -INFINITY;
        top = fmax(top, w[j]);
    }
    for (int j = 0; j < d->p.Tk; j++)
        sum += w[j] = w[j] == -INFINITY ? 0 : exp(w[j] - top);
    for (int j = 0; j < d->p.Tk; j++)
        w[j] /= sum > 0 ? sum : 1;
    return sum > 0 ? top + log(sum) : -INFINITY;
}

typedef struct truth {
    double *o, *lse, *grad[5];
} truth;

static double *zeros(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return calloc((size_t)n + 1, sizeof(double));
}

/* The index of an element in the plain copy of a view: the same as in the view, for views of one
 * dense block. */
#define PLACE(v, b, h, t, e) (at(&(v), b, h, t, e) - (float *)(v).data)

static void query_truth(const data *d, truth *r, int b, int h, int i, double *w)
{
    const problem *p = &d->p;
    int            g = h / (p->H / p->G);
    double         delta = 0;
    r->lse[(b * p->H + h) * p->Tq + i] = weights_of(d, b, h, i, w);
    for (int f = 0; f < p->F; f++) {
        double o = 0;
        for (int j = 0; j < p->Tk; j++)
            o += w[j] ? w[j] * *at(d->in + 2, b, g, j, f) : 0;
        r->o[PLACE(d->out[0], b, h, i, f)] = o;
        delta += o * *at(d->in + TD_ATTEND_GRAD, b, h, i, f);
    }
    for (int j = 0; j < p->Tk; j++) {
        double ds = -delta;
        for (int f = 0; f < p->F; f++) {
            double go = *at(d->in + TD_ATTEND_GRAD, b, h, i, f);
            ds += go * *at(d->in + 2, b, g, j, f);
            r->grad[2][PLACE(d->in[2], b, g, j, f)] += w[j] * go;
        }
        ds = w[j] ? ds * w[j] : 0;
        for (int e = 0; ds != 0 && e < p->E; e++) {
            r->grad[0][PLACE(d->in[0], b, h, i, e)] += 0.37 * ds * *at(d->in + 1, b, g, j, e);
            r->grad[1][PLACE(d->in[1], b, g, j, e)] += 0.37 * ds * *at(d->in, b, h, i, e);
        }
        if (p->flags & BIASED)
            r->grad[3][h * 13 + distance(d, b, i, j)] += ds;
        if (p->flags & DENSE)
            r->grad[4][dense_at(d, b, h, i, j)] += ds;
    }
}

static void compare(const char *what, const td_view *got, const double *want, double tolerance)
{
    int64_t n = 1;
    double  most = 0.1; /* where terms cancel to 0, rounding leaves a remainder */
    for (int a = 0; a < got->rank; a++)
        n *= got->dim[a];
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, isfinite(want[i]) ? fabs(want[i]) : 0);
    for (int64_t i = 0; i < n; i++) {
        double x = ((float *)got->data)[i];
        cr_assert(x == want[i] || fabs(x - want[i]) <= tolerance * most,
                  "%s[%lld]: %.9g, not %.9g (largest %g)", what, (long long)i, x, want[i], most);
    }
}

static void check(problem p)
{
    static const char *const names[] = { "dq", "dk", "dv", "dtable", "ddense" };
    data                     d;
    truth                    r;
    double                  *w = calloc((size_t)p.Tk + 1, sizeof *w);
    set_up(&d, &p);
    compute(&d, 2);
    r.o = zeros(d.out);
    r.lse = zeros(d.out + 1);
    for (int k = 0; k < 5; k++)
        r.grad[k] = zeros(d.grad + k);
    for (int b = 0; b < p.B; b++)
        for (int h = 0; h < p.H; h++)
            for (int i = 0; i < p.Tq; i++)
                query_truth(&d, &r, b, h, i, w);
    compare("o", d.out, r.o, 2e-6);
    compare("lse", d.out + 1, r.lse, 2e-6);
    for (int k = 0; k < 5; k++) {
        if (d.grad[k].data)
            compare(names[k], d.grad + k, r.grad[k], 1e-5);
        free(r.grad[k]);
    }
    free(r.o);
    free(r.lse);
    free(w);
    tear_down(&d);
}

/*                                                       B  H  G  Tq   Tk  E   F  causal self window flags */
Test(attend, one_token) { check((problem){ 1, 1, 1, 1, 1, 7, 7, 1, 0, 0, 0 }); }
Test(attend, all_see_all) { check((problem){ 2, 3, 3, 67, 131, 24, 24, 0, 0, 0, 0 }); }
Test(attend, causal) { check((problem){ 2, 2, 2, 193, 193, 16, 16, 1, 0, 0, 0 }); }
Test(attend, grouped_heads) { check((problem){ 2, 6, 2, 71, 71, 7, 13, 1, 0, 0, 0 }); }
Test(attend, one_group) { check((problem){ 1, 5, 1, 5, 130, 32, 48, 0, 0, 0, PADDED }); }
Test(attend, window) { check((problem){ 1, 2, 2, 211, 211, 8, 8, 1, 0, 29, 0 }); }
Test(attend, packed) { check((problem){ 3, 2, 1, 151, 151, 17, 17, 1, 1, 0, PACKED | PADDED }); }
Test(attend, cross_packed)
{
    check((problem){ 3, 2, 2, 83, 151, 17, 19, 0, 0, 0, PACKED | PADDED });
}
Test(attend, prefix) { check((problem){ 2, 2, 2, 149, 149, 16, 16, 1, 1, 0, INPUTS | PADDED }); }
Test(attend, prefix_window)
{
    check((problem){ 2, 2, 2, 149, 149, 16, 16, 1, 0, 37, INPUTS | INDEXED });
}
Test(attend, table) { check((problem){ 2, 3, 3, 97, 101, 16, 16, 1, 0, 0, BIASED }); }
/* Blocks in which positions count up and, in the later examples, one in which they do not. */
Test(attend, table_by_runs)
{
    check((problem){ 3, 2, 2, 197, 211, 16, 16, 1, 0, 0, BIASED | CONSECUTIVE });
    check((problem){ 1, 3, 1, 67, 131, 7, 5, 0, 0, 0, BIASED | CONSECUTIVE | PADDED });
}
Test(attend, dense) { check((problem){ 2, 4, 2, 67, 71, 16, 16, 0, 0, 0, DENSE }); }
Test(attend, shared_dense)
{
    check((problem){ 2, 4, 2, 67, 71, 16, 16, 1, 0, 0, DENSE | SHARED_DENSE | BIASED });
}

static size_t bytes_of(const td_view *v)
{
    return (size_t)(v->dim[0] * v->dim[1] * v->dim[2] * v->dim[3]) * 4;
}

static void same_bits(problem p)
{
    data one, two;
    set_up(&one, &p);
    set_up(&two, &p);
    compute(&one, 1);
    compute(&two, 3);
    cr_assert(!memcmp(one.out[0].data, two.out[0].data, bytes_of(one.out)));
    for (int k = 0; k < 3; k++)
        cr_assert(!memcmp(one.grad[k].data, two.grad[k].data, bytes_of(one.grad + k)),
                  "gradient %d", k);
    cr_assert(!memcmp(one.grad[3].data, two.grad[3].data, (size_t)p.H * 13 * 4));
    tear_down(&one);
    tear_down(&two);
}

Test(attend, bits_do_not_depend_on_threads)
{
    problem p = { 3, 4, 2, 131, 137, 24, 24, 1, 1, 0, PACKED | PADDED | BIASED };
    same_bits(p);
    p.B = 1;
    p.H = 7;
    p.G = 1;
    p.flags |= CONSECUTIVE; /* the heads of one group are divided among threads */
    same_bits(p);
}

/* Keys that nobody sees may hold anything finite. */
Test(attend, hidden_keys_do_not_matter)
{
    problem p = { 2, 2, 2, 71, 131, 24, 24, 0, 0, 0, PADDED };
    data    plain, wild;
    set_up(&plain, &p);
    set_up(&wild, &p);
    for (int b = 0; b < p.B; b++)
        for (int h = 0; h < p.H; h++)
            for (int j = 0; j < p.Tk; j++)
                for (int e = 0; e < p.E && !mark(&wild, TD_ATTEND_K_SEGMENT, b, j, 1); e++) {
                    *at(wild.in + 1, b, h, j, e) = 1e30f;
                    *at(wild.in + 2, b, h, j, e) = -1e30f;
                }
    compute(&plain, 2);
    compute(&wild, 2);
    cr_assert(!memcmp(plain.out[0].data, wild.out[0].data, bytes_of(plain.out)));
    for (int k = 0; k < 3; k++)
        cr_assert(!memcmp(plain.grad[k].data, wild.grad[k].data, bytes_of(plain.grad + k)),
                  "gradient %d", k);
    tear_down(&plain);
    tear_down(&wild);
}

Test(attend, outputs_without_a_reader)
{
    problem p = { 1, 2, 2, 35, 37, 16, 16, 1, 0, 0, BIASED | DENSE };
    data    all, some;
    set_up(&all, &p);
    set_up(&some, &p);
    some.grad[0].data = some.grad[2].data = some.grad[3].data = some.grad[4].data = 0;
    compute(&all, 1);
    compute(&some, 1);
    cr_assert(!memcmp(all.grad[1].data, some.grad[1].data, bytes_of(all.grad + 1)));
    tear_down(&all);
    tear_down(&some);
}
