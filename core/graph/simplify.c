/* simplify.c - algebra done while building: an op that would change nothing is not emitted.
 *
 * The identities hold for NaN and infinity too: x + 0 is not among them (it turns -0 into 0), nor
 * is x * 0. So plugins and gradients can be written without special cases for a scale of 1 or a
 * reshape to the same dims.
 */
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

/* Whether all elements of t are `value`, known while building. */
static bool is_full(const td_tensor *t, double value)
{
    const td_node *n = td_value_of(t)->node;
    return td_node_is(n, "full") && n->attrs.f[0] == value;
}

static bool is_shape(const td_tensor *t, const td_shape *s)
{
    return td_has_dims(t, s->dtype, s->rank, s->dim);
}

/* Of two movements in a row the first is dropped: fewer views, of which each may need a copy. */
static td_tensor *simplify_reshape(td_tensor *x, const td_shape *s)
{
    const td_node *n = td_value_of(x)->node;
    if (is_shape(x, s))
        return x;
    return td_node_is(n, "reshape") ? td_reshape(&n->in[0]->t, s->dim, s->rank) : NULL;
}

/* The gradient of a weight that was used transposed comes out as (a b)^T. As b^T a^T it is a
 * product in the weight's own layout, into which the planner can fold the sum over
 * micro-batches. Only for gradients: elsewhere the product itself may be wanted too, and would
 * be computed twice. */
static td_tensor *transposed_product(const td_graph_full *g, const td_node *n, const td_attrs *a,
                                     int rank)
{
    if (!g->backward || !n->backward || rank != 2 || a->i[0] != 1 || !td_node_is(n, "matmul"))
        return NULL;
    if ((n->n_in > 2 && n->in[2]) || td_written_since(n))
        return NULL;
    return td_matmul(td_transpose(&n->in[1]->t, 0, 1), td_transpose(&n->in[0]->t, 0, 1));
}

static td_tensor *simplify_permute(const td_graph_full *g, td_tensor *x, const td_attrs *a)
{
    const td_node *n = td_value_of(x)->node;
    int            order[TD_MAX_RANK];
    bool           identity = true;

    for (int k = 0; k < x->rank; k++)
        identity &= a->i[k] == k;
    if (identity)
        return x;
    if (!td_node_is(n, "permute"))
        return transposed_product(g, n, a, x->rank);
    /* a permutation of a permutation is one; often the identity, which the call below finds */
    for (int k = 0; k < x->rank; k++)
        order[k] = (int)n->attrs.i[a->i[k]];
    return td_permute(&n->in[0]->t, order);
}

/* The other factor, if one of them is all ones and does not broadcast the other. */
static td_tensor *simplify_mul(td_tensor *x, td_tensor *y, const td_shape *s)
{
    if (is_full(y, 1) && is_shape(x, s))
        return x;
    return is_full(x, 1) && is_shape(y, s) ? y : NULL;
}

/* Constants of reals are folded in double and rounded once. Integers are not: a kernel truncates
 * between the steps. */
static td_tensor *simplify_affine(td_tensor *x, const td_attrs *a)
{
    const td_node *n = td_value_of(x)->node;
    if (!td_node_is(n, "full") || x->dtype == TD_I32)
        return NULL;
    return td_full(x->graph, x->dtype, x->dim, x->rank, a->f[0] * n->attrs.f[0] + a->f[1]);
}

td_tensor *td_simplify(td_graph_full *g, const td_op *op, td_tensor *const *in, int n,
                       const td_attrs *a, const td_shape *s)
{
    const char *name = op->plugin.name;
    if (!strcmp(name, "reshape"))
        return simplify_reshape(in[0], s);
    if (!strcmp(name, "permute"))
        return simplify_permute(g, in[0], a);
    if (!strcmp(name, "mul"))
        return simplify_mul(in[0], in[1], s);
    if (!strcmp(name, "affine"))
        return simplify_affine(in[0], a);
    /* these return their input's dims only if they do nothing */
    if (!strcmp(name, "expand") || !strcmp(name, "slice") || !strcmp(name, "pad"))
        return is_shape(in[0], s) ? in[0] : NULL;
    return !strcmp(name, "concat") && n == 1 ? in[0] : NULL;
}
