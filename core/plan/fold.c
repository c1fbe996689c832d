/* fold.c - sums that a product can start from: y = x + a b is one call that begins with x.
 *
 * Residual connections and the accumulation of gradients over micro-batches have this form, so they
 * need no separate pass over memory. An op declares that it can start from a summand in its td_op:
 * accumulate_in and accumulate_out.
 */
#include <string.h>

#include "plan/internal.h"

static void note_writes(td_plan *p, const td_node *n)
{
    for (int k = 0; n->kind == TD_NODE_OP && k < n->n_out; k++) {
        const td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            td_plan_node(p, state)->written = n->index;
    }
}

/* The index of the node after which a value exists. Leaves exist from the start; what a state holds
 * now exists since it was last written to. */
static int32_t ready(td_plan *p, const td_value *v)
{
    const td_node *state = td_state_of(v);
    int32_t        computed = v->node->kind == TD_NODE_OP ? v->node->index : 0;
    int32_t        written = state ? td_plan_node(p, state)->written : 0;
    return written > computed ? written : computed;
}

/* Makes the product behind `v` start from `x`, if nothing else reads the values in between. */
static bool fold_into(td_plan *p, td_value *v, td_value *x)
{
    td_node      *n = v->node;
    td_node_plan *np = td_plan_node(p, n);

    /* another reader wants the product without the summand */
    if (n->kind != TD_NODE_OP || np->uses[v->slot] != 1)
        return false;
    /* the summand may be a reshaped product, or a sum that was folded before */
    if (td_node_is(n, "reshape") || (np->folded && np->alias[0]))
        return fold_into(p, np->folded ? np->alias[0] : n->in[0], x);
    /* the product runs in its own place in the order, which may be too early for x */
    if (!n->op->accumulate_in || v->slot != n->op->accumulate_out || ready(p, x) >= n->index)
        return false;
    if (n->op->accumulate_in <= n->n_in && n->in[n->op->accumulate_in - 1])
        return false;
    /* it already starts from a summand, which may itself be a product that can start from x */
    if (np->accumulate)
        return fold_into(p, np->accumulate, x);
    np->accumulate = x;
    return true;
}

/* No operand is broadcast: a product writes all of its output, so it needs all of the summand.
 * Integers have no products. */
static bool is_whole_sum(const td_node *n)
{
    const td_tensor *sum = &n->out[0].t;
    return sum->dtype != TD_I32 && td_has_dims(&n->in[0]->t, sum->dtype, sum->rank, sum->dim) &&
           td_has_dims(&n->in[1]->t, sum->dtype, sum->rank, sum->dim);
}

void td_plan_fold_sums(td_plan *p, int32_t count)
{
    for (int32_t i = 0; i < count && !p->error.code; i++) {
        td_node      *n = p->g->nodes[i];
        td_node_plan *np = td_plan_node(p, n);
        note_writes(p, n);
        /* x + x reads its operand twice, so no single use can be folded away */
        if (!np->live || !td_node_is(n, "add") || n->in[0] == n->in[1] || !is_whole_sum(n))
            continue;
        /* the second operand first: in `x + f(x)` it is the product, and x exists before it */
        for (int k = 1; k >= 0 && !np->folded; k--)
            if (fold_into(p, n->in[k], n->in[!k])) {
                np->folded = true;
                np->alias[0] = n->in[k];
            }
    }
}
