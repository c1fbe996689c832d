/* shard.h - token shards in Megatron-LM's indexed layout, which its tools can read: NAME.bin holds
 * ids, NAME.idx their documents.
 *
 * A document is one or more pieces of text, such as a question and its answer; Megatron calls them
 * sequences. The index: "MMIDIDX\0\0", version u64 = 1, type code u8 (4: i32, 8: u16), pieces u64,
 * boundaries u64, then sizes i32 and byte offsets i64 of the pieces, and the first piece of each
 * document and of the end (boundaries, i64). NAME.len is ours: the bytes of text of each piece
 * (i64), a hash of all tokens (u64), the number of bad lines skipped in the text (i64), and the
 * XXH3-64 of .bin, of .idx and of everything in front of it in .len itself. All numbers are
 * little-endian.
 *
 * Everything is checked when a shard is opened, so later reads can only be wrong if the files
 * change meanwhile: shard_unchanged finds that out.
 */
#ifndef TD_DATA_COMMON_SHARD_H
#define TD_DATA_COMMON_SHARD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "tandem/error.h"

enum { SHARD_BIN, SHARD_LEN, SHARD_IDX, SHARD_FILES };

/* A file of a shard, and its identity when it was opened. */
typedef struct shard_file {
    int             fd;
    size_t          size;
    struct timespec modified;
} shard_file;

typedef struct shard {
    shard_file           file[SHARD_FILES];
    char                *path;      /* without .bin, for messages */
    const unsigned char *idx, *len; /* mapped; of .bin only the requested part is read */
    size_t               bin_size, idx_size, len_size;
    int                  width; /* bytes per id: 2 or 4 */
    int64_t              documents, pieces, tokens;
    int64_t              bytes; /* bytes of all text */
} shard;

/* `path` without .bin. An inconsistent shard, or one with an id outside the vocabulary, is
 * refused. */
int      shard_open(shard *, const char *path, int64_t vocab_size, td_error *error);
void     shard_close(shard *);
/* Call it before any of the functions below: reading the map of a truncated file would kill the
 * process, and changed tokens would be trained on unnoticed. Returns 0 or a code. */
int      shard_unchanged(const shard *, td_error *error);
/* Tokens begin .. begin + count - 1, which must exist. Returns 0 or a code. */
int      shard_tokens(const shard *, int64_t begin, int64_t count, int32_t *out, td_error *error);
/* The first token of a document; for document number `documents`, the end of the shard. */
int64_t  shard_document(const shard *, int64_t document);
/* The length of a document's text in bytes. */
int64_t  shard_bytes(const shard *, int64_t document);
/* The first piece of a document; for document number `documents`, the number of pieces. */
int64_t  shard_first_piece(const shard *, int64_t document);
/* The first token of a piece; for piece number `pieces`, the end of the shard. */
int64_t  shard_piece(const shard *, int64_t piece);
int64_t  shard_piece_bytes(const shard *, int64_t piece);
/* A hash of all documents and their tokens. */
uint64_t shard_hash(const shard *);
/* The document that contains a token. */
int64_t  shard_find(const shard *, int64_t token);
/* The number of bad lines skipped when the shard was made, read without opening it, or a
 * negative code with `error`. *empty: it has no documents. */
int64_t  shard_skipped(const char *path, bool *empty, td_error *error);

typedef struct shard_writer {
    char     path[4096];
    char     temporary[SHARD_FILES][4240]; /* "": not made */
    FILE    *bin;
    void    *state; /* of the hash of the file that is written */
    int      width;
    int32_t *sizes; /* token counts of the pieces, and the bytes of their text */
    int64_t *bytes;
    int64_t *ends; /* for each document, the number of pieces up to its end */
    int64_t  pieces, documents, room, room_documents;
    int64_t  skipped;           /* bad lines in the text; set it before shard_finish */
    uint64_t hash;              /* of the tokens */
    uint64_t sums[SHARD_FILES]; /* of the files */
} shard_writer;

/* Writes every file under a temporary name that nobody can foresee. narrow: two-byte ids. */
int  shard_create(shard_writer *, const char *path, bool narrow, td_error *error);
/* Append a document of one piece of `count` ids, made from `bytes` bytes of text. */
int  shard_add(shard_writer *, const int32_t *ids, int64_t count, int64_t bytes, td_error *error);
/* The same for several pieces: append each, then end the document. */
int  shard_add_piece(shard_writer *, const int32_t *ids, int64_t count, int64_t bytes,
                     td_error *error);
int  shard_end_document(shard_writer *, td_error *error);
/* Rename the files, the index last: if it exists, the whole shard does. */
int  shard_finish(shard_writer *, td_error *error);
/* Free the writer and remove its temporary files. Safe after shard_finish, and twice. */
void shard_abandon(shard_writer *);
/* Remove the temporary files left by a process that was killed. Only for the holder of the shard's
 * lock: they may belong to another process. */
void shard_remove_left(const char *path);

#endif
