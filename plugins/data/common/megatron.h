/* megatron.h - documents that other programs tokenized: Megatron-LM's NAME.bin with its NAME.idx.
 *
 * The layout is the one in shard.h, but any program may have written it: ids of any integer type,
 * pieces in any order and of any size, gaps between them, and documents without tokens. Every
 * number is checked before it is used, and the tokens are copied into a shard of our own.
 */
#ifndef TD_DATA_COMMON_MEGATRON_H
#define TD_DATA_COMMON_MEGATRON_H

#include <stdbool.h>
#include <stdint.h>

#include "tandem/error.h"

/* Whether a file is one of tokens, by its name: .bin */
bool  megatron_is(const char *path);
/* NAME.idx of NAME.bin; free() it. NULL: no memory. */
char *megatron_index(const char *path);

typedef struct megatron megatron;

/* `path`: NAME.bin, which must outlive it. NULL: `error` says why. */
megatron *megatron_open(const char *path, td_error *error);
void      megatron_close(megatron *);

/* The next document that has tokens, valid until the next call. Its ids fit into an int32, but are
 * not checked against a vocabulary. Returns 0, TD_EEND at the end, or another code with `error`. */
int megatron_next(megatron *, const int32_t **ids, int64_t *n, td_error *error);

#endif
