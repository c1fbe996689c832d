/* backend-@NAME@.c - a backend in host memory: plain C in f32, with kernels for the primitive ops
 * that a model needs. Everything else (softmax, attention, the loss, AdamW) is lowered to these.
 *
 * The contracts: tandem/kind/backend.h, tandem/kind/kernels.h; the ops: tandem/ops.h. `tandem
 * plugins matrix --plugin-path .` shows which ops have a kernel, which are lowered, and which have
 * neither: dropout and topk. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tandem/kind/backend.h"
#include "tandem/kind/kernels.h"

struct @IDENT@_config {
    int64_t align;
};

static const td_option options[] = { TD_OPTION_INT(struct @IDENT@_config, align, 64, 64, 4096,
                                                   "alignment of memory in bytes; a power of two"),
                                     TD_OPTION_END };

static int check(const void *config, td_error *error)
{
    int64_t align = ((const struct @IDENT@_config *)config)->align;
    return align & (align - 1)
               ? td_fail(error, TD_ECONFIG, "align = %lld is not a power of two", (long long)align)
               : 0;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Made by `open`, freed by `close`; kernels find it as call->backend. */
typedef struct state {
    const td_services *services; /* the thread pool; outlives this */
    size_t             align;
} state;

/* [main]: the place to open a device. */
static int open_@IDENT@(const void *config, const td_services *services, void **out, td_error *error)
{
    state *s = calloc(1, sizeof *s);
    if (!s)
        return td_fail(error, TD_ENOMEM, "backend '@NAME@': out of memory");
    s->services = services;
    s->align = (size_t)((const struct @IDENT@_config *)config)->align;
    *out = s;
    return 0;
}

static void close_@IDENT@(void *state_) { free(state_); }

/* [main]: zeroed and 64-byte aligned memory, or NULL. The hooks upload and download are left out,
 * since device memory is host memory. */
static void *allocate(void *state_, size_t bytes)
{
    size_t align = ((state *)state_)->align, room = (bytes / align + 1) * align;
    void  *memory = room > bytes ? aligned_alloc(align, room) : NULL;
    return memory ? memset(memory, 0, room) : NULL;
}

static void release(void *state_, void *memory, size_t bytes)
{
    (void)state_;
    (void)bytes;
    free(memory);
}

static void describe(void *state_, char *text, size_t size)
{
    snprintf(text, size, "@NAME@: plain C in f32, %d threads", ((state *)state_)->services->threads);
}

/* ---- elements -------------------------------------------------------------------------------- */

/* Values are computed in double, which can represent every float and every int32. */
static double get(const td_view *v, int64_t at)
{
    return v->dtype == TD_I32 ? ((const int32_t *)v->data)[at]
                              : (double)((const float *)v->data)[at];
}

/* Integers wrap around. Far outside the range the conversion would be undefined, so 0 is stored. */
static void put(const td_view *v, int64_t at, double x)
{
    if (v->dtype == TD_I32)
        ((int32_t *)v->data)[at] = fabs(x) < 0x1p62 ? (int32_t)(uint32_t)(int64_t)x : 0;
    else
        ((float *)v->data)[at] = (float)x;
}

static int64_t count_of(const td_view *v)
{
    int64_t n = 1;
    for (int a = 0; a < v->rank; a++)
        n *= v->dim[a];
    return n;
}

/* The offset in v of element n, counted in row-major order over the dims of `like`. Dims of v are
 * aligned at the right and broadcast where they are 1. Every kernel below goes through this, so all
 * of them accept any strides. */
static int64_t find(const td_view *v, const td_view *like, int64_t n)
{
    int64_t at = 0;
    for (int a = like->rank - 1, b = v->rank - 1; b >= 0 && a >= 0; a--, b--) {
        at += v->dim[b] == 1 ? 0 : n % like->dim[a] * v->stride[b];
        n /= like->dim[a];
    }
    return at;
}

static double at(const td_view *v, int64_t n) { return get(v, find(v, v, n)); }
static void   set(const td_view *v, int64_t n, double x) { put(v, find(v, v, n), x); }

/* An optional input; NULL if it is absent. */
static const td_view *optional(const td_call *c, int k)
{
    return k < c->n_in && c->in[k].data ? &c->in[k] : NULL;
}

/* ---- elementwise ops ------------------------------------------------------------------------- */

