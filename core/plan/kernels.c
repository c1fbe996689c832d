/* kernels.c - which kernels could compute a node on the plan's backend, the best first.
 *
 * Several rows may serve one (op, dtype): a module's fast kernel for some shapes, and the backend's
 * own for all. Rows are offered in order of precedence, and each may refuse a call.
 */
#include <string.h>

#include "plan/internal.h"
#include "plugin/hook.h"

static bool is_for(const td_plugin *plugin, const char *backend)
{
    return !strcmp(plugin->kind, TD_KERNELS_KIND) &&
           !strcmp(((const td_kernels *)(const void *)plugin)->backend, backend);
}

int td_plan_find_kernels(td_plan *p, td_error *error)
{
    const td_registry *registry = p->device.registry;
    const char        *backend = p->device.backend->plugin.name;
    size_t             count;

    /* this loads the backend's own kernels; modules that add to them were loaded when the registry
     * was set up */
    if (!td_registry_find(p->device.registry, TD_KERNELS_KIND, backend, error))
        return TD_EPLUGIN;
    count = td_registry_count(registry);
    p->kernels = td_arena_alloc(p->records, (count + 1) * sizeof *p->kernels);
    if (!p->kernels)
        return td_fail(error, TD_ENOMEM, "out of memory while listing kernels");
    /* kernels that other modules add come before the backend's own: they exist to replace those */
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < count; i++) {
            const td_plugin *plugin = td_registry_plugin(registry, i);
            bool             own = !strcmp(plugin->name, backend);
            if (is_for(plugin, backend) && own == (pass == 1))
                p->kernels[p->n_kernels++] = (const td_kernels *)(const void *)plugin;
        }
    return p->n_kernels ? 0 : td_fail(error, TD_EPLUGIN, "backend '%s' has no kernels", backend);
}

static bool has_row(const td_kernels *k, const char *op, int dtype)
{
    for (size_t i = 0; i < k->count; i++)
        if (k->rows[i].dtype == dtype && (!op || !strcmp(k->rows[i].op, op)))
            return true;
    return false;
}

int td_backend_real(td_registry *registry, const td_backend *b)
{
    const td_plugin *own = td_registry_find(registry, TD_KERNELS_KIND, b->plugin.name, NULL);
    /* without kernels every plan fails, and says so */
    return own && !has_row((const td_kernels *)(const void *)own, NULL, TD_F32) ? TD_F64 : TD_F32;
}

int td_device_real(const td_device *d) { return td_backend_real(d->registry, d->backend); }

bool td_device_has(const td_device *d, int narrow)
{
    bool casts = false, copies = false;
    for (size_t i = 0; i < td_registry_count(d->registry); i++) {
        const td_plugin  *plugin = td_registry_plugin(d->registry, i);
        const td_kernels *k = (const td_kernels *)(const void *)plugin;
        if (!is_for(plugin, d->backend->plugin.name))
            continue;
        casts |= has_row(k, "cast", narrow);
        copies |= has_row(k, "copy", narrow);
    }
    return casts && copies;
}

double td_device_peak(const td_device *d, int narrow)
{
    if (narrow && d->backend->peak_bf16)
        return TD_HOOK(d->backend, peak_bf16, d->state);
    return d->backend->peak ? TD_HOOK(d->backend, peak, d->state) : 0;
}

const td_kernel *td_plan_kernel(td_plan *p, const char *op, int dtype, const td_kernel *after)
{
    for (size_t i = 0; i < p->n_kernels; i++)
        for (size_t k = 0; k < p->kernels[i]->count; k++) {
            const td_kernel *row = &p->kernels[i]->rows[k];
            /* rows up to `after` were offered before */
            if (row == after)
                after = NULL;
            else if (!after && row->dtype == dtype && !strcmp(row->op, op))
                return row;
        }
    return NULL;
}

int td_plan_kernel_dtype(const td_node *n)
{
    /* the first input of these two is not data but ids and a condition */
    int first = td_node_is(n, "scatter_add") || td_node_is(n, "where") ? 1 : 0;
    for (int k = first; k < n->n_in; k++)
        if (n->in[k])
            return n->in[k]->t.dtype;
    return n->out[0].t.dtype;
}

/* Nearly every node takes the first row, so that one is remembered; a full memo is only slower. */
static const td_kernel *first_kernel(td_plan *p, const td_op *op, int dtype)
{
    const td_kernel *kernel;
    for (int32_t i = 0; i < p->n_choices; i++)
        if (p->choices[i].op == op && p->choices[i].dtype == dtype)
            return p->choices[i].kernel;
    kernel = td_plan_kernel(p, op->plugin.name, dtype, NULL);
    if (p->n_choices < (int32_t)(sizeof p->choices / sizeof *p->choices))
        p->choices[p->n_choices++] = (td_kernel_choice){ op, dtype, kernel };
    return kernel;
}

const td_kernel *td_plan_kernel_of(td_plan *p, const td_node *n, int dtype, const td_kernel *after)
{
    if (p->device.lower_all && n->op->lower)
        return NULL;
    return after ? td_plan_kernel(p, n->op->plugin.name, dtype, after)
                 : first_kernel(p, n->op, dtype);
}
