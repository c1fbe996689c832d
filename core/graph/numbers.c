/* numbers.c - integers of the graph that follow from a batch and constants alone: masks that are
 * computed there. */
#include "graph/internal.h"

static int64_t clamp_row(int64_t index, int64_t dim) { return dim == 1 ? 0 : index; }

/* Coordinates of a flat index. */
static void unravel(const td_tensor *t, int64_t flat, int64_t at[TD_MAX_RANK])
{
    for (int k = t->rank - 1; k >= 0; k--) {
        at[k] = t->dim[k] ? flat % t->dim[k] : 0;
        flat = t->dim[k] ? flat / t->dim[k] : 0;
    }
}

static int64_t ravel(const td_tensor *t, const int64_t at[TD_MAX_RANK])
{
    int64_t flat = 0;
    for (int k = 0; k < t->rank; k++)
        flat = flat * t->dim[k] + clamp_row(at[k], t->dim[k]);
    return flat;
}

/* The element of input `k` that broadcasts to coordinates of the output. */
static bool operand(const td_node *n, int k, const int64_t at[TD_MAX_RANK], const td_batch *b,
                    double *out)
{
    const td_tensor *x = &n->in[k]->t;
    int              skip = n->out[0].t.rank - x->rank;
    return skip >= 0 && td_number_at(n->in[k], ravel(x, at + skip), b, out);
}

static bool from_concat(const td_node *n, int64_t at[TD_MAX_RANK], const td_batch *b, double *out)
{
    int64_t axis = n->attrs.i[0];
    for (int k = 0; k < n->n_in; k++) {
        const td_tensor *x = &n->in[k]->t;
        if (at[axis] < x->dim[axis])
            return td_number_at(n->in[k], ravel(x, at), b, out);
        at[axis] -= x->dim[axis];
    }
    return false;
}

static bool from_op(const td_node *n, int64_t flat, const td_batch *b, double *out)
{
    const td_attrs *a = &n->attrs;
    int64_t         at[TD_MAX_RANK] = { 0 };
    double          y;
    unravel(&n->out[0].t, flat, at);
    if (td_node_is(n, "full")) {
        *out = a->f[0];
        return true;
    }
    if (td_node_is(n, "iota")) {
        *out = (double)flat;
        return true;
    }
    if (td_node_is(n, "reshape") || td_node_is(n, "cast"))
        return td_number_at(n->in[0], flat, b, out);
    if (td_node_is(n, "expand"))
        return operand(n, 0, at, b, out);
    if (td_node_is(n, "concat"))
        return from_concat(n, at, b, out);
    if (td_node_is(n, "slice")) {
        at[a->i[0]] += a->i[1];
        return td_number_at(n->in[0], ravel(&n->in[0]->t, at), b, out);
    }
    if (td_node_is(n, "affine") && operand(n, 0, at, b, out)) {
        *out = a->f[0] * *out + a->f[1];
        return true;
    }
    if (td_node_is(n, "add") && operand(n, 0, at, b, out) && operand(n, 1, at, b, &y)) {
        *out += y;
        return true;
    }
    return td_node_is(n, "sub") && operand(n, 0, at, b, out) && operand(n, 1, at, b, &y) &&
           (*out -= y, true);
}

bool td_number_at(const td_value *v, int64_t flat, const td_batch *b, double *out)
{
    const td_node *n = v->node;
    if (n->kind == TD_NODE_INPUT) {
        const td_array *a = b ? td_batch_find(b, n->input) : NULL;
        bool            there = a && a->data && a->dtype == TD_I32;
        *out = there ? ((const int32_t *)a->data)[flat] : 0;
        return there;
    }
    if (n->kind == TD_NODE_CONSTANT) {
        *out = n->values[flat];
        return true;
    }
    return n->kind == TD_NODE_OP && !v->slot && from_op(n, flat, b, out);
}
