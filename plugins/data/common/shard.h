/* shard.h - token shards in Megatron-LM's indexed layout: NAME.bin holds ids, NAME.idx their
 * documents.
 *
 * The index: "MMIDIDX\0\0", version u64 = 1, type code u8 (4: i32, 8: u16), documents u64,
 * boundaries u64, then sizes i32, byte offsets i64 and boundaries i64. NAME.len, our own, holds the
 * bytes of text of each document (i64), a hash of all tokens (u64), and how many bad lines of the
 * text were skipped (i64).
 */
#ifndef TD_DATA_COMMON_SHARD_H
#define TD_DATA_COMMON_SHARD_H

#include <stdbool.h>

#include "tandem/error.h"
#include <stdint.h>
#include <stdio.h>

typedef struct shard {
    const unsigned char *bin, *idx, *len; /* maps */
    size_t               bin_size, idx_size, len_size;
    int                  width;                    /* bytes of an id: 2 or 4 */
    int64_t              documents, tokens, bytes; /* of text */
} shard;

/* Path without .bin. What contradicts itself, or has an id outside the vocabulary, is
 * refused. */
int      shard_open(shard *, const char *path, int64_t vocab_size, td_error *error);
void     shard_close(shard *);
void     shard_tokens(const shard *, int64_t begin, int64_t count, int32_t *out);
/* First token of a document; document may be `documents`: the end. */
int64_t  shard_document(const shard *, int64_t document);
int64_t  shard_bytes(const shard *, int64_t document);
/* The same hash means the same documents of the same tokens. */
uint64_t shard_hash(const shard *);
/* The document that a token is in. */
int64_t  shard_find(const shard *, int64_t token);
/* How many bad lines were skipped, of a shard that is not opened; negative with `error`. `empty`:
 * it has no document. */
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

int  shard_create(shard_writer *, const char *path, bool narrow, td_error *error);
int  shard_add(shard_writer *, const int32_t *ids, int64_t count, int64_t bytes, td_error *error);
/* Where the index is, all of the shard is. */
int  shard_finish(shard_writer *, td_error *error);
/* Also removes what is under temporary names. */
void shard_abandon(shard_writer *);

#endif
