/* autograd.c - reverse-mode differentiation: each op's vjp emits ops of the same vocabulary.
 *
 * The gradients are nodes like any other, so a backend need not know about backward passes. The
 * nodes of the forward pass are walked from the loss back to the first one. Readers come later in
 * the list than what they read, so by the time the walk reaches a node, all gradients that flow
 * into it have been added up.
 *
 * With recompute, a marked layer keeps nothing but its inputs for the backward pass: its nodes are
 * emitted once more (their *twins*) before its gradients, which then read the twins. The planner
 * drops whatever is no longer read.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "plugin/hook.h"
#include "tandem/ops.h"

typedef struct walk {
    td_graph_full *g;
    int32_t        n;     /* nodes of the forward pass: those that exist before the walk */
    bool          *needs; /* by node: a requested gradient depends on it */
    td_tensor   ***grads; /* by node: a gradient for each output, or NULL */
} walk;

static bool is_differentiable(const td_value *v) { return v && v->t.dtype != TD_I32; }

/* An input is emitted before its reader, so one walk forward finds all that leads to `wrt`. */
static void find_needs(walk *w, td_tensor *const *wrt, size_t n_wrt)
{
    for (size_t k = 0; k < n_wrt; k++)
        w->needs[td_value_of(wrt[k])->node->index] = true;
    for (int32_t i = 0; i < w->n; i++) {
        const td_node *x = w->g->nodes[i];
        if (x->kind != TD_NODE_OP || !x->op->vjp)
            continue;
        for (int k = 0; k < x->n_in; k++)
            if (is_differentiable(x->in[k]) && w->needs[x->in[k]->node->index])
                w->needs[i] = true;
    }
}

static void add_gradient(walk *w, td_value *of, td_tensor *grad)
{
    td_tensor ***at = &w->grads[of->node->index];
    assert(of->node->index < w->n);
    if (!*at)
        *at = td_arena_alloc(w->g->arena, (size_t)of->node->n_out * sizeof **at);
    if (*at)
        (*at)[of->slot] = (*at)[of->slot] ? td_add((*at)[of->slot], grad) : grad;
    else
        td_graph_out_of_memory(w->g);
}

/* ---- recomputation --------------------------------------------------------------------------- */

static td_value *twin_of(td_value *v, int32_t region)
{
    return v && v->node->region == region && v->node->twin ? &v->node->twin->out[v->slot] : v;
}

static void recompute_node(walk *w, td_node *x)
{
    td_graph_full *g = w->g;
    td_tensor     *in[TD_MAX_INPUTS], *y;
    for (int k = 0; k < x->n_in; k++) {
        td_value *v = twin_of(x->in[k], x->region);
        in[k] = v ? &v->t : NULL;
    }
    y = td_graph_emit(&g->base, x->op->plugin.name, in, x->n_in, &x->attrs);
    if (td_value_of(y)->node->kind != TD_NODE_OP)
        return;
    x->twin = td_value_of(y)->node;
    x->twin->path = x->path;      /* errors and profiles name the place of the layer */
    assert(x->twin->region == 0); /* a twin is not recomputed in turn */
}

static void recompute(walk *w, int32_t region)
{
    w->g->unique = true; /* else each twin would be merged with its original */
    for (int32_t i = 0; i < w->n; i++) {
        td_node *x = w->g->nodes[i];
        if (x->region != region || x->kind != TD_NODE_OP || x->op->flags & TD_OP_EFFECT)
            continue;
        /* its inputs have changed since: a copy would compute a different value, so the original
         * is kept */
        if (!td_written_since(x))
            recompute_node(w, x);
    }
    w->g->unique = false;
}

/* ---- states ---------------------------------------------------------------------------------- */

/* A gradient reads tensors of the forward pass when it runs. A state among them must still hold
 * what the node `x` read. `from`: the first node of the gradient of `x`. */
static void check_states(td_graph_full *g, const td_node *x, int32_t from)
{
    if (!td_written_since(x))
        return;
    for (int32_t i = from; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i]->n_in; k++) {
            const td_value *v = g->nodes[i]->in[k];
            const td_node  *state = v ? td_state_of(v) : NULL;
            /* only states that the gradient itself reads matter: that of a sum reads none */
            if (state && state->written > x->index)
                td_graph_fail(&g->base,
                              "the gradient of '%s' needs the state '%s' as it was before it was "
                              "written to: emit the write after td_gradients",
                              x->op->plugin.name, state->variable->name);
        }
}

/* ---- the walk -------------------------------------------------------------------------------- */

