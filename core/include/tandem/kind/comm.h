/* kind/comm.h - communication between the processes of one run.
 *
 * The processes of a run are ranks 0 .. size - 1. Each computes its share of the micro-batches; a
 * comm adds up gradients and distributes what rank 0 decides. Every rank makes the same calls in
 * the same order, so none needs a tag. Sums are taken in the order of ranks, never of arrival: all
 * ranks must get the same bits, run after run. `single` is the comm of one process.
 *
 * (Training uses one process today: it opens and closes the comm and calls no other hook.)
 *
 * Example:
 *
 *     // One process: sums and copies over all ranks are what is already there.
 *     static int join(const void *config, const td_services *services, void **state,
 *                     td_error *error)
 *     {
 *         (void)config;
 *         (void)error;
 *         *state = (void *)services;
 *         return 0;
 *     }
 *
 *     static void leave(void *state) { (void)state; }
 *
 *     static int rank_of(void *state)
 *     {
 *         (void)state;
 *         return 0;
 *     }
 *
 *     static int size_of(void *state)
 *     {
 *         (void)state;
 *         return 1;
 *     }
 *
 *     static int sum(void *state, void *data, int64_t count, int dtype, td_error *error)
 *     {
 *         (void)state;
 *         (void)data;
 *         (void)count;
 *         (void)dtype;
 *         (void)error;
 *         return 0;
 *     }
 *
 *     static const td_comm alone = {
 *         .plugin = TD_PLUGIN(td_comm, TD_COMM_KIND, "alone", NULL, char, .brief = "one process"),
 *         .open = join,
 *         .close = leave,
 *         .rank = rank_of,
 *         .size = size_of,
 *         .all_reduce = sum,
 *     };
 */
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
    /* Find and join the other processes; set *state, which the plugin owns. After a failure `close`
     * is not called. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    int (*rank)(void *state);   /* of this process, from 0; NULL: 0. [any] */
    int (*size)(void *state);   /* the number of processes; NULL: 1. [any] */
    /* Replace `count` numbers of `dtype` (TD_F32 or TD_F64) by their sums over all ranks, added in
     * the order of ranks. [worker] */
    int (*all_reduce)(void *state, void *data, int64_t count, int dtype, td_error *error);
    /* Replace `data` by that of rank `root`. [worker] */
    int (*broadcast)(void *state, void *data, size_t bytes, int root, td_error *error);
    /* Return when all ranks have called it. [main] */
    int (*barrier)(void *state, td_error *error);
} td_comm;

#ifdef __cplusplus
}
#endif
#endif
