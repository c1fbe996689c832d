/* records.c - the planner's records: of nodes, storages and calls; and the end of a plan.
 *
 * Planning fails in one way: p->error is set, and the loop over nodes stops. Until then code
 * continues with stand-ins (no_node, storage 0) and need not check every record.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/internal.h"
#include "plugin/hook.h"

void td_plan_out_of_memory(td_plan *p)
{
    td_fail(&p->error, TD_ENOMEM, "out of memory while planning the graph");
}

int td_plan_refuse(td_plan *p, int code, const td_node *n, const char *format, ...)
{
    const char *path = n ? n->path : "";
    char        text[1024];
    va_list     args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return td_fail(&p->error, code, "%s%s%s", path, *path ? ": " : "", text);
}

bool td_plan_grow(td_plan *p, void *list, int32_t count, int32_t *room, size_t size)
{
    void  **at = list, *larger;
    int32_t wanted = *room ? *room : 256;
    if (count < *room)
        return true;
    /* a node's record is requested by its index, which may be far beyond the end of the list */
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
    assert(n->index >= 0 && n->index < p->g->n_nodes && p->g->nodes[n->index] == n);
    if (!td_plan_grow(p, &p->nodes, n->index, &p->nodes_room, sizeof *p->nodes))
        return &p->no_node;
    if (!p->nodes[n->index])
        p->nodes[n->index] = td_arena_alloc(p->records, sizeof **p->nodes);
    if (!p->nodes[n->index])
        td_plan_out_of_memory(p);
    return p->nodes[n->index] ? p->nodes[n->index] : &p->no_node;
}

int32_t td_plan_storage(td_plan *p, int kind, int dtype, int64_t count)
{
    td_storage *s;
    assert(count >= 0);
    /* the list moves as it grows, so storages are known by index; keep no pointers to them */
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

/* Chains are a few merges long, so their paths are not compressed. */
int32_t td_storage_root(const td_plan *p, int32_t s)
{
    assert(s >= 0 && s < p->n_storages);
    while (p->storages[s].same_as != s)
        s = p->storages[s].same_as;
    return s;
}

void td_plan_free(td_plan *p)
{
    if (!p)
        return;
    td_plan_forget(p);
    /* not the arena, which is the caller's, nor variables, which belong to their set */
    if (p->own_memory)
        TD_HOOK_QUICK(p->device.backend, release, p->device.state, p->own_memory, p->own_bytes);
    td_arena_free(p->records);
    free(p->scratch);
    free(p->transfers);
    free(p->nodes);
    free(p->calls);
    free(p->storages);
    free(p);
}
