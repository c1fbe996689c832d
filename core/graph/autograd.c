/* autograd.c - reverse-mode differentiation: each op's vjp emits ops of the same vocabulary. */
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

typedef struct walk {
    td_graph_full *g;
    int32_t        n;     /* nodes of the forward pass: those before the walk */
    bool          *needs; /* by node: a gradient is wanted of, or through, it */
    td_tensor   ***grads; /* by node: one per output, or NULL */
} walk;

static bool differentiable(const td_value *v) { return v && v->t.dtype != TD_I32; }

static void find_needs(walk *w, td_tensor *const *wrt, size_t n_wrt)
{
    for (size_t k = 0; k < n_wrt; k++)
        w->needs[td_value_of(wrt[k])->node->index] = true;
    for (int32_t i = 0; i < w->n; i++) {
        const td_node *x = w->g->nodes[i];
        if (x->kind != TD_NODE_OP || !x->op->vjp || x->twin)
            continue;
        for (int k = 0; k < x->n_in; k++)
            if (differentiable(x->in[k]) && w->needs[x->in[k]->node->index])
                w->needs[i] = true;
    }
}

static void add_gradient(walk *w, td_value *of, td_tensor *grad)
{
    td_tensor ***at = &w->grads[of->node->index];
    if (!*at)
        *at = td_arena_alloc(w->g->arena, (size_t)of->node->n_out * sizeof **at);
    if (*at)
        (*at)[of->slot] = (*at)[of->slot] ? td_add((*at)[of->slot], grad) : grad;
}

/* ---- recomputation: a marked layer's nodes are emitted once more, before its gradients ------- */

static td_value *twin_of(td_value *v, int32_t region)
{
    return v && v->node->region == region && v->node->twin ? &v->node->twin->out[v->slot] : v;
}

static void recompute(walk *w, int32_t region)
{
    td_graph_full *g = w->g;
    g->unique = true;
    for (int32_t i = 0; i < w->n; i++) {
        td_node   *x = g->nodes[i];
        td_tensor *in[TD_MAX_INPUTS], *out;
        if (x->region != region || x->kind != TD_NODE_OP || x->op->flags & TD_OP_EFFECT)
            continue;
        if (td_written_since(x)) /* would be another value now: the first one is kept */
            continue;
        for (int k = 0; k < x->n_in; k++) {
            td_value *v = twin_of(x->in[k], region);
            in[k] = v ? &v->t : NULL;
        }
        out = td_graph_emit(&g->base, x->op->plugin.name, in, x->n_in, &x->attrs);
        if (td_value_of(out)->node->kind == TD_NODE_OP) {
            x->twin = td_value_of(out)->node;
            x->twin->path = x->path;
            x->twin->region = 0;
        }
    }
    g->unique = false;
}

/* ---- states ---------------------------------------------------------------------------------- */

/* A gradient needs what the forward pass read: no state that was written to in between. `from`: the
 * first node of the gradient of `x`. */
static void check_states(td_graph_full *g, const td_node *x, int32_t from)
{
    if (!td_written_since(x))
        return;
    for (int32_t i = from; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i]->n_in; k++) {
            const td_value *v = g->nodes[i]->in[k];
            const td_node  *state = v ? td_state_of(v) : NULL;
            if (state && state->written > x->index)
                td_graph_fail(&g->base,
                              "the gradient of '%s' needs the state '%s' as it was before it was "
                              "written to: assign to it after the gradients",
                              x->op->plugin.name, state->variable->name);
        }
}

/* ---- the walk -------------------------------------------------------------------------------- */

static bool fits(const td_tensor *grad, const td_tensor *x)
{
    return td_has_dims(grad, x->dtype, x->rank, x->dim);
}

static void differentiate(walk *w, td_node *x)
{
    bool              need[TD_MAX_INPUTS] = { false }, again = w->g->options.recompute && x->region;
    td_tensor        *in[TD_MAX_INPUTS], *out[TD_MAX_OUTPUTS], *grad_in[TD_MAX_INPUTS] = { NULL };
    td_tensor *const *grad_out = w->grads[x->index];
    int32_t           from = w->g->n_nodes;

    for (int k = 0; k < x->n_in; k++) {
        td_value *v = again ? twin_of(x->in[k], x->region) : x->in[k];
        in[k] = v ? &v->t : NULL;
        need[k] = differentiable(x->in[k]) && w->needs[x->in[k]->node->index];
    }
    for (int k = 0; k < x->n_out; k++)
        out[k] = again ? &twin_of(&x->out[k], x->region)->t : &x->out[k].t;
    w->g->scopes[w->g->depth].path = x->path;
    x->op->vjp(in, x->n_in, out, grad_out, &x->attrs, need, grad_in);
    check_states(w->g, x, from);
    for (int k = 0; k < x->n_in && !w->g->error.code; k++)
        if (need[k] && grad_in[k] && fits(grad_in[k], &x->in[k]->t))
            add_gradient(w, x->in[k], grad_in[k]);
        else if (need[k] && grad_in[k])
            td_graph_fail(&w->g->base,
                          "%s: the gradient of input %d has other dims or another dtype than the "
                          "input",
                          x->op->plugin.name, k);
}

static void walk_back(walk *w, int32_t from)
{
    int32_t region = 0;
    for (int32_t i = from; i >= 0 && !w->g->error.code; i--) {
        td_node *x = w->g->nodes[i];
        if (x->kind != TD_NODE_OP || !w->needs[i] || !w->grads[i])
            continue;
        if (w->g->options.recompute && x->region && x->region != region && !x->twin)
            recompute(w, region = x->region);
        differentiate(w, x);
    }
}

int td_gradients(td_graph *graph, td_tensor *loss, td_tensor *const *wrt, size_t n,
                 td_tensor **grads, td_error *error)
{
    td_graph_full *g = td_full_of(graph);
    walk           w = { g, g->n_nodes, NULL, NULL };
    const char    *path = g->scopes[g->depth].path;

    if (td_graph_error(graph, error))
        return error ? error->code : TD_EGRAPH;
    if (td_count(loss) != 1)
        return td_fail(error, TD_EGRAPH,
                       "gradients are of a scalar loss; this one has %lld elements",
                       (long long)td_count(loss));
    w.needs = td_arena_alloc(g->arena, (size_t)w.n * sizeof *w.needs);
    w.grads = td_arena_alloc(g->arena, (size_t)w.n * sizeof *w.grads);
    if (!w.needs || !w.grads)
        return td_fail(error, TD_ENOMEM, "out of memory while differentiating");
    find_needs(&w, wrt, n);
    g->backward = true;
    g->region = 0;
    add_gradient(&w, td_value_of(loss), td_full(graph, loss->dtype, loss->dim, loss->rank, 1));
    walk_back(&w, td_value_of(loss)->node->index);
    g->backward = false;
    g->scopes[g->depth].path = path;
    for (size_t k = 0; k < n; k++) {
        const td_value *v = td_value_of(wrt[k]);
        grads[k] = w.grads[v->node->index] ? w.grads[v->node->index][v->slot] : NULL;
    }
    return td_graph_error(graph, error);
}
