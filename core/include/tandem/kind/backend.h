/* kind/backend.h - a compute backend: memory, copies and a queue.
 *
 * Its arithmetic is in its kernels, plugins of kind/kernels.h that name it: in f32 (in f64 for a
 * backend that checks others), and in bf16 if they have rows for it. The host opens a
 * backend once per run, allocates one arena for all plans, uploads batches, runs plans kernel by
 * kernel, and downloads results. A backend whose memory is the host's leaves upload and download
 * NULL, and one that queues nothing leaves sync NULL. Only its kernels and these hooks touch a
 * device's memory.
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

#define TD_BACKEND_KIND "backend/2"

typedef struct td_backend {
    td_plugin plugin;
    /* Start, and set *state, which the plugin owns. `close` is not called after a failure.
     * TD_EUNSUPPORTED means that this machine lacks something that the backend needs, such as a GPU;
     * it does not count as a fault. The services outlive the backend. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Device memory, zeroed and aligned to 64 bytes; NULL if there is not enough. `release` gets
     * the same size again. [main] */
    void *(*allocate)(void *state, size_t bytes);
    void (*release)(void *state, void *memory, size_t bytes);
    /* Copy between host and device memory, in order with the queued work: 0 or a negative
     * td_status. Both NULL: device memory is host memory. [main] */
    int (*upload)(void *state, void *device, const void *host, size_t bytes);
    int (*download)(void *state, void *host, const void *device, size_t bytes);
    /* Wait until everything queued is done, and return its first failure. NULL: kernels return when
     * they are done. [main] */
    int (*sync)(void *state);
    /* Describe its platform, for logs and `tandem doctor`: libraries, versions, instruction set,
     * threads. At most `size` bytes, including the final zero. May be NULL. [main] */
    void (*describe)(void *state, char *text, size_t size);
    /* Write its problems on this machine (errors, slowness), one per line; "" if there are none.
     * May be NULL. [main] */
    void (*diagnose)(void *state, char *text, size_t size);
    /* Measure and return this machine's rate of dense matrix products in f32, in FLOP/s, which
     * `tandem bench` compares runs with. NULL: unknown. [main] */
    double (*peak)(void *state);
    /* Measure and return the rate, in bytes/s, at which all of the machine's threads together read
     * uncached memory. NULL: unknown. [main] */
    double (*read_rate)(void *state);
    /* Write everything that determines the bits of its results besides the inputs: instruction
     * set, libraries (not threads). If this differs when a run is resumed, a warning says that
     * the result cannot be exact. NULL: nothing does. [main] */
    void (*arithmetic)(void *state, char *text, size_t size);
    /* The bytes of device memory that can still be allocated, used to refuse a run that cannot fit
     * before it starts. NULL: unknown, or the host's. [main] */
    size_t (*available)(void *state);
    /* Instead of running what is queued from now on, record it: the calls of a plan, which are the
     * same each time, with the same addresses. `recorded` ends that and sets *recording, or fails;
     * either way nothing has been run. `replay` queues it all at once, `forget` frees it. What a
     * kernel's `run` does on the host is not repeated. All four NULL: plans are always run call by
     * call. [main] */
    int (*record)(void *state);
    int (*recorded)(void *state, void **recording);
    int (*replay)(void *state, void *recording);
    void (*forget)(void *state, void *recording);
    /* The number of times something has been queued on the device so far, for `tandem bench`; a
     * replay counts once. NULL: it has no queue. [main] */
    int64_t (*launches)(void *state);
    /* Like `peak`, for products of bf16 that are accumulated in f32. NULL: as `peak`. [main] */
    double (*peak_bf16)(void *state);
    /* The next three allow gradients to be added up in the device's memory, and sent to other
     * processes from there. All or none; `upload` is then not NULL. What a comm (kind/comm.h)
     * queues its transfers on, in order with all other work: for CUDA the stream. [main] */
    void *(*queue)(void *state);
    /* Queue a copy within device memory. [main] */
    int (*copy)(void *state, void *to, const void *from, size_t bytes);
    /* Queue to[k] += more[k] for `count` numbers of dtype TD_F32 or TD_F64, as its own kernels use;
     * each sum is rounded once, so its bits equal the host's. [main] */
    int (*add)(void *state, void *to, const void *more, int64_t count, int dtype);
} td_backend;

#ifdef __cplusplus
}
#endif
#endif
