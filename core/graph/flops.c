/* flops.c - the FLOPs of a graph, counted node by node: forward and backward, dense and visible.
 *
 * Two questions, one way of counting. td_graph_flops describes a graph on one batch, phase by
 * phase. td_graph_cost prepares a training run, which needs the FLOPs of each batch: all but the
 * masks is counted once, so a batch costs no more than a look at its masks.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "plugin/hook.h"
#include "tandem/ops.h"

/* ---- counting -------------------------------------------------------------------------------- */

typedef bool used_outputs[TD_MAX_OUTPUTS];

/* attend and attend_grad */
static bool has_mask(const td_node *n)
{
    return !strncmp(n->op->plugin.name, "attend", 6) && n->n_in > TD_ATTEND_K_INDEX;
}

/* Shares of visible pairs that are known for a batch. Layers share their masks, so a few entries
 * serve the whole model; one with more kinds of masks is only slower. */
typedef struct shares {
    const td_batch *batch;
    int             count;
    struct {
        const td_node *node;
        double         pairs;
    } at[64];
} shares;

/* Share of the pairs of tokens that the node's mask shows; 1 if it has none. */
static double visible_share(shares *s, const td_node *n)
{
    double pairs;
    if (!has_mask(n))
        return 1;
    /* counting pairs walks through the batch; comparing two masks does not */
    for (int i = 0; i < s->count; i++)
        if (td_same_mask(s->at[i].node, n))
            return s->at[i].pairs;
    pairs = td_visible_pairs(n, s->batch, NULL);
    if (s->count < (int)(sizeof s->at / sizeof *s->at)) {
        s->at[s->count].node = n;
        s->at[s->count++].pairs = pairs;
    }
    return pairs;
}

/* Finds the outputs that the roots need. With `effects`, values written to states are needed as
 * well. */
static void find_used(const td_graph_full *g, td_tensor *const *roots, size_t n, used_outputs *used,
                      bool effects)
{
    for (size_t k = 0; k < n; k++) {
        const td_value *root = td_value_of(roots[k]);
        assert(root->t.graph == &g->base);
        used[root->node->index][root->slot] = true;
    }
    for (int32_t i = g->n_nodes - 1; i >= 0; i--) {
        const td_node *x = g->nodes[i];
        /* backward along the list: readers come before their inputs */
        bool           live = effects && x->kind == TD_NODE_OP && x->op->flags & TD_OP_EFFECT;
        for (int k = 0; k < x->n_out; k++)
            live |= used[i][k];
        for (int k = 0; live && k < x->n_in; k++)
            if (x->in[k])
                used[x->in[k]->node->index][x->in[k]->slot] = true;
    }
}

/* Add the node's FLOPs, unless nothing needs it. `share`: of visible pairs. */
static void add_node(const td_node *n, const bool *used, double share, td_flops *sum)
{
    td_tensor *in[TD_MAX_INPUTS] = { NULL }, *out[TD_MAX_OUTPUTS] = { NULL };
    td_flops   f = { 0, 0, 0 };
    bool       any = n->op->flags & TD_OP_EFFECT;
    for (int k = 0; k < n->n_out; k++) {
        any |= used[k];
        out[k] = used[k] ? (td_tensor *)&n->out[k].t : NULL;
    }
    if (!any)
        return;
    for (int k = 0; k < n->n_in; k++)
        in[k] = n->in[k] ? &n->in[k]->t : NULL;
    /* unused outputs are NULL: an op that does not compute them counts less */
    if (n->op->flops)
        TD_HOOK_QUICK(n->op, flops, in, n->n_in, out, &n->attrs, share, &f);
    else
        f.elementwise = (double)td_count(&n->out[0].t);
    sum->matmul += f.matmul;
    sum->visible += f.visible;
    sum->elementwise += f.elementwise;
}

/* Forward FLOPs are those that the forward roots need; the rest is backward, recomputation
 * included. */
