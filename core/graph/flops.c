/* flops.c - what a graph computes, counted node by node: forward and backward, dense and
 * visible; and once for all batches of a shape. */
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

/* ---- counting -------------------------------------------------------------------------------- */

typedef struct pairs_of {
    const td_node *node;
    double         pairs;
} pairs_of;

static bool has_mask(const td_node *n)
{
    return !strncmp(n->op->plugin.name, "attend", 6) && n->n_in > TD_ATTEND_K_INDEX;
}

/* Layers share their masks: equal ones are counted once. */
static double pairs(const td_node *n, const td_batch *b, pairs_of *known, int *count)
{
    if (!has_mask(n))
        return 1;
    for (int i = 0; i < *count; i++)
        if (td_same_mask(known[i].node, n))
            return known[i].pairs;
    if (*count == 64)
        return td_visible_pairs(n, b, NULL);
    known[*count] = (pairs_of){ n, td_visible_pairs(n, b, NULL) };
    return known[(*count)++].pairs;
}

static void find_used(const td_graph_full *g, td_tensor *const *roots, size_t n,
                      bool (*used)[TD_MAX_OUTPUTS], bool effects)
{
    for (size_t k = 0; k < n; k++)
        used[td_value_of(roots[k])->node->index][td_value_of(roots[k])->slot] = true;
    for (int32_t i = g->n_nodes - 1; i >= 0; i--) {
        const td_node *x = g->nodes[i];
        bool           live = effects && x->kind == TD_NODE_OP && x->op->flags & TD_OP_EFFECT;
        for (int k = 0; k < x->n_out; k++)
            live |= used[i][k];
        for (int k = 0; live && k < x->n_in; k++)
            if (x->in[k])
                used[x->in[k]->node->index][x->in[k]->slot] = true;
    }
}

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
    if (n->op->flops)
        n->op->flops(in, n->n_in, out, &n->attrs, share, &f);
    else
        f.elementwise = (double)td_count(&n->out[0].t);
    sum->matmul += f.matmul;
    sum->visible += f.visible;
    sum->elementwise += f.elementwise;
}

void td_graph_flops(const td_graph *graph, td_tensor *const *roots, size_t n, const td_batch *batch,
                    td_flops_phases *out)
{
    const td_graph_full *g = td_full_of(graph);
    bool(*all)[TD_MAX_OUTPUTS] = calloc((size_t)g->n_nodes + 1, sizeof *all);
    bool(*forward)[TD_MAX_OUTPUTS] = calloc((size_t)g->n_nodes + 1, sizeof *forward);
    pairs_of known[64];
    int      n_known = 0;

    memset(out, 0, sizeof *out);
    if (all && forward) {
        td_flops total = { 0, 0, 0 };
        size_t   first = 0;
        find_used(g, roots, n, all, true);
        while (first < n && !td_value_of(roots[first])->node->backward)
            first++;
        find_used(g, roots, first, forward, false);
        for (int32_t i = 0; i < g->n_nodes; i++) {
            const td_node *x = g->nodes[i];
            double         share;
            if (x->kind != TD_NODE_OP)
                continue;
            share = pairs(x, batch, known, &n_known);
            add_node(x, all[i], share, &total);
            if (!x->backward && !(x->op->flags & TD_OP_EFFECT))
                add_node(x, forward[i], share, &out->forward);
        }
        out->backward = (td_flops){ total.matmul - out->forward.matmul,
                                    total.visible - out->forward.visible,
                                    total.elementwise - out->forward.elementwise };
    }
    free(all);
    free(forward);
}

/* ---- once for all batches -------------------------------------------------------------------- */

struct td_masked {
    const td_node *node;   /* one that has the mask */
    double         scores; /* FLOPs of all that have it, if every pair is seen */
    int32_t       *room;   /* for what is computed of it */
};

static struct td_masked *masked(td_cost *c, const td_node *n)
{
    for (size_t k = 0; k < c->n_masks; k++)
        if (td_same_mask(c->masks[k].node, n))
            return &c->masks[k];
    c->masks[c->n_masks].node = n;
    return &c->masks[c->n_masks++];
}

/* Nothing is allocated in a training step. */
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
    bool(*used)[TD_MAX_OUTPUTS] = calloc((size_t)g->n_nodes + 1, sizeof *used);
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
        add_node(x, used[i], 1, &f);
        if (f.visible > 0)
            *(has_mask(x) ? &masked(out, x)->scores : &out->products) += f.visible;
    }
    free(used);
    return take_room(out, error);
}

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
