/* norm.c - RMS norm (Zhang and Sennrich 2019) and layer norm over the last axis, with their
 * gradients.
 *
 *     rms:    r = 1 / sqrt(mean(x^2) + eps);             y = x r w
 *     layer:  r = 1 / sqrt(mean((x - mean)^2) + eps);    y = (x - mean) r w + b
 *
 * Rows may be anywhere as long as each is contiguous, which accepts_rows (module.c) checks.
 * Gradients of weight and bias are sums over all rows: fixed chunks of rows are summed by one task
 * each, and the chunks are added in order. Elements beyond the end of a row are loaded as 0, which
 * adds nothing.
 */
#include "cpu.h"
#include "kernels.h"

enum { CHUNKS = 32, ROWS = 16 }; /* most chunks, and fewest rows per chunk */

typedef struct norm_job {
    td_cpu_rows  x, y, dy, dx, mean, rstd;
    const float *w, *b;
    float       *dw, *db;
    float       *partial; /* [chunks][dw, db][n] */
    float       *rooms;   /* for each thread three rows, if some are bf16 */
    int64_t      n, rows, rows_per_item, items;
    float        eps;
    bool         layer;
} norm_job;

static int64_t rows_per_chunk(int64_t rows) { return td_cpu_max(ROWS, td_cpu_ceil(rows, CHUNKS)); }

/* y = x r w; y NULL: only r is wanted. */
TD_CPU_INLINE void rms_any(float *y, const float *x, const float *w, int64_t n, float eps,
                           float *rstd)
{
    float r = 1.0f / sqrtf(td_vdot(x, x, n) / (float)n + eps);

    *rstd = r;
    for (int64_t i = 0; y && i < n; i += TD_LANES) {
        td_vf v = td_vload_n(x + i, n - i) * r;
        td_vstore_n(y + i, w ? v * td_vload_n(w + i, n - i) : v, n - i);
    }
}

/* The usual widths of heads, as constants: their loops unroll. */
TD_CPU_CLONES static void rms_row(float *y, const float *x, const float *w, int64_t n, float eps,
                                  float *rstd)
{
    if (n == 64)
        rms_any(y, x, w, 64, eps, rstd);
    else if (n == 128)
        rms_any(y, x, w, 128, eps, rstd);
    else
        rms_any(y, x, w, n, eps, rstd);
}

/* With a = dy w and h = x r: dx = r (a - h mean(a h)); dw += dy h. Everything is loaded twice: the
 * row is in the cache, while its h and a would not fit in registers. */
TD_CPU_INLINE void rms_grad_any(float *dx, const float *dy, const float *x, const float *w,
                                int64_t n, float r, float *dw)
{
    td_vf sum = { 0 };
    float k;

    for (int64_t i = 0; i < n; i += TD_LANES) {
        td_vf g = td_vload_n(dy + i, n - i), h = td_vload_n(x + i, n - i) * r, gh = g * h;
        sum += w ? gh * td_vload_n(w + i, n - i) : gh;
        if (dw)
            td_vstore_n(dw + i, td_vload_n(dw + i, n - i) + gh, n - i);
    }
    /* dx may be unwanted, where x is data */
    k = td_vsum(sum) / (float)n;
    for (int64_t i = 0; dx && i < n; i += TD_LANES) {
        td_vf g = td_vload_n(dy + i, n - i), h = td_vload_n(x + i, n - i) * r;
        td_vf a = w ? g * td_vload_n(w + i, n - i) : g;
        td_vstore_n(dx + i, (a - h * k) * r, n - i);
    }
}

TD_CPU_CLONES static void rms_grad_row(float *dx, const float *dy, const float *x, const float *w,
                                       int64_t n, float r, float *dw)
{
    if (n == 64)
        rms_grad_any(dx, dy, x, w, 64, r, dw);
    else if (n == 128)
        rms_grad_any(dx, dy, x, w, 128, r, dw);
    else
        rms_grad_any(dx, dy, x, w, n, r, dw);
}

TD_CPU_INLINE float sum_of(const float *x, int64_t n)
{
    td_vf sum = { 0 };
    for (int64_t i = 0; i < n; i += TD_LANES)
        sum += td_vload_n(x + i, n - i);
    return td_vsum(sum);
}

/* The variance from differences, in a second pass: mean(x^2) - mean^2 would cancel. The last lanes
 * are summed one by one, as (0 - mean)^2 of a missing element would count. */
TD_CPU_CLONES static void layer_row(float *y, const float *x, const norm_job *j, float *mean,
                                    float *rstd)
{
    int64_t n = j->n, i = 0;
    float   m = sum_of(x, n) / (float)n, square, r;
    td_vf   sum = { 0 };

    for (; i + TD_LANES <= n; i += TD_LANES)
        sum += (td_vload(x + i) - m) * (td_vload(x + i) - m);
    /* the rest of the row, then both statistics */
    for (square = td_vsum(sum); i < n; i++)
        square += (x[i] - m) * (x[i] - m);
    r = 1.0f / sqrtf(square / (float)n + j->eps);
    *mean = m;
    *rstd = r;
    for (i = 0; y && i < n; i += TD_LANES) {
        td_vf v = (td_vload_n(x + i, n - i) - m) * r;
        v = j->w ? v * td_vload_n(j->w + i, n - i) : v;
        td_vstore_n(y + i, j->b ? v + td_vload_n(j->b + i, n - i) : v, n - i);
    }
}

