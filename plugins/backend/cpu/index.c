/* index.c - rows by number: gather, scatter_add; the largest of a row; running sums. */
#include "cpu.h"
#include "kernels.h"

/* Checked before anything is written, because an id comes from data and could address any
 * memory. */
static bool ids_fit(const int32_t *ids, int64_t n, int64_t rows)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= rows)
            return false;
    return true;
}

typedef struct rows_job {
    const int32_t *ids;
    const float   *from, *acc;
    float         *to;
    int64_t        n, width, rows, per_item;
    int64_t        bytes; /* of a row */
} rows_job;

static void gather_item(void *arg, int64_t item, int thread)
{
    const rows_job *j = arg;
    int64_t         end = td_cpu_min(j->n, (item + 1) * j->per_item);

    for (int64_t i = item * j->per_item; i < end; i++)
        memcpy((char *)j->to + i * j->bytes, (const char *)j->from + j->ids[i] * j->bytes,
               (size_t)j->bytes);
}

/* Row ids[i] of a table, for every i. */
int td_cpu_gather(const td_call *call)
{
    const td_view *table = &call->in[0], *ids = &call->in[1];
    int64_t        rows = table->dim[0], n = td_view_count(ids);
    rows_job       j = { .ids = ids->data, .from = table->data, .to = call->out[0].data, .n = n };

    j.width = rows ? td_view_count(table) / rows : 0;
    j.bytes = j.width * td_view_size(table);
    if (!ids_fit(j.ids, n, rows))
        return TD_EFORMAT;
    j.per_item = td_cpu_max(1, (1 << 14) / td_cpu_max(1, j.width));
    td_parallel(call->services, td_cpu_ceil(n, j.per_item), gather_item, &j);
    return 0;
}

TD_CPU_CLONES static void add_row(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

/* A task is a fixed range of the output's rows. It looks through all ids, so that rows with the
 * same id are added in their order, and no two tasks write the same row. */
static void scatter_item(void *arg, int64_t item, int thread)
{
    const rows_job *j = arg;
    int64_t         first = item * j->per_item, end = td_cpu_min(j->rows, first + j->per_item);
    size_t          bytes = (size_t)((end - first) * j->width) * 4;

    if (!j->acc)
        memset(j->to + first * j->width, 0, bytes);
    else if (j->acc != j->to)
        memcpy(j->to + first * j->width, j->acc + first * j->width, bytes);
    for (int64_t i = 0; i < j->n; i++)
        if (j->ids[i] >= first && j->ids[i] < end)
            add_row(j->to + j->ids[i] * j->width, j->from + i * j->width, j->width);
}

/* out[ids[i]] += rows[i], from zeros or an accumulator: the gradient of gather. */
int td_cpu_scatter_add(const td_call *call)
{
    const td_view *out = &call->out[0];
    rows_job       j = { .ids = call->in[0].data,
                         .from = call->in[1].data,
                         .acc = call->in[2].data,
                         .to = out->data,
                         .n = td_view_count(&call->in[0]),
                         .rows = call->attrs->i[0] };

    if (!ids_fit(j.ids, j.n, j.rows))
        return TD_EFORMAT;
    if (!j.rows)
        return 0;
    /* 16 ranges at most: each task reads all ids */
    j.width = td_view_count(out) / j.rows;
    j.per_item = td_cpu_max(1, td_cpu_ceil(j.rows, 16));
    td_parallel(call->services, td_cpu_ceil(j.rows, j.per_item), scatter_item, &j);
    return 0;
}

/* ---- topk ------------------------------------------------------------------------------------ */

typedef struct topk_job {
    const float *x;
    float       *values;
    int32_t     *indices;
    int64_t      k, n;
} topk_job;

/* Insertion sort into the k best so far. k is small, and most elements are rejected by one
 * comparison. Only a strictly larger element goes before another, so ties keep their order. */
static void topk_item(void *arg, int64_t row, int thread)
{
    const topk_job *j = arg;
    const float    *x = j->x + row * j->n;
    int32_t        *best = j->indices + row * j->k;
    int64_t         have = 0;

    /* `at` starts after the last one kept, which is dropped if there are k already */
    for (int64_t i = 0; i < j->n; i++) {
        int64_t at = have < j->k ? have++ : j->k;
        if (at == j->k && !(x[i] > x[best[at - 1]]))
            continue;
        for (at -= at == j->k; at > 0 && x[i] > x[best[at - 1]]; at--)
            best[at] = best[at - 1];
        best[at] = (int32_t)i;
    }
    for (int64_t i = 0; j->values && i < j->k; i++)
        j->values[row * j->k + i] = x[best[i]];
}

/* Space for the indices, in case only the values are wanted. */
size_t td_cpu_topk_workspace(const td_call *call)
{
    return (size_t)(td_view_count(&call->out[0])) * sizeof(int32_t);
}

int td_cpu_topk(const td_call *call)
{
    topk_job j = { .x = call->in[0].data,
                   .values = call->out[0].data,
                   .k = call->attrs->i[0],
                   .n = td_view_last(&call->in[0]) };

    j.indices = call->n_out > 1 && call->out[1].data ? call->out[1].data : call->workspace;
    if (j.k > 0 && j.n > 0)
        td_parallel(call->services, td_view_count(&call->in[0]) / j.n, topk_item, &j);
    return 0;
}

/* ---- cumsum ---------------------------------------------------------------------------------- */

typedef struct cumsum_job {
    const void *x;
    void       *y;
    int64_t     n, inner;
    bool        reverse, integer;
} cumsum_job;

/* One line along the axis. Reals are summed in double, integers wrap around. */
static void cumsum_item(void *arg, int64_t item, int thread)
{
    const cumsum_job *j = arg;
    int64_t           base = item / j->inner * j->n * j->inner + item % j->inner;
    double            sum = 0;
    uint32_t          whole = 0;

    /* a line's elements are `inner` apart */
    for (int64_t i = 0; i < j->n; i++) {
        int64_t at = base + (j->reverse ? j->n - 1 - i : i) * j->inner;
        if (j->integer) {
            whole += ((const uint32_t *)j->x)[at];
            ((int32_t *)j->y)[at] = (int32_t)whole;
        } else {
            sum += (double)((const float *)j->x)[at];
            ((float *)j->y)[at] = (float)sum;
        }
    }
}

int td_cpu_cumsum(const td_call *call)
{
    const td_view *x = &call->in[0];
    int            axis = (int)call->attrs->i[0];
    cumsum_job     j = { .x = x->data,
                         .y = call->out[0].data,
                         .n = x->dim[axis],
                         .inner = 1,
                         .reverse = call->attrs->i[1] != 0,
                         .integer = x->dtype == TD_I32 };

    /* the tensor is dense: [lines before][n][inner] */
    for (int a = axis + 1; a < x->rank; a++)
        j.inner *= x->dim[a];
    if (td_view_count(x))
        td_parallel(call->services, td_view_count(x) / j.n, cumsum_item, &j);
    return 0;
}
