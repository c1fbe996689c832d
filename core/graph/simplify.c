/* simplify.c - algebra done while building: what would change nothing is not emitted. */
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

/* All elements of t are `value`, known while building. */
static bool is_full(const td_tensor *t, double value)
{
    const td_node *n = td_value_of(t)->node;
    return td_node_is(n, "full") && n->attrs.f[0] == value;
}

static td_tensor *simplify_permute(td_graph_full *g, td_tensor *x, const td_attrs *a)
{
    const td_node *n = td_value_of(x)->node;
    int            order[TD_MAX_RANK], r = x->rank;
    bool           identity = true, swap = r == 2 && a->i[0] == 1;

    for (int k = 0; k < r; k++)
        identity &= a->i[k] == k;
    if (identity)
        return x;
    if (td_node_is(n, "permute")) { /* a permutation of a permutation is one */
        for (int k = 0; k < r; k++)
            order[k] = (int)n->attrs.i[a->i[k]];
        return td_permute(&n->in[0]->t, order);
    }
    /* The gradient of a transposed weight: (x y)^T = y^T x^T comes out in the weight's own
     * layout. */
    if (g->backward && swap && n->backward && td_node_is(n, "matmul") &&
        (n->n_in < 3 || !n->in[2]) && !td_written_since(n))
        return td_matmul(td_transpose(&n->in[1]->t, 0, 1), td_transpose(&n->in[0]->t, 0, 1));
    return NULL;
}

td_tensor *td_simplify(td_graph_full *g, const td_op *op, td_tensor *const *in, int n,
                       const td_attrs *a, const td_shape *s)
{
    const char *name = op->plugin.name;
    if (!strcmp(name, "reshape")) {
        const td_node *x = td_value_of(in[0])->node;
        if (td_has_dims(in[0], s->dtype, s->rank, s->dim))
            return in[0];
        return td_node_is(x, "reshape") ? td_reshape(&x->in[0]->t, s->dim, s->rank) : NULL;
    }
    if (!strcmp(name, "permute"))
        return simplify_permute(g, in[0], a);
    if (!strcmp(name, "expand") || (!strcmp(name, "slice")) || !strcmp(name, "pad"))
        return td_has_dims(in[0], s->dtype, s->rank, s->dim) ? in[0] : NULL;
    if (!strcmp(name, "concat"))
        return n == 1 ? in[0] : NULL;
    if (!strcmp(name, "mul")) {
        if (is_full(in[1], 1) && td_has_dims(in[0], s->dtype, s->rank, s->dim))
            return in[0];
        return is_full(in[0], 1) && td_has_dims(in[1], s->dtype, s->rank, s->dim) ? in[1] : NULL;
    }
    if (!strcmp(name, "affine") && td_node_is(td_value_of(in[0])->node, "full") &&
        in[0]->dtype != TD_I32)
        return td_full(&g->base, in[0]->dtype, in[0]->dim, in[0]->rank,
                       a->f[0] * td_value_of(in[0])->node->attrs.f[0] + a->f[1]);
    return NULL;
}