/* y = f(x, z, w), where x, z, w are elements of inputs 0, 1 and 2; missing ones are 0. */
#define ELEMENTWISE(name, ...)                                                    \
    static int run_##name(const td_call *c)                                       \
    {                                                                             \
        const td_view *out = &c->out[0];                                          \
        double         scale = c->attrs->f[0], shift = c->attrs->f[1];            \
        int64_t        n = count_of(out);                                         \
        (void)scale;                                                              \
        (void)shift;                                                              \
        for (int64_t i = 0; i < n; i++) {                                         \
            double x = get(&c->in[0], find(&c->in[0], out, i));                   \
            double z = c->n_in > 1 ? get(&c->in[1], find(&c->in[1], out, i)) : 0; \
            double w = c->n_in > 2 ? get(&c->in[2], find(&c->in[2], out, i)) : 0; \
            (void)z;                                                              \
            (void)w;                                                              \
            put(out, find(out, out, i), __VA_ARGS__);                             \
        }                                                                         \
        return 0;                                                                 \
    }

/* Truncates towards 0 and saturates; NaN becomes 0. */
static double to_integer(double x)
{
    return isnan(x) ? 0 : trunc(fmin(fmax(x, -2147483648.0), 2147483647.0));
}

ELEMENTWISE(neg, -x)
ELEMENTWISE(exp, exp(x))
ELEMENTWISE(log, log(x))
ELEMENTWISE(sqrt, sqrt(x))
ELEMENTWISE(rsqrt, 1 / sqrt(x))
ELEMENTWISE(sin, sin(x))
ELEMENTWISE(cos, cos(x))
ELEMENTWISE(tanh, tanh(x))
ELEMENTWISE(sigmoid, 1 / (1 + exp(-x)))
ELEMENTWISE(abs, fabs(x))
ELEMENTWISE(sign, (x > 0) - (x < 0))
ELEMENTWISE(floor, floor(x))
ELEMENTWISE(copy, x)
ELEMENTWISE(cast, out->dtype == TD_I32 ? to_integer(x) : x)
ELEMENTWISE(affine, out->dtype == TD_I32 ? to_integer(floor(scale * x + shift)) : scale * x + shift)
ELEMENTWISE(add, x + z)
ELEMENTWISE(sub, x - z)
ELEMENTWISE(mul, out->dtype == TD_I32 ? (double)((int64_t)x * (int64_t)z % (1LL << 32)) : x * z)
ELEMENTWISE(div, x / z)
ELEMENTWISE(maximum, x > z || isnan(x) ? x : z)
ELEMENTWISE(less, x < z)
ELEMENTWISE(equal, x == z)
ELEMENTWISE(where, x != 0 ? z : w)

/* ---- the other ops --------------------------------------------------------------------------- */

static int run_full(const td_call *c)
{
    for (int64_t n = 0; n < count_of(&c->out[0]); n++)
        set(&c->out[0], n, c->attrs->f[0]);
    return 0;
}

static int run_iota(const td_call *c)
{
    for (int64_t n = 0; n < count_of(&c->out[0]); n++)
        set(&c->out[0], n, (double)n);
    return 0;
}

/* Copies x into y, shifted by `by` along `axis`. */
static void copy_into(const td_view *x, const td_view *y, int axis, int64_t by)
{
    for (int64_t n = 0; n < count_of(x); n++)
        put(y, find(y, x, n) + by * y->stride[axis], at(x, n));
}

static int run_pad(const td_call *c)
{
    for (int64_t n = 0; n < count_of(&c->out[0]); n++)
        set(&c->out[0], n, 0);
    copy_into(&c->in[0], &c->out[0], (int)c->attrs->i[0], c->attrs->i[1]);
    return 0;
}

static int run_concat(const td_call *c)
{
    int axis = (int)c->attrs->i[0];
    for (int64_t k = 0, by = 0; k < c->n_in; by += c->in[k++].dim[axis])
        copy_into(&c->in[k], &c->out[0], axis, by);
    return 0;
}

/* Added up in the order of x, on one thread: the same bits every time. */
static int run_sum(const td_call *c)
{
    const td_view *x = &c->in[0], *y = &c->out[0];
    for (int64_t n = 0; n < count_of(y); n++)
        set(y, n, 0);
    for (int64_t n = 0; n < count_of(x); n++) {
        int64_t to = find(y, x, n);
        put(y, to, get(y, to) + at(x, n));
    }
    return 0;
}

