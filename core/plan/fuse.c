/* fuse.c - consecutive calls that the backend computes together: see td_fusion.
 *
 * This comes after all calls are planned and before storages share memory: calls that are computed
 * together need all their operands at once.
 */
#include "plan/internal.h"
#include "plugin/hook.h"

enum { STORAGE_BITS = 40 }; /* of a stand-in for an address: 1 TiB for each storage */

/* An address that differs from those in all other storages. None is valid before memory is bound. */
static void *stand_in(int32_t storage, int64_t offset, int dtype)
{
    uintptr_t at = (uintptr_t)storage + 1;
    return (void *)((at << STORAGE_BITS) + (uintptr_t)offset * td_dtype_size(dtype));
}

static td_call shown(const td_kernel_call *c)
{
    td_call call = c->call;
    for (int k = 0; k < call.n_in; k++)
        call.in[k].data = c->in[k] < 0 ? NULL
                                       : stand_in(c->in[k], c->in_offset[k], call.in[k].dtype);
    for (int k = 0; k < call.n_out; k++)
        call.out[k].data = c->out[k] < 0 ? NULL
                                         : stand_in(c->out[k], c->out_offset[k], call.out[k].dtype);
    return call;
}

static bool touches(const td_kernel_call *c, int32_t storage)
{
    for (int k = 0; k < c->call.n_in; k++)
        if (c->in[k] == storage)
            return true;
    for (int k = 0; k < c->call.n_out; k++)
        if (c->out[k] == storage)
            return true;
    return false;
}

/* Whether one of the calls before writes to a state that call `c` reads or writes, or the other way
 * round. Other storages are written by one call, before those that read them. */
static bool shares_state(const td_plan *p, int32_t from, int32_t to, const td_kernel_call *c)
{
    for (int32_t i = from; i < to; i++) {
        const td_kernel_call *before = p->calls[i];
        for (int k = 0; k < before->call.n_out; k++)
            if (before->out[k] >= 0 && p->storages[before->out[k]].kind != TD_STORAGE_ARENA &&
                touches(c, before->out[k]))
                return true;
        for (int k = 0; k < c->call.n_out; k++)
            if (c->out[k] >= 0 && p->storages[c->out[k]].kind != TD_STORAGE_ARENA &&
                touches(before, c->out[k]))
                return true;
    }
    return false;
}

/* The calls from `from` on that could be computed together, if the backend can; copies are calls
 * without a node, and so without an op. */
static int window(const td_plan *p, int32_t from)
{
    int32_t n = 0;
    while (n < TD_MOST_FUSED && from + n < p->n_calls) {
        const td_kernel_call *c = p->calls[from + n];
        /* an assignment may turn out not to be needed */
        if (!c->node || td_node_is(c->node, "assign") || shares_state(p, from, from + n, c))
            break;
        n++;
    }
    return n;
}

/* The storage is in use from the first of the calls to the last. Returns whether none reads it after
 * them. */
static bool span(td_plan *p, int32_t storage, int32_t from, int32_t to)
{
    td_storage *s = &p->storages[storage];
    bool        ends = s->kind == TD_STORAGE_ARENA && s->last < to;
    if (s->first > from)
        s->first = from;
    if (s->last < to - 1)
        s->last = to - 1;
    return ends;
}

static void join(td_plan *p, int32_t from, int n, const td_fusion *f)
{
    for (int32_t i = from; i < from + n; i++) {
        td_kernel_call *c = p->calls[i];
        c->fusion = f;
        c->together = i == from ? n : 0;
        for (int k = 0; k < c->call.n_in; k++)
            if (c->in[k] >= 0)
                span(p, c->in[k], from, from + n);
        for (int k = 0; k < c->call.n_out; k++)
            if (c->out[k] >= 0 && span(p, c->out[k], from, from + n))
                c->call.inner |= 1u << k;
        if (c->workspace >= 0)
            span(p, c->workspace, from, from + n);
    }
}

/* How many calls from `from` on are computed together, in a fusion of these kernels; 0: none. */
static int ask(td_plan *p, const td_kernels *of, int32_t from, int n)
{
    td_call          calls[TD_MOST_FUSED];
    const td_call   *list[TD_MOST_FUSED];
    const td_kernel *kernels[TD_MOST_FUSED];

    for (int k = 0; k < n; k++) {
        calls[k] = shown(p->calls[from + k]);
        list[k] = &calls[k];
        kernels[k] = p->calls[from + k]->kernel;
    }
    for (size_t i = 0; i < of->n_fusions; i++) {
        int takes = TD_HOOK_AS(&of->fusions[i], &of->plugin, takes, true, list, kernels, n);
        if (takes < 2 || takes > n)
            continue;
        join(p, from, takes, &of->fusions[i]);
        return takes;
    }
    return 0;
}

void td_plan_fuse(td_plan *p)
{
    int32_t i = 0;
    /* transfers come between calls */
    if (p->g->options.shared)
        return;
    while (i < p->n_calls) {
        int taken = 0, n = window(p, i);
        for (size_t k = 0; k < p->n_kernels && !taken && n > 1; k++)
            taken = p->kernels[k]->n_fusions ? ask(p, p->kernels[k], i, n) : 0;
        i += taken ? taken : 1;
    }
}
