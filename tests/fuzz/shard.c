/* shard.c - fuzz target: any bytes as the index of a token shard, beside the tokens and lengths of
 * the seed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../plugins/data/common/shard.h"

enum { DOCUMENTS = 4, TOKENS = 1010 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(const char *path, const char *suffix, const void *data, size_t size)
{
    char  name[96];
    FILE *f;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    f = fopen(name, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
}

static void drop(const char *path, const char *suffix)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    unlink(name);
}

/* What readers ask of a shard that was accepted: the place of every document, every token. */
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
        shard_tokens(s, t, 1, &id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char zeros[TOKENS * 4];
    char                       path[64];
    shard                      s;
    td_error                   error = { 0 };
    snprintf(path, sizeof path, "/tmp/fuzz-shard-%d", (int)getpid());
    put(path, ".idx", data, size);
    put(path, ".bin", zeros, TOKENS * (size_t)2);
    put(path, ".len", zeros, (DOCUMENTS + 2) * sizeof(int64_t)); /* and hash, bad lines */
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
