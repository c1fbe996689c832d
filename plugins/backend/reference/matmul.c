/* matmul.c - [.., M, K] x [.., K, N], plus a summand that may be the output's own memory. */
#include "kernels.h"
#include "reference.h"

int td_ref_matmul(const td_call *call)
{
    const td_view *a = &call->in[0], *b = &call->in[1], *acc = td_ref_in(call, 2),
                  *y = &call->out[0];
    int     rank = y->rank;
    int64_t inner = a->dim[rank - 1], index[TD_MAX_RANK];

    for (int64_t n = 0; n < td_ref_count(y); n++) {
        int64_t row, column, p, q;
        double  sum = acc ? td_ref_read(acc, n) : 0;
        td_ref_unravel(y, n, index);
        /* the batch part of the index broadcasts; row and column select a row of a and a column of
         * b */
        row = index[rank - 2];
        column = index[rank - 1];
        index[rank - 1] = 0;
        p = td_ref_offset(a, index, rank);
        index[rank - 2] = 0;
        index[rank - 1] = column;
        q = td_ref_offset(b, index, rank);
        for (int64_t k = 0; k < inner; k++)
            sum += td_ref_get(a, p + k * a->stride[rank - 1]) *
                   td_ref_get(b, q + k * b->stride[rank - 2]);
        index[rank - 2] = row;
        td_ref_put(y, td_ref_offset(y, index, rank), sum);
    }
    return 0;
}
