/* kind/backend.h - a compute backend: memory, copies and a queue.
 *
 * What it computes with is in its kernels, plugins of kind/kernels.h that name it. The host opens a
 * backend once per run, allocates one arena for all plans, uploads batches, runs plans kernel by
 * kernel, and downloads results. A backend whose memory is the host's leaves upload and download
 * NULL, and one that queues nothing leaves sync NULL. Memory of a device is touched by its kernels
 * and these hooks alone.
 *
 * All hooks are called by one thread. `state` is what `open` returned.
 *
 * Example:
 *
 *     #include <stdlib.h>
 *     #include <string.h>
 *
 *     // Host memory, no queue; td_kernels rows in the same module do the rest.
 *     static int open_plain(const void *config, const td_services *services, void **state,
 *                           td_error *error)
 *     {
 *         (void)config;
 *         (void)error;
 *         *state = (void *)services; // nothing else to remember
 *         return 0;
 *     }
 *
 *     static void close_plain(void *state) { (void)state; }
 *
 *     static void *allocate(void *state, size_t bytes)
 *     {
 *         size_t whole = (bytes + 63) / 64 * 64;
 *         void  *memory = aligned_alloc(64, whole);
 *         (void)state;
 *         return memory ? memset(memory, 0, whole) : NULL;
 *     }
 *
 *     static void release(void *state, void *memory, size_t bytes)
 *     {
 *         (void)state;
 *         (void)bytes;
 *         free(memory);
 *     }
 *
 *     static const td_backend plain = {
 *         .plugin = TD_PLUGIN(td_backend, TD_BACKEND_KIND, "plain", NULL, char,
 *                             .brief = "host memory and plain C"),
 *         .real = TD_F32,
 *         .open = open_plain,
 *         .close = close_plain,
 *         .allocate = allocate,
 *         .release = release,
 *     };
 */
#ifndef TANDEM_KIND_BACKEND_H
#define TANDEM_KIND_BACKEND_H

#include "../graph.h"
#include "../host.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_BACKEND_KIND "backend/1"

typedef struct td_backend {
    td_plugin plugin;
    int32_t   real; /* the dtype that it computes in: TD_F32, or TD_F64 for a checking backend */
    /* Start, and set *state, which the plugin owns. After a failure `close` is not called. The
     * services outlive the backend. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Device memory, zeroed and aligned to 64 bytes; NULL if there is not enough. `release` gets
     * the same size again. [main] */
    void *(*allocate)(void *state, size_t bytes);
    void (*release)(void *state, void *memory, size_t bytes);
    /* Copy between host and device memory, in order with what is queued: 0 or a negative td_status.
     * NULL, both: device memory is host memory. [main] */
    int (*upload)(void *state, void *device, const void *host, size_t bytes);
    int (*download)(void *state, void *host, const void *device, size_t bytes);
    /* Wait until everything queued is done, and return its first failure. NULL: kernels return when
     * they are done. [main] */
    int (*sync)(void *state);
    /* Write what it runs on, for logs and `tandem doctor`: libraries, versions, instruction set,
     * threads. At most `size` bytes, zero included. NULL: nothing to say. [main] */
    void (*describe)(void *state, char *text, size_t size);
    /* Write what is wrong or slow about it on this machine, a line each; "" if nothing is. NULL:
     * never anything. [main] */
    void (*diagnose)(void *state, char *text, size_t size);
    /* Measure and return the rate of dense matrix products of this machine in FLOP/s, in `real`:
     * what `tandem bench` compares with. NULL: unknown. [main] */
    double (*peak)(void *state);
    /* Write what determines the bits of its results besides the inputs: instruction set, libraries
     * (not threads). A run resumed where this differs is warned that it cannot be exact. NULL:
     * nothing does. [main] */
    void (*arithmetic)(void *state, char *text, size_t size);
} td_backend;

#ifdef __cplusplus
}
#endif
#endif
