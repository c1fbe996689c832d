/* create.c - ops that make tensors from nothing: full, iota. Their dtype is an attribute, resolved
 * by td_full and td_iota; emit checks it, and the dims, as it does for every op. */
#include "define.h"

static int infer_full(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                      td_error *error)
{
    if (a->i[0] < 0 || a->i[0] > TD_MAX_RANK)
        return td_fail(error, TD_EGRAPH, "rank %lld is not in 0 .. %d", (long long)a->i[0],
                       TD_MAX_RANK);
    out[0].dtype = (int32_t)a->i[9];
    out[0].rank = (int32_t)a->i[0];
    memcpy(out[0].dim, a->i + 1, (size_t)out[0].rank * sizeof *out[0].dim);
    return 1;
}

static int infer_iota(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                      td_error *error)
{
    out[0].dtype = (int32_t)a->i[9];
    out[0].rank = 1;
    out[0].dim[0] = a->i[0];
    return 1;
}

/* Filling memory is not arithmetic. */
static void no_flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                     double pairs, td_flops *f)
{
    memset(f, 0, sizeof *f);
}

TD_DEFINE_OP(td_op_full, "full", 0, 0, "a tensor filled with one value", .infer = infer_full,
             .flops = no_flops);
TD_DEFINE_OP(td_op_iota, "iota", 0, 0, "0, 1, .. n-1", .infer = infer_iota, .flops = no_flops);
