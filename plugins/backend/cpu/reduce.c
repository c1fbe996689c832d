/* reduce.c - sum and max over any axes of a dense tensor. Each output is one task's, in a fixed
 * order, and sums are taken in double. */
#include "cpu.h"
#include "kernels.h"

enum { COLUMNS = 64 };

/* The dims that are kept and those that are reduced ("gone"), neighbours of one kind merged. There
 * are two forms. If the innermost dim is reduced, a run is a contiguous span. If it is kept, a task
 * sums COLUMNS outputs side by side, so that it reads whole cache lines. */
typedef struct reduction {
    const void *x;
    void       *y;
    int         kept, gone; /* number of dims of each kind */
    int64_t     kept_dim[TD_MAX_RANK], kept_stride[TD_MAX_RANK], gone_dim[TD_MAX_RANK],
        gone_stride[TD_MAX_RANK];
    int64_t columns, blocks; /* the innermost dim if it is kept, and its blocks; otherwise 1 */
    int64_t span;            /* the innermost dim if it is reduced; otherwise 1 */
    int64_t runs;            /* the product of the other reduced dims */
} reduction;

/* Append a dim of either kind, or merge it into the one before, which is of the same kind. */
static void add_dim(reduction *r, bool gone, int64_t dim, int64_t stride, bool merge)
{
    int64_t *dims = gone ? r->gone_dim : r->kept_dim,
            *strides = gone ? r->gone_stride : r->kept_stride;
    int *count = gone ? &r->gone : &r->kept;

    if (merge) {
        dims[*count - 1] *= dim;
        strides[*count - 1] = stride;
    } else {
        dims[*count] = dim;
        strides[(*count)++] = stride;
    }
}

/* Bit a of i[0]: axis a is reduced. Dims of 1 do not matter and are dropped. */
static reduction plan(const td_call *call)
{
    const td_view *x = &call->in[0];
    reduction      r = {
             .x = x->data, .y = call->out[0].data, .columns = 1, .blocks = 1, .runs = 1, .span = 1
    };
    int64_t stride = td_view_count(x);
    int     before = -1;

    for (int a = 0; a < x->rank; a++) {
        int gone = (int)(call->attrs->i[0] >> a & 1);
        stride = x->dim[a] ? stride / x->dim[a] : 0;
        if (x->dim[a] == 1)
            continue;
        add_dim(&r, gone, x->dim[a], stride, gone == before);
        before = gone;
    }
    /* `before` is now the kind of the innermost dim; -1: a scalar */
    if (before == 0)
        r.columns = r.kept_dim[--r.kept];
    if (before == 1)
        r.span = r.gone_dim[--r.gone];
    for (int a = 0; a < r.gone; a++)
        r.runs *= r.gone_dim[a];
    r.blocks = td_cpu_ceil(r.columns, COLUMNS);
    return r;
}

TD_CPU_CLONES static double sum_span(const float *x, int64_t n) { return td_vtotal(x, n); }

TD_CPU_CLONES static void add_columns(double *sum, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += (double)x[i];
}

/* NaN propagates. */
static float larger(float a, float b) { return a > b || a != a ? a : b; }

static void sum_item(void *arg, int64_t item, int thread)
{
    const reduction *r = arg;
    int64_t          outer = item / r->blocks, first = item % r->blocks * COLUMNS;
    int64_t          width = td_cpu_min(COLUMNS, r->columns - first);
    const float     *x = (const float *)r->x +
                     td_cpu_offset(outer, r->kept, r->kept_dim, r->kept_stride) + first;
    double sum[COLUMNS] = { 0 };

    /* one output from contiguous spans, or up to 64 side by side */
    for (int64_t i = 0; i < r->runs; i++) {
        const float *p = x + td_cpu_offset(i, r->gone, r->gone_dim, r->gone_stride);
        if (r->columns == 1)
            sum[0] += sum_span(p, r->span);
        else
            add_columns(sum, p, width);
    }
    for (int64_t i = 0; i < width; i++)
        ((float *)r->y)[outer * r->columns + first + i] = (float)sum[i];
}

static void max_item(void *arg, int64_t item, int thread)
{
    const reduction *r = arg;
    int64_t          outer = item / r->blocks, first = item % r->blocks * COLUMNS;
    int64_t          width = td_cpu_min(COLUMNS, r->columns - first);
    const float     *x = (const float *)r->x +
                     td_cpu_offset(outer, r->kept, r->kept_dim, r->kept_stride) + first;
    float *y = (float *)r->y + outer * r->columns + first;

    for (int64_t j = 0; j < width; j++)
        y[j] = -INFINITY;
    /* in either form one of the two inner loops does nothing more than the first element */
    for (int64_t i = 0; i < r->runs; i++) {
        const float *p = x + td_cpu_offset(i, r->gone, r->gone_dim, r->gone_stride);
        for (int64_t j = 0; j < width; j++)
            y[j] = larger(y[j], p[j]);
        for (int64_t j = 1; j < r->span; j++)
            y[0] = larger(y[0], p[j]);
    }
}

/* Both forms for integers. Sums wrap around. */
static void i32_item(const reduction *r, int64_t item, bool sum)
{
    int64_t        outer = item / r->blocks, first = item % r->blocks * COLUMNS;
    int64_t        width = td_cpu_min(COLUMNS, r->columns - first);
    const int32_t *x = (const int32_t *)r->x +
                       td_cpu_offset(outer, r->kept, r->kept_dim, r->kept_stride) + first;
    int32_t *y = (int32_t *)r->y + outer * r->columns + first;

    /* exact in any order, so the two forms share a loop */
    for (int64_t j = 0; j < width; j++)
        y[j] = sum ? 0 : INT32_MIN;
    for (int64_t i = 0; i < r->runs; i++) {
        const int32_t *p = x + td_cpu_offset(i, r->gone, r->gone_dim, r->gone_stride);
        for (int64_t j = 0; j < td_cpu_max(width, r->span); j++) {
            int32_t *to = &y[r->span > 1 ? 0 : j];
            *to = sum ? (int32_t)((uint32_t)*to + (uint32_t)p[j]) : *to > p[j] ? *to : p[j];
        }
    }
}

static void i32_sum_item(void *arg, int64_t item, int thread) { i32_item(arg, item, true); }

static void i32_max_item(void *arg, int64_t item, int thread) { i32_item(arg, item, false); }

static int reduce(const td_call *call, void (*item)(void *, int64_t, int))
{
    reduction r = plan(call);
    int64_t   n = td_view_count(&call->out[0]);
    if (n)
        td_parallel(call->services, n / r.columns * r.blocks, item, &r);
    return 0;
}

int td_cpu_sum(const td_call *call) { return reduce(call, sum_item); }
int td_cpu_max_over(const td_call *call) { return reduce(call, max_item); }
int td_cpu_i32_sum(const td_call *call) { return reduce(call, i32_sum_item); }
int td_cpu_i32_max_over(const td_call *call) { return reduce(call, i32_max_item); }