static void refuse_gradient(td_graph_full *g, const td_node *x, int k, const td_tensor *grad)
{
    const td_tensor *of = &x->in[k]->t;
    td_text          is = { 0 }, should = { 0 };
    td_print_dims(&is, grad->dtype, grad->rank, grad->dim);
    td_print_dims(&should, of->dtype, of->rank, of->dim);
    td_graph_fail(&g->base,
                  "%s: the gradient of input %d is %s, but the input is %s: fix its vjp hook",
                  x->op->plugin.name, k, td_text_get(&is), td_text_get(&should));
    td_text_free(&is);
    td_text_free(&should);
}

/* Check what the vjp hook emitted, which may be third-party code, and add it to the inputs'
 * gradients. */
static void take_gradients(walk *w, td_node *x, const bool *need, td_tensor *const *grad_in)
{
    for (int k = 0; k < x->n_in && !w->g->error.code; k++) {
        const td_tensor *of = need[k] ? &x->in[k]->t : NULL;
        if (!of || !grad_in[k])
            continue;
        if (td_has_dims(grad_in[k], of->dtype, of->rank, of->dim))
            add_gradient(w, x->in[k], grad_in[k]);
        else
            refuse_gradient(w->g, x, k, grad_in[k]);
    }
}

static void differentiate(walk *w, td_node *x)
{
    bool       need[TD_MAX_INPUTS] = { false };
    bool       again = w->g->options.recompute && x->region;
    td_tensor *in[TD_MAX_INPUTS], *out[TD_MAX_OUTPUTS], *grad_in[TD_MAX_INPUTS] = { NULL };
    int32_t    from = w->g->n_nodes;

    for (int k = 0; k < x->n_in; k++) {
        td_value *v = again ? twin_of(x->in[k], x->region) : x->in[k];
        in[k] = v ? &v->t : NULL;
        need[k] = is_differentiable(x->in[k]) && w->needs[x->in[k]->node->index];
    }
    for (int k = 0; k < x->n_out; k++)
        out[k] = again ? &twin_of(&x->out[k], x->region)->t : &x->out[k].t;
    /* errors in the gradient should name the op's place in the model */
    w->g->scopes[w->g->depth].path = x->path;
    TD_HOOK_QUICK(x->op, vjp, in, x->n_in, out, w->grads[x->index], &x->attrs, need, grad_in);
    check_states(w->g, x, from);
    take_gradients(w, x, need, grad_in);
}

static void walk_back(walk *w, int32_t from)
{
    int32_t region = 0;
    for (int32_t i = from; i >= 0 && !w->g->error.code; i--) {
        td_node *x = w->g->nodes[i];
        if (x->kind != TD_NODE_OP || !w->needs[i] || !w->grads[i])
            continue;
        /* the walk enters a layer from its end: recompute it before its first gradient */
        if (w->g->options.recompute && x->region && x->region != region && !x->twin) {
            region = x->region;
            recompute(w, region);
        }
        differentiate(w, x);
    }
}

static void emit_gradients(walk *w, td_tensor *loss)
{
    td_graph_full *g = w->g;
    const char    *path = g->scopes[g->depth].path;
    g->backward = true;
    g->region = 0; /* gradients are in no layer, even if td_layer_end was forgotten */
    add_gradient(w, td_value_of(loss), td_full(&g->base, loss->dtype, loss->dim, loss->rank, 1));
    walk_back(w, td_value_of(loss)->node->index);
    g->backward = false;
    g->scopes[g->depth].path = path;
}

int td_gradients(td_graph *graph, td_tensor *loss, td_tensor *const *wrt, size_t n,
                 td_tensor **grads, td_error *error)
{
    td_graph_full *g = td_full_of(graph);
    walk           w = { g, g->n_nodes, NULL, NULL };

    if (td_graph_error(graph, error))
        return error ? error->code : TD_EGRAPH;
    if (td_count(loss) != 1)
        return td_fail(error, TD_EGRAPH,
                       "cannot differentiate a loss of %lld elements: sum it to a scalar first",
                       (long long)td_count(loss));
    w.needs = td_arena_alloc(g->arena, (size_t)w.n * sizeof *w.needs);
    w.grads = td_arena_alloc(g->arena, (size_t)w.n * sizeof *w.grads);
    if (!w.needs || !w.grads)
        return td_fail(error, TD_ENOMEM, "out of memory while differentiating");
    find_needs(&w, wrt, n);
    emit_gradients(&w, loss);
    /* NULL, not zeros, where nothing flows: the caller can skip all that would follow */
    for (size_t k = 0; k < n; k++) {
        const td_value *v = td_value_of(wrt[k]);
        grads[k] = w.grads[v->node->index] ? w.grads[v->node->index][v->slot] : NULL;
    }
    return td_graph_error(graph, error);
}
