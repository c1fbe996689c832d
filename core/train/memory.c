/* memory.c - memory of the host or of a device: taking, copying, adding. */
#include "train/memory.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/hook.h"

bool td_memory_can(const td_device *d)
{
    return d->backend->upload && d->backend->copy && d->backend->add;
}

bool td_memory_sees(const td_memory *m) { return m->on_device || !m->device->backend->download; }

void *td_memory_take(td_memory *m, double bytes)
{
    const td_device *d = m->device;
    size_t n = bytes < 9e18 ? (size_t)bytes + 1 : 0; /* the caller's sizes may be absurd */
    void  *at = NULL;
    if (n && m->count < TD_MEMORY_BLOCKS)
        at = m->on_device ? TD_HOOK_QUICK(d->backend, allocate, d->state, n) : calloc(n, 1);
    if (at)
        m->blocks[m->count++] = (td_memory_block){ at, n };
    return at;
}

void td_memory_free(td_memory *m)
{
    const td_device *d = m->device;
    for (int k = 0; k < m->count; k++)
        if (m->on_device)
            TD_HOOK_QUICK(d->backend, release, d->state, m->blocks[k].at, m->blocks[k].bytes);
        else
            free(m->blocks[k].at);
    m->count = 0;
}

int td_memory_copy(const td_memory *m, void *to, const void *from, size_t bytes)
{
    const td_device *d = m->device;
    if (!bytes)
        return 0;
    if (m->on_device)
        return TD_HOOK_QUICK(d->backend, copy, d->state, to, from, bytes);
    memcpy(to, from, bytes);
    return 0;
}

int td_memory_get(const td_memory *m, void *to, const void *device, size_t bytes)
{
    return m->on_device ? td_memory_copy(m, to, device, bytes)
                        : td_device_read(m->device, to, device, bytes);
}

int td_memory_put(const td_memory *m, void *device, const void *from, size_t bytes)
{
    return m->on_device ? td_memory_copy(m, device, from, bytes)
                        : td_device_write(m->device, device, from, bytes);
}

int td_memory_add(const td_memory *m, void *to, const void *more, int64_t count, int dtype)
{
    const td_device *d = m->device;
    if (m->on_device)
        return TD_HOOK_QUICK(d->backend, add, d->state, to, more, count, dtype);
    td_add_numbers(d->services, to, more, count, dtype);
    return 0;
}
