/* grouped.c - products of rows with the matrix of their group: mixtures of experts, where each
 * token is multiplied by a few of many matrices (Gale et al., "MegaBlocks", 2022, without blocks).
 *
 * The two ops are each other's gradients. The lowering multiplies every row by every matrix: slow,
 * but it defines the result.
 */
#include "define.h"

static int check_groups(const td_tensor *group, int64_t rows, td_error *error)
{
    if (group->dtype != TD_I32 || group->rank != 1 || group->dim[0] != rows)
        return td_fail(error, TD_EGRAPH, "the groups must be i32 [%lld]: one for each row",
                       (long long)rows);
    return 0;
}

/* i32 [groups, n, 1]: 1 where row n is of the group */
static td_tensor *membership(td_tensor *group, int64_t groups)
{
    int64_t rows[] = { 1, group->dim[0], 1 }, numbers[] = { groups, 1, 1 };
    return td_equal(td_reshape(group, rows, 3),
                    td_reshape(td_iota(group->graph, TD_I32, groups), numbers, 3));
}

/* [n, k] -> [1, n, k], to broadcast over groups. */
static td_tensor *stacked(td_tensor *x)
{
    int64_t dims[] = { 1, x->dim[0], x->dim[1] };
    return td_reshape(x, dims, 3);
}

/* ---- a row by its matrix --------------------------------------------------------------------- */

static int infer_matmul(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    const td_tensor *x = in[0], *w = in[1];
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (x->rank != 2 || w->rank != 3 || !td_is_real(x) || x->dtype != w->dtype)
        return td_fail(error, TD_EGRAPH,
                       "operands must be reals of one dtype, [rows, K] and [groups, K, M]");
    /* transposed, the matrices are [groups, M, K]: the gradient needs no copy of them */
    if (x->dim[1] != w->dim[a->i[0] ? 2 : 1])
        return td_fail(error, TD_EGRAPH, "inner dims %lld and %lld differ", (long long)x->dim[1],
                       (long long)w->dim[a->i[0] ? 2 : 1]);
    out[0] = td_shape_of(x);
    out[0].dim[1] = w->dim[a->i[0] ? 1 : 2];
    return check_groups(in[2], x->dim[0], error) ? TD_EGRAPH : 1;
}

/* y_n = x_n w_g: dx_n = dy_n w_g^T, dw_g = sum x_n^T dy_n over the rows n of g. */
static void vjp_matmul(TD_VJP_PARAMETERS)
{
    td_tensor *g = grad_out[0];
    int64_t    groups = in[1]->dim[0];
    if (need[0])
        grad_in[0] = td_grouped_matmul(g, in[1], in[2], !a->i[0]);
    if (need[1])
        grad_in[1] = a->i[0] ? td_grouped_outer(g, in[0], in[2], groups)
                             : td_grouped_outer(in[0], g, in[2], groups);
}

/* Every row by every matrix; the products with other groups' matrices are left out of the sum by
 * `where`, since they may be infinite. A row of no group gets 0. */
static void lower_matmul(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                         const bool *used, td_tensor **out)
{
    td_tensor *w = a->i[0] ? td_transpose(in[1], 1, 2) : in[1], *y = td_matmul(stacked(in[0]), w);
    int64_t    dims[] = { in[0]->dim[0], w->dim[2] };
    y = td_where(membership(in[2], w->dim[0]), y, td_scalar(g, 0));
    out[0] = td_reshape(td_sum(y, 0), dims, 2);
}

/* Only the products with the rows' own matrices, whatever else a lowering computes. */
static void flops_matmul(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                         double pairs, td_flops *f)
{
    f->matmul = f->visible = 2.0 * (double)td_count(out[0]) * (double)in[0]->dim[1];
}

TD_DEFINE_OP(td_op_grouped_matmul, "grouped_matmul", 3, 3, "each row times the matrix of its group",
             .infer = infer_matmul, .vjp = vjp_matmul, .lower = lower_matmul,
             .flops = flops_matmul);

/* ---- a group's rows by its rows -------------------------------------------------------------- */

static int infer_outer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                       td_error *error)
{
    const td_tensor *x = in[0], *y = in[1];
    if (td_require(in, n, 1u << 3, error))
        return TD_EGRAPH;
    if (x->rank != 2 || y->rank != 2 || !td_is_real(x) || x->dtype != y->dtype)
        return td_fail(error, TD_EGRAPH, "operands must be reals of one dtype, of rank 2");
    if (x->dim[0] != y->dim[0])
        return td_fail(error, TD_EGRAPH, "the operands have %lld and %lld rows",
                       (long long)x->dim[0], (long long)y->dim[0]);
    /* not known from the operands: a group may have no rows */
    if (a->i[0] < 1)
        return td_fail(error, TD_EGRAPH, "the number of groups is %lld; it must be at least 1",
                       (long long)a->i[0]);
    out[0] = (td_shape){ x->dtype, 3, { a->i[0], x->dim[1], y->dim[1] } };
    return check_groups(in[2], x->dim[0], error) ? TD_EGRAPH : 1;
}

static void vjp_outer(TD_VJP_PARAMETERS)
{
    if (need[0])
        grad_in[0] = td_grouped_matmul(in[1], grad_out[0], in[2], true);
    if (need[1])
        grad_in[1] = td_grouped_matmul(in[0], grad_out[0], in[2], false);
    if (n > 3 && need[3])
        grad_in[3] = grad_out[0];
}

/* For each group all rows, with those of other groups set to 0. */
static void lower_outer(td_graph *g, td_tensor *const *in, int n, const td_attrs *a,
                        const bool *used, td_tensor **out)
{
    td_tensor *of = membership(in[2], a->i[0]), *zero = td_scalar(g, 0);
    td_tensor *x = td_where(of, stacked(in[0]), zero), *y = td_where(of, stacked(in[1]), zero);
    out[0] = td_matmul(td_transpose(x, 1, 2), y);
    if (n > 3 && in[3])
        out[0] = td_add(out[0], in[3]);
}

static void flops_outer(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                        double pairs, td_flops *f)
{
    f->matmul = f->visible = 2.0 * (double)td_count(in[0]) * (double)in[1]->dim[1];
}

TD_DEFINE_OP(td_op_grouped_outer, "grouped_outer", 3, 4, "for each group the sum of x^T y",
             .infer = infer_outer, .vjp = vjp_outer, .lower = lower_outer, .flops = flops_outer,
             .accumulate_in = 4, .accumulate_out = 0);
