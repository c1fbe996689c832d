/* plan.c - from nodes to steps: liveness, order, kernels, lowering, folding, layouts. */
#include "graph/plan.h"

#include <stdlib.h>
#include <string.h>

#include "tandem/ops.h"

/* ---- storage for the plan's own lists -------------------------------------------------------- */

static void out_of_memory(td_plan *p)
{
    td_fail(&p->error, TD_ENOMEM, "out of memory while planning the graph");
}

static bool grow(td_plan *p, void *list, int32_t count, int32_t *room, size_t size)
{
    void  **at = list, *larger;
    int32_t wanted = *room ? *room : 256;
    if (count < *room)
        return true;
    while (wanted <= count)
        wanted *= 2;
    larger = realloc(*at, (size_t)wanted * size);
    if (!larger) {
        out_of_memory(p);
        return false;
    }
    memset((char *)larger + (size_t)*room * size, 0, (size_t)(wanted - *room) * size);
    *at = larger, *room = wanted;
    return true;
}

td_node_plan *td_plan_node(td_plan *p, const td_node *n)
{
    if (!grow(p, &p->nodes, n->index, &p->nodes_room, sizeof *p->nodes))
        return &p->no_node;
    if (!p->nodes[n->index])
        p->nodes[n->index] = td_arena_alloc(p->memory, sizeof **p->nodes);
    if (!p->nodes[n->index])
        out_of_memory(p);
    return p->nodes[n->index] ? p->nodes[n->index] : &p->no_node;
}

int32_t td_plan_storage(td_plan *p, int kind, int dtype, int64_t count)
{
    td_storage *s;
    if (!grow(p, &p->storages, p->n_storages, &p->storages_room, sizeof *p->storages))
        return 0;
    s = &p->storages[p->n_storages];
    *s = (td_storage){ .kind = kind,
                       .dtype = dtype,
                       .count = count,
                       .first = p->n_steps,
                       .last = p->n_steps,
                       .same_as = p->n_storages };
    s->bytes = ((size_t)count * td_dtype_size(dtype) + 63) / 64 * 64;
    return p->n_storages++;
}

td_place td_plan_dense(td_plan *p, const td_tensor *t)
{
    td_place place = { td_plan_storage(p, TD_STORAGE_ARENA, t->dtype, td_count(t)), 0,
                       td_view_dense(t->dtype, t->rank, t->dim) };
    return place;
}

/* ---- kernels --------------------------------------------------------------------------------- */

static int collect_kernels(td_plan *p, td_error *error)
{
    const char *backend = p->device.backend->plugin.name;
    size_t      count, own = 0;

    if (!td_registry_find(p->device.registry, TD_KERNELS_KIND, backend, error))
        return TD_EPLUGIN;
    count = td_registry_count(p->device.registry);
    p->kernels = td_arena_alloc(p->memory, (count + 1) * sizeof *p->kernels);
    if (!p->kernels)
        return td_fail(error, TD_ENOMEM, "out of memory while listing kernels");
    for (int pass = 0; pass < 2; pass++) /* what other modules add comes before the backend's own */
        for (size_t i = 0; i < count; i++) {
            const td_plugin  *plugin = td_registry_plugin(p->device.registry, i);
            const td_kernels *k = (const td_kernels *)(const void *)plugin;
            if (strcmp(plugin->kind, TD_KERNELS_KIND) || strcmp(k->backend, backend))
                continue;
            if (pass == !strcmp(plugin->name, backend))
                p->kernels[p->n_kernels++] = k, own++;
        }
    return own ? 0 : td_fail(error, TD_EPLUGIN, "backend '%s' has no kernels", backend);
}

const td_kernel *td_plan_kernel(td_plan *p, const char *op, int dtype, const td_kernel *after)
{
    for (size_t i = 0; i < p->n_kernels; i++)
        for (size_t k = 0; k < p->kernels[i]->count; k++) {
            const td_kernel *row = &p->kernels[i]->rows[k];
            if (row == after)
                after = NULL;
            else if (!after && row->dtype == dtype && !strcmp(row->op, op))
                return row;
        }
    return NULL;
}

