/* calls.c - kernel calls: where their inputs are and their outputs go, and what must be copied. */
#include <string.h>

#include "plan/internal.h"

/* ---- places ---------------------------------------------------------------------------------- */

td_value *td_plan_resolve(td_plan *p, td_value *v)
{
    for (td_value *next; (next = td_plan_node(p, v->node)->alias[v->slot]) != NULL;)
        v = next;
    return v;
}

static void place_leaf(td_plan *p, td_node *n)
{
    static const int kinds[] = { [TD_NODE_VARIABLE] = TD_STORAGE_VARIABLE,
                                 [TD_NODE_INPUT] = TD_STORAGE_INPUT,
                                 [TD_NODE_CONSTANT] = TD_STORAGE_CONSTANT };
    td_node_plan    *np = td_plan_node(p, n);
    np->place[0] = td_plan_dense(p, &n->out[0].t);
    np->placed[0] = true;
    p->storages[np->place[0].storage].kind = kinds[n->kind];
    p->storages[np->place[0].storage].leaf = n;
    p->storages[np->place[0].storage].last = -1; /* the last call that reads it */
}

td_place td_plan_place_as(td_plan *p, const td_place *from, const td_tensor *dims,
                          const td_node *why)
{
    td_place to = *from;
    if (td_view_reshape(&from->view, dims, &to.view))
        return to;
    to = td_plan_copy(p, from, why);
    to.view = td_view_dense(dims->dtype, dims->rank, dims->dim);
    return to;
}

/* A view of a state is read when its reader runs; where it had to be copied, that must come before
 * the state changes. */
static bool is_stale(td_plan *p, const td_value *v)
{
    const td_node      *state = v->node->kind == TD_NODE_OP ? td_state_of(v) : NULL;
    const td_node_plan *np = td_plan_node(p, v->node);
    return state && p->storages[np->place[v->slot].storage].kind == TD_STORAGE_ARENA &&
           td_plan_node(p, state)->changed > np->copied;
}