/* With a = dy w and h = (x - mean) r:  dx = r (a - mean(a) - h mean(a h));  dw += dy h;  db += dy.
 * Missing elements have a = 0. */
TD_CPU_CLONES static void layer_grad_row(float *dx, const float *dy, const float *x,
                                         const norm_job *j, float m, float r, float *dw, float *db)
{
    td_vf   sa = { 0 }, sah = { 0 };
    int64_t n = j->n;
    float   ka, kah;

    for (int64_t i = 0; i < n; i += TD_LANES) {
        td_vf g = td_vload_n(dy + i, n - i), h = (td_vload_n(x + i, n - i) - m) * r;
        td_vf a = j->w ? g * td_vload_n(j->w + i, n - i) : g;
        sa += a;
        sah += a * h;
        if (dw)
            td_vstore_n(dw + i, td_vload_n(dw + i, n - i) + g * h, n - i);
        if (db)
            td_vstore_n(db + i, td_vload_n(db + i, n - i) + g, n - i);
    }
    /* dx needs both means, so it takes a second pass */
    ka = td_vsum(sa) / (float)n;
    kah = td_vsum(sah) / (float)n;
    for (int64_t i = 0; dx && i < n; i += TD_LANES) {
        td_vf g = td_vload_n(dy + i, n - i), h = (td_vload_n(x + i, n - i) - m) * r;
        td_vf a = j->w ? g * td_vload_n(j->w + i, n - i) : g;
        td_vstore_n(dx + i, (a - ka - h * kah) * r, n - i);
    }
}

/* The rows of thread `thread`: x, then y or dx, then dy. */
static float *room_of(const norm_job *j, int thread, int row)
{
    return j->rooms ? j->rooms + (3 * thread + row) * j->n : NULL;
}

/* Where a kernel writes a row: to the row itself, or to `room`, from which `finish` rounds it. */
static float *target(const td_cpu_rows *r, float *row, float *room)
{
    return r->narrow && row ? room : row;
}

static void finish(const td_cpu_rows *r, float *row, const float *room, int64_t n)
{
    if (r->narrow && row)
        td_cpu_narrow((uint16_t *)(void *)row, 1, room, n);
}

/* A few rows, forward. */
static void forward_item(void *arg, int64_t item, int thread)
{
    const norm_job *j = arg;
    int64_t first = item * j->rows_per_item, end = td_cpu_min(j->rows, first + j->rows_per_item);
    td_cpu_cursor x = td_cpu_walk(&j->x, first), y = td_cpu_walk(&j->y, first);
    td_cpu_cursor mean = td_cpu_walk(&j->mean, first), rstd = td_cpu_walk(&j->rstd, first);

    /* statistics are kept only if they are read */
    for (int64_t i = first; i < end; i++) {
        float        m = 0, r;
        const float *from = td_cpu_row(&j->x, x.row, room_of(j, thread, 0), j->n);
        float       *to = target(&j->y, y.row, room_of(j, thread, 1));
        if (j->layer)
            layer_row(to, from, j, &m, &r);
        else
            rms_row(to, from, j->w, j->n, j->eps, &r);
        finish(&j->y, y.row, to, j->n);
        if (mean.row)
            *mean.row = m;
        if (rstd.row)
            *rstd.row = r;
        td_cpu_next(&j->x, &x);
        td_cpu_next(&j->y, &y);
        td_cpu_next(&j->mean, &mean);
        td_cpu_next(&j->rstd, &rstd);
    }
}

/* A chunk of rows, backward. */
static void backward_item(void *arg, int64_t item, int thread)
{
    const norm_job *j = arg;
    int64_t first = item * j->rows_per_item, end = td_cpu_min(j->rows, first + j->rows_per_item);
    float  *dw = j->dw ? j->partial + 2 * item * j->n : NULL;
    float  *db = j->db ? j->partial + (2 * item + 1) * j->n : NULL;
    td_cpu_cursor x = td_cpu_walk(&j->x, first), dy = td_cpu_walk(&j->dy, first),
                  dx = td_cpu_walk(&j->dx, first);
    td_cpu_cursor mean = td_cpu_walk(&j->mean, first), rstd = td_cpu_walk(&j->rstd, first);

    /* this task's own sums */
    if (dw)
        memset(dw, 0, (size_t)j->n * sizeof *dw);
    if (db)
        memset(db, 0, (size_t)j->n * sizeof *db);
    for (int64_t i = first; i < end; i++) {
        const float *from = td_cpu_row(&j->x, x.row, room_of(j, thread, 0), j->n);
        const float *grad = td_cpu_row(&j->dy, dy.row, room_of(j, thread, 2), j->n);
        float       *to = target(&j->dx, dx.row, room_of(j, thread, 1));
        if (j->layer)
            layer_grad_row(to, grad, from, j, *mean.row, *rstd.row, dw, db);
        else
            rms_grad_row(to, grad, from, j->w, j->n, *rstd.row, dw);
        finish(&j->dx, dx.row, to, j->n);
        td_cpu_next(&j->x, &x);
        td_cpu_next(&j->dy, &dy);
        td_cpu_next(&j->dx, &dx);
        td_cpu_next(&j->mean, &mean);
        td_cpu_next(&j->rstd, &rstd);
    }
}