/* The dtype by which a node's kernel is chosen: that of its data, not of masks and indices. */
static int kernel_dtype(const td_node *n)
{
    int first = td_node_is(n, "scatter_add") || td_node_is(n, "where") ? 1 : 0;
    for (int k = first; k < n->n_in; k++)
        if (n->in[k])
            return n->in[k]->t.dtype;
    return n->out[0].t.dtype;
}

/* The first that computes the op; it may refuse the call. */
static const td_kernel *kernel_of(td_plan *p, const td_node *n)
{
    int              dtype = kernel_dtype(n);
    const td_kernel *kernel;
    if (p->device.fallback && n->op->lower)
        return NULL;
    for (int32_t i = 0; i < p->n_choices; i++)
        if (p->choices[i].op == n->op && p->choices[i].dtype == dtype)
            return p->choices[i].kernel;
    kernel = td_plan_kernel(p, n->op->plugin.name, dtype, NULL);
    if (p->n_choices < (int32_t)(sizeof p->choices / sizeof *p->choices))
        p->choices[p->n_choices++] = (td_kernel_choice){ n->op, dtype, kernel };
    return kernel;
}

/* ---- liveness, uses, folding ----------------------------------------------------------------- */

static void make_live(td_plan *p, const td_node *n, int slot)
{
    td_node_plan *np = td_plan_node(p, n);
    np->used[slot] = true, np->uses[slot]++;
    np->live = true;
}

/* Nodes [from, to) that are needed, walking back; those that `make_live` marked, and effects, are
 * where it starts. */
static void find_live(td_plan *p, int32_t from, int32_t to)
{
    for (int32_t i = to - 1; i >= from && !p->error.code; i--) {
        const td_node *n = p->g->nodes[i];
        td_node_plan  *np = td_plan_node(p, n);
        if (n->kind == TD_NODE_OP && n->op->flags & TD_OP_EFFECT)
            np->live = true;
        for (int k = 0; np->live && k < n->n_in; k++)
            if (n->in[k])
                make_live(p, n->in[k]->node, n->in[k]->slot);
    }
}

/* Notes which states the node writes to. */
static void note_writes(td_plan *p, const td_node *n)
{
    for (int k = 0; n->kind == TD_NODE_OP && k < n->n_out; k++) {
        const td_node *state = n->op->inplace[k] ? td_state_of(&n->out[k]) : NULL;
        if (state)
            td_plan_node(p, state)->written = n->index;
    }
}

/* The node after which a value is there: leaves are there from the start, a state's content since
 * it was last written. */
static int32_t ready(td_plan *p, const td_value *v)
{
    const td_node *state = td_state_of(v);
    int32_t        computed = v->node->kind == TD_NODE_OP ? v->node->index : 0;
    int32_t        written = state ? td_plan_node(p, state)->written : 0;
    return written > computed ? written : computed;
}

/* Make the product behind `v` start from `x` instead of 0, if nobody else reads what lies
 * between. */
static bool fold_into(td_plan *p, td_value *v, td_value *x)
{
    td_node      *n = v->node;
    td_node_plan *np = td_plan_node(p, n);

    if (n->kind != TD_NODE_OP || np->uses[v->slot] != 1)
        return false;
    if (td_node_is(n, "reshape") || (np->folded && np->alias[0]))
        return fold_into(p, np->folded ? np->alias[0] : n->in[0], x);
    if (!n->op->accumulate_in || v->slot != n->op->accumulate_out || ready(p, x) >= n->index)
        return false;
    if (n->op->accumulate_in <= n->n_in && n->in[n->op->accumulate_in - 1])
        return false;
    if (np->accumulate)
        return fold_into(p, np->accumulate, x);
    np->accumulate = x;
    return true;
}