/* Where value v is; a value that stands for another may have other dims. */
td_place td_plan_place_of(td_plan *p, td_value *v, const td_node *why)
{
    td_value     *r = td_plan_resolve(p, v);
    td_node_plan *np = td_plan_node(p, r->node);
    if (!np->placed[r->slot] && r->node->kind != TD_NODE_OP)
        place_leaf(p, r->node);
    if (!np->placed[r->slot]) {
        td_fail(&p->error, TD_EGRAPH, "%s: '%s' is read before it is computed", r->node->path,
                r->node->op->plugin.name);
        return td_plan_dense(p, &v->t);
    }
    if (is_stale(p, r))
        td_fail(&p->error, TD_EGRAPH,
                "%s: a '%s' of the state '%s' had to be copied, and is read after the state was "
                "written to: take it again after that",
                r->node->path, r->node->op->plugin.name, td_state_of(r)->variable->name);
    return td_plan_place_as(p, &np->place[r->slot], &v->t, why);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static td_kernel_call *new_call(td_plan *p, const td_kernel *kernel, const td_node *n)
{
    td_kernel_call *s = td_arena_alloc(p->memory, sizeof *s);
    if (!s || !td_plan_grow(p, &p->calls, p->n_calls, &p->calls_room, sizeof *p->calls)) {
        td_plan_out_of_memory(p);
        return NULL;
    }
    s->kernel = kernel;
    s->node = n;
    s->workspace = -1;
    s->call.services = p->device.services;
    s->call.backend = p->device.state;
    memset(s->in, -1, sizeof s->in);
    memset(s->out, -1, sizeof s->out);
    return s;
}

static void set_in(td_plan *p, td_kernel_call *s, int k, const td_place *place)
{
    s->call.in[k] = place->view;
    s->in[k] = place->storage;
    s->in_offset[k] = place->offset;
    s->call.in[k].data = s; /* present; bind puts the address */
    p->storages[place->storage].last = p->n_calls;
}

static void set_out(td_plan *p, td_kernel_call *s, int k, const td_place *place)
{
    s->call.out[k] = place->view;
    s->out[k] = place->storage;
    s->out_offset[k] = place->offset;
    s->call.out[k].data = s;
    if (p->storages[place->storage].last < p->n_calls)
        p->storages[place->storage].last = p->n_calls;
}

static void finish_call(td_plan *p, td_kernel_call *s)
{
    size_t bytes = s->kernel->workspace ? s->kernel->workspace(&s->call) : 0;
    if (bytes)
        s->workspace = td_plan_storage(p, TD_STORAGE_ARENA, TD_F32, (int64_t)((bytes + 3) / 4));
    p->calls[p->n_calls++] = s;
}

td_place td_plan_copy(td_plan *p, const td_place *from, const td_node *why)
{
    td_tensor        t = { .dtype = from->view.dtype, .rank = from->view.rank };
    const td_kernel *kernel = td_plan_kernel(p, "copy", from->view.dtype, NULL);
    td_kernel_call  *s;
    td_place         to = *from;

    memcpy(t.dim, from->view.dim, sizeof t.dim);
    to.view = td_view_dense(t.dtype, t.rank, t.dim);
    if (p->asking)
        return to;
    s = kernel ? new_call(p, kernel, NULL) : NULL;
    to = td_plan_dense(p, &t);
    if (!kernel)
        td_fail(&p->error, TD_EUNSUPPORTED, "%s: backend '%s' has no kernel 'copy' for %s",
                why ? why->path : "", p->device.backend->plugin.name,
                td_dtype_name(from->view.dtype));
    if (!s)
        return to;
    s->call.n_in = s->call.n_out = 1;
    set_in(p, s, 0, from);
    set_out(p, s, 0, &to);
    finish_call(p, s);
    return to;
}

/* The input whose memory output k shares, -1: none. */
static int shared_input(const td_node *n, const td_call *call, int k)
{
    int from = n->op->inplace[k] - 1;
    return from >= 0 && from < call->n_in && call->in[from].data ? from : -1;
}

/* Whether an output may have the order of axes of input i. */
static bool gives_order(const td_node *n, const td_view *in, int i, const td_tensor *out)
{
    if (!in->data || in->rank != out->rank)
        return false;
    return (i == 0 && !(n->op->flags & TD_OP_ELEMENTWISE)) ||
           !memcmp(in->dim, out->dim, (size_t)out->rank * sizeof *out->dim);
}

/* As the state that it shares, in the order of the first input of the same dims, or dense. */
static td_view output_view(const td_node *n, uint64_t flags, int k, const td_call *call)
{
    const td_tensor *t = &n->out[k].t;
    int              from = shared_input(n, call, k);
    if (from >= 0)
        return call->in[from];
    for (int i = 0; flags & TD_KERNEL_STRIDED_OUT && i < n->n_in; i++)
        if (gives_order(n, &call->in[i], i, t))
            return td_view_like(&call->in[i], t);
    return td_view_dense(t->dtype, t->rank, t->dim);
}

static td_place output_place(td_plan *p, const td_node *n, uint64_t flags, int k,
                             const td_kernel_call *s)
{
    const td_tensor *t = &n->out[k].t;
    td_view          view = output_view(n, flags, k, &s->call);
    int              from = shared_input(n, &s->call, k);
    if (from >= 0)
        return (td_place){ s->in[from], s->in_offset[from], view };
    return (td_place){ td_plan_storage(p, TD_STORAGE_ARENA, t->dtype, td_count(t)), 0, view };
}

td_value *td_plan_input(const td_node *n, const td_node_plan *np, int k)
{
    if (np->accumulate && k == n->op->accumulate_in - 1)
        return np->accumulate;
    return k < n->n_in ? n->in[k] : NULL;
}

/* The dims that input k must have: a folded summand takes those of the product. */
static td_place input_place(td_plan *p, td_node *n, const td_node_plan *np, uint64_t flags, int k)
{
    td_value *v = td_plan_input(n, np, k);
    td_place  place = td_plan_place_of(p, v, n);
    bool      state = false;
    for (int o = 0; o < n->n_out; o++)
        state |= n->op->inplace[o] == k + 1;
    if (np->accumulate && k == n->op->accumulate_in - 1)
        place = td_plan_place_as(p, &place, &n->out[n->op->accumulate_out].t, n);
    if (state && p->storages[place.storage].kind != TD_STORAGE_VARIABLE) {
        if (td_state_of(v))
            td_fail(&p->error, TD_EGRAPH,
                    "%s: '%s' cannot write to the state '%s' as it is shown here, which needs a "
                    "copy: give it the state itself",
                    n->path, n->op->plugin.name, td_state_of(v)->variable->name);
        return td_plan_copy(p, &place, n); /* not ours to change */
    }
    if (!(flags & TD_KERNEL_STRIDED_IN) && !td_view_is_dense(&place.view))
        place = td_plan_copy(p, &place, n);
    return place;
}

/* An output that somebody reads, or a state. */
static bool is_written(td_plan *p, const td_node *n, const td_call *call, int k)
{
    return td_plan_node(p, n)->used[k] || shared_input(n, call, k) >= 0;
}

static void note_changes(td_plan *p, const td_node *n)
{
    for (int k = 0; k < n->n_out; k++) {
        const td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            td_plan_node(p, state)->changed = p->n_calls;
    }
}

/* Other windows of a state that the call writes to are copied before it does. */
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

static void input_places(td_plan *p, td_node *n, uint64_t flags, td_place *in, bool *present,
                         int n_in)
{
    td_node_plan *np = td_plan_node(p, n);
    for (int k = 0; k < n_in; k++) {
        present[k] = td_plan_input(n, np, k) != NULL;
        if (present[k])
            in[k] = input_place(p, n, np, flags, k);
    }
    keep_apart(p, n, in, present, n_in);
}

/* Whether the kernel takes the call: asked before anything is copied for it. */
static bool accepts(td_plan *p, td_node *n, const td_kernel *kernel, uint64_t flags, int n_in)
{
    td_call  call = { .services = p->device.services,
                      .backend = p->device.state,
                      .attrs = &n->attrs,
                      .n_in = n_in,
                      .n_out = n->n_out };
    td_place in[TD_MAX_INPUTS];
    bool     present[TD_MAX_INPUTS];

    if (!kernel->accepts)
        return true;
    p->asking = true;
    input_places(p, n, flags, in, present, n_in);
    p->asking = false;
    for (int k = 0; k < n_in; k++)
        if (present[k]) {
            call.in[k] = in[k].view;
            call.in[k].data = n;
        }
    for (int k = 0; k < n->n_out; k++) {
        call.out[k] = output_view(n, flags, k, &call);
        call.out[k].data = is_written(p, n, &call, k) ? n : NULL;
    }
    return kernel->accepts(&call);
}

/* With the kernel's flags, or fewer of them. */
static bool fill_call(td_plan *p, td_node *n, const td_kernel *kernel, uint64_t flags)
{
    td_node_plan *np = td_plan_node(p, n);
    int           n_in = n->n_in > n->op->accumulate_in ? n->n_in : n->op->accumulate_in;
    td_place      in[TD_MAX_INPUTS];
    bool          present[TD_MAX_INPUTS];
    td_kernel_call *s;

    if (!accepts(p, n, kernel, flags, n_in))
        return false;
    input_places(p, n, flags, in, present, n_in);
    s = new_call(p, kernel, n);
    if (!s)
        return true;
    s->call.attrs = &n->attrs;
    s->call.n_in = n_in;
    s->call.n_out = n->n_out;
    for (int k = 0; k < n_in; k++)
        if (present[k])
            set_in(p, s, k, &in[k]);
    for (int k = 0; k < n->n_out; k++) {
        s->call.out[k] = td_view_dense(n->out[k].t.dtype, n->out[k].t.rank, n->out[k].t.dim);
        if (!is_written(p, n, &s->call, k))
            continue;
        np->place[k] = output_place(p, n, flags, k, s);
        np->placed[k] = true;
        set_out(p, s, k, &np->place[k]);
    }
    finish_call(p, s);
    note_changes(p, n);
    return true;
}

/* Strides that the kernel does not take are copied away. */
bool td_plan_call(td_plan *p, td_node *n, const td_kernel *kernel)
{
    uint64_t strided = TD_KERNEL_STRIDED_IN | TD_KERNEL_STRIDED_OUT;
    return fill_call(p, n, kernel, kernel->flags) ||
           (kernel->flags & strided && fill_call(p, n, kernel, kernel->flags & ~strided));
}
