/* shard.c - fuzz target: any bytes as the index of a token shard, with the tokens and lengths of
 * the seed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "put.h"

#include "../plugins/data/common/shard.h"

enum { DOCUMENTS = 4, TOKENS = 1010 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_part(const char *path, const char *suffix, const void *data, size_t size)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    put(name, data, size);
}

static void drop(const char *path, const char *suffix)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    unlink(name);
}

/* Make the requests that readers make of an accepted shard: the place of every document, every
 * token. */
static void walk(const shard *s)
{
    int64_t before = 0;
    for (int64_t d = 0; d <= s->documents; d++) {
        int64_t at = shard_document(s, d);
        if (at < before || at > s->tokens)
            abort();
        before = at;
        if (d < s->documents && shard_bytes(s, d) != 0)
            abort();
    }
    for (int64_t t = 0; t < s->tokens; t++) {
        int32_t id;
        int64_t d = shard_find(s, t);
        if (d < 0 || d >= s->documents)
            abort();
        if (shard_tokens(s, t, 1, &id, NULL))
            abort();
    }
}

/* The lengths, with the hashes of the fuzzer's bytes: a hash that does not match would hide all
 * checks after it. */
static void put_lengths(const char *path, const void *idx, size_t idx_size, const void *bin,
                        size_t bin_size)
{
    uint64_t len[DOCUMENTS + 5] = { 0 }; /* and a hash, bad lines, three hashes of files */
    len[DOCUMENTS + 2] = XXH3_64bits(bin, bin_size);
    len[DOCUMENTS + 3] = XXH3_64bits(idx, idx_size);
    len[DOCUMENTS + 4] = XXH3_64bits(len, sizeof len - sizeof *len);
    put_part(path, ".len", len, sizeof len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char zeros[TOKENS * 4];
    char                       path[64];
    shard                      s;
    td_error                   error = { 0 };
    snprintf(path, sizeof path, "/tmp/fuzz-shard-%d", (int)getpid());
    put_part(path, ".idx", data, size);
    put_part(path, ".bin", zeros, TOKENS * (size_t)2);
    put_lengths(path, data, size, zeros, TOKENS * (size_t)2);
    if (!shard_open(&s, path, 1 << 16, &error)) {
        walk(&s);
        shard_close(&s);
    } else if (!*error.text) {
        abort();
    }
    drop(path, ".idx");
    drop(path, ".bin");
    drop(path, ".len");
    return 0;
}
