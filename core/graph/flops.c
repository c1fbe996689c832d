/* flops.c - what a graph computes, counted node by node: forward and backward, dense and
 * visible. */
#include <stdlib.h>
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

/* ---- the mask rule of an attention node, evaluated on a batch's own numbers ------------------ */

static const int32_t *numbers(const td_node *n, int k, const td_batch *b)
{
    const td_value *v = k < n->n_in ? n->in[k] : NULL;
    const td_array *a = v && v->node->kind == TD_NODE_INPUT && b ? td_batch_find(b, v->node->input)
                                                                 : NULL;
    return a && a->dtype == TD_I32 ? a->data : NULL;
}

typedef struct rule {
    const int32_t *q_segment, *k_segment, *q_input, *k_input, *q_index, *k_index;
    int64_t        rows, q, k, causal, window, self;
} rule;

/* False when a mask input is computed in the graph, so that the batch does not tell it. */
static bool find_rule(const td_node *n, const td_batch *b, rule *r)
{
    for (int i = TD_ATTEND_Q_SEGMENT; i <= TD_ATTEND_K_INDEX; i++)
        if (i < n->n_in && n->in[i] && !numbers(n, i, b))
            return false;
    *r = (rule){ numbers(n, TD_ATTEND_Q_SEGMENT, b),
                 numbers(n, TD_ATTEND_K_SEGMENT, b),
                 numbers(n, TD_ATTEND_Q_INPUT, b),
                 numbers(n, TD_ATTEND_K_INPUT, b),
                 numbers(n, TD_ATTEND_Q_INDEX, b),
                 numbers(n, TD_ATTEND_K_INDEX, b),
                 n->in[0]->t.dim[0],
                 n->in[0]->t.dim[2],
                 n->in[1]->t.dim[2],
                 n->attrs.i[0],
                 n->attrs.i[1],
                 n->attrs.i[2] };
    return true;
}

static bool sees(const rule *r, int64_t row, int64_t i, int64_t j)
{
    int64_t q = row * r->q + i, k = row * r->k + j;
    int64_t qi = r->q_index ? r->q_index[q] : i, kj = r->k_index ? r->k_index[k] : j;
    bool    both = r->q_input && r->q_input[q] && r->k_input[k];
    if (r->self && r->q_segment && r->q_segment[q] == 0)
        return qi == kj;
    if (r->q_segment && (r->q_segment[q] != r->k_segment[k] || r->q_segment[q] == 0))
        return false;
    if (r->causal && kj > qi && !both)
        return false;
    return r->window <= 0 || qi - kj < r->window;
}

double td_visible_pairs(const td_node *n, const td_batch *b)
{
    rule   r;
    double count = 0;
    if (!find_rule(n, b, &r) || !r.rows || !r.q || !r.k)
        return 1;
    for (int64_t row = 0; row < r.rows; row++)
        for (int64_t i = 0; i < r.q; i++)
            for (int64_t j = 0; j < r.k; j++)
                count += sees(&r, row, i, j);
    return count / ((double)r.rows * (double)r.q * (double)r.k);
}

/* ---- counting -------------------------------------------------------------------------------- */

typedef struct pairs_of {
    const td_node *node;
    double         pairs;
} pairs_of;

/* Layers share their masks: equal mask inputs are counted once. */
static double pairs(const td_node *n, const td_batch *b, pairs_of *known, int *count)
{
    if (!td_node_is(n, "attend") && !td_node_is(n, "attend_grad"))
        return 1;
    for (int i = 0; i < *count; i++) {
        bool same = !memcmp(known[i].node->attrs.i, n->attrs.i, 3 * sizeof(int64_t)) &&
                    known[i].node->in[0]->t.dim[2] == n->in[0]->t.dim[2] &&
                    known[i].node->in[1]->t.dim[2] == n->in[1]->t.dim[2];
        for (int k = TD_ATTEND_Q_SEGMENT; same && k <= TD_ATTEND_K_INDEX; k++)
            same = known[i].node->in[k] == n->in[k];
        if (same)
            return known[i].pairs;
    }
    if (*count == 64)
        return td_visible_pairs(n, b);
    known[*count] = (pairs_of){ n, td_visible_pairs(n, b) };
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
    for (int k = 0; k < n->n_out; k++)
        any |= used[k], out[k] = used[k] ? (td_tensor *)&n->out[k].t : NULL;
    if (!any)
        return;
    for (int k = 0; k < n->n_in; k++)
        in[k] = n->in[k] ? &n->in[k]->t : NULL;
    if (n->op->flops)
        n->op->flops(in, n->n_in, out, &n->attrs, share, &f);
    else
        f.elementwise = (double)td_count(&n->out[0].t);
    sum->matmul += f.matmul, sum->visible += f.visible, sum->elementwise += f.elementwise;
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
    free(all), free(forward);
}

/* ---- the mask as a picture ------------------------------------------------------------------- */

/* What could have been asked for. */
static int no_such_attention(const td_graph_full *g, const char *path, td_error *error)
{
    td_text     names = { 0 };
    const char *last = "";
    int         code;
    for (int32_t i = 0; i < g->n_nodes; i++)
        if (td_node_is(g->nodes[i], "attend") && strcmp(last, g->nodes[i]->path))
            td_text_print(&names, "%s%s", *last ? ", " : "", g->nodes[i]->path),
                last = g->nodes[i]->path;
    code = td_fail(error, TD_ECONFIG, "no attention is at '%s'; there are: %s", path,
                   td_text_get(&names));
    td_text_free(&names);
    return code;
}

int td_graph_dump_mask(const td_graph *graph, const td_batch *batch, const char *path, int64_t row,
                       td_text *out, td_error *error)
{
    const td_graph_full *g = td_full_of(graph);
    for (int32_t i = 0; i < g->n_nodes; i++) {
        const td_node *n = g->nodes[i];
        rule           r;
        if (!td_node_is(n, "attend") || strncmp(n->path, path, strlen(path)))
            continue;
        if (!find_rule(n, batch, &r))
            return td_fail(error, TD_EUNSUPPORTED,
                           "the mask of '%s' is computed in the graph, not given by the batch",
                           n->path);
        if (row < 0 || row >= r.rows)
            return td_fail(error, TD_ECONFIG, "row %lld of a batch of %lld", (long long)row,
                           (long long)r.rows);
        td_text_print(out, "%s: %lld queries (down) by %lld keys\n", n->path, (long long)r.q,
                      (long long)r.k);
        for (int64_t q = 0; q < r.q; q++, td_text_append(out, "\n", 1))
            for (int64_t k = 0; k < r.k; k++)
                td_text_append(out, sees(&r, row, q, k) ? "#" : ".", 1);
        return 0;
    }
    return no_such_attention(g, path, error);
}
