/* host.h - what the host does for plugins at run time: threads, log. (What it does while building
 * is in graph.h.)
 *
 * Stateful plugins (backend, comm, data, logger, tokenizer) get a td_services when they are opened;
 * it outlives them.
 */
#ifndef TANDEM_HOST_H
#define TANDEM_HOST_H

#include "plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum td_log_level { TD_LOG_DEBUG, TD_LOG_INFO, TD_LOG_WARN, TD_LOG_ERROR } td_log_level;

typedef struct td_services td_services;

struct td_services {
    size_t size;
    int    threads; /* of the pool */
    /* Call fn(arg, i, thread) for every i in [0, n), on the pool, and wait; 0 <= thread < threads.
     * Which thread takes which i changes from run to run: results must not depend on it. May not be
     * nested. [main, worker] */
    void (*parallel)(const td_services *, int64_t n, void (*fn)(void *arg, int64_t i, int thread),
                     void *arg);
    /* One line for the run's log; a newline is added. [any] */
    void (*log)(const td_services *, int level, const char *format, ...);
    void       *host; /* the host's own */
    /* Where the shipped configs/ and data/ are: a relative file that is not found is looked for
     * there; NULL: nowhere. */
    const char *shipped;
};

static inline void td_parallel(const td_services *s, int64_t n, void (*fn)(void *, int64_t, int),
                               void *arg)
{
    if (n == 1)
        fn(arg, 0, 0);
    else if (n > 1)
        s->parallel(s, n, fn, arg);
}

#ifdef __cplusplus
}
#endif
#endif
