/* plan.c - from nodes to calls: which nodes are needed, and each of them as a view, a kernel call,
 * or simpler nodes.
 *
 * The order of emission is kept. It is an order of execution already, and the one that the author
 * of a graph sees: it decides which reads of a state come before a write to it, and which after.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "plan/internal.h"
#include "plugin/hook.h"
#include "tandem/ops.h"

/* ---- liveness -------------------------------------------------------------------------------- */

/* Counts readers as well: a sum can be folded into a product only if it has no second reader.
 * `wanted`: the dtype that the reader wants, or 0. */
static void make_live(td_plan *p, const td_node *n, int slot, int wanted)
{
    td_node_plan *np = td_plan_node(p, n);
    np->used[slot] = true;
    np->uses[slot]++;
    np->wide[slot] += wanted && wanted != TD_BF16;
    np->bf16[slot] += wanted == TD_BF16;
    np->live = true;
}

/* Finds which of the nodes [from, to) are needed by the outputs that make_live marked, or by
 * effects. An input is always emitted before its reader, so one walk back sees every reader
 * before what it reads. */
static void find_live(td_plan *p, int32_t from, int32_t to)
{
    for (int32_t i = to - 1; i >= from && !p->error.code; i--) {
        const td_node *n = p->g->nodes[i];
        td_node_plan  *np = td_plan_node(p, n);
        if (n->kind == TD_NODE_OP && n->op->flags & TD_OP_EFFECT)
            np->live = true;
        for (int k = 0; np->live && k < n->n_in; k++)
            if (n->in[k])
                make_live(p, n->in[k]->node, n->in[k]->slot, td_plan_wanted(p, n, k));
    }
}

/* ---- lowering -------------------------------------------------------------------------------- */

static void schedule(td_plan *p, td_node *n);

/* Kernels size their loops by the op's own dims, so a lowering that breaks them must stop here. */
static int check_lowered(td_plan *p, const td_node *n, td_tensor *const *out)
{
    const bool *used = td_plan_node(p, n)->used;
    for (int k = 0; k < n->n_out; k++) {
        const td_tensor *t = &n->out[k].t;
        /* a lowering may leave out outputs without a reader */
        if (used[k] && !out[k])
            return td_plan_refuse(p, TD_EGRAPH, n,
                                  "the lowering of '%s' does not compute output %d: set out[%d]",
                                  n->op->plugin.name, k, k);
        if (used[k] && !td_has_dims(out[k], t->dtype, t->rank, t->dim))
            return td_plan_refuse(p, TD_EGRAPH, n,
                                  "the lowering of '%s' computes output %d with dims or a dtype "
                                  "that differ from those of its infer hook",
                                  n->op->plugin.name, k);
    }
    return 0;
}

/* The inputs as the lowering sees them, a folded summand among them. */
static void lowered_inputs(td_plan *p, td_node *n, td_tensor **in)
{
    td_node_plan *np = td_plan_node(p, n);
    for (int k = 0; k < td_plan_n_inputs(n); k++) {
        td_value *v = td_plan_input(n, np, k);
        in[k] = v ? &td_plan_resolve(p, v)->t : NULL;
    }
    /* the sum may have been a reshape away from the product, whose dims the lowering expects */
    if (np->accumulate) {
        const td_tensor *product = &n->out[n->op->accumulate_out].t;
        td_tensor      **summand = &in[n->op->accumulate_in - 1];
        *summand = td_reshape(*summand, product->dim, product->rank);
    }
}

/* Emit simpler nodes at the end of the graph. They are neither simplified nor merged with equal
 * nodes, which may be dead, or run only after this node's readers. */
static void emit_lowering(td_plan *p, td_node *n, td_tensor **out)
{
    td_graph_full *g = p->g;
    td_tensor     *in[TD_MAX_INPUTS] = { NULL };
    const char    *path = g->scopes[g->depth].path;

    /* errors and profiles should name the node that is lowered */
    g->unique = true;
    g->backward = n->backward;
    g->scopes[g->depth].path = n->path;
    lowered_inputs(p, n, in);
    TD_HOOK_QUICK(n->op, lower, &g->base, in, td_plan_n_inputs(n), &n->attrs,
                  td_plan_node(p, n)->used, out);
    g->unique = false;
    g->backward = false;
    g->scopes[g->depth].path = path;
}

