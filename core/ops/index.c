/* index.c - ops on rows by number: gather, scatter_add; and assign, which keeps a value for the
 * next run.
 *
 * Ids are data, which no graph can check: a kernel refuses one that is out of range, and the run
 * reports it with the op's path.
 */
#include "define.h"

/* table [N, ...], ids [...] -> [ids..., ...] */
static int infer_gather(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    const td_tensor *table = in[0], *ids = in[1];
    if (td_require(in, n, 0, error))
        return TD_EGRAPH;
    if (ids->dtype != TD_I32)
        return td_fail(error, TD_EGRAPH, "ids must be i32");
    if (table->rank < 1 || ids->rank + table->rank - 1 > TD_MAX_RANK)
        return td_fail(error, TD_EGRAPH,
                       "cannot look up ids of rank %d in a table of rank %d: the result would have "
                       "rank %d",
                       ids->rank, table->rank, ids->rank + table->rank - 1);
    /* the dims of the ids, each of which becomes a row */
    out[0].dtype = table->dtype;
    out[0].rank = ids->rank + table->rank - 1;
    memcpy(out[0].dim, ids->dim, (size_t)ids->rank * sizeof *ids->dim);
    memcpy(out[0].dim + ids->rank, table->dim + 1, (size_t)(table->rank - 1) * sizeof *ids->dim);
    return 1;
}

/* A row that several ids read collects all of their gradients. */
static void vjp_gather(TD_VJP_PARAMETERS)
{
    if (need[0])
        grad_in[0] = td_scatter_add(in[1], grad_out[0], 0, in[0]->dim[0]);
}

/* It only moves rows. td_graph_lookups counts them for papers that treat an embedding as a product
 * with a one-hot matrix. */
static void flops_gather(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                         double pairs, td_flops *f)
{
    memset(f, 0, sizeof *f);
}

TD_DEFINE_OP(td_op_gather, "gather", 2, 2, "rows of a table by id", .infer = infer_gather,
             .vjp = vjp_gather, .flops = flops_gather);

/* ids [...], src [ids..., ...], acc [rows, ...] or NULL -> [rows, ...] */
static int infer_scatter(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                         td_error *error)
{
    const td_tensor *ids = in[0], *src = in[1];
    if (td_require(in, n, 1u << 2, error))
        return TD_EGRAPH;
    if (ids->dtype != TD_I32 || src->rank < ids->rank ||
        memcmp(ids->dim, src->dim, (size_t)ids->rank * sizeof *ids->dim))
        return td_fail(error, TD_EGRAPH,
                       "the source must begin with the dims of the ids, which must be i32");
    if (src->rank - ids->rank + 1 > TD_MAX_RANK)
        return td_fail(
            error, TD_EGRAPH,
            "cannot add a source of rank %d at ids of rank %d: the result would have rank "
            "%d",
            src->rank, ids->rank, src->rank - ids->rank + 1);
    /* the inverse of gather's: as many rows as the attribute says, of the source's last dims */
    out[0].dtype = src->dtype;
    out[0].rank = src->rank - ids->rank + 1;
    out[0].dim[0] = a->i[0];
    memcpy(out[0].dim + 1, src->dim + ids->rank,
           (size_t)(src->rank - ids->rank) * sizeof *src->dim);
    return 1;
}

/* Each source row was added to one row of the result, the summand to all of them. */
static void vjp_scatter(TD_VJP_PARAMETERS)
{
    if (need[1])
        grad_in[1] = td_gather(grad_out[0], in[0]);
    if (n > 2 && need[2])
        grad_in[2] = grad_out[0];
}

static void flops_scatter(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                          double pairs, td_flops *f)
{
    f->elementwise = (double)td_count(in[1]);
}

TD_DEFINE_OP(td_op_scatter_add, "scatter_add", 2, 3, "add rows to a table by id",
             .infer = infer_scatter, .vjp = vjp_scatter, .flops = flops_scatter, .accumulate_in = 3,
             .accumulate_out = 0);

static int infer_assign(td_tensor *const *in, int n, const td_attrs *a, td_shape *out,
                        td_error *error)
{
    char value[TD_DIMS_TEXT], state[TD_DIMS_TEXT];
    if (td_require(in, n, 1u << 2, error))
        return TD_EGRAPH;
    if (!td_is_alike(in[0], in[1]))
        return td_fail(error, TD_EGRAPH, "cannot assign %s to a state of %s",
                       td_dims_text(in[1], value), td_dims_text(in[0], state));
    if (n > 2 && in[2] && (td_count(in[2]) != 1 || in[2]->dtype != in[0]->dtype))
        return td_fail(error, TD_EGRAPH, "the gate must be a scalar of the state's dtype");
    return td_infer_same(in, n, a, out, error);
}

TD_DEFINE_OP(td_op_assign, "assign", 2, 3, "assign a value to a state", .flags = TD_OP_EFFECT,
             .infer = infer_assign, .inplace = { 1 });
