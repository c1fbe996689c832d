/* threads.h - the host's one thread pool, and the td_services that plugins get from it. */
#ifndef TD_BASE_THREADS_H
#define TD_BASE_THREADS_H

#include "base/log.h"
#include "tandem/host.h"

typedef struct td_pool td_pool;

/* `threads` in all, the caller among them; 0: as many as this process may run on. NULL with
 * `error`. [main] */
td_pool *td_pool_new(int threads, td_journal *log, td_error *error);
void     td_pool_free(td_pool *);

/* What plugins get; lives as long as the pool. */
const td_services *td_pool_services(td_pool *);
/* What td_services.shipped says from now on; the text outlives the pool. */
void               td_pool_set_shipped(td_pool *, const char *directory);

/* Processors that this process may run on. */
int td_processors(void);

#endif
