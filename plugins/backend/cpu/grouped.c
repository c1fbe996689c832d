/* grouped.c - products of rows with the matrices of their groups, for mixtures of experts. Rows
 * of a group are brought together, unless they are already, and each group is one product. */
#include "cpu.h"
#include "kernels.h"

/* The order of rows by group. Group g has places first[g] .. first[g + 1] - 1; rows of no group
 * come after the last. from[k] is the row at place k; NULL: row k, they are in order. */
typedef struct order {
    int64_t *first, *from;
    int64_t  rows, groups;
} order;

/* The workspace of an order. */
static size_t order_bytes(int64_t rows, int64_t groups)
{
    return td_cpu_align((size_t)(rows + groups + 2) * sizeof(int64_t));
}

/* The group of a row, or `groups` if it has none: padding. */
static int64_t place_of(int32_t group, int64_t groups)
{
    return group < 0 || group >= groups ? groups : group;
}

static bool sorted(const int32_t *group, int64_t n, int64_t groups)
{
    for (int64_t k = 1; k < n; k++)
        if (place_of(group[k], groups) < place_of(group[k - 1], groups))
            return false;
    return true;
}

/* A counting sort, which is stable: rows of a group stay in order, and so do the sums over them. */
static order order_of(const td_view *group, int64_t groups, void *workspace)
{
    const int32_t *g = group->data;
    order          o = { .first = workspace, .rows = group->dim[0], .groups = groups };

    memset(o.first, 0, (size_t)(groups + 2) * sizeof *o.first);
    for (int64_t n = 0; n < o.rows; n++)
        o.first[place_of(g[n], groups) + 1]++;
    for (int64_t k = 0; k <= groups; k++)
        o.first[k + 1] += o.first[k];
    if (sorted(g, o.rows, groups))
        return o;
    o.from = o.first + groups + 2;
    /* first[g] advances to the end of group g, which is where g + 1 began: shift them back after */
    for (int64_t n = 0; n < o.rows; n++)
        o.from[o.first[place_of(g[n], groups)]++] = n;
    for (int64_t k = groups; k > 0; k--)
        o.first[k] = o.first[k - 1];
    o.first[0] = 0;
    return o;
}

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct move {
    const order *order;
    const float *from;
    float       *to;
    int64_t      width, per_item;
    bool         back; /* from places to rows, not from rows to places */
} move;

static void move_item(void *arg, int64_t item, int thread)
{
    const move *m = arg;
    int64_t     end = td_cpu_min(m->order->rows, (item + 1) * m->per_item);
    for (int64_t k = item * m->per_item; k < end; k++) {
        int64_t n = m->order->from[k];
        memcpy(m->to + (m->back ? n : k) * m->width, m->from + (m->back ? k : n) * m->width,
               (size_t)m->width * sizeof(float));
    }
}

static void move_rows(const td_call *call, const order *o, const float *from, float *to,
                      int64_t width, bool back)
{
    move m = { o, from, to, width, td_cpu_max(1, (1 << 14) / td_cpu_max(1, width)), back };
    td_parallel(call->services, td_cpu_ceil(o->rows, m.per_item), move_item, &m);
}

/* The rows of input k in order: as they are, or copied to *workspace, which then advances. */
static const float *grouped(const td_call *call, int k, const order *o, float **workspace)
{
    float  *to = *workspace;
    int64_t width = call->in[k].dim[1];
    if (!o->from)
        return call->in[k].data;
    move_rows(call, o, call->in[k].data, to, width, false);
    *workspace += td_cpu_align((size_t)(o->rows * width) * sizeof *to) / sizeof *to;
    return to;
}

static size_t rows_bytes(const td_view *v)
{
    return td_cpu_align((size_t)td_view_count(v) * sizeof(float));
}

/* ---- kernels --------------------------------------------------------------------------------- */

size_t td_cpu_grouped_matmul_workspace(const td_call *call)
{
    return order_bytes(call->in[0].dim[0], call->in[1].dim[0]) + rows_bytes(&call->in[0]) +
           rows_bytes(&call->out[0]);
}

/* y_n = x_n W_g(n), or x_n W^T with i[0] */
int td_cpu_grouped_matmul(const td_call *call)
{
    const td_view *w = &call->in[1], *out = &call->out[0];
    int64_t        k = call->in[0].dim[1], n = out->dim[1];
    order          o = order_of(&call->in[2], w->dim[0], call->workspace);
    float         *room = (float *)((char *)call->workspace + order_bytes(o.rows, o.groups));
    const float   *x = grouped(call, 0, &o, &room);
    float         *y = o.from ? room : out->data;

    /* one group after another, each by all threads: groups may differ widely in size */
    for (int64_t g = 0; g < o.groups; g++) {
        const float  *weight = (const float *)w->data + g * k * n;
        td_cpu_matrix a = { .data = x + o.first[g] * k, .ld = k };
        td_cpu_matrix b = { .data = weight,
                            .ld = call->attrs->i[0] ? k : n,
                            .trans = call->attrs->i[0] != 0 };
        if (o.first[g + 1] > o.first[g])
            td_cpu_gemm(call->backend, a, b, o.first[g + 1] - o.first[g], n, k, 1, 0,
                        y + o.first[g] * n, n);
    }
    /* rows of no group */
    memset(y + o.first[o.groups] * n, 0, (size_t)((o.rows - o.first[o.groups]) * n) * sizeof *y);
    if (o.from)
        move_rows(call, &o, y, out->data, n, true);
    return 0;
}

size_t td_cpu_grouped_outer_workspace(const td_call *call)
{
    return order_bytes(call->in[0].dim[0], call->out[0].dim[0]) + rows_bytes(&call->in[0]) +
           rows_bytes(&call->in[1]);
}

/* out_g = sum of x_n^T y_n over the rows of group g (+ a summand): the gradient of W */
int td_cpu_grouped_outer(const td_call *call)
{
    const td_view *out = &call->out[0];
    const float   *sum = call->n_in > 3 ? call->in[3].data : NULL;
    int64_t        m = out->dim[1], n = out->dim[2];
    size_t         bytes = (size_t)td_view_count(out) * sizeof(float);
    order          o = order_of(&call->in[2], out->dim[0], call->workspace);
    float         *room = (float *)((char *)call->workspace + order_bytes(o.rows, o.groups));
    const float   *x = grouped(call, 0, &o, &room), *y = grouped(call, 1, &o, &room);

    /* groups without rows keep this */
    if (!sum)
        memset(out->data, 0, bytes);
    else if (sum != out->data)
        memcpy(out->data, sum, bytes);
    for (int64_t g = 0; g < o.groups; g++) {
        int64_t       first = o.first[g], rows = o.first[g + 1] - first;
        td_cpu_matrix a = { .data = x + first * m, .ld = m, .trans = true };
        td_cpu_matrix b = { .data = y + first * n, .ld = n };
        if (rows)
            td_cpu_gemm(call->backend, a, b, m, n, rows, 1, sum ? 1 : 0,
                        (float *)out->data + g * m * n, n);
    }
    return 0;
}
