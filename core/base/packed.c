/* packed.c - decompressing a whole file in memory: zlib for .gz, libzstd for .zst. */
#include "base/packed.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/file.h"
#include "tandem/files.h"

/* Decompressed bytes so far. */
typedef struct content {
    const char *path;
    char       *data;
    size_t      size, room, limit;
} content;

/* Makes space for more bytes and the final 0. */
static int grow(content *c, td_error *error)
{
    size_t room = c->room ? 2 * c->room : (size_t)1 << 16;
    char  *larger;
    if (c->size < c->room)
        return 0;
    if (c->size > c->limit)
        return td_fail(error, TD_EFORMAT,
                       "'%s' decompresses to more than %zu bytes, which is the limit: split it",
                       c->path, c->limit);
    larger = realloc(c->data, room + 1);
    if (!larger)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu bytes of '%s'", room, c->path);
    c->data = larger;
    c->room = room;
    return 0;
}

static int damaged(const content *c, const char *what, const char *why, td_error *error)
{
    return td_fail(error, TD_EFORMAT,
                   "'%s' cannot be read as %s: %s; it is damaged, truncated, or has the wrong "
                   "suffix",
                   c->path, what, why);
}

/* A gzip file is one member or several, one after the other. */
static int inflate_all(content *c, z_stream *z, td_error *error)
{
    int state = Z_OK;
    do {
        size_t before;
        if (grow(c, error))
            return error->code;
        before = c->room - c->size;
        z->next_out = (Bytef *)c->data + c->size;
        /* zlib counts in unsigned ints */
        z->avail_out = (uInt)(before < 1u << 30 ? before : 1u << 30);
        before = z->avail_out;
        state = inflate(z, Z_NO_FLUSH);
        c->size += before - z->avail_out;
        /* another member follows */
        if (state == Z_STREAM_END && z->avail_in)
            state = inflateReset(z);
        /* no progress without more input: the last member is incomplete */
        if (state == Z_BUF_ERROR)
            return damaged(c, "gzip", "it ends in the middle of a member", error);
        if (state != Z_OK && state != Z_STREAM_END)
            return damaged(c, "gzip", z->msg ? z->msg : zError(state), error);
    } while (state != Z_STREAM_END);
    return 0;
}

static int read_gzip(content *c, const char *packed, size_t size, td_error *error)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)packed, .avail_in = (uInt)size };
    int      code;
    if (size > UINT_MAX)
        return td_fail(error, TD_EFORMAT, "'%s' has %zu bytes, too many for a gzip file: split it",
                       c->path, size);
    /* 15 + 16: the largest window, and gzip only */
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", c->path);
    code = inflate_all(c, &z, error);
    inflateEnd(&z);
    return code;
}

static int read_zstd(content *c, const char *packed, size_t size, td_error *error)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer in = { packed, size, 0 };
    size_t        more = 1; /* 0: a frame has ended */
    int code = z ? 0 : td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", c->path);
    while (!code && (in.pos < in.size || more)) {
        ZSTD_outBuffer out;
        size_t         before = in.pos;
        code = grow(c, error);
        if (code)
            break;
        out = (ZSTD_outBuffer){ c->data, c->room, c->size };
        more = ZSTD_decompressStream(z, &out, &in);
        /* no progress means no more bytes, but the frame is not complete */
        if (ZSTD_isError(more))
            code = damaged(c, "zstd", ZSTD_getErrorName(more), error);
        else if (more && in.pos == before && out.pos == c->size)
            code = damaged(c, "zstd", "it ends in the middle of a frame", error);
        c->size = out.pos;
    }
    ZSTD_freeDStream(z);
    return code;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

char *td_file_read_packed(const char *path, size_t limit, size_t *size, td_error *error)
{
    size_t  n = 0;
    char   *packed = td_file_read(path, &n, error);
    content c = { .path = path, .limit = limit };
    bool    gzip = ends_with(path, ".gz");
    int     code;
    *size = n;
    if (packed && td_is_pointer(packed, n)) {
        td_fail(error, TD_EFORMAT, "cannot read '%s': " TD_POINTER_ADVICE, path);
        free(packed);
        return NULL;
    }
    if (!packed || (!gzip && !ends_with(path, ".zst")))
        return packed;
    code = gzip ? read_gzip(&c, packed, n, error) : read_zstd(&c, packed, n, error);
    /* the last doubling may have gone beyond it */
    if (!code && c.size > limit)
        code = td_fail(error, TD_EFORMAT,
                       "'%s' decompresses to %zu bytes; the limit is %zu: split it", path, c.size,
                       limit);
    free(packed);
    if (code) {
        free(c.data);
        return NULL;
    }
    if (c.data)
        c.data[c.size] = 0;
    *size = c.size;
    return c.data ? c.data : strdup("");
}