static int run_max(const td_call *c)
{
    const td_view *x = &c->in[0], *y = &c->out[0];
    for (int64_t n = 0; n < count_of(y); n++)
        set(y, n, y->dtype == TD_I32 ? -2147483648.0 : -INFINITY);
    for (int64_t n = 0; n < count_of(x); n++) {
        int64_t to = find(y, x, n);
        double  value = at(x, n);
        if (value > get(y, to) || isnan(value)) /* NaN propagates */
            put(y, to, value);
    }
    return 0;
}

/* Each element is added to the sum one stride back, or ahead if `reverse` is set. */
static int run_cumsum(const td_call *c)
{
    const td_view *x = &c->in[0], *y = &c->out[0];
    int            axis = (int)c->attrs->i[0], reverse = c->attrs->i[1] != 0;
    int64_t        count = count_of(x), below = 1, step = reverse ? 1 : -1;
    for (int a = axis + 1; a < x->rank; a++)
        below *= x->dim[a];
    for (int64_t k = 0; k < count; k++) {
        int64_t n = reverse ? count - 1 - k : k, i = n / below % x->dim[axis], to = find(y, y, n);
        bool    begins = i == (reverse ? x->dim[axis] - 1 : 0);
        put(y, to, (begins ? 0 : get(y, to + step * y->stride[axis])) + at(x, n));
    }
    return 0;
}

/* A row number from the data, or -1 if it is out of range: never trust it. */
static int64_t row(const td_view *ids, int64_t n, int64_t rows)
{
    double id = at(ids, n);
    return id >= 0 && id < (double)rows ? (int64_t)id : -1;
}

static int run_gather(const td_call *c)
{
    const td_view *table = &c->in[0], *ids = &c->in[1], *y = &c->out[0];
    int64_t        width = table->dim[0] ? count_of(table) / table->dim[0] : 1;
    for (int64_t n = 0; n < count_of(y); n++) {
        int64_t from = row(ids, n / width, table->dim[0]);
        if (from < 0)
            return TD_EFORMAT;
        set(y, n, at(table, from * width + n % width));
    }
    return 0;
}

static int run_scatter_add(const td_call *c)
{
    const td_view *ids = &c->in[0], *src = &c->in[1], *start = optional(c, 2), *y = &c->out[0];
    int64_t        width = y->dim[0] ? count_of(y) / y->dim[0] : 1;
    for (int64_t n = 0; n < count_of(y); n++)
        set(y, n, start ? at(start, n) : 0);
    for (int64_t n = 0; n < count_of(src); n++) {
        int64_t to = row(ids, n / width, y->dim[0]) * width + n % width;
        if (to < 0)
            return TD_EFORMAT;
        set(y, to, at(y, to) + at(src, n));
    }
    return 0;
}

/* Output 0 is the memory of the state itself; a gate of 0 leaves it unchanged. */
static int run_assign(const td_call *c)
{
    const td_view *gate = optional(c, 2);
    bool           open = !gate || get(gate, 0) != 0;
    for (int64_t n = 0; open && n < count_of(&c->out[0]); n++)
        set(&c->out[0], n, at(&c->in[1], n));
    return 0;
}

/* ---- matrix products ------------------------------------------------------------------------- */

/* Row i of the product, counted over all matrices. A row is one item of work for the thread pool,
 * so how a sum is computed does not depend on the number of threads. */
static void product_row(void *arg, int64_t i, int thread)
{
    const td_call *c = arg;
    const td_view *a = &c->in[0], *b = &c->in[1], *start = optional(c, 2), *y = &c->out[0];
    int64_t        columns = y->dim[y->rank - 1], inner = a->dim[a->rank - 1];
    int64_t        step_a = a->stride[a->rank - 1], step_b = b->stride[b->rank - 2];
    (void)thread;
    for (int64_t j = 0; j < columns; j++) {
        int64_t n = i * columns + j, p, q;
        double  sum = start ? at(start, n) : 0;
        /* Row i of its matrix in a, column j of the same matrix in b: batch dims may broadcast. */
        p = find(a, y, i * columns);
        q = find(b, y, i / y->dim[y->rank - 2] * y->dim[y->rank - 2] * columns + j);
        for (int64_t k = 0; k < inner; k++)
            sum += get(a, p + k * step_a) * get(b, q + k * step_b);
        set(y, n, sum);
    }
}