/* Ops that compute in the wide dtype do so when they are lowered, too. Products and movements are
 * made of products and movements. */
static bool is_wide_inside(td_plan *p, const td_node *n)
{
    int precision = td_precision_of(n->op->plugin.name)->precision;
    return td_plan_node(p, n)->inside || precision == TD_PRECISION_WIDE ||
           precision == TD_PRECISION_EITHER;
}

/* What all readers of an output want, or 0. */
static int wanted_of(const td_plan *p, const td_node_plan *np, int k)
{
    return np->uses[k] == np->wide[k]   ? p->g->options.real
           : np->uses[k] == np->bf16[k] ? TD_BF16
                                        : 0;
}

/* Simpler nodes in the node's place: scheduled here, although they were emitted last. */
static void lower(td_plan *p, td_node *n)
{
    td_tensor          *out[TD_MAX_OUTPUTS] = { NULL };
    const td_node_plan *np = td_plan_node(p, n);
    int32_t             from = p->g->n_nodes, to;

    emit_lowering(p, n, out);
    if (td_graph_error(&p->g->base, &p->error) || check_lowered(p, n, out))
        return;
    for (int k = 0; k < n->n_out; k++)
        if (np->used[k]) {
            td_plan_node(p, n)->alias[k] = td_value_of(out[k]);
            make_live(p, td_value_of(out[k])->node, td_value_of(out[k])->slot, wanted_of(p, np, k));
        }
    /* scheduling a composite among them lowers it in turn, and appends to the graph */
    to = p->g->n_nodes;
    for (int32_t i = from; i < to; i++)
        td_plan_node(p, p->g->nodes[i])->inside = is_wide_inside(p, n);
    find_live(p, from, to);
    for (int32_t i = from; i < to && !p->error.code; i++)
        if (td_plan_node(p, p->g->nodes[i])->live)
            schedule(p, p->g->nodes[i]);
}

/* ---- one node -------------------------------------------------------------------------------- */

/* reshape, permute, expand, slice, detach: another window of the input's storage. */
static void take_view(td_plan *p, td_node *n)
{
    td_node_plan    *np = td_plan_node(p, n);
    td_place         from = td_plan_place_of(p, n->in[0], n), to = from;
    const td_tensor *t = &n->out[0].t;

    if (td_node_is(n, "reshape"))
        to = td_plan_place_as(p, &from, t, n);
    else if (td_node_is(n, "permute"))
        for (int k = 0; k < t->rank; k++) {
            to.view.dim[k] = t->dim[k];
            to.view.stride[k] = from.view.stride[n->attrs.i[k]];
        }
    else if (td_node_is(n, "expand")) {
        /* a stride of 0 reads the single entry repeatedly */
        for (int k = 0; k < t->rank; k++) {
            to.view.stride[k] = t->dim[k] == from.view.dim[k] ? from.view.stride[k] : 0;
            to.view.dim[k] = t->dim[k];
        }
    } else if (td_node_is(n, "slice")) {
        to.offset += n->attrs.i[1] * from.view.stride[n->attrs.i[0]];
        to.view.dim[n->attrs.i[0]] = n->attrs.i[2];
    }
    np->place[0] = to;
    np->placed[0] = true;
    np->copied = p->n_calls;
}

/* A kernel may refuse the call; then the next is asked. */
static bool call_kernel(td_plan *p, td_node *n, int dtype)
{
    const td_kernel *kernel = NULL;
    while ((kernel = td_plan_kernel_of(p, n, dtype, kernel)) != NULL)
        if (td_plan_call(p, n, kernel))
            return true;
    return false;
}

/* In bf16 where the rules say so and there is a kernel; else in the wide dtype, to which operands
 * are cast. A state in bf16 cannot be cast: it is written where it is. */
static bool call(td_plan *p, td_node *n)
{
    td_node_plan *np = td_plan_node(p, n);
    np->narrow = td_plan_is_narrow(p, n);
    if (np->narrow && call_kernel(p, n, TD_BF16))
        return true;
    np->narrow = false;
    return !td_plan_writes_narrow(p, n) && call_kernel(p, n, td_plan_kernel_dtype(n));
}

