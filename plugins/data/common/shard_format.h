/* shard_format.h - what the reader and the writer of shards share: suffixes, and the bytes that an
 * index begins with. */
#ifndef TD_DATA_COMMON_SHARD_FORMAT_H
#define TD_DATA_COMMON_SHARD_FORMAT_H

#include "shard.h"

static const char *const shard_ends[SHARD_FILES] = { ".bin", ".len", ".idx" };
static const char        shard_magic[9] = "MMIDIDX\0"; /* 9 bytes with the literal's own 0 */

#endif