static bool whole_sum(const td_node *n)
{
    for (int k = 0; k < 2; k++)
        if (n->in[k]->t.rank != n->out[0].t.rank ||
            memcmp(n->in[k]->t.dim, n->out[0].t.dim, (size_t)n->out[0].t.rank * sizeof(int64_t)))
            return false;
    return n->out[0].t.dtype != TD_I32;
}

static void fold_sums(td_plan *p, int32_t count)
{
    for (int32_t i = 0; i < count && !p->error.code; i++) {
        td_node      *n = p->g->nodes[i];
        td_node_plan *np = td_plan_node(p, n);
        note_writes(p, n);
        if (!np->live || !td_node_is(n, "add") || n->in[0] == n->in[1] || !whole_sum(n))
            continue;
        for (int k = 1; k >= 0 && !np->folded; k--)
            if (fold_into(p, n->in[k], n->in[!k]))
                np->folded = true, np->alias[0] = n->in[k];
    }
}

/* ---- places ---------------------------------------------------------------------------------- */

static td_value *resolve(td_plan *p, td_value *v)
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
    np->place[0] = td_plan_dense(p, &n->out[0].t), np->placed[0] = true;
    p->storages[np->place[0].storage].kind = kinds[n->kind];
    p->storages[np->place[0].storage].leaf = n;
    p->storages[np->place[0].storage].last = -1; /* the last step that reads it */
}

