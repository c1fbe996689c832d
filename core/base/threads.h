/* threads.h - the process's one thread pool, and the services that plugins get from it.
 *
 * Parallel regions come one after the other and never nest: the caller hands out n items, takes
 * part in the work, and returns when all are done. Results must not depend on which thread took
 * which item.
 */
#ifndef TD_BASE_THREADS_H
#define TD_BASE_THREADS_H

#include <pthread.h>

#include "base/log.h"
#include "tandem/host.h"

typedef struct td_pool td_pool;

/* `threads` in all, the caller among them; 0: one per processor that this process may use. The log
 * outlives the pool; NULL: plugins' lines are dropped. NULL with `error`. [main] */
td_pool *td_pool_new(int threads, td_journal *log, td_error *error);
void     td_pool_free(td_pool *);

/* The services for plugins, valid as long as the pool. */
const td_services *td_pool_services(td_pool *);
/* Set td_services.shipped. Not copied: the text must outlive the pool. */
void               td_pool_set_shipped(td_pool *, const char *directory);

/* Start a thread with signals blocked: they belong to the program, whose handlers run on its own
 * threads. Signals that report a fault in the thread's own code are not blocked, and have a stack
 * to run on even after an overflow. An error number, or 0. [any] */
int td_thread_start(pthread_t *, void *(*run)(void *), void *argument);

/* Processors that this process may use, by affinity and by the control group's quota. */
int td_processors(void);

#endif
