/* matrix.c - `tandem plugins matrix`: how each op runs on each backend.
 *
 *     op                cpu           reference
 *     matmul            kernel        kernel
 *     elu_plus_one      lowered       lowered
 */
#include "plugins/matrix.h"

#include <stdio.h>
#include <string.h>

#include "tandem/kind/kernels.h"

enum { MOST_BACKENDS = 16, COLUMN = 18 };

/* Kernels for a backend may come from any module, so all plugins of that kind are searched. */
static bool has_kernel(const td_registry *r, const char *backend, const char *op, int32_t dtype)
{
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_kernels *k = (const void *)td_registry_plugin(r, i);
        if (strcmp(k->plugin.kind, TD_KERNELS_KIND) || strcmp(k->backend, backend))
            continue;
        for (size_t j = 0; j < k->count; j++)
            if (k->rows[j].dtype == dtype && !strcmp(k->rows[j].op, op))
                return true;
    }
    return false;
}

const char *td_plugins_how(const td_registry *r, const td_backend *b, const td_op *op)
{
    if (op->flags & TD_OP_VIEW)
        return "view";
    if (has_kernel(r, b->plugin.name, op->plugin.name, TD_F32) ||
        has_kernel(r, b->plugin.name, op->plugin.name, TD_F64)) {
        bool narrow = has_kernel(r, b->plugin.name, op->plugin.name, TD_BF16);
        if (has_kernel(r, b->plugin.name, op->plugin.name, TD_I32))
            return narrow ? "kernel +bf16 +i32" : "kernel +i32";
        return narrow ? "kernel +bf16" : "kernel";
    }
    return op->lower ? "lowered" : "-";
}

void td_plugins_matrix(const td_registry *r)
{
    const td_backend *backends[MOST_BACKENDS];
    size_t            n = 0;
    for (size_t i = 0; i < td_registry_count(r) && n < MOST_BACKENDS; i++)
        if (!strcmp(td_registry_plugin(r, i)->kind, TD_BACKEND_KIND))
            backends[n++] = (const void *)td_registry_plugin(r, i);
    printf("%-18s", "op");
    for (size_t b = 0; b < n; b++)
        printf("%-*s", COLUMN, backends[b]->plugin.name);
    putchar('\n');
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        if (strcmp(p->kind, TD_OP_KIND)) /* sorted by kind, then by name */
            continue;
        printf("%-18s", p->name);
        for (size_t b = 0; b < n; b++)
            printf("%-*s", COLUMN, td_plugins_how(r, backends[b], (const void *)p));
        putchar('\n');
    }
}
