/* emit.c - add a node: find the op, check its inputs, infer its shapes, and avoid the node if there
 * is an equal one or a simpler way.
 *
 * Ops come from third-party modules too. Properties that the rest of the code relies on (shapes,
 * outputs that share an input's memory) are checked here, once, in the same way for every op.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "graph/internal.h"
#include "plugin/hook.h"
#include "tandem/ops.h"

/* The requested node. */
typedef struct request {
    const td_op      *op;
    td_tensor *const *in;
    int               n;
    const td_attrs   *attrs;
} request;

/* The registry searches files and may load a module; the map answers from the second time on. */
static const td_op *find_op(td_graph_full *g, const char *name)
{
    td_error     e = { 0 };
    const td_op *op = td_map_get(g->ops, name);
    if (op)
        return op;
    op = (const td_op *)(const void *)td_registry_find(g->registry, TD_OP_KIND, name, &e);
    /* if the map cannot take it, the registry is asked again */
    if (op)
        td_map_set(g->ops, name, (void *)(uintptr_t)op);
    else
        td_graph_refuse(&g->base, e.text);
    return op;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static td_tensor *refuse(td_graph_full *g, const request *r, const char *format, ...)
    TD_PRINTF(3, 4);

/* An error with the op's name in front. */
static td_tensor *refuse(td_graph_full *g, const request *r, const char *format, ...)
{
    char    text[sizeof((td_error *)0)->text];
    int     length = snprintf(text, sizeof text, "%.100s: ", r->op->plugin.name);
    va_list args;
    va_start(args, format);
    vsnprintf(text + length, sizeof text - (size_t)length, format, args);
    va_end(args);
    return td_graph_refuse(&g->base, text);
}

static td_tensor *refuse_count(td_graph_full *g, const request *r)
{
    int low = r->op->min_inputs, high = r->op->max_inputs;
    return low == high ? refuse(g, r, "takes %d inputs, not %d", low, r->n)
                       : refuse(g, r, "takes %d to %d inputs, not %d", low, high, r->n);
}

/* NULL if the inputs are valid, else the error tensor. */
static td_tensor *check_inputs(td_graph_full *g, const request *r)
{
    if (r->n < r->op->min_inputs || r->n > r->op->max_inputs)
        return refuse_count(g, r);
    for (int k = 0; k < r->n; k++) {
        /* a consequence of an earlier error: nothing new to report */
        if (r->in[k] && td_value_of(r->in[k])->node->kind == TD_NODE_ERROR)
            return &g->error_node->out[0].t;
        if (r->in[k] && r->in[k]->graph != &g->base)
            return refuse(g, r, "input %d is a tensor of another graph", k);
    }
    /* the op's infer hook decides which others may be missing, and may rely on this one */
    return r->op->min_inputs && !r->in[0] ? refuse(g, r, "input 0 is missing") : NULL;
}

/* Output k, if it is stored in the memory of an input, has that input's dims. */
static int check_inplace(const request *r, const td_shape *shape, int k, td_error *error)
{
    int              input = r->op->inplace[k] - 1;
    const td_tensor *state = input >= 0 && input < r->n ? r->in[input] : NULL;
    if (!state || td_has_dims(state, shape[k].dtype, shape[k].rank, shape[k].dim))
        return 0;
    return td_fail(error, TD_EGRAPH,
                   "output %d shares the memory of input %d, but its dims or dtype differ", k,
                   input);
}

/* A sum that starts from an input has that input's dims. */
static int check_summand(const request *r, const td_shape *shape, int n_out, td_error *error)
{
    int              input = r->op->accumulate_in - 1, sum = r->op->accumulate_out;
    const td_tensor *summand = input >= 0 && input < r->n ? r->in[input] : NULL;
    if (input >= 0 && (sum < 0 || sum >= n_out))
        return td_fail(error, TD_EGRAPH, "accumulate_out is %d, but there are %d outputs", sum,
                       n_out);
    if (!summand || td_has_dims(summand, shape[sum].dtype, shape[sum].rank, shape[sum].dim))
        return 0;
    return td_fail(error, TD_EGRAPH,
                   "the dims or dtype of the summand (input %d) differ from the sum's", input);
}

static int check_outputs(const request *r, const td_shape *shape, int n_out, td_error *error)
{
    if (n_out < 1 || n_out > TD_MAX_OUTPUTS)
        return td_fail(error, TD_EGRAPH, "has %d outputs; an op may have 1 to %d", n_out,
                       TD_MAX_OUTPUTS);
    for (int k = 0; k < n_out; k++) {
        td_error e = { 0 };
        if (td_check_shape(&shape[k], &e))
            return td_fail(error, TD_EGRAPH, "output %d: %s", k, e.text);
        if (check_inplace(r, shape, k, error))
            return TD_EGRAPH;
    }
    return check_summand(r, shape, n_out, error);
}

/* The number of outputs, and their shapes; negative after an error. */
static int infer(td_graph_full *g, const request *r, td_shape *shape)
{
    td_error e = { 0 };
    int      n_out = TD_HOOK_QUICK(r->op, infer, r->in, r->n, r->attrs, shape, &e);
    if (n_out >= 0 && !check_outputs(r, shape, n_out, &e))
        return n_out;
    refuse(g, r, "%s", e.code ? e.text : "its infer hook failed without a message");
    return -1;
}

/* ---- equal nodes ----------------------------------------------------------------------------- */

/* Pointers identify inputs, since equal nodes have been merged. They differ from run to run, but
 * the hash orders nothing, so no result depends on them. */
static uint64_t hash_of(const request *r)
{
    uint64_t             h = (uint64_t)(uintptr_t)r->op;
    const unsigned char *p = (const unsigned char *)r->attrs;
    for (int k = 0; k < r->n; k++)
        h = (h ^ (uint64_t)(uintptr_t)r->in[k]) * 0x9E3779B97F4A7C15u;
    for (size_t k = 0; k < sizeof *r->attrs; k += 8) {
        uint64_t word;
        memcpy(&word, p + k, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29; /* small integers differ in low bits only: bring the high ones down */
    }
    return h;
}

/* The hash is compared first: it is nearly always enough to tell nodes apart. */
static bool is_equal(const td_node *x, uint64_t hash, const request *r)
{
    if (x->hash != hash || x->op != r->op || x->n_in != r->n ||
        memcmp(&x->attrs, r->attrs, sizeof x->attrs))
        return false;
    for (int k = 0; k < r->n; k++)
        if (r->in[k] ? x->in[k] != td_value_of(r->in[k]) : x->in[k] != NULL)
            return false;
    return true;
}

/* An existing node that computes the same result. One whose state has been written to since does
 * not. */
static td_node *find_equal(td_graph_full *g, uint64_t hash, const request *r)
{
    for (td_node *x = g->bucket[hash % TD_BUCKETS]; x; x = x->next)
        if (is_equal(x, hash, r) && !td_written_since(x))
            return x;
    return NULL;
}

/* ---- the node -------------------------------------------------------------------------------- */

/* From here on these states hold the node's in-place outputs. */
static void note_writes(const td_node *n)
{
    for (int k = 0; k < n->n_out; k++) {
        td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            state->written = n->index;
    }
}

/* A node of the checked request, with the inferred shapes. */
static td_node *append(td_graph_full *g, const request *r, const td_shape *shape, int n_out)
{
    td_node *n = td_node_new(g, TD_NODE_OP, r->n, n_out);
    if (!n)
        return NULL;
    n->op = r->op;
    n->attrs = *r->attrs;
    for (int k = 0; k < r->n; k++) {
        n->in[k] = r->in[k] ? td_value_of(r->in[k]) : NULL;
        /* the order of nodes is an order of execution: all walks rely on it */
        assert(!n->in[k] || n->in[k]->node->index < n->index);
    }
    for (int k = 0; k < n_out; k++) {
        n->out[k].t.dtype = shape[k].dtype;
        n->out[k].t.rank = shape[k].rank;
        memcpy(n->out[k].t.dim, shape[k].dim, sizeof shape[k].dim);
    }
    note_writes(n);
    return n;
}

/* An equal node if there is one, else a new node. */
static td_node *find_or_append(td_graph_full *g, const request *r, const td_shape *shape, int n_out)
{
    uint64_t  hash = hash_of(r);
    td_node **bucket = &g->bucket[hash % TD_BUCKETS];
    /* effects are never merged: each emitted one happens */
    td_node  *n = r->op->flags & TD_OP_EFFECT ? NULL : find_equal(g, hash, r);
    if (n)
        return n;
    n = append(g, r, shape, n_out);
    if (!n)
        return NULL;
    n->hash = hash;
    n->next = *bucket;
    *bucket = n;
    return n;
}

td_tensor *td_graph_emit(td_graph *graph, const char *name, td_tensor *const *in, int n,
                         const td_attrs *attrs)
{
    static const td_attrs none;
    td_graph_full        *g = td_full_of(graph);
    request               r = { find_op(g, name), in, n, attrs ? attrs : &none };
    td_shape              shape[TD_MAX_OUTPUTS] = { { 0 } };
    td_tensor            *other = r.op ? check_inputs(g, &r) : &g->error_node->out[0].t;
    td_node              *node;
    int                   n_out;

    if (other)
        return other;
    n_out = infer(g, &r, shape);
    if (n_out < 0)
        return &g->error_node->out[0].t;
    /* recomputation and lowering need a new node, at the end of the list */
    other = g->unique ? NULL : td_simplify(g, r.op, in, n, r.attrs, shape);
    if (other)
        return other;
    node = g->unique ? append(g, &r, shape, n_out) : find_or_append(g, &r, shape, n_out);
    return node ? &node->out[0].t : td_graph_out_of_memory(g);
}

/* An error tensor returns itself for any output, so plugins need no checks. */
td_tensor *td_graph_output(td_tensor *first, int index)
{
    td_node *n = td_value_of(first)->node;
    char     text[200];
    if (n->kind == TD_NODE_ERROR)
        return first;
    if (index >= 0 && index < n->n_out)
        return &n->out[index].t;
    snprintf(text, sizeof text, "there is no output %d: the node has %d", index, n->n_out);
    return td_graph_refuse(first->graph, text);
}
