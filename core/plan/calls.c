/* calls.c - one node as one kernel call: where its inputs lie, where its outputs go, and which
 * copies come before it.
 *
 * Copies are planned only for a kernel that takes the call. A kernel with an `accepts` hook is
 * asked first: the same code walks the inputs with p->asking set, and td_plan_copy then describes a
 * copy without planning it. So a refused call leaves nothing behind.
 */
#include <assert.h>
#include <string.h>

#include "plan/internal.h"

/* ---- places ---------------------------------------------------------------------------------- */

/* Follows a chain: the result of a lowering may itself be lowered or folded. */
td_value *td_plan_resolve(td_plan *p, td_value *v)
{
    for (td_value *next; (next = td_plan_node(p, v->node)->alias[v->slot]) != NULL;)
        v = next;
    return v;
}

static td_place dense_as(td_plan *p, const td_tensor *t, int dtype)
{
    return (td_place){ td_plan_storage(p, TD_STORAGE_ARENA, dtype, td_count(t)), 0,
                       td_view_dense(dtype, t->rank, t->dim) };
}

td_place td_plan_dense(td_plan *p, const td_tensor *t) { return dense_as(p, t, t->dtype); }

static int leaf_dtype(const td_node *n)
{
    bool narrow = n->kind == TD_NODE_VARIABLE && n->variable->narrow;
    return narrow ? TD_BF16 : n->out[0].t.dtype;
}

/* Leaves are placed when the first reader comes, so a leaf without a reader takes no memory. */
static void place_leaf(td_plan *p, td_node *n)
{
    static const int kinds[] = { [TD_NODE_VARIABLE] = TD_STORAGE_VARIABLE,
                                 [TD_NODE_INPUT] = TD_STORAGE_INPUT,
                                 [TD_NODE_CONSTANT] = TD_STORAGE_CONSTANT };
    td_node_plan    *np = td_plan_node(p, n);
    td_storage      *s;

    assert(n->kind == TD_NODE_VARIABLE || n->kind == TD_NODE_INPUT || n->kind == TD_NODE_CONSTANT);
    np->place[0] = dense_as(p, &n->out[0].t, leaf_dtype(n));
    np->placed[0] = true;
    s = &p->storages[np->place[0].storage];
    s->kind = kinds[n->kind];
    s->leaf = n;
    s->last = -1; /* no call has read it yet */
}

td_place td_plan_place_as(td_plan *p, const td_place *from, const td_tensor *dims,
                          const td_node *why)
{
    td_place to = *from;
    if (td_view_reshape(&from->view, dims, &to.view))
        return to;
    to = td_plan_copy(p, from, why);
    to.view = td_view_dense(from->view.dtype, dims->rank, dims->dim);
    return to;
}

/* A view of a state shows what the state holds when the view's reader runs. A view that had to
 * be copied shows the content at the time of the copy, which is wrong once the state has been
 * written to. */
static bool is_stale(td_plan *p, const td_value *v)
{
    const td_node      *state = v->node->kind == TD_NODE_OP ? td_state_of(v) : NULL;
    const td_node_plan *np = td_plan_node(p, v->node);
    return state && p->storages[np->place[v->slot].storage].kind == TD_STORAGE_ARENA &&
           td_plan_node(p, state)->changed > np->copied;
}

