/* put.c - writes a header and tensors, in one pass from beginning to end. */
#include "io/put.h"

#include <assert.h>
#include <stdlib.h>

#include "base/file.h"

/* Bytes of a streamed tensor in memory at a time: large enough for the disk, small compared with a
 * model; a multiple of every element's size, and of a block's. */
#define PIECE ((size_t)TD_STORED_BLOCK_BYTES << 15)

/* A file that is being written. */
typedef struct work {
    FILE       *f;
    const char *path;
    size_t      alignment;
    char       *piece; /* [PIECE] */
} work;

static int put(const work *w, const void *data, size_t size, td_error *error)
{
    if (!size || fwrite(data, 1, size, w->f) == size) /* an empty tensor may have no data */
        return 0;
    return td_io_error(error, "write", w->path);
}

/* The stream may copy from a device and fail; then its error is reported. */
static int put_stream(const work *w, const td_stored *t, size_t size, td_error *error)
{
    int code = 0;
    for (size_t at = 0; !code && at < size; at += PIECE) {
        size_t n = size - at < PIECE ? size - at : PIECE;
        code = t->stream(t->arg, at, n, w->piece, error);
        if (!code)
            code = put(w, w->piece, n, error);
    }
    return code;
}

static int put_tensor(const work *w, const td_stored *t, td_error *error)
{
    static const char zeros[64];
    size_t            size = td_stored_bytes(t), over = size % w->alignment;
    int               code;
    assert(t->data || t->stream || !size);
    code = t->stream ? put_stream(w, t, size, error) : put(w, t->data, size, error);
    return code || !over ? code : put(w, zeros, w->alignment - over, error);
}

static int put_all(const work *w, const void *header, size_t size, const td_stored *tensors,
                   size_t count, td_error *error)
{
    int code = put(w, header, size, error);
    for (size_t i = 0; i < count && !code; i++)
        code = put_tensor(w, &tensors[i], error);
    return code;
}

int td_put_tensors(const char *path, const void *header, size_t size, const td_stored *tensors,
                   size_t count, size_t alignment, td_error *error)
{
    td_atomic_file out;
    char          *piece = malloc(PIECE);
    int            code = piece ? td_atomic_open(&out, path, error)
                                : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    if (!code) {
        work w = { out.file, path, alignment, piece };
        code = put_all(&w, header, size, tensors, count, error);
        if (code)
            td_atomic_abandon(&out);
        else
            code = td_atomic_commit(&out, error);
    }
    free(piece);
    return code;
}
