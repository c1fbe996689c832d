/* kind/comm.h - communication between the processes of one run. 'single' is one process. */
#ifndef TANDEM_KIND_COMM_H
#define TANDEM_KIND_COMM_H

#include "../graph.h"
#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_COMM_KIND "comm/1"

typedef struct td_comm {
    td_plugin plugin;
    /* Join the other processes; `state` is the plugin's own. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    int (*rank)(void *state);   /* of this process, from 0. [any] */
    int (*size)(void *state);   /* processes. [any] */
    /* Sum over ranks, in rank order, in place; `dtype` TD_F32 or TD_F64. [worker] */
    int (*all_reduce)(void *state, void *data, int64_t count, int dtype, td_error *error);
    /* `data` of rank `root` to all. [worker] */
    int (*broadcast)(void *state, void *data, size_t bytes, int root, td_error *error);
    /* Wait for all. [main] */
    int (*barrier)(void *state, td_error *error);
} td_comm;

#ifdef __cplusplus
}
#endif
#endif
