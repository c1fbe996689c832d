/* host.h - the services of the host at run time: a thread pool and a log.
 *
 * Stateful plugins (backend, comm, data, logger, tokenizer) receive a td_services when they are
 * opened, and kernels find it in their td_call. It outlives them. A plugin starts no threads of its
 * own, so that a run uses only the threads it was given, and prints nothing: it writes lines for
 * the user to the log, which the run stores in its directory and shows on the terminal.
 *
 * (While a graph is built the host's services are td_host, in graph.h.)
 *
 * Example:
 *
 *     typedef struct squares {
 *         const float *in;
 *         float       *out;
 *     } squares;
 *
 *     // Item i is a fixed piece of the data, whichever thread computes it: the bits never
 *     // depend on the number of threads.
 *     static void square_piece(void *arg, int64_t i, int thread)
 *     {
 *         squares *s = arg;
 *         (void)thread;
 *         for (int64_t n = 1024 * i; n < 1024 * (i + 1); n++)
 *             s->out[n] = s->in[n] * s->in[n];
 *     }
 *
 *     static void square(const td_services *services, squares *s, int64_t pieces)
 *     {
 *         td_parallel(services, pieces, square_piece, s);
 *         services->log(services, TD_LOG_DEBUG, "%lld pieces squared", (long long)pieces);
 *     }
 */
#ifndef TANDEM_HOST_H
#define TANDEM_HOST_H

#include "plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The severity of a log line. Errors that stop the run are returned (error.h), not
 * logged. */
typedef enum td_log_level { TD_LOG_DEBUG, TD_LOG_INFO, TD_LOG_WARN, TD_LOG_ERROR } td_log_level;

typedef struct td_services td_services;

/* New members are added only at the end, so an older module finds those it knows; `size` is the
 * size of this host's table. */
struct td_services {
    size_t size;
    int    threads; /* threads of the pool, the calling one included */
    /* Call fn(arg, i, thread) once for every i in [0, n) on the pool, and wait for all of them; 0
     * <= thread < threads. Which thread takes which i changes from run to run, so results must not
     * depend on `thread`. fn must not call it. [main] [worker] */
    void (*parallel)(const td_services *, int64_t n, void (*fn)(void *arg, int64_t i, int thread),
                     void *arg);
    /* Write one line to the run's log, at a td_log_level; the newline is added. [any] */
    void (*log)(const td_services *, int level, const char *format, ...);
    void       *host; /* private to the host */
    /* The directory of the shipped configs/ and data/, where relative paths are looked up second;
     * NULL if there is none. */
    const char *shipped;
    /* The processes of the run on this host, as far as the launcher says: their number (0:
     * unknown), and this one's number among them, from 0 (-1: unknown). A backend gives each a
     * device of its own. */
    int         processes, process;
};

/* services->parallel, without its overhead for a single item. `thread` is then 0. */
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
