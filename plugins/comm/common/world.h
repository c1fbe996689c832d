/* world.h - the hooks of a comm that connects the processes of MPI_COMM_WORLD, in host memory
 * (tandem/kind/comm.h). */
#ifndef TD_COMM_WORLD_H
#define TD_COMM_WORLD_H

#include "tandem/kind/comm.h"

/* What td_world_open returns. */
typedef struct td_world {
    int                rank, size;
    const td_services *services;
    void              *device; /* the module's own: what connects devices; NULL at first */
} td_world;

int  td_world_open(const void *config, const td_services *, void **state, td_error *error);
void td_world_close(void *state);
int  td_world_rank(void *state);
int  td_world_size(void *state);
int  td_world_all_reduce(void *state, void *data, int64_t count, int dtype, td_error *error);
int  td_world_all_to_all(void *state, const void *send, void *receive, size_t bytes,
                         td_error *error);
int  td_world_all_gather(void *state, const void *send, void *receive, size_t bytes,
                         td_error *error);
int  td_world_broadcast(void *state, void *data, size_t bytes, int root, td_error *error);

/* These hooks, in a td_comm. */
#define TD_WORLD_HOOKS                                                               \
    .rank = td_world_rank, .size = td_world_size, .all_reduce = td_world_all_reduce, \
    .all_to_all = td_world_all_to_all, .all_gather = td_world_all_gather,            \
    .broadcast = td_world_broadcast

/* And those of a module that connects devices, whose functions have the hooks' names. */
#define TD_WORLD_DEVICE_HOOKS                                                                   \
    .attach = attach, .detach = detach, .device_begin = device_begin, .device_end = device_end, \
    .device_all_reduce = device_all_reduce, .device_all_to_all = device_all_to_all,             \
    .device_all_gather = device_all_gather, .device_broadcast = device_broadcast,               \
    .device_wait = device_wait

#endif
