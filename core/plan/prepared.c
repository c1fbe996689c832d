/* prepared.c - a list of layouts; see prepared.h. */
#include "plan/prepared.h"

#include <stdlib.h>

#include "plan/internal.h"
#include "plugin/hook.h"

typedef struct layout {
    const td_kernel   *kernel;
    const td_variable *parameter;
    td_view            view; /* the part of the parameter, with its address */
    void              *memory;
    size_t             bytes;
    struct layout     *next;
} layout;

struct td_prepared {
    td_device device;
    layout   *first;
    size_t    bytes;
};

td_prepared *td_prepared_new(const td_device *device)
{
    td_prepared *p = calloc(1, sizeof *p);
    if (p)
        p->device = *device;
    return p;
}

void td_prepared_free(td_prepared *p)
{
    const td_backend *b = p ? p->device.backend : NULL;
    while (p && p->first) {
        layout *l = p->first;
        p->first = l->next;
        TD_HOOK_QUICK(b, release, p->device.state, l->memory, l->bytes);
        free(l);
    }
    free(p);
}

size_t td_prepared_bytes(const td_prepared *p) { return p->bytes; }

/* Plans of other shapes read the same parameters. A model has a few hundred, and plans are bound
 * rarely, so a list will do. */
static layout *find(const td_prepared *p, const td_kernel *kernel, const td_variable *parameter,
                    const td_view *view)
{
    for (layout *l = p->first; l; l = l->next)
        if (l->kernel == kernel && l->parameter == parameter && l->view.data == view->data &&
            td_view_same(&l->view, view))
            return l;
    return NULL;
}

static layout *add(td_prepared *p, const td_kernel *kernel, const td_variable *parameter,
                   const td_call *call, int in, size_t bytes, td_error *error)
{
    const td_backend *b = p->device.backend;
    layout           *l = calloc(1, sizeof *l);

    if (l)
        l->memory = TD_HOOK_QUICK(b, allocate, p->device.state, bytes);
    if (!l || !l->memory) {
        free(l);
        td_fail(error, TD_ENOMEM, "cannot allocate %zu bytes to lay out '%s' for kernel '%s'",
                bytes, parameter->name, kernel->op);
        return NULL;
    }
    /* laid out before it is listed: a layout in the list is always complete */
    if (kernel->prepare(call, in, l->memory)) {
        TD_HOOK_QUICK(b, release, p->device.state, l->memory, bytes);
        free(l);
        td_fail(error, TD_EIO, "kernel '%s' of backend '%s' failed to lay out '%s'", kernel->op,
                b->plugin.name, parameter->name);
        return NULL;
    }
    l->kernel = kernel;
    l->parameter = parameter;
    l->view = call->in[in];
    l->bytes = bytes;
    l->next = p->first;
    p->first = l;
    p->bytes += bytes;
    return l;
}

int td_prepare(td_prepared *p, const td_kernel *kernel, const td_variable *parameter, td_call *call,
               int in, td_error *error)
{
    size_t  bytes = kernel->prepared ? kernel->prepared(call, in) : 0;
    layout *l;

    call->prepared[in] = NULL;
    /* the kernel reads this operand as it lies */
    if (!bytes)
        return 0;
    l = find(p, kernel, parameter, &call->in[in]);
    if (!l)
        l = add(p, kernel, parameter, call, in, bytes, error);
    if (!l)
        return td_failed(error, TD_ENOMEM);
    call->prepared[in] = l->memory;
    return 0;
}