static void schedule(td_plan *p, td_node *n)
{
    if (n->kind != TD_NODE_OP || td_plan_node(p, n)->folded || p->error.code)
        return;
    if (n->op->flags & TD_OP_VIEW) {
        take_view(p, n);
        return;
    }
    /* a kernel first: lowering brings back what fused ops avoid storing */
    if (call(p, n))
        return;
    if (n->op->lower)
        lower(p, n);
    else
        td_plan_refuse(p, TD_EUNSUPPORTED, n,
                       "op '%s' has no kernel for %s on backend '%s', and no lowering",
                       n->op->plugin.name,
                       td_dtype_name(td_plan_writes_narrow(p, n) ? TD_BF16
                                                                 : td_plan_kernel_dtype(n)),
                       p->device.backend->plugin.name);
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Roots are read after the run, as dense arrays: nothing may reuse their storage. */
static void place_roots(td_plan *p)
{
    for (size_t k = 0; k < p->n_roots && !p->error.code; k++) {
        td_place place = td_plan_place_of(p, td_value_of(p->root_tensors[k]), NULL);
        if (place.view.dtype != p->root_tensors[k]->dtype)
            place = td_plan_cast(p, &place, p->root_tensors[k]->dtype, NULL);
        if (!td_view_is_dense(&place.view))
            place = td_plan_copy(p, &place, NULL);
        p->roots[k] = place;
        p->storages[place.storage].last = INT32_MAX;
    }
}

/* A plan without nodes; NULL: out of memory. */
static td_plan *empty_plan(td_graph *graph, td_tensor *const *roots, size_t n,
                           const td_device *device)
{
    td_plan *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    /* td_plan_free reads the device */
    p->g = td_full_of(graph);
    p->device = *device;
    p->records = td_arena_new();
    p->n_roots = n;
    if (p->records) {
        p->roots = td_arena_alloc(p->records, (n + 1) * sizeof *p->roots);
        p->root_tensors = td_arena_alloc(p->records, (n + 1) * sizeof *p->root_tensors);
    }
    /* storage 0 must exist even when memory runs out later: see records.c */
    if (!p->roots || !p->root_tensors ||
        !td_plan_grow(p, &p->storages, 0, &p->storages_room, sizeof *p->storages)) {
        td_plan_free(p);
        return NULL;
    }
    for (size_t k = 0; k < n; k++)
        p->root_tensors[k] = roots[k];
    return p;
}

static void plan_nodes(td_plan *p)
{
    int32_t count = p->g->n_nodes; /* lowering appends to the graph while we walk it */
    for (size_t k = 0; k < p->n_roots; k++) {
        const td_value *root = td_value_of(p->root_tensors[k]);
        assert(root->t.graph == &p->g->base);
        make_live(p, root->node, root->slot, p->g->options.real);
    }
    find_live(p, 0, count);
    td_plan_fold_sums(p, count);
    for (int32_t i = 0; i < count && !p->error.code; i++)
        if (td_plan_node(p, p->g->nodes[i])->live)
            schedule(p, p->g->nodes[i]);
    td_plan_write_copies(p);
    place_roots(p);
}

td_plan *td_plan_new(td_graph *graph, td_tensor *const *roots, size_t n, const td_device *device,
                     td_error *error)
{
    td_plan *p = empty_plan(graph, roots, n, device);
    if (!p) {
        td_fail(error, TD_ENOMEM, "out of memory while planning the graph");
        return NULL;
    }
    /* a graph with an error contains error tensors, which cannot be planned */
    if (!td_graph_error(graph, &p->error) && !td_plan_find_kernels(p, &p->error))
        plan_nodes(p);
    if (!p->error.code)
        td_plan_fuse(p);
    if (!p->error.code)
        td_plan_cut_windows(p);
    if (!p->error.code) {
        td_plan_merge_storages(p);
        td_plan_cut_gradients(p);
    }
    if (!p->error.code)
        td_plan_set_offsets(p, &p->error);
    if (!p->error.code)
        return p;
    td_fail(error, p->error.code, "%s", p->error.text);
    td_plan_free(p);
    return NULL;
}
