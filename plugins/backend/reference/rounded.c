/* rounded.c - see rounded.h. */
#include "rounded.h"

#include "reference.h"

static bool is_rounded(const td_view *v) { return v->data && v->dtype == TD_BF16; }

/* The same dims in double, row-major at `data`. */
static td_view in_double(const td_view *v, double *data)
{
    td_view d = *v;
    int64_t stride = 1;
    d.dtype = TD_F64;
    d.data = data;
    for (int a = v->rank - 1; a >= 0; a--) {
        d.stride[a] = stride;
        stride *= v->dim[a];
    }
    return d;
}

size_t td_ref_rounded_workspace(const td_call *call)
{
    size_t bytes = 0;
    for (int k = 0; k < call->n_out; k++)
        if (is_rounded(&call->out[k]))
            bytes += (size_t)td_ref_count(&call->out[k]) * sizeof(double);
    return bytes;
}

int td_ref_rounded(const td_call *call, int (*kernel)(const td_call *))
{
    td_call exact = *call;
    double *at = call->workspace;
    int     code;

    for (int k = 0; k < call->n_out; k++)
        if (is_rounded(&call->out[k])) {
            exact.out[k] = in_double(&call->out[k], at);
            at += td_ref_count(&call->out[k]);
        }
    /* the kernel computes in double as ever, and each result is rounded once */
    code = kernel(&exact);
    for (int k = 0; k < call->n_out && !code; k++)
        for (int64_t n = 0; is_rounded(&call->out[k]) && n < td_ref_count(&call->out[k]); n++)
            td_ref_write(&call->out[k], n, td_ref_read(&exact.out[k], n));
    return code;
}
