/* movement.c - full, iota, copy, pad, concat. */
#include "kernels.h"
#include "reference.h"

int td_ref_full(const td_call *call)
{
    td_ref_fill(&call->out[0], call->attrs->f[0]);
    return 0;
}

int td_ref_iota(const td_call *call)
{
    for (int64_t n = 0; n < td_ref_count(&call->out[0]); n++)
        td_ref_write(&call->out[0], n, (double)n);
    return 0;
}

/* The input may broadcast. */
int td_ref_copy(const td_call *call)
{
    const td_view *x = &call->in[0], *y = &call->out[0];
    int64_t        index[TD_MAX_RANK];

    for (int64_t n = 0; n < td_ref_count(y); n++) {
        td_ref_unravel(y, n, index);
        td_ref_put(y, td_ref_offset(y, index, y->rank),
                   td_ref_get(x, td_ref_offset(x, index, y->rank)));
    }
    return 0;
}

/* Copy x into y from `start` on along `axis`. */
static void put_part(const td_view *x, const td_view *y, int axis, int64_t start)
{
    td_view part = *y;
    part.dim[axis] = x->dim[axis];
    for (int64_t n = 0; n < td_ref_count(x); n++)
        td_ref_put(y, start * y->stride[axis] + td_ref_place(&part, n), td_ref_read(x, n));
}

/* i: the axis, zeros before, zeros after */
int td_ref_pad(const td_call *call)
{
    td_ref_fill(&call->out[0], 0);
    put_part(&call->in[0], &call->out[0], (int)call->attrs->i[0], call->attrs->i[1]);
    return 0;
}

int td_ref_concat(const td_call *call)
{
    int     axis = (int)call->attrs->i[0];
    int64_t start = 0;

    for (int k = 0; k < call->n_in; start += call->in[k].dim[axis], k++)
        put_part(&call->in[k], &call->out[0], axis, start);
    return 0;
}