enum { COLUMNS = 256 };

/* Add the chunks' sums in order, in double; a block of columns at a time, so that chunks are read
 * by whole cache lines. */
TD_CPU_CLONES static void add_partials(const norm_job *j, float *to, int which)
{
    for (int64_t k = 0; to && k < j->n; k += COLUMNS) {
        int64_t width = td_cpu_min(COLUMNS, j->n - k);
        double  sum[COLUMNS] = { 0 };
        for (int64_t i = 0; i < j->items; i++)
            for (int64_t c = 0; c < width; c++)
                sum[c] += (double)j->partial[(2 * i + which) * j->n + k + c];
        for (int64_t c = 0; c < width; c++)
            to[k + c] = (float)sum[c];
    }
}

/* Sets the numbers of rows and columns; false: there is nothing to do. */
static bool size(norm_job *j, const td_view *x)
{
    j->n = td_view_last(x);
    j->rows = j->n ? td_view_count(x) / j->n : 0;
    return j->rows > 0;
}

/* Three rows for each thread, where a call has some in bf16. */
static size_t rooms_bytes(const td_call *call, const td_view *x)
{
    bool narrow = call->out[0].dtype == TD_BF16;
    for (int i = 0; i < 2; i++)
        narrow |= call->in[i].dtype == TD_BF16;
    return narrow ? (size_t)(3 * call->services->threads * td_view_last(x)) * sizeof(float) : 0;
}

size_t td_cpu_norm_workspace(const td_call *call) { return rooms_bytes(call, &call->in[0]); }

static int forward(const td_call *call, norm_job *j)
{
    j->x = td_cpu_rows_of(&call->in[0]);
    j->y = td_cpu_rows_of(&call->out[0]);
    j->w = call->in[1].data;
    j->eps = (float)call->attrs->f[0];
    if (!size(j, &call->in[0]))
        return 0;
    j->rooms = call->workspace;
    j->rows_per_item = td_cpu_max(1, (1 << 14) / j->n);
    td_parallel(call->services, td_cpu_ceil(j->rows, j->rows_per_item), forward_item, j);
    return 0;
}

static int backward(const td_call *call, norm_job *j)
{
    j->dy = td_cpu_rows_of(&call->in[0]);
    j->x = td_cpu_rows_of(&call->in[1]);
    j->w = call->in[2].data;
    j->dx = td_cpu_rows_of(&call->out[0]);
    j->partial = call->workspace;
    /* by shape alone: how rows are cut decides the order of sums */
    size(j, &call->in[1]);
    j->rows_per_item = rows_per_chunk(j->rows);
    j->items = td_cpu_ceil(j->rows, j->rows_per_item);
    j->rooms = rooms_bytes(call, &call->in[1]) ? j->partial + 2 * j->items * j->n : NULL;
    td_parallel(call->services, j->items, backward_item, j);
    add_partials(j, j->dw, 0);
    add_partials(j, j->db, 1);
    return 0;
}

static float *output(const td_call *call, int i)
{
    return i < call->n_out ? call->out[i].data : NULL;
}

int td_cpu_rms_norm(const td_call *call)
{
    norm_job j = { .layer = false };
    if (output(call, 1))
        j.rstd = td_cpu_rows_of(&call->out[1]);
    return forward(call, &j);
}

int td_cpu_layer_norm(const td_call *call)
{
    norm_job j = { .layer = true, .b = call->in[2].data };
    if (output(call, 1))
        j.mean = td_cpu_rows_of(&call->out[1]);
    if (output(call, 2))
        j.rstd = td_cpu_rows_of(&call->out[2]);
    return forward(call, &j);
}

/* dy, x, w, rstd -> dx, dw */
int td_cpu_rms_norm_grad(const td_call *call)
{
    norm_job j = { .rstd = td_cpu_rows_of(&call->in[3]), .dw = output(call, 1) };
    return backward(call, &j);
}

/* dy, x, w, mean, rstd -> dx, dw, db */
int td_cpu_layer_norm_grad(const td_call *call)
{
    norm_job j = { .layer = true,
                   .mean = td_cpu_rows_of(&call->in[3]),
                   .rstd = td_cpu_rows_of(&call->in[4]),
                   .dw = output(call, 1),
                   .db = output(call, 2) };
    return backward(call, &j);
}

size_t td_cpu_norm_grad_workspace(const td_call *call)
{
    norm_job j = { 0 };
    if (!size(&j, &call->in[1]))
        return 0;
    return (size_t)(2 * td_cpu_ceil(j.rows, rows_per_chunk(j.rows)) * j.n) * sizeof(float) +
           rooms_bytes(call, &call->in[1]);
}
