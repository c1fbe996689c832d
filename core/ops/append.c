/* append.c - appends new tokens to a buffer: the cache of generation. */
#include "define.h"

static int check_dims(const td_tensor *buffer, const td_tensor *x, int64_t axis, td_error *error)
{
    /* axis 0 counts rows */
    if (axis < 1 || axis >= buffer->rank)
        return td_fail(error, TD_EGRAPH, "axis %lld cannot count the tokens of a buffer of rank %d",
                       (long long)axis, buffer->rank);
    if (x->dtype != buffer->dtype || x->rank != buffer->rank)
        return td_fail(error, TD_EGRAPH,
                       "the rank or dtype of the new tokens differs from the buffer's");
    for (int a = 0; a < x->rank; a++)
        if (a != axis && x->dim[a] != buffer->dim[a])
            return td_fail(error, TD_EGRAPH,
                           "axis %d has %lld entries in the new tokens and %lld in the buffer", a,
                           (long long)x->dim[a], (long long)buffer->dim[a]);
    return x->dim[axis] <= buffer->dim[axis]
               ? 0
               : td_fail(error, TD_EGRAPH, "%lld new tokens do not fit into a buffer of %lld",
                         (long long)x->dim[axis], (long long)buffer->dim[axis]);
}

static int infer(td_tensor *const *in, int n, const td_attrs *a, td_shape *out, td_error *error)
{
    if (td_require(in, TD_APPEND_INPUTS, 0, error) ||
        check_dims(in[TD_APPEND_BUFFER], in[TD_APPEND_NEW], a->i[0], error))
        return TD_EGRAPH;
    for (int k = TD_APPEND_LENGTHS; k <= TD_APPEND_COUNTS; k++)
        if (in[k]->dtype != TD_I32 || in[k]->rank != 1 || in[k]->dim[0] != in[0]->dim[0])
            return td_fail(error, TD_EGRAPH, "input %d must be i32 [%lld], one number per row", k,
                           (long long)in[0]->dim[0]);
    out[0] = td_shape_of(in[TD_APPEND_BUFFER]);
    return 1;
}

/* ---- the lowering: the whole buffer is written, with old or new tokens in its slots ---------- */

static td_tensor *integer(td_graph *g, int64_t value)
{
    return td_full(g, TD_I32, 0, 0, (double)value);
}

/* x mod n for integers that are not negative; integers have no division, and reals divide them
 * exactly up to 2^24. */
static td_tensor *modulo(td_graph *g, td_tensor *x, int64_t n)
{
    td_tensor *times = td_floor(td_div(td_cast(x, TD_REAL), td_scalar(g, (double)n)));
    return td_sub(x, td_scale(td_cast(times, TD_I32), (double)n));
}

/* The index of the new token for each slot, i32 [B, slots]; none if it is outside 0 .. count -
 * 1. */
static td_tensor *token_of_slot(td_graph *g, td_tensor *lengths, int64_t slots, bool ring)
{
    int64_t    row[] = { 1, slots };
    td_tensor *slot = td_reshape(td_iota(g, TD_I32, slots), row, 2), *token;
    if (!ring)
        return td_sub(slot, lengths);
    token = td_sub(slot, modulo(g, lengths, slots));
    return td_where(td_less(token, integer(g, 0)), td_affine(token, 1, (double)slots), token);
}

/* Token `token` [B, slots] of each row of x, whose tokens are axis 1: [B, slots, ..] */
static td_tensor *pick(td_graph *g, td_tensor *x, td_tensor *token)
{
    int64_t    rows = x->dim[0], tokens = x->dim[1], column[] = { rows, 1 };
    int64_t    flat[TD_MAX_RANK] = { rows * tokens };
    td_tensor *first = td_scale(td_reshape(td_iota(g, TD_I32, rows), column, 2), (double)tokens);
    memcpy(flat + 1, x->dim + 2, (size_t)(x->rank - 2) * sizeof *flat);
    return td_gather(td_reshape(x, flat, x->rank - 1), td_add(token, first));
}

static void lower(td_graph *g, td_tensor *const *in, int n, const td_attrs *a, const bool *used,
                  td_tensor **out)
{
    td_tensor *buffer = in[TD_APPEND_BUFFER], *zero = integer(g, 0), *token, *is_new;
    int        axis = (int)a->i[0], front[TD_MAX_RANK] = { 0, axis }, back[TD_MAX_RANK] = { 0 };
    int64_t    rows = buffer->dim[0], slots = buffer->dim[axis], column[] = { rows, 1 };
    int64_t    mask[TD_MAX_RANK];

    token = token_of_slot(g, td_reshape(in[TD_APPEND_LENGTHS], column, 2), slots, a->i[1] != 0);
    is_new = td_mul(td_less(td_neg(token), integer(g, 1)),
                    td_less(token, td_reshape(in[TD_APPEND_COUNTS], column, 2)));

    /* the axis of tokens is moved next to that of rows, and back again */
    for (int k = 2; k < buffer->rank; k++)
        front[k] = k <= axis ? k - 1 : k;
    for (int k = 0; k < buffer->rank; k++) {
        back[front[k]] = k;
        mask[k] = k == 0 ? rows : k == axis ? slots : 1;
    }
    td_tensor *picked = pick(g, td_permute(in[TD_APPEND_NEW], front),
                             td_where(is_new, token, zero));
    out[0] = td_assign(buffer,
                       td_where(td_reshape(is_new, mask, buffer->rank), td_permute(picked, back),
                                buffer),
                       NULL);
}

/* Counts the tokens written, not the buffer's capacity. */
static void flops(td_tensor *const *in, int n, td_tensor *const *out, const td_attrs *a,
                  double pairs, td_flops *f)
{
    f->elementwise = (double)td_count(in[TD_APPEND_NEW]);
}

TD_DEFINE_OP(td_op_append, "append", TD_APPEND_INPUTS, TD_APPEND_INPUTS,
             "write new tokens after those in a buffer", .flags = TD_OP_EFFECT,
             .inplace = { 1 + TD_APPEND_BUFFER }, .infer = infer, .lower = lower, .flops = flops);
