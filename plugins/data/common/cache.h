/* cache.h - the directory that prepared data is kept in, and a lock on what is being made there.
 *
 * Several processes may want the same shard at the same time. One makes it; the others wait, and
 * then find it made. */
#ifndef TD_DATA_COMMON_CACHE_H
#define TD_DATA_COMMON_CACHE_H

#include "tandem/host.h"

/* Create a directory and those above it. One that exists is fine. */
int cache_directory(const char *path, td_error *error);

/* Lock the file `name`, made if need be, waiting for whoever holds it. Returns a descriptor, or -1
 * with `error`. A process that dies lets go of its lock. `what` is for the message. */
int  cache_lock(const char *name, const char *what, const td_services *, td_error *error);
/* Also removes the file. */
void cache_unlock(const char *name, int lock);

#endif
