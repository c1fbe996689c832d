/* shard.h - token shards in Megatron-LM's indexed layout, which its tools can read: NAME.bin holds
 * ids, NAME.idx their documents.
 *
 * The index: "MMIDIDX\0\0", version u64 = 1, type code u8 (4: i32, 8: u16), documents u64,
 * boundaries u64, then sizes i32, byte offsets i64 and boundaries i64. NAME.len is ours: the bytes
 * of text of each document (i64), a hash of all tokens (u64), and how many bad lines of the text
 * were skipped (i64). All numbers are little-endian.
 *
 * Everything is checked when a shard is opened, so fetching tokens needs no checks.
 */
#ifndef TD_DATA_COMMON_SHARD_H
#define TD_DATA_COMMON_SHARD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tandem/error.h"

typedef struct shard {
    const unsigned char *bin, *idx, *len; /* the files, mapped */
    size_t               bin_size, idx_size, len_size;
    int                  width; /* bytes of an id: 2 or 4 */
    int64_t              documents, tokens;
    int64_t              bytes; /* of all text */
} shard;

/* `path` without .bin. A shard that contradicts itself, or has an id outside the vocabulary, is
 * refused. */
int      shard_open(shard *, const char *path, int64_t vocab_size, td_error *error);
void     shard_close(shard *);
/* Tokens begin .. begin + count - 1, which must exist. */
void     shard_tokens(const shard *, int64_t begin, int64_t count, int32_t *out);
/* The first token of a document; of document `documents`, the end of the shard. */
int64_t  shard_document(const shard *, int64_t document);
/* The length of a document's text. */
int64_t  shard_bytes(const shard *, int64_t document);
/* Equal hashes: the same documents of the same tokens. */
uint64_t shard_hash(const shard *);
/* The document that a token is in. */
int64_t  shard_find(const shard *, int64_t token);
/* How many bad lines were skipped when the shard was made, without opening it; a negative code with
 * `error`. *empty: it has no document. */
int64_t  shard_skipped(const char *path, bool *empty, td_error *error);

typedef struct shard_writer {
    char     path[4096];
    FILE    *bin;
    int      width;
    int32_t *sizes;
    int64_t *bytes;
    int64_t  documents, room;
    int64_t  skipped; /* bad lines of the text, set before shard_finish */
    uint64_t hash;
} shard_writer;

/* Every file is written under a temporary name. narrow: ids of two bytes. */
int  shard_create(shard_writer *, const char *path, bool narrow, td_error *error);
/* Append a document of `count` ids, made from `bytes` bytes of text. */
int  shard_add(shard_writer *, const int32_t *ids, int64_t count, int64_t bytes, td_error *error);
/* Put the files in place, the index last: if it exists, the whole shard does. */
int  shard_finish(shard_writer *, td_error *error);
/* Free the writer and remove its temporary files. Safe after shard_finish, and twice. */
void shard_abandon(shard_writer *);

#endif
