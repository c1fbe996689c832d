/* cache.h - the directory of prepared data, and a lock on each file being made there.
 *
 * Several processes may want the same shard at the same time. One makes it; the others wait and
 * then use it. */
#ifndef TD_DATA_COMMON_CACHE_H
#define TD_DATA_COMMON_CACHE_H

#include <stdbool.h>

#include "tandem/host.h"

/* Create a directory and its parents. It may exist already. */
int cache_directory(const char *path, td_error *error);

/* Lock the file `name`, created if necessary, waiting for whoever holds it. Returns a descriptor, or
 * -1 with `error`. The lock of a process that dies is released. Where the file system has no locks,
 * a warning is logged and *held is false: two processes may then do the same work, each in its own
 * files. `what` is for the message. */
int  cache_lock(const char *name, const char *what, const td_services *, bool *held,
                td_error *error);
/* Unlock, and remove the file. */
void cache_unlock(const char *name, int lock);

#endif