static void count(const td_graph_full *g, shares *s, used_outputs *all, used_outputs *forward,
                  td_flops_phases *out)
{
    td_flops total = { 0, 0, 0 };
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const td_node *n = g->nodes[i];
        double         share;
        if (n->kind != TD_NODE_OP)
            continue;
        share = visible_share(s, n);
        add_node(n, all[i], share, &total);
        /* an effect is part of the update, even if it was emitted early */
        if (!n->backward && !(n->op->flags & TD_OP_EFFECT))
            add_node(n, forward[i], share, &out->forward);
    }
    out->backward = (td_flops){ total.matmul - out->forward.matmul,
                                total.visible - out->forward.visible,
                                total.elementwise - out->forward.elementwise };
}

void td_graph_flops(const td_graph *graph, td_tensor *const *roots, size_t n, const td_batch *batch,
                    td_flops_phases *out)
{
    const td_graph_full *g = td_full_of(graph);
    used_outputs        *all = calloc((size_t)g->n_nodes + 1, sizeof *all);
    used_outputs        *forward = calloc((size_t)g->n_nodes + 1, sizeof *forward);
    shares               s = { .batch = batch };
    size_t               first = 0;

    memset(out, 0, sizeof *out);
    if (all && forward) {
        /* the caller lists forward roots first */
        while (first < n && !td_value_of(roots[first])->node->backward)
            first++;
        find_used(g, roots, n, all, true);
        find_used(g, roots, first, forward, false);
        count(g, &s, all, forward, out);
    }
    free(all);
    free(forward);
}

/* ---- once for all batches -------------------------------------------------------------------- */

struct td_masked {
    const td_node *node;   /* one of the nodes that have the mask */
    double         scores; /* FLOPs of all of them, if every pair were visible */
    int32_t       *room;   /* for integers that the graph computes; or NULL */
};

/* The entry of the node's mask, added if there is none yet. */
static struct td_masked *masked(td_cost *c, const td_node *n)
{
    for (size_t k = 0; k < c->n_masks; k++)
        if (td_same_mask(c->masks[k].node, n))
            return &c->masks[k];
    c->masks[c->n_masks].node = n;
    return &c->masks[c->n_masks++];
}

/* Space for masks that the graph computes, allocated here since a training step allocates
 * nothing. */
static int take_room(td_cost *c, td_error *error)
{
    for (size_t k = 0; k < c->n_masks; k++) {
        int64_t room = td_mask_room(c->masks[k].node);
        c->masks[k].room = room ? malloc((size_t)room * sizeof *c->masks[k].room) : NULL;
        if (room && !c->masks[k].room)
            return td_fail(error, TD_ENOMEM, "out of memory while counting FLOPs");
    }
    return 0;
}

int td_graph_cost(const td_graph *graph, td_tensor *const *roots, size_t n, td_cost *out,
                  td_error *error)
{
    const td_graph_full *g = td_full_of(graph);
    used_outputs        *used = calloc((size_t)g->n_nodes + 1, sizeof *used);
    *out = (td_cost){ .masks = calloc((size_t)g->n_nodes + 1, sizeof *out->masks) };
    if (!used || !out->masks) {
        free(used);
        return td_fail(error, TD_ENOMEM, "out of memory while counting FLOPs");
    }
    find_used(g, roots, n, used, true);
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const td_node *x = g->nodes[i];
        td_flops       f = { 0, 0, 0 };
        if (x->kind != TD_NODE_OP)
            continue;
        /* with all pairs visible; a batch's share is multiplied in later */
        add_node(x, used[i], 1, &f);
        if (f.visible > 0)
            *(has_mask(x) ? &masked(out, x)->scores : &out->products) += f.visible;
    }
    free(used);
    return take_room(out, error);
}

/* Called in every training step. */
double td_cost_of(const td_cost *c, const td_batch *batch)
{
    double flops = c->products;
    for (size_t k = 0; k < c->n_masks; k++)
        flops += c->masks[k].scores * td_visible_pairs(c->masks[k].node, batch, c->masks[k].room);
    return flops;
}

void td_cost_free(td_cost *c)
{
    for (size_t k = 0; k < c->n_masks; k++)
        free(c->masks[k].room);
    free(c->masks);
    *c = (td_cost){ 0 };
}
