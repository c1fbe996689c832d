/* kind/backend.h - a compute backend: memory, copies and a queue. Its kernels are plugins of
 * kind/kernels.h. */
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
    int32_t   real; /* td_dtype that it computes in: TD_F32; TD_F64 for a checking backend */
    /* Start: `state` is the plugin's own. The services (thread pool) outlive it. [main] */
    int (*open)(const void *config, const td_services *, void **state, td_error *error);
    void (*close)(void *state); /* [main] */
    /* Zeroed, 64-byte aligned device memory, or NULL. [main] */
    void *(*allocate)(void *state, size_t bytes);
    void (*release)(void *state, void *memory, size_t bytes);
    /* Copies between host and device memory; ordered with the queue. NULL hooks: device memory is
     * host memory. [main] */
    int (*upload)(void *state, void *device, const void *host, size_t bytes);
    int (*download)(void *state, void *host, const void *device, size_t bytes);
    /* Wait for all that was queued. NULL: nothing is queued. [main] */
    int (*sync)(void *state);
    /* What it runs on, for logs and doctor: library, version, instruction set, threads. [main] */
    void (*describe)(void *state, char *text, size_t size);
    /* What is wrong or slow about it here, a line each; "" if all is well. NULL: never. [main] */
    void (*diagnose)(void *state, char *text, size_t size);
    /* The machine's own dense matmul rate in FLOP/s in `real`, measured now; the yardstick of
     * bench. [main] */
    double (*peak)(void *state);
    /* What decides the bits of its results beside the inputs: instruction set, libraries; not
     * threads. A run resumed where it differs is told so. NULL: nothing does. [main] */
    void (*arithmetic)(void *state, char *text, size_t size);
} td_backend;

#ifdef __cplusplus
}
#endif
#endif
