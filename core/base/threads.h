/* threads.h - the process's one thread pool, and the services that plugins get from it.
 *
 * Parallel regions come one after the other and never nest: the caller hands out n items, works
 * along, and returns when all are done. Results must not depend on which thread took which item.
 */
#ifndef TD_BASE_THREADS_H
#define TD_BASE_THREADS_H

#include "base/log.h"
#include "tandem/host.h"

typedef struct td_pool td_pool;

/* `threads` in all, the caller among them; 0: one per processor that this process may use. The log
 * outlives the pool; NULL: plugins' lines are dropped. NULL with `error`. [main] */
td_pool *td_pool_new(int threads, td_journal *log, td_error *error);
void     td_pool_free(td_pool *);

/* What plugins get; lives as long as the pool. */
const td_services *td_pool_services(td_pool *);
/* Set td_services.shipped. Not copied: the text must outlive the pool. */
void               td_pool_set_shipped(td_pool *, const char *directory);

/* Processors that this process may use, by affinity and by the control group's quota. */
int td_processors(void);

#endif
