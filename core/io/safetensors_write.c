/* safetensors_write.c - writing safetensors: header first, then data in order, in pieces where it
 * is streamed. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"

#define PIECE ((size_t)1 << 20)

static json_t *entry(const td_stored *t, size_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer(t->dim[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", td_stored_type_name(t->type), "shape", shape,
                     "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + (size_t)td_stored_count(t) * td_stored_width(t->type)));
}

static json_t *metadata_object(const char *const *metadata)
{
    json_t *object = json_object();
    for (; metadata[0] && metadata[1]; metadata += 2)
        json_object_set_new(object, metadata[0], json_string(metadata[1]));
    return object;
}

/* The header's JSON, padded with spaces so that the data begin at a multiple of 8; free() it. */
static char *header_text(const td_stored *tensors, size_t count, const char *const *metadata,
                         td_error *error)
{
    json_t *header = json_object();
    size_t  at = 0;
    int     bad = !header;

    if (metadata)
        bad |= json_object_set_new(header, "__metadata__", metadata_object(metadata));
    for (size_t i = 0; i < count && !bad; i++) {
        const td_stored *t = &tensors[i];
        if (!td_stored_width(t->type) || t->rank > TD_STORED_MAX_RANK ||
            json_object_get(header, t->name)) {
            td_fail(error, TD_EFORMAT,
                    "tensor '%s' cannot be written: its name is taken or its type unknown",
                    t->name);
            bad = 1;
        } else {
            bad |= json_object_set_new(header, t->name, entry(t, at));
            at += (size_t)td_stored_count(t) * td_stored_width(t->type);
        }
    }
    char *text = bad ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    size_t size = text ? strlen(text) : 0, padded = (size + 7) / 8 * 8;
    char  *grown = text ? realloc(text, padded + 1) : NULL;
    if (!grown) {
        free(text);
        td_fail(error, TD_ENOMEM,
                "cannot make the header of %zu tensors: no memory, or a name is no UTF-8", count);
        return NULL;
    }
    memset(grown + size, ' ', padded - size);
    grown[padded] = 0;
    return grown;
}

static int put(FILE *f, const char *path, const void *data, size_t size, td_error *error)
{
    if (!size || fwrite(data, 1, size, f) == size)
        return 0;
    return td_fail(error, TD_EIO, "cannot write %zu bytes to '%s': is the disk full?", size, path);
}

static int put_stream(FILE *f, const char *path, const td_stored *t, size_t size, td_error *error)
{
    char *piece = malloc(PIECE);
    int   code = piece ? 0 : td_fail(error, TD_ENOMEM, "no memory to write '%s'", path);
    for (size_t at = 0; !code && at < size; at += PIECE) {
        size_t n = size - at < PIECE ? size - at : PIECE;
        code = t->stream(t->arg, at, n, piece, error);
        if (!code)
            code = put(f, path, piece, n, error);
    }
    free(piece);
    return code;
}

static int put_all(FILE *f, const char *path, const char *header, const td_stored *tensors,
                   size_t count, td_error *error)
{
    unsigned char length[8];
    uint64_t      n = strlen(header);
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(n >> 8 * i);
    int code = put(f, path, length, 8, error);
    if (!code)
        code = put(f, path, header, (size_t)n, error);
    for (size_t i = 0; i < count && !code; i++) {
        size_t size = (size_t)td_stored_count(&tensors[i]) * td_stored_width(tensors[i].type);
        code = tensors[i].stream ? put_stream(f, path, &tensors[i], size, error)
                                 : put(f, path, tensors[i].data, size, error);
    }
    return code;
}

int td_safetensors_write(const char *path, const td_stored *tensors, size_t count,
                         const char *const *metadata, td_error *error)
{
    td_atomic_file out;
    char          *header = header_text(tensors, count, metadata, error);

    if (!header)
        return td_failed(error, TD_EFORMAT);
    int code = td_atomic_open(&out, path, error);
    if (!code) {
        code = put_all(out.file, path, header, tensors, count, error);
        if (code)
            td_atomic_abandon(&out);
        else
            code = td_atomic_commit(&out, error);
    }
    free(header);
    return code;
}
