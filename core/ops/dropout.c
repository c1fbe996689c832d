/* dropout.c - dropout by counter-based random numbers. Paper: Srivastava et al., 2014.
 *
 * No mask is kept for the backward pass: which elements are dropped is a function of (seed, step,
 * example, place, element), so the gradient drops the same ones by evaluating the function again.
 * No primitive is random, so there is no lowering: every backend needs this kernel.
 */
#include "define.h"

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (a->f[0] < 0 || a->f[0] >= 1)
        return td_fail(error, TD_EGRAPH, "the rate %g is not in [0, 1)", a->f[0]);
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (!td_is_real(in[0]))
        return td_fail(error, TD_EGRAPH, "the input must be real, not i32");
    /* by example, not by row: the same elements are dropped however a batch is cut into
     * micro-batches */
    if (in[1]->dtype != TD_I32 || td_count(in[1]) != 1 || in[2]->dtype != TD_I32 ||
        in[2]->rank != 1 || in[2]->dim[0] != td_dim(in[0], 0))
        return td_fail(error, TD_EGRAPH,
                       "the step must be an i32 scalar, and the examples i32 [%lld]",
                       (long long)td_dim(in[0], 0));
    return td_infer_same(in, n, a, out, error);
}

/* The same elements of the gradient are dropped, the rest scaled alike. */
static void vjp(TD_VJP_PARAMETERS)
{
    td_tensor *inputs[] = { grad_out[0], in[1], in[2] };
    grad_in[0] = td_emit_("dropout", inputs, 3, a);
}

TD_DEFINE_OP(td_op_dropout, "dropout", 3, 3, "zero at random, scale the rest", .infer = infer,
             .vjp = vjp);