static td_place place_as(td_plan *p, const td_place *from, const td_tensor *dims,
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
static td_place place_of(td_plan *p, td_value *v, const td_node *why)
{
    td_value     *r = resolve(p, v);
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
    return place_as(p, &np->place[r->slot], &v->t, why);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static td_step *new_step(td_plan *p, const td_kernel *kernel, const td_node *n)
{
    td_step *s = td_arena_alloc(p->memory, sizeof *s);
    if (!s || !grow(p, &p->steps, p->n_steps, &p->steps_room, sizeof *p->steps)) {
        out_of_memory(p);
        return NULL;
    }
    s->kernel = kernel, s->node = n, s->workspace = -1;
    s->call.services = p->device.services, s->call.backend = p->device.state;
    memset(s->in, -1, sizeof s->in), memset(s->out, -1, sizeof s->out);
    return s;
}

static void set_in(td_plan *p, td_step *s, int k, const td_place *place)
{
    s->call.in[k] = place->view, s->in[k] = place->storage, s->in_offset[k] = place->offset;
    s->call.in[k].data = s; /* present; bind puts the address */
    p->storages[place->storage].last = p->n_steps;
}

static void set_out(td_plan *p, td_step *s, int k, const td_place *place)
{
    s->call.out[k] = place->view, s->out[k] = place->storage, s->out_offset[k] = place->offset;
    s->call.out[k].data = s;
    if (p->storages[place->storage].last < p->n_steps)
        p->storages[place->storage].last = p->n_steps;
}

static void finish_step(td_plan *p, td_step *s)
{
    size_t bytes = s->kernel->workspace ? s->kernel->workspace(&s->call) : 0;
    if (bytes)
        s->workspace = td_plan_storage(p, TD_STORAGE_ARENA, TD_F32, (int64_t)((bytes + 3) / 4));
    p->steps[p->n_steps++] = s;
}

td_place td_plan_copy(td_plan *p, const td_place *from, const td_node *why)
{
    td_tensor        t = { .dtype = from->view.dtype, .rank = from->view.rank };
    const td_kernel *kernel = td_plan_kernel(p, "copy", from->view.dtype, NULL);
    td_step         *s;
    td_place         to = *from;

    memcpy(t.dim, from->view.dim, sizeof t.dim);
    to.view = td_view_dense(t.dtype, t.rank, t.dim);
    if (p->asking)
        return to;
    s = kernel ? new_step(p, kernel, NULL) : NULL;
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
    finish_step(p, s);
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
static td_view output_view(const td_node *n, const td_kernel *kernel, int k, const td_call *call)
{
    const td_tensor *t = &n->out[k].t;
    int              from = shared_input(n, call, k);
    if (from >= 0)
        return call->in[from];
    for (int i = 0; kernel->flags & TD_KERNEL_STRIDED_OUT && i < n->n_in; i++)
        if (gives_order(n, &call->in[i], i, t))
            return td_view_like(&call->in[i], t);
    return td_view_dense(t->dtype, t->rank, t->dim);
}

static td_place output_place(td_plan *p, const td_node *n, const td_kernel *kernel, int k,
                             const td_step *s)
{
    const td_tensor *t = &n->out[k].t;
    td_view          view = output_view(n, kernel, k, &s->call);
    int              from = shared_input(n, &s->call, k);
    if (from >= 0)
        return (td_place){ s->in[from], s->in_offset[from], view };
    return (td_place){ td_plan_storage(p, TD_STORAGE_ARENA, t->dtype, td_count(t)), 0, view };
}

static td_value *input_of(const td_node *n, const td_node_plan *np, int k)
{
    if (np->accumulate && k == n->op->accumulate_in - 1)
        return np->accumulate;
    return k < n->n_in ? n->in[k] : NULL;
}

/* The dims that input k must have: a folded summand takes those of the product. */
static td_place input_place(td_plan *p, td_node *n, const td_node_plan *np, const td_kernel *kernel,
                            int k)
{
    td_value *v = input_of(n, np, k);
    td_place  place = place_of(p, v, n);
    bool      state = false;
    for (int o = 0; o < n->n_out; o++)
        state |= n->op->inplace[o] == k + 1;
    if (np->accumulate && k == n->op->accumulate_in - 1)
        place = place_as(p, &place, &n->out[n->op->accumulate_out].t, n);
    if (state && p->storages[place.storage].kind != TD_STORAGE_VARIABLE) {
        if (td_state_of(v))
            td_fail(&p->error, TD_EGRAPH,
                    "%s: '%s' cannot write to the state '%s' as it is shown here, which needs a "
                    "copy: give it the state itself",
                    n->path, n->op->plugin.name, td_state_of(v)->variable->name);
        return td_plan_copy(p, &place, n); /* not ours to change */
    }
    if (!(kernel->flags & TD_KERNEL_STRIDED_IN) && !td_view_is_dense(&place.view))
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
            td_plan_node(p, state)->changed = p->n_steps;
    }
}

/* Other windows of a state that the step writes to are copied before it does. */
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

static void input_places(td_plan *p, td_node *n, const td_kernel *kernel, td_place *in,
                         bool *present, int n_in)
{
    td_node_plan *np = td_plan_node(p, n);
    for (int k = 0; k < n_in; k++) {
        present[k] = input_of(n, np, k) != NULL;
        if (present[k])
            in[k] = input_place(p, n, np, kernel, k);
    }
    keep_apart(p, n, in, present, n_in);
}

/* Whether the kernel takes the call: asked before anything is copied for it. */
static bool accepts(td_plan *p, td_node *n, const td_kernel *kernel, int n_in)
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
    input_places(p, n, kernel, in, present, n_in);
    p->asking = false;
    for (int k = 0; k < n_in; k++)
        if (present[k])
            call.in[k] = in[k].view, call.in[k].data = n;
    for (int k = 0; k < n->n_out; k++) {
        call.out[k] = output_view(n, kernel, k, &call);
        call.out[k].data = is_written(p, n, &call, k) ? n : NULL;
    }
    return kernel->accepts(&call);
}

/* Fill a step for the node; false if the kernel does not take the call. */
static bool run_kernel(td_plan *p, td_node *n, const td_kernel *kernel)
{
    td_node_plan *np = td_plan_node(p, n);
    int           n_in = n->n_in > n->op->accumulate_in ? n->n_in : n->op->accumulate_in;
    td_place      in[TD_MAX_INPUTS];
    bool          present[TD_MAX_INPUTS];
    td_step      *s;

    if (!accepts(p, n, kernel, n_in))
        return false;
    input_places(p, n, kernel, in, present, n_in);
    s = new_step(p, kernel, n);
    if (!s)
        return true;
    s->call.attrs = &n->attrs, s->call.n_in = n_in, s->call.n_out = n->n_out;
    for (int k = 0; k < n_in; k++)
        if (present[k])
            set_in(p, s, k, &in[k]);
    for (int k = 0; k < n->n_out; k++) {
        s->call.out[k] = td_view_dense(n->out[k].t.dtype, n->out[k].t.rank, n->out[k].t.dim);
        if (!is_written(p, n, &s->call, k))
            continue;
        np->place[k] = output_place(p, n, kernel, k, s), np->placed[k] = true;
        set_out(p, s, k, &np->place[k]);
    }
    finish_step(p, s);
    note_changes(p, n);
    return true;
}

static void schedule(td_plan *p, td_node *n);

/* The lowering gives what the op says: kernels rely on the op's dims. */
static int check_lowered(td_plan *p, const td_node *n, td_tensor *const *out)
{
    const bool *used = td_plan_node(p, n)->used;
    for (int k = 0; k < n->n_out; k++) {
        const td_tensor *t = &n->out[k].t;
        if (used[k] && (!out[k] || !td_has_dims(out[k], t->dtype, t->rank, t->dim)))
            return td_fail(&p->error, TD_EGRAPH,
                           "%s: the lowering of '%s' gives output %d %s the op has", n->path,
                           n->op->plugin.name, k,
                           out[k] ? "with other dims or another dtype than" : "not at all, which");
    }
    return 0;
}

/* No kernel: emit simpler ops in the node's place, and schedule those. */
static void lower(td_plan *p, td_node *n)
{
    td_node_plan  *np = td_plan_node(p, n);
    td_graph_full *g = p->g;
    td_tensor     *in[TD_MAX_INPUTS] = { NULL }, *out[TD_MAX_OUTPUTS] = { NULL };
    int32_t        from = g->n_nodes;
    int            n_in = n->n_in > n->op->accumulate_in ? n->n_in : n->op->accumulate_in;
    const char    *path = g->scopes[g->depth].path;

    for (int k = 0; k < n_in; k++) {
        td_value *v = input_of(n, np, k);
        if (v)
            in[k] = &resolve(p, v)->t;
    }
    g->unique = true, g->backward = n->backward, g->scopes[g->depth].path = n->path;
    if (np->accumulate) /* dims of the product */
        in[n->op->accumulate_in - 1] = td_reshape(in[n->op->accumulate_in - 1],
                                                  n->out[n->op->accumulate_out].t.dim,
                                                  n->out[n->op->accumulate_out].t.rank);
    n->op->lower(&g->base, in, n_in, &n->attrs, np->used, out);
    g->unique = false, g->backward = false, g->scopes[g->depth].path = path;
    if (td_graph_error(&g->base, &p->error) || check_lowered(p, n, out))
        return;
    for (int k = 0; k < n->n_out; k++)
        if (np->used[k]) {
            np->alias[k] = td_value_of(out[k]);
            make_live(p, td_value_of(out[k])->node, td_value_of(out[k])->slot);
        }
    find_live(p, from, g->n_nodes);
    for (int32_t i = from, to = g->n_nodes; i < to && !p->error.code; i++)
        if (td_plan_node(p, g->nodes[i])->live)
            schedule(p, g->nodes[i]);
}

/* reshape, permute, expand, slice, detach: another window of the same storage. */
static void view(td_plan *p, td_node *n)
{
    td_node_plan    *np = td_plan_node(p, n);
    td_place         from = place_of(p, n->in[0], n), to = from;
    const td_tensor *t = &n->out[0].t;

    if (td_node_is(n, "reshape"))
        to = place_as(p, &from, t, n);
    else if (td_node_is(n, "permute"))
        for (int k = 0; k < t->rank; k++)
            to.view.dim[k] = t->dim[k], to.view.stride[k] = from.view.stride[n->attrs.i[k]];
    else if (td_node_is(n, "expand")) {
        for (int k = 0; k < t->rank; k++) {
            to.view.stride[k] = t->dim[k] == from.view.dim[k] ? from.view.stride[k] : 0;
            to.view.dim[k] = t->dim[k];
        }
    } else if (td_node_is(n, "slice")) {
        to.offset += n->attrs.i[1] * from.view.stride[n->attrs.i[0]];
        to.view.dim[n->attrs.i[0]] = n->attrs.i[2];
    }
    np->place[0] = to, np->placed[0] = true, np->copied = p->n_steps;
}

static void schedule(td_plan *p, td_node *n)
{
    const td_kernel *kernel;
    if (n->kind != TD_NODE_OP || td_plan_node(p, n)->folded || p->error.code)
        return;
    if (n->op->flags & TD_OP_VIEW) {
        view(p, n);
        return;
    }
    for (kernel = kernel_of(p, n); kernel;
         kernel = td_plan_kernel(p, n->op->plugin.name, kernel_dtype(n), kernel))
        if (run_kernel(p, n, kernel))
            return;
    if (n->op->lower)
        lower(p, n);
    else
        td_fail(&p->error, TD_EUNSUPPORTED,
                "%s: op '%s' has no kernel for %s on backend '%s', and no lowering", n->path,
                n->op->plugin.name, td_dtype_name(kernel_dtype(n)), p->device.backend->plugin.name);
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void place_roots(td_plan *p, td_tensor *const *roots)
{
    for (size_t k = 0; k < p->n_roots && !p->error.code; k++) {
        td_place place = place_of(p, td_value_of(roots[k]), NULL);
        if (!td_view_is_dense(&place.view))
            place = td_plan_copy(p, &place, NULL);
        p->roots[k] = place, p->root_tensors[k] = roots[k];
        p->storages[place.storage].last = INT32_MAX;
    }
}

td_plan *td_plan_new(td_graph *graph, td_tensor *const *roots, size_t n, const td_device *device,
                     td_error *error)
{
    td_plan *p = calloc(1, sizeof *p);
    int32_t  count;

    if (!p || !(p->memory = td_arena_new())) {
        free(p);
        td_fail(error, TD_ENOMEM, "out of memory while planning the graph");
        return NULL;
    }
    p->g = td_full_of(graph), p->device = *device, p->n_roots = n;
    p->roots = td_arena_alloc(p->memory, (n + 1) * sizeof *p->roots);
    p->root_tensors = td_arena_alloc(p->memory, (n + 1) * sizeof *p->root_tensors);
    if (!p->roots || !p->root_tensors)
        out_of_memory(p);
    else if (!td_graph_error(graph, &p->error) && !collect_kernels(p, &p->error)) {
        count = p->g->n_nodes;
        for (size_t k = 0; k < n; k++)
            make_live(p, td_value_of(roots[k])->node, td_value_of(roots[k])->slot);
        find_live(p, 0, count);
        fold_sums(p, count);
        for (int32_t i = 0; i < count && !p->error.code; i++)
            if (td_plan_node(p, p->g->nodes[i])->live)
                schedule(p, p->g->nodes[i]);
        place_roots(p, roots);
    }
    if (!p->error.code) {
        td_plan_merge(p);
        td_plan_arrange(p, &p->error);
    }
    if (!p->error.code)
        return p;
    td_fail(error, p->error.code, "%s", p->error.text);
    td_plan_free(p);
    return NULL;
}
