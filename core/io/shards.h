/* shards.h - the tensors of a folder (model.safetensors, or the files that
 * model.safetensors.index.json lists, as for large models from Hugging Face) or of a file of either
 * format. [main] */
#ifndef TD_IO_SHARDS_H
#define TD_IO_SHARDS_H

#include "io/gguf.h"

typedef struct td_shards td_shards;

/* A folder, or a single safetensors or GGUF file. Each tensor is in the file that the index names, and no
 * other has it. NULL with `error`: TD_EFORMAT if the content is wrong. */
td_shards *td_shards_open(const char *path, td_error *error);
void       td_shards_close(td_shards *); /* NULL is fine */

/* The GGUF file; NULL: it is not one. */
const td_gguf *td_shards_gguf(const td_shards *);

/* Tensor i < count, file by file. */
size_t           td_shards_count(const td_shards *);
const td_stored *td_shards_at(const td_shards *, size_t i);
/* By name; NULL: no such tensor. */
const td_stored *td_shards_find(const td_shards *, const char *name);

#endif
