/* reduce.c - sum, max, cumsum, topk. NaN propagates. */
#include "kernels.h"
#include "reference.h"

/* The offset in y of the element that element n of x is reduced to: y has dims of 1 there. */
static int64_t target(const td_view *x, const td_view *y, int64_t n)
{
    int64_t index[TD_MAX_RANK];
    td_ref_unravel(x, n, index);
    return td_ref_offset(y, index, x->rank);
}

int td_ref_sum(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];

    td_ref_fill(y, 0);
    for (int64_t n = 0; n < td_ref_count(x); n++) {
        int64_t at = target(x, y, n);
        td_ref_put(y, at, td_ref_get(y, at) + td_ref_read(x, n));
    }
    return 0;
}

int td_ref_max(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];

    td_ref_fill(y, y->dtype == TD_I32 ? -2147483648.0 : -INFINITY);
    for (int64_t n = 0; n < td_ref_count(x); n++) {
        int64_t at = target(x, y, n);
        double  value = td_ref_read(x, n);
        if (value > td_ref_get(y, at) || isnan(value))
            td_ref_put(y, at, value);
    }
    return 0;
}

/* Forwards, or from the end with i[1]. */
int td_ref_cumsum(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];
    int            axis = (int)call->attrs->i[0];
    bool           reverse = call->attrs->i[1] != 0;
    int64_t        count = td_ref_count(x), index[TD_MAX_RANK];

    for (int64_t k = 0; k < count; k++) {
        int64_t n = reverse ? count - 1 - k : k, at = td_ref_place(y, n);
        double  before = 0;
        td_ref_unravel(x, n, index);
        /* add to the neighbour along the axis, which has been written before */
        if (index[axis] != (reverse ? x->dim[axis] - 1 : 0))
            before = td_ref_get(y, at + (reverse ? y->stride[axis] : -y->stride[axis]));
        td_ref_put(y, at, before + td_ref_read(x, n));
    }
    return 0;
}

/* Does entry i of the row rank before entry j: larger, or equal and further left? */
static bool before(const td_view *x, int64_t row, int64_t i, int64_t j)
{
    double p = td_ref_read(x, row + i), q = td_ref_read(x, row + j);
    return p > q || (p == q && i < j);
}

/* Values and places of the k largest of each row, ties from the left. */
int td_ref_topk(const td_call *call)
{
    const td_view *x = &call->in[0], *values = td_ref_out(call, 0), *places = td_ref_out(call, 1);
    int64_t        k = call->attrs->i[0], width = td_ref_last(x),
            rows = width ? td_ref_count(x) / width : 0;

    /* finds the k largest one by one: each time the best of those ranking after the previous one */
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0, last = -1; i < k; i++) {
            int64_t best = -1;
            for (int64_t j = 0; j < width; j++)
                if ((last < 0 || before(x, r * width, last, j)) &&
                    (best < 0 || before(x, r * width, j, best)))
                    best = j;
            last = best < 0 ? last : best; /* only NaN is left, which ranks before nothing */
            if (values)
                td_ref_write(values, r * k + i, td_ref_read(x, r * width + (last < 0 ? 0 : last)));
            if (places)
                td_ref_write(places, r * k + i, (double)(last < 0 ? 0 : last));
        }
    return 0;
}