static int run_matmul(const td_call *c)
{
    const td_view *y = &c->out[0];
    int64_t        columns = y->dim[y->rank - 1];
    td_parallel(c->services, columns ? count_of(y) / columns : 0, product_row,
                (void *)(uintptr_t)c);
    return 0;
}

/* [main]: measured FLOP/s of matrix products, which `tandem bench` compares runs with. */
static double peak(void *state_)
{
    enum { N = 192 };
    state  *s = state_;
    float  *m = allocate(s, 3 * N * N * sizeof *m);
    td_view v = { m, TD_F32, 2, { N, N }, { N, 1 } };
    td_call c = { .services = s->services, .n_in = 2, .n_out = 1, .in = { v, v }, .out = { v } };
    struct timespec from, to;
    if (!m)
        return 0;
    c.in[1].data = m + N * N;
    c.out[0].data = m + 2 * N * N;
    /* The values do not affect the time, so the zeros of `allocate` will do. */
    clock_gettime(CLOCK_MONOTONIC, &from);
    run_matmul(&c);
    clock_gettime(CLOCK_MONOTONIC, &to);
    release(s, m, 0);
    return 2.0 * N * N * N /
           ((double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec));
}

/* ---- the plugins ----------------------------------------------------------------------------- */

enum {
    STRIDES = TD_KERNEL_STRIDED_IN | TD_KERNEL_STRIDED_OUT,
    ELEMENTS = STRIDES | TD_KERNEL_INPLACE
};

#define ROW(name, type, how) \
    { .size = sizeof(td_kernel), .op = #name, .dtype = type, .flags = how, .run = run_##name },
#define REAL(name, how) ROW(name, TD_F32, how)
#define BOTH(name, how) ROW(name, TD_F32, how) ROW(name, TD_I32, how)

static const td_kernel rows[] = {
    /* clang-format off */
    REAL(exp, ELEMENTS) REAL(log, ELEMENTS) REAL(sqrt, ELEMENTS) REAL(rsqrt, ELEMENTS)
    REAL(sin, ELEMENTS) REAL(cos, ELEMENTS) REAL(tanh, ELEMENTS) REAL(sigmoid, ELEMENTS)
    REAL(floor, ELEMENTS) REAL(div, ELEMENTS) REAL(matmul, TD_KERNEL_STRIDED_IN)
    BOTH(neg, ELEMENTS) BOTH(abs, ELEMENTS) BOTH(sign, ELEMENTS) BOTH(affine, ELEMENTS)
    BOTH(add, ELEMENTS) BOTH(sub, ELEMENTS) BOTH(mul, ELEMENTS) BOTH(maximum, ELEMENTS)
    BOTH(less, ELEMENTS) BOTH(equal, ELEMENTS) BOTH(where, STRIDES) BOTH(cast, STRIDES)
    BOTH(copy, STRIDES) BOTH(full, STRIDES) BOTH(iota, STRIDES) BOTH(pad, STRIDES)
    BOTH(concat, STRIDES) BOTH(sum, STRIDES) BOTH(max, STRIDES) BOTH(cumsum, STRIDES)
    BOTH(gather, TD_KERNEL_STRIDED_IN) BOTH(scatter_add, TD_KERNEL_STRIDED_IN)
    BOTH(assign, TD_KERNEL_STRIDED_IN)
    /* clang-format on */
};

struct empty {
    char none;
};

/* The backend and its kernels are two plugins: other modules can add kernels for this backend by
 * naming it. */
static const td_kernels @IDENT@_kernels = {
    .plugin = TD_PLUGIN(td_kernels, TD_KERNELS_KIND, "@NAME@", NULL, struct empty,
                        .brief = "kernels of the backend '@NAME@', in f32 and i32"),
    .backend = "@NAME@",
    .rows = rows,
    .count = sizeof rows / sizeof *rows,
};

static const td_backend @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_backend, TD_BACKEND_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "plain C in f32, most ops lowered; slow", .check = check),
    .open = open_@IDENT@,
    .close = close_@IDENT@,
    .allocate = allocate,
    .release = release,
    .describe = describe,
    .peak = peak,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin, &@IDENT@_kernels.plugin)
