/* reduce.c - ops along axes: sum, max, cumsum, topk.
 *
 * Reduced axes stay, with one entry: the result broadcasts against its input, and so does its
 * gradient.
 */
#include "define.h"

/* The axes of sum and max are a set, bit k for axis k. */
static int infer_reduce(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    if (a->i[0] < 0 || a->i[0] >> in[0]->rank)
        return td_fail(error, TD_EGRAPH,
                       "a tensor of rank %d does not have all axes of the set 0x%llx", in[0]->rank,
                       (unsigned long long)a->i[0]);
    out[0] = td_shape_of(in[0]);
    for (int k = 0; k < in[0]->rank; k++)
        if (a->i[0] >> k & 1)
            out[0].dim[k] = 1;
    return 1;
}

/* One operation for each element read. */
static void flops_input(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                        double pairs, td_flops *f)
{
    f->elementwise = (double)td_count(in[0]);
}

static void vjp_sum(TD_VJP_PARAMETERS) { grad_in[0] = td_expand(grad_out[0], in[0]->dim); }

TD_DEFINE_OP(td_op_sum, "sum", 1, 1, "sum over axes, which remain as dims of 1",
             .infer = infer_reduce, .vjp = vjp_sum, .flops = flops_input);

/* To the first of the largest: where x equals the maximum and no earlier element does. */
static void vjp_max(TD_VJP_PARAMETERS)
{
    td_tensor *largest = td_equal(in[0], out[0]), *first;
    int        axis = 0;
    while (!(a->i[0] >> axis & 1))
        axis++;
    if (a->i[0] != (int64_t)1 << axis) {
        grad_in[0] = td_graph_fail(
            in[0]->graph, "max over several axes has no gradient: reduce one axis at a time");
        return;
    }
    /* the running count of largest elements is 1 at the first, and up to the next */
    first = td_mul(largest, td_equal(td_cumsum(largest, axis, false), td_scalar(in[0]->graph, 1)));
    grad_in[0] = td_mul(grad_out[0], first);
}

TD_DEFINE_OP(td_op_max, "max", 1, 1, "largest along an axis, which remains as a dim of 1",
             .infer = infer_reduce, .vjp = vjp_max, .flops = flops_input);

static int infer_cumsum(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    if (a->i[0] < 0 || a->i[0] >= in[0]->rank)
        return td_fail(error, TD_EGRAPH, "a tensor of rank %d has no axis %lld", in[0]->rank,
                       (long long)a->i[0]);
    return td_infer_same(in, n, a, out, error);
}

/* x[i] is in all sums from i on: their gradients are summed from the other end. */
static void vjp_cumsum(TD_VJP_PARAMETERS)
{
    grad_in[0] = td_cumsum(grad_out[0], (int)a->i[0], !a->i[1]);
}

TD_DEFINE_OP(td_op_cumsum, "cumsum", 1, 1, "running sum", .infer = infer_cumsum, .vjp = vjp_cumsum);

/* The values, and as output 1 their indices along the axis. */
static int infer_topk(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                      td_error *error)
{
    if (!in[0]->rank || a->i[0] < 1 || a->i[0] > td_dim(in[0], -1))
        return td_fail(error, TD_EGRAPH, "cannot take the %lld largest of %lld entries",
                       (long long)a->i[0], (long long)td_dim(in[0], -1));
    out[0] = td_shape_of(in[0]);
    out[0].dim[in[0]->rank - 1] = a->i[0];
    out[1] = out[0];
    out[1].dtype = TD_I32;
    return 2;
}

/* Each gradient goes back to where its value came from: a scatter over x laid out flat, whose ids
 * are row * width + index. */
static void vjp_topk(TD_VJP_PARAMETERS)
{
    td_graph *g = in[0]->graph;
    int64_t   width = td_dim(in[0], -1), rows = width ? td_count(in[0]) / width : 0,
            column[] = { rows, 1 };
    int64_t matrix[] = { rows, a->i[0] }, flat[] = { rows * a->i[0] };
    if (!grad_out[0])
        return;
    td_tensor *start = td_affine(td_reshape(td_iota(g, TD_I32, rows), column, 2), (double)width, 0);
    td_tensor *ids = td_reshape(td_add(td_reshape(out[1], matrix, 2), start), flat, 1);
    grad_in[0] = td_reshape(td_scatter_add(ids, td_reshape(grad_out[0], flat, 1), 0, rows * width),
                            in[0]->dim, in[0]->rank);
}

TD_DEFINE_OP(td_op_topk, "topk", 1, 1, "the k largest along the last axis, and their indices",
             .infer = infer_topk, .vjp = vjp_topk, .flops = flops_input);
