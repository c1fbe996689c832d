/* content.h - the contents of files as one number: to tell whether data prepared from them is still
 * valid.
 *
 * Size and time are not enough: a file can be replaced by another of the same size, and its time
 * can be set. So the content is hashed, and the hash is kept beside the prepared data with
 * everything that `stat` reports about the file. If all of that is unchanged, including the change
 * time, which no program can set, the file is not read again.
 */
#ifndef TD_DATA_COMMON_CONTENT_H
#define TD_DATA_COMMON_CONTENT_H

#include <glob.h>
#include <stdint.h>

#include "tandem/host.h"

/* A hash of the names (without their directories) and the contents of all files, in this order.
 * `memory`: the file that hashes are kept in; one that cannot be read or written costs time only.
 * `what` is for the log. Returns 0 or a code. */
int content_hash(const glob_t *files, const char *memory, const char *what, const td_services *,
                 uint64_t *hash, td_error *error);

#endif
