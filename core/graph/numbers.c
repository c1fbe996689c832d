/* numbers.c - integers of the graph that follow from a batch and constants alone, computed on the
 * host: masks whose indices the graph computes.
 *
 * FLOPs count the pairs of tokens that a mask shows, before anything has run. So the mask's
 * integers are worked out here, element by element, through the few ops that masks are made of. If
 * any other op is in between, the answer is "unknown", never a guess.
 */
#include "graph/internal.h"

/* An axis of one entry is broadcast: every coordinate reads that entry. */
static int64_t broadcast(int64_t index, int64_t dim) { return dim == 1 ? 0 : index; }

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
        flat = flat * t->dim[k] + broadcast(at[k], t->dim[k]);
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

/* Elements of one op's output, from elements of its inputs. */
typedef bool element_of(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                        double *out);

static bool of_full(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                    double *out)
{
    *out = n->attrs.f[0];
    return true;
}

static bool of_iota(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                    double *out)
{
    *out = (double)flat;
    return true;
}

/* reshape and cast: the same element in memory order */
static bool of_same(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                    double *out)
{
    return td_number_at(n->in[0], flat, b, out);
}

static bool of_expand(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                      double *out)
{
    return operand(n, 0, at, b, out);
}

static bool of_concat(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                      double *out)
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

static bool of_slice(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                     double *out)
{
    at[n->attrs.i[0]] += n->attrs.i[1];
    return td_number_at(n->in[0], ravel(&n->in[0]->t, at), b, out);
}

static bool of_affine(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                      double *out)
{
    double x;
    if (!operand(n, 0, at, b, &x))
        return false;
    *out = n->attrs.f[0] * x + n->attrs.f[1];
    return true;
}

/* add and sub */
static bool of_sum(const td_node *n, int64_t flat, int64_t at[TD_MAX_RANK], const td_batch *b,
                   double *out)
{
    double x, y;
    if (!operand(n, 0, at, b, &x) || !operand(n, 1, at, b, &y))
        return false;
    *out = td_node_is(n, "add") ? x + y : x - y;
    return true;
}

/* The ops that masks use in practice: positions are counted, shifted and joined. Each op costs a
 * walk up the graph for every element; chains are short, and a mask is worked out once per
 * batch. */
static const struct {
    const char *op;
    element_of *element;
} rules[] = {
    { "full", of_full },   { "iota", of_iota },     { "reshape", of_same },
    { "cast", of_same },   { "expand", of_expand }, { "concat", of_concat },
    { "slice", of_slice }, { "affine", of_affine }, { "add", of_sum },
    { "sub", of_sum },
};

static bool from_op(const td_node *n, int64_t flat, const td_batch *b, double *out)
{
    int64_t at[TD_MAX_RANK] = { 0 };
    unravel(&n->out[0].t, flat, at);
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
        if (td_node_is(n, rules[k].op))
            return rules[k].element(n, flat, at, b, out);
    return false;
}

bool td_number_at(const td_value *v, int64_t flat, const td_batch *b, double *out)
{
    const td_node *n = v->node;
    if (n->kind == TD_NODE_INPUT) {
        const td_array *a = b ? td_batch_find(b, n->input) : NULL;
        bool            known = a && a->data && a->dtype == TD_I32;
        *out = known ? ((const int32_t *)a->data)[flat] : 0;
        return known;
    }
    if (n->kind == TD_NODE_CONSTANT) {
        *out = n->elements[flat];
        return true;
    }
    /* none of these ops has a second output */
    return n->kind == TD_NODE_OP && v->slot == 0 && from_op(n, flat, b, out);
}
