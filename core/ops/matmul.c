/* matmul.c - matrix products, [..., M, K] x [..., K, N] -> [..., M, N].
 *
 * A transposed operand is a td_transpose, which the planner makes a view: kernels take strides, so
 * there is one op for all four cases. Input 2 is a summand that the product starts from; the
 * planner puts sums there.
 */
#include "define.h"

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    const td_tensor *x = in[0], *y = in[1];
    if (td_require(in, n, 1u << 2, error))
        return TD_EGRAPH;
    if (x->rank < 2 || x->rank != y->rank)
        return td_fail(error, TD_EGRAPH,
                       "the operands have ranks %d and %d; they must be equal, and at least 2",
                       x->rank, y->rank);
    if (!td_is_real(x) || x->dtype != y->dtype)
        return td_fail(error, TD_EGRAPH, "operands must be reals of one dtype");
    if (td_dim(x, -1) != td_dim(y, -2))
        return td_fail(error, TD_EGRAPH, "inner dims %lld and %lld differ",
                       (long long)td_dim(x, -1), (long long)td_dim(y, -2));
    out[0] = td_shape_of(x);
    /* leading dims broadcast: a batch may share one matrix */
    for (int k = 0; k < x->rank - 2; k++) {
        if (x->dim[k] != y->dim[k] && x->dim[k] != 1 && y->dim[k] != 1)
            return td_fail(error, TD_EGRAPH, "leading dims %lld and %lld differ (axis %d)",
                           (long long)x->dim[k], (long long)y->dim[k], k);
        out[0].dim[k] = x->dim[k] == 1 ? y->dim[k] : x->dim[k];
    }
    out[0].dim[x->rank - 1] = td_dim(y, -1);
    return 1;
}

/* dx = g y^T, dy = x^T g */
static void vjp(TD_VJP_PARAMETERS)
{
    td_tensor *g = grad_out[0];
    if (need[0])
        grad_in[0] = td_unbroadcast(td_matmul(g, td_transpose(in[1], -1, -2)), in[0]);
    if (need[1])
        grad_in[1] = td_unbroadcast(td_matmul(td_transpose(in[0], -1, -2), g), in[1]);
    if (n > 2 && need[2])
        grad_in[2] = g;
}

static void flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                  double pairs, td_flops *f)
{
    f->matmul = f->visible = 2.0 * (double)td_count(out[0]) * (double)td_dim(in[0], -1);
}

TD_DEFINE_OP(td_op_matmul, "matmul", 2, 3, "matrix product, plus an optional summand",
             .infer = infer, .vjp = vjp, .flops = flops, .accumulate_in = 3, .accumulate_out = 0);
