/* memory.h - the memory in which gradients are added up: the device's if its backend can add there,
 * so that nothing passes through the host; otherwise the host's.
 *
 *     td_memory m = { .device = device, .on_device = td_memory_can(device) };
 *     char *sum = td_memory_take(&m, bytes);
 *     td_memory_get(&m, sum, variable->memory, bytes);      from the device ..
 *     td_memory_add(&m, sum, more, count, dtype);
 *     td_memory_put(&m, variable->memory, sum, bytes);      .. and back
 *     td_memory_free(&m);
 */
#ifndef TD_TRAIN_MEMORY_H
#define TD_TRAIN_MEMORY_H

#include "plan/plan.h"
#include "train/tree.h"

enum { TD_MEMORY_BLOCKS = TD_TREE_LEVELS + 4 };

typedef struct td_memory_block {
    void  *at;
    size_t bytes;
} td_memory_block;

typedef struct td_memory {
    const td_device *device;
    bool             on_device;
    td_memory_block  blocks[TD_MEMORY_BLOCKS];
    int              count;
} td_memory;

/* Whether a backend can add in its own memory. */
bool  td_memory_can(const td_device *);
/* Zeroed, as all memory here is, and released by td_memory_free. NULL: there is not enough. */
void *td_memory_take(td_memory *, double bytes);
void  td_memory_free(td_memory *);

/* Copies from the memory of the device to this, back, and within this; to += more. On a device they
 * are queued. 0 or a negative td_status. */
int  td_memory_get(const td_memory *, void *to, const void *device, size_t bytes);
int  td_memory_put(const td_memory *, void *device, const void *from, size_t bytes);
int  td_memory_copy(const td_memory *, void *to, const void *from, size_t bytes);
int  td_memory_add(const td_memory *, void *to, const void *more, int64_t count, int dtype);
/* Whether the memory of the device can be added to this as it is. */
bool td_memory_sees(const td_memory *);

#endif