td_place td_plan_place_of(td_plan *p, td_value *v, const td_node *why)
{
    td_value     *r = td_plan_resolve(p, v);
    td_node_plan *np = td_plan_node(p, r->node);

    if (!np->placed[r->slot] && r->node->kind != TD_NODE_OP)
        place_leaf(p, r->node);
    if (!np->placed[r->slot]) {
        td_plan_refuse(p, TD_EGRAPH, r->node, "'%s' is read before it is computed",
                       r->node->op->plugin.name);
        return td_plan_dense(p, &v->t);
    }
    if (is_stale(p, r))
        td_plan_refuse(
            p, TD_EGRAPH, r->node,
            "a '%s' of state '%s' needed a copy, and is read after the state was written "
            "to: emit it again after the write",
            r->node->op->plugin.name, td_state_of(r)->variable->name);
    /* what a value was folded into may differ from it by a reshape */
    return td_plan_place_as(p, &np->place[r->slot], &v->t, why);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static td_kernel_call *new_call(td_plan *p, const td_kernel *kernel, const td_node *n)
{
    td_kernel_call *c = td_arena_alloc(p->records, sizeof *c);
    if (!c || !td_plan_grow(p, &p->calls, p->n_calls, &p->calls_room, sizeof *p->calls)) {
        td_plan_out_of_memory(p);
        return NULL;
    }
    c->kernel = kernel;
    c->node = n;
    c->workspace = -1;
    c->together = 1;
    c->call.services = p->device.services;
    c->call.backend = p->device.state;
    memset(c->in, -1, sizeof c->in); /* all bytes 0xff: every int32_t is -1, absent */
    memset(c->out, -1, sizeof c->out);
    return c;
}

/* An operand's storage lives at least until this call. `last` never goes back, since that of a
 * root is the end of the run. */
static void keep_alive(td_plan *p, int32_t storage)
{
    assert(storage >= 0 && storage < p->storages_room);
    if (p->storages[storage].last < p->n_calls)
        p->storages[storage].last = p->n_calls;
}

static void set_in(td_plan *p, td_kernel_call *c, int k, const td_place *place)
{
    c->call.in[k] = place->view;
    c->call.in[k].data = c; /* not NULL: present; the address comes when memory is bound */
    c->in[k] = place->storage;
    c->in_offset[k] = place->offset;
    keep_alive(p, place->storage);
}

static void set_out(td_plan *p, td_kernel_call *c, int k, const td_place *place)
{
    c->call.out[k] = place->view;
    c->call.out[k].data = c; /* not NULL: wanted */
    c->out[k] = place->storage;
    c->out_offset[k] = place->offset;
    keep_alive(p, place->storage);
}

/* The workspace depends on all operands, so it comes last; it lives for this call only. */
static void finish_call(td_plan *p, td_kernel_call *c)
{
    size_t bytes = c->kernel->workspace ? c->kernel->workspace(&c->call) : 0;
    if (bytes)
        c->workspace = td_plan_storage(p, TD_STORAGE_ARENA, TD_F32, (int64_t)((bytes + 3) / 4));
    p->calls[p->n_calls++] = c;
}

td_place td_plan_copy(td_plan *p, const td_place *from, const td_node *why)
{
    td_tensor        t = { .dtype = from->view.dtype, .rank = from->view.rank };
    const td_kernel *kernel = td_plan_kernel(p, "copy", from->view.dtype, NULL);
    td_kernel_call  *c;
    td_place         to = *from;

    memcpy(t.dim, from->view.dim, sizeof t.dim);
    to.view = td_view_dense(t.dtype, t.rank, t.dim);
    /* only the view is looked at, so the storage may remain the source's */
    if (p->asking)
        return to;
    c = kernel ? new_call(p, kernel, NULL) : NULL;
    to = td_plan_dense(p, &t);
    if (!kernel)
        td_plan_refuse(p, TD_EUNSUPPORTED, why,
                       "an operand must be copied, but backend '%s' has no kernel 'copy' for %s",
                       p->device.backend->plugin.name, td_dtype_name(from->view.dtype));
    if (!c)
        return to;
    c->call.n_in = c->call.n_out = 1;
    set_in(p, c, 0, from);
    set_out(p, c, 0, &to);
    finish_call(p, c);
    return to;
}

void td_plan_cast_into(td_plan *p, const td_place *from, const td_place *to, const td_node *why)
{
    const td_kernel *kernel = td_plan_kernel(p, "cast", TD_BF16, NULL);
    td_kernel_call  *c = kernel ? new_call(p, kernel, NULL) : NULL;
    if (!kernel)
        td_plan_refuse(p, TD_EUNSUPPORTED, why,
                       "an operand must be cast, but backend '%s' has no kernel 'cast' for bf16",
                       p->device.backend->plugin.name);
    if (!c)
        return;
    c->call.n_in = c->call.n_out = 1;
    set_in(p, c, 0, from);
    set_out(p, c, 0, to);
    finish_call(p, c);
}

/* ---- outputs --------------------------------------------------------------------------------- */

/* The input whose memory output k shares; -1: none, or it is absent. */
static int shared_input(const td_node *n, const td_call *call, int k)
{
    int from = n->op->inplace[k] - 1;
    return from >= 0 && from < call->n_in && call->in[from].data ? from : -1;
}

/* Whether an output may keep the order of input i's axes. An input of the output's dims gives it;
 * so does the first input of an op that is not elementwise, whose axes the output has if it has its
 * rank (a product, a reduction). */
static bool gives_order(const td_node *n, const td_view *in, int i, const td_tensor *out)
{
    if (!in->data || in->rank != out->rank)
        return false;
    return (i == 0 && !(n->op->flags & TD_OP_ELEMENTWISE)) ||
           !memcmp(in->dim, out->dim, (size_t)out->rank * sizeof *out->dim);
}

static td_view output_view(td_plan *p, const td_node *n, uint64_t flags, int k, const td_call *call)
{
    td_tensor t = n->out[k].t;
    int       from = shared_input(n, call, k);
    if (from >= 0)
        return call->in[from];
    /* keep the order of the input's axes: a chain of elementwise ops on a transposed tensor then
     * runs along memory, in place, and without a copy */
    t.dtype = td_plan_written_dtype(p, n, k);
    for (int i = 0; flags & TD_KERNEL_STRIDED_OUT && i < n->n_in; i++)
        if (gives_order(n, &call->in[i], i, &t))
            return td_view_like(&call->in[i], &t);
    return td_view_dense(t.dtype, t.rank, t.dim);
}

/* In the memory of the state that it updates, or in a new storage. */
static td_place output_place(td_plan *p, const td_node *n, uint64_t flags, int k,
                             const td_kernel_call *c)
{
    const td_tensor *t = &n->out[k].t;
    td_view          view = output_view(p, n, flags, k, &c->call);
    int              from = shared_input(n, &c->call, k);
    if (from >= 0)
        return (td_place){ c->in[from], c->in_offset[from], view };
    return (td_place){ td_plan_storage(p, TD_STORAGE_ARENA, view.dtype, td_count(t)), 0, view };
}

/* A kernel skips outputs without a reader, but a state is always written. */
static bool is_written(td_plan *p, const td_node *n, const td_call *call, int k)
{
    return td_plan_node(p, n)->used[k] || shared_input(n, call, k) >= 0;
}

static void place_outputs(td_plan *p, td_node *n, uint64_t flags, td_kernel_call *c)
{
    td_node_plan *np = td_plan_node(p, n);
    for (int k = 0; k < n->n_out; k++) {
        const td_tensor *t = &n->out[k].t;
        c->call.out[k] = td_view_dense(t->dtype, t->rank, t->dim);
        if (!is_written(p, n, &c->call, k))
            continue; /* data stays NULL: not wanted */
        np->place[k] = output_place(p, n, flags, k, c);
        np->placed[k] = true;
        set_out(p, c, k, &np->place[k]);
    }
}

/* Remembers when states change, for is_stale. */
static void note_changes(td_plan *p, const td_node *n)
{
    for (int k = 0; k < n->n_out; k++) {
        const td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            td_plan_node(p, state)->changed = p->n_calls;
    }
}

/* ---- inputs ---------------------------------------------------------------------------------- */

int td_plan_n_inputs(const td_node *n)
{
    return n->n_in > n->op->accumulate_in ? n->n_in : n->op->accumulate_in;
}

td_value *td_plan_input(const td_node *n, const td_node_plan *np, int k)
{
    if (np->accumulate && k == n->op->accumulate_in - 1)
        return np->accumulate;
    return k < n->n_in ? n->in[k] : NULL;
}

/* Whether the op writes to its input k. */
static bool is_state(const td_node *n, int k)
{
    for (int o = 0; o < n->n_out; o++)
        if (n->op->inplace[o] == k + 1)
            return true;
    return false;
}

/* The memory that the call writes to if input v is not in a state's memory. A copy of a state
 * would receive the write instead of the state; a value that is not a state is copied, since
 * others may still read it. */
static td_place written_copy(td_plan *p, td_node *n, td_value *v, const td_place *place)
{
    const td_node *state = td_state_of(v);
    if (state)
        td_plan_refuse(p, TD_EGRAPH, n,
                       "'%s' cannot write to state '%s' through a view that needs a copy: pass it "
                       "the state itself",
                       n->op->plugin.name, state->variable->name);
    return td_plan_copy(p, place, n);
}

/* Where input k is read; copied if the kernel cannot read it there. */
static td_place input_place(td_plan *p, td_node *n, const td_node_plan *np, uint64_t flags, int k)
{
    td_value *v = td_plan_input(n, np, k);
    td_place  place = td_plan_place_of(p, v, n);

    /* a folded summand may be a reshape away from the product that starts from it */
    if (np->accumulate && k == n->op->accumulate_in - 1)
        place = td_plan_place_as(p, &place, &n->out[n->op->accumulate_out].t, n);
    if (is_state(n, k) && p->storages[place.storage].kind != TD_STORAGE_VARIABLE)
        return written_copy(p, n, v, &place);
    place = td_plan_as_read(p, n, k, &place);
    if (!(flags & TD_KERNEL_STRIDED_IN) && !td_view_is_dense(&place.view))
        place = td_plan_copy(p, &place, n);
    return place;
}

/* A call that writes to a state and reads it through another window (x = x^T) would read its own
 * output: the other window is copied first. */
static void keep_apart(td_plan *p, td_node *n, td_place *in, const bool *present, int n_in)
{
    for (int o = 0; o < n->n_out; o++) {
        int state = n->op->inplace[o] - 1;
        for (int k = 0; state >= 0 && present[state] && k < n_in; k++)
            if (k != state && present[k] && in[k].storage == in[state].storage &&
                (in[k].offset != in[state].offset || !td_view_same(&in[k].view, &in[state].view)))
                in[k] = td_plan_copy(p, &in[k], n);
    }
}

static void input_places(td_plan *p, td_node *n, uint64_t flags, td_place *in, bool *present)
{
    td_node_plan *np = td_plan_node(p, n);
    int           n_in = td_plan_n_inputs(n);
    for (int k = 0; k < n_in; k++) {
        present[k] = td_plan_input(n, np, k) != NULL;
        if (present[k])
            in[k] = input_place(p, n, np, flags, k);
    }
    keep_apart(p, n, in, present, n_in);
}

/* ---- the call of a node ---------------------------------------------------------------------- */

/* Whether the kernel takes the node's call, if it is laid out as `flags` ask. */
static bool accepts(td_plan *p, td_node *n, const td_kernel *kernel, uint64_t flags)
{
    td_call  call = { .services = p->device.services,
                      .backend = p->device.state,
                      .attrs = &n->attrs,
                      .n_in = td_plan_n_inputs(n),
                      .n_out = n->n_out };
    td_place in[TD_MAX_INPUTS];
    bool     present[TD_MAX_INPUTS];

    if (!kernel->accepts)
        return true;
    p->asking = true; /* no copies yet */
    input_places(p, n, flags, in, present);
    p->asking = false;
    for (int k = 0; k < call.n_in; k++)
        if (present[k]) {
            call.in[k] = in[k].view;
            call.in[k].data = n;
        }
    for (int k = 0; k < n->n_out; k++) {
        call.out[k] = output_view(p, n, flags, k, &call);
        call.out[k].data = is_written(p, n, &call, k) ? n : NULL;
    }
    return kernel->accepts(&call);
}

/* The call of `kernel` as if it had these flags; false if it refuses. Out of memory returns true:
 * p->error is set, and trying another kernel is pointless. */
static bool plan_call(td_plan *p, td_node *n, const td_kernel *kernel, uint64_t flags)
{
    td_place        in[TD_MAX_INPUTS];
    bool            present[TD_MAX_INPUTS];
    td_kernel_call *c;

    if (!accepts(p, n, kernel, flags))
        return false;
    /* before new_call: copies of the inputs are calls too, and must come first */
    input_places(p, n, flags, in, present);
    c = new_call(p, kernel, n);
    if (!c)
        return true;
    c->call.attrs = &n->attrs;
    c->call.n_in = td_plan_n_inputs(n);
    c->call.n_out = n->n_out;
    for (int k = 0; k < c->call.n_in; k++)
        if (present[k])
            set_in(p, c, k, &in[k]);
    place_outputs(p, n, flags, c);
    finish_call(p, c);
    note_changes(p, n);
    return true;
}

bool td_plan_call(td_plan *p, td_node *n, const td_kernel *kernel)
{
    uint64_t strided = TD_KERNEL_STRIDED_IN | TD_KERNEL_STRIDED_OUT;
    /* a kernel that takes some strides may refuse these: then all operands are made dense */
    return plan_call(p, n, kernel, kernel->flags) ||
           (kernel->flags & strided && plan_call(p, n, kernel, kernel->flags & ~strided));
}
