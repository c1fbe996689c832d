/* plan.c - from nodes to calls: liveness, order, kernels, lowering, folding. */
#include "plan/internal.h"

#include <stdlib.h>
#include <string.h>

#include "tandem/ops.h"

/* ---- storage for the plan's own lists -------------------------------------------------------- */

void td_plan_out_of_memory(td_plan *p)
{
    td_fail(&p->error, TD_ENOMEM, "out of memory while planning the graph");
}

bool td_plan_grow(td_plan *p, void *list, int32_t count, int32_t *room, size_t size)
{
    void  **at = list, *larger;
    int32_t wanted = *room ? *room : 256;
    if (count < *room)
        return true;
    while (wanted <= count)
        wanted *= 2;
    larger = realloc(*at, (size_t)wanted * size);
    if (!larger) {
        td_plan_out_of_memory(p);
        return false;
    }
    memset((char *)larger + (size_t)*room * size, 0, (size_t)(wanted - *room) * size);
    *at = larger;
    *room = wanted;
    return true;
}

td_node_plan *td_plan_node(td_plan *p, const td_node *n)
{
    if (!td_plan_grow(p, &p->nodes, n->index, &p->nodes_room, sizeof *p->nodes))
        return &p->no_node;
    if (!p->nodes[n->index])
        p->nodes[n->index] = td_arena_alloc(p->memory, sizeof **p->nodes);
    if (!p->nodes[n->index])
        td_plan_out_of_memory(p);
    return p->nodes[n->index] ? p->nodes[n->index] : &p->no_node;
}

int32_t td_plan_storage(td_plan *p, int kind, int dtype, int64_t count)
{
    td_storage *s;
    if (!td_plan_grow(p, &p->storages, p->n_storages, &p->storages_room, sizeof *p->storages))
        return 0;
    s = &p->storages[p->n_storages];
    *s = (td_storage){ .kind = kind,
                       .dtype = dtype,
                       .count = count,
                       .first = p->n_calls,
                       .last = p->n_calls,
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
            if (pass == !strcmp(plugin->name, backend)) {
                p->kernels[p->n_kernels++] = k;
                own++;
            }
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
    np->used[slot] = true;
    np->uses[slot]++;
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
            if (fold_into(p, n->in[k], n->in[!k])) {
                np->folded = true;
                np->alias[0] = n->in[k];
            }
    }
}

/* ---- lowering -------------------------------------------------------------------------------- */

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
        td_value *v = td_plan_input(n, np, k);
        if (v)
            in[k] = &td_plan_resolve(p, v)->t;
    }
    g->unique = true;
    g->backward = n->backward;
    g->scopes[g->depth].path = n->path;
    if (np->accumulate) /* dims of the product */
        in[n->op->accumulate_in - 1] = td_reshape(in[n->op->accumulate_in - 1],
                                                  n->out[n->op->accumulate_out].t.dim,
                                                  n->out[n->op->accumulate_out].t.rank);
    n->op->lower(&g->base, in, n_in, &n->attrs, np->used, out);
    g->unique = false;
    g->backward = false;
    g->scopes[g->depth].path = path;
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
        if (td_plan_call(p, n, kernel))
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
        td_place place = td_plan_place_of(p, td_value_of(roots[k]), NULL);
        if (!td_view_is_dense(&place.view))
            place = td_plan_copy(p, &place, NULL);
        p->roots[k] = place;
        p->root_tensors[k] = roots[k];
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
    p->g = td_full_of(graph);
    p->device = *device;
    p->n_roots = n;
    p->roots = td_arena_alloc(p->memory, (n + 1) * sizeof *p->roots);
    p->root_tensors = td_arena_alloc(p->memory, (n + 1) * sizeof *p->root_tensors);
    if (!p->roots || !p->root_tensors)
        td_plan_out_of_memory(p);
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
