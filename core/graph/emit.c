/* emit.c - one more node: the op is found, its inputs are checked, equal nodes are merged. */
#include <stdio.h>
#include <string.h>

#include "graph/internal.h"
#include "tandem/ops.h"

static const td_op *find_op(td_graph_full *g, const char *name)
{
    td_error     e = { 0 };
    const td_op *op = td_map_get(g->ops, name);
    if (op)
        return op;
    op = (const td_op *)(const void *)td_registry_find(g->registry, TD_OP_KIND, name, &e);
    if (op)
        td_map_set(g->ops, name, (void *)(uintptr_t)op);
    else
        td_graph_refuse(&g->base, e.text);
    return op;
}

static uint64_t hash_of(const td_op *op, td_tensor *const *in, int n, const td_attrs *a)
{
    uint64_t             h = (uint64_t)(uintptr_t)op;
    const unsigned char *p = (const unsigned char *)a;
    for (int k = 0; k < n; k++)
        h = (h ^ (uint64_t)(uintptr_t)in[k]) * 0x9E3779B97F4A7C15u;
    for (size_t k = 0; k < sizeof *a; k += 8) {
        uint64_t word;
        memcpy(&word, p + k, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h;
}

/* What the node writes in place is another state from here on. */
static void note_writes(const td_node *n)
{
    for (int k = 0; k < n->n_out; k++) {
        td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            state->written = n->index;
    }
}

/* An equal node that exists already: the same op on the same tensors, and on what states hold. */
static td_node *find_equal(td_graph_full *g, uint64_t hash, const td_op *op, td_tensor *const *in,
                           int n, const td_attrs *a)
{
    for (td_node *x = g->bucket[hash % TD_BUCKETS]; x; x = x->next) {
        bool same = x->hash == hash && x->op == op && x->n_in == n &&
                    !memcmp(&x->attrs, a, sizeof *a);
        for (int k = 0; same && k < n; k++)
            same = in[k] ? x->in[k] == td_value_of(in[k]) : !x->in[k];
        if (same && !td_written_since(x))
            return x;
    }
    return NULL;
}

/* A state is written to in its own dims, and a sum is made in those of its summand. */
static int check_shared(const td_op *op, td_tensor *const *in, int n, const td_shape *shape,
                        int n_out, td_error *error)
{
    const td_shape *sum;
    int             from = op->accumulate_in - 1;
    for (int k = 0; k < n_out; k++) {
        int state = op->inplace[k] - 1;
        if (state >= 0 && state < n && in[state] &&
            !td_has_dims(in[state], shape[k].dtype, shape[k].rank, shape[k].dim))
            return td_fail(error, TD_EGRAPH,
                           "output %d has other dims or another dtype than input %d, in whose "
                           "memory it is",
                           k, state);
    }
    if (from >= 0 && op->accumulate_out >= n_out)
        return td_fail(error, TD_EGRAPH, "there is no output %d to add to", op->accumulate_out);
    sum = &shape[from >= 0 ? op->accumulate_out : 0];
    if (from >= 0 && from < n && in[from] &&
        !td_has_dims(in[from], sum->dtype, sum->rank, sum->dim))
        return td_fail(error, TD_EGRAPH,
                       "the summand has other dims or another dtype than the sum");
    return 0;
}

static int infer(td_graph_full *g, const td_op *op, td_tensor *const *in, int n, const td_attrs *a,
                 td_shape *shape)
{
    td_error e = { 0 };
    char     text[2200];
    int      n_out = op->infer(in, n, a, shape, &e), code = n_out < 0 ? n_out : 0;
    if (!code && (n_out == 0 || n_out > TD_MAX_OUTPUTS))
        code = td_fail(&e, TD_EGRAPH, "has %d outputs; an op may have 1 to %d", n_out,
                       TD_MAX_OUTPUTS);
    for (int k = 0; !code && k < n_out; k++)
        code = td_check_shape(&shape[k], k, &e);
    if (!code)
        code = check_shared(op, in, n, shape, n_out, &e);
    if (!code)
        return n_out;
    snprintf(text, sizeof text, "%s: %s", op->plugin.name, e.code ? e.text : "refused");
    td_graph_refuse(&g->base, text);
    return -1;
}

/* The error tensor if an input is one or is missing; NULL if all is well. */
static td_tensor *bad_input(td_graph_full *g, const td_op *op, td_tensor *const *in, int n)
{
    char text[200];
    if (n < op->min_inputs || n > op->max_inputs) {
        snprintf(text, sizeof text, "%s takes %d to %d inputs, not %d", op->plugin.name,
                 op->min_inputs, op->max_inputs, n);
        return td_graph_refuse(&g->base, text);
    }
    for (int k = 0; k < n; k++) {
        if (in[k] && td_value_of(in[k])->node->kind == TD_NODE_ERROR)
            return &g->error_node->out[0].t;
        if (in[k] && in[k]->graph != &g->base)
            return td_graph_refuse(&g->base, "a tensor of another graph");
    }
    if (op->min_inputs && !in[0]) {
        snprintf(text, sizeof text, "%s: the first input is missing", op->plugin.name);
        return td_graph_refuse(&g->base, text);
    }
    return NULL;
}

td_tensor *td_graph_emit(td_graph *graph, const char *name, td_tensor *const *in, int n,
                         const td_attrs *attrs)
{
    td_graph_full  *g = td_full_of(graph);
    td_attrs        none = { { 0 }, { 0 } };
    const td_attrs *a = attrs ? attrs : &none;
    const td_op    *op = find_op(g, name);
    td_shape        shape[TD_MAX_OUTPUTS] = { { 0 } };
    td_tensor      *other = op ? bad_input(g, op, in, n) : &g->error_node->out[0].t;
    uint64_t        hash;
    td_node        *node;
    int             n_out;

    if (other)
        return other;
    n_out = infer(g, op, in, n, a, shape);
    if (n_out < 0)
        return &g->error_node->out[0].t;
    other = g->unique ? NULL : td_simplify(g, op, in, n, a, shape);
    if (other)
        return other;
    hash = hash_of(op, in, n, a);
    node = g->unique || op->flags & TD_OP_EFFECT ? NULL : find_equal(g, hash, op, in, n, a);
    if (node)
        return &node->out[0].t;
    node = td_node_new(g, TD_NODE_OP, n, n_out);
    if (!node)
        return td_graph_out_of_memory(g);
    node->op = op;
    node->attrs = *a;
    node->hash = hash;
    for (int k = 0; k < n; k++)
        node->in[k] = in[k] ? td_value_of(in[k]) : NULL;
    for (int k = 0; k < n_out; k++) {
        node->out[k].t.dtype = shape[k].dtype;
        node->out[k].t.rank = shape[k].rank;
        memcpy(node->out[k].t.dim, shape[k].dim, sizeof shape[k].dim);
    }
    note_writes(node);
    if (!g->unique) {
        node->next = g->bucket[hash % TD_BUCKETS];
        g->bucket[hash % TD_BUCKETS] = node;
    }
    return &node->out[0].t;
}

td_tensor *td_graph_output(td_tensor *first, int index)
{
    td_node *n = td_value_of(first)->node;
    if (n->kind == TD_NODE_ERROR)
        return first;
    return index >= 0 && index < n->n_out
               ? &n->out[index].t
               : td_graph_refuse(first->graph, "the op has no such output");
}
