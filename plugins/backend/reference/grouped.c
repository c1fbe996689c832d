/* grouped.c - products of rows with the matrices of their groups, row by row. A row of no group has
 * the product 0. */
#include "kernels.h"
#include "reference.h"

/* The group of row n, or -1 if it is outside 0 .. groups - 1: none. */
static int64_t group_of(const td_view *group, int64_t n, int64_t groups)
{
    double g = td_ref_read(group, n);
    return g >= 0 && g < (double)groups ? (int64_t)g : -1;
}

/* y_n = x_n W_g(n), or x_n W_g(n)^T with i[0] */
int td_ref_grouped_matmul(const td_call *call)
{
    const td_view *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    bool           transposed = call->attrs->i[0] != 0;
    int64_t        inner = x->dim[1], width = y->dim[1];

    /* g < 0 leaves the sum at 0 */
    for (int64_t n = 0; n < y->dim[0]; n++) {
        int64_t g = group_of(&call->in[2], n, w->dim[0]);
        for (int64_t m = 0; m < width; m++) {
            double sum = 0;
            for (int64_t k = 0; k < inner && g >= 0; k++)
                sum += td_ref_read(x, n * inner + k) *
                       td_ref_read(w, g * inner * width +
                                          (transposed ? m * inner + k : k * width + m));
            td_ref_write(y, n * width + m, sum);
        }
    }
    return 0;
}

/* out_g = sum of x_n^T y_n over the rows of group g (+ a summand) */
int td_ref_grouped_outer(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->in[1], *out = &call->out[0];
    int64_t        rows = out->dim[1], columns = out->dim[2];

    /* k runs through the matrix of a row's outer product */
    td_ref_start(td_ref_in(call, 3), out);
    for (int64_t n = 0; n < x->dim[0]; n++) {
        int64_t g = group_of(&call->in[2], n, out->dim[0]);
        for (int64_t k = 0; k < rows * columns && g >= 0; k++)
            td_ref_add_to(out, g * rows * columns + k,
                          td_ref_read(x, n * rows + k / columns) *
                              td_ref_read(y, n * columns + k % columns));
    }
    return 0;
}
