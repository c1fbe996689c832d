/* kind/comm.h - communication between the processes of one run.
 *
 * The processes of a run are ranks 0 .. size - 1. Each computes some of the micro-batches of a step;
 * a comm moves gradients between them, and sends what rank 0 decides to all others. Every rank
 * makes the same calls in the same order, so calls need no tags. `single` is the comm of one
 * process.
 *
 * Calls come from several threads, but only from one at a time [turns]. A call waits for the other
 * ranks as long as it takes: the host limits the wait (comm.timeout). A call that fails because
 * another rank cannot be reached returns TD_EIO, after which the run may be resumed; one that fails
 * here, and would fail again, returns another code.
 *
 * A comm may also connect the devices of one backend, such as GPUs, so that gradients and parameters
 * move from device to device: it then has `backend` and all hooks after it. These calls do not wait:
 * they are queued behind the backend's other work, and `device_wait` waits for all of them.
 *
 * All memory belongs to the host. Sums must be the same on all ranks, and in every run on the same
 * number of ranks; where a run must have the same bits on any number of ranks (train.reduce =
 * "exact"), the host does the additions itself and uses the comm only to move data.
 *
 * Example:
 *
 *     // A single process: sums and copies over all ranks leave the data as it is.
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
 *     // This rank receives only what it sends to itself.
 *     static int copy(void *state, const void *send, void *receive, size_t bytes,
 *                     td_error *error)
 *     {
 *         (void)state;
 *         (void)error;
 *         memcpy(receive, send, bytes);
 *         return 0;
 *     }
 *
 *     static int share(void *state, void *data, size_t bytes, int root, td_error *error)
 *     {
 *         (void)state;
 *         (void)data;
 *         (void)bytes;
 *         (void)root;
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
 *         .all_to_all = copy,
 *         .all_gather = copy,
 *         .broadcast = share,
 *     };
 */
#ifndef TANDEM_KIND_COMM_H
#define TANDEM_KIND_COMM_H

#include "../graph.h"
#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_COMM_KIND "comm/2"

typedef struct td_comm {
    td_plugin plugin;
    /* Find and join the other processes; set *state, which the plugin owns. After a failure `close`
     * is not called. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    int (*rank)(void *state);   /* of this process, from 0. [any] */
    int (*size)(void *state);   /* the number of processes. [any] */
    /* Replace `count` numbers of `dtype` (TD_F32 or TD_F64) with their sums over all ranks. [turns] */
    int (*all_reduce)(void *state, void *data, int64_t count, int dtype, td_error *error);
    /* `send` and `receive` [size][bytes]: part r of `send` goes to rank r, and part r of `receive`
     * comes from rank r. [turns] */
    int (*all_to_all)(void *state, const void *send, void *receive, size_t bytes, td_error *error);
    /* `send` [bytes] of rank r becomes part r of every rank's `receive` [size][bytes]. [turns] */
    int (*all_gather)(void *state, const void *send, void *receive, size_t bytes, td_error *error);
    /* Replace `data` with the data of rank `root`. [turns] */
    int (*broadcast)(void *state, void *data, size_t bytes, int root, td_error *error);

    /* ---- memory of devices ---- */

    /* The name of the backend whose memory the hooks below take; NULL: none, and no such hooks. */
    const char *backend;
    /* Connect the processes' devices; `queue` belongs to this process's backend. A rank that fails
     * must not leave the others waiting; those return 0, since the host compares the codes of all
     * ranks and detaches them if one has failed. `detach` disconnects them, before the backend is
     * closed. [main] */
    int (*attach)(void *state, void *queue, td_error *error);
    void (*detach)(void *state);
    /* The transfers between these two are independent of each other, and may be queued as one.
     * [main] */
    int (*device_begin)(void *state, td_error *error);
    int (*device_end)(void *state, td_error *error);
    /* As the hooks above, on memory of the device; sums in TD_F32 or TD_F64, whichever the backend's
     * own kernels compute in. [main] */
    int (*device_all_reduce)(void *state, void *data, int64_t count, int dtype, td_error *error);
    int (*device_all_to_all)(void *state, const void *send, void *receive, size_t bytes,
                             td_error *error);
    int (*device_all_gather)(void *state, const void *send, void *receive, size_t bytes,
                             td_error *error);
    int (*device_broadcast)(void *state, void *data, size_t bytes, int root, td_error *error);
    /* Wait until all that is queued is done. [main] */
    int (*device_wait)(void *state, td_error *error);
} td_comm;

#ifdef __cplusplus
}
#endif
#endif
