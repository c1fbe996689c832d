/* safetensors_write.c - writing safetensors: the header, then the data in order; streamed tensors
 * in pieces. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"

/* Bytes of a streamed tensor in memory at a time: large enough for the disk, small compared with
 * a model. */
#define PIECE ((size_t)1 << 20)

/* From the shape: `size` of a tensor to be written need not be set. */
static size_t stored_size(const td_stored *t)
{
    return (size_t)td_stored_count(t) * td_stored_width(t->type);
}

/* {"dtype": .., "shape": [..], "data_offsets": [begin, end]}; NULL when out of memory. */
static json_t *entry(const td_stored *t, size_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer(t->dim[i]));
    /* "o" takes over the shape, and the offsets count from the end of the header */
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", td_stored_type_name(t->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + stored_size(t)));
}

/* The format allows only texts as values. NULL when out of memory. */
static json_t *metadata_object(const char *const *metadata)
{
    json_t *object = json_object();
    for (; metadata[0] && metadata[1]; metadata += 2)
        json_object_set_new(object, metadata[0], json_string(metadata[1]));
    return object;
}

/* Refuse to write a tensor that could not be read again. */
static int check_tensor(const td_stored *t, const json_t *header, td_error *error)
{
    if (!td_stored_width(t->type))
        return td_fail(error, TD_EFORMAT, "cannot write tensor '%s': unknown type %d", t->name,
                       t->type);
    if (t->rank > TD_STORED_MAX_RANK)
        return td_fail(error, TD_EFORMAT, "cannot write tensor '%s': rank %d is above %d", t->name,
                       t->rank, TD_STORED_MAX_RANK);
    if (json_object_get(header, t->name))
        return td_fail(error, TD_EFORMAT, "cannot write tensor '%s': two tensors have this name",
                       t->name);
    return 0;
}

/* The header as a JSON object, each tensor's data directly after those of the one before it. NULL
 * with `error`. */
static json_t *make_header(const td_stored *tensors, size_t count, const char *const *metadata,
                           td_error *error)
{
    json_t *header = json_object();
    size_t  at = 0;
    int     code = header ? 0 : td_fail(error, TD_ENOMEM, "out of memory for a header");

    /* set_new refuses a NULL value, so a failed entry or metadata shows here; it takes over the
     * value even if it fails */
    if (!code && metadata && json_object_set_new(header, "__metadata__", metadata_object(metadata)))
        code = td_fail(error, TD_EFORMAT, "cannot write the metadata: it is not valid UTF-8");
    for (size_t i = 0; i < count && !code; i++) {
        code = check_tensor(&tensors[i], header, error);
        if (!code && json_object_set_new(header, tensors[i].name, entry(&tensors[i], at)))
            code = td_fail(error, TD_EFORMAT,
                           "cannot write tensor '%s': its name is not valid UTF-8",
                           tensors[i].name);
        if (!code) /* a refused tensor may have more dims than there is room to read */
            at += stored_size(&tensors[i]);
    }
    if (!code)
        return header;
    json_decref(header);
    return NULL;
}

/* The header as JSON, padded with spaces so that the data begin at a multiple of 8; free() it. NULL
 * with `error`. */
static char *header_text(const td_stored *tensors, size_t count, const char *const *metadata,
                         td_error *error)
{
    json_t *header = make_header(tensors, count, metadata, error);
    char   *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
    size_t  size = text ? strlen(text) : 0, padded = (size + 7) / 8 * 8;
    char   *grown = text ? realloc(text, padded + 1) : NULL;

    json_decref(header);
    if (!grown) {
        free(text);
        td_fail(error, TD_ENOMEM, "out of memory for the header of %zu tensors", count);
        return NULL;
    }
    /* padding is part of the header's length; spaces are JSON's white space */
    memset(grown + size, ' ', padded - size);
    grown[padded] = 0;
    return grown;
}

static int put(FILE *f, const char *path, const void *data, size_t size, td_error *error)
{
    if (!size || fwrite(data, 1, size, f) == size) /* `data` may be NULL for an empty tensor */
        return 0;
    return td_io_error(error, "write", path);
}

/* The stream may copy from a device and fail; then its error is reported. */
static int put_stream(FILE *f, const char *path, const td_stored *t, td_error *error)
{
    size_t size = stored_size(t);
    char  *piece = malloc(PIECE);
    int    code = piece ? 0 : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    for (size_t at = 0; !code && at < size; at += PIECE) {
        size_t n = size - at < PIECE ? size - at : PIECE;
        code = t->stream(t->arg, at, n, piece, error);
        if (!code)
            code = put(f, path, piece, n, error);
    }
    free(piece);
    return code;
}

/* The whole file, in one pass from begin to end: it may be larger than memory. */
static int put_all(FILE *f, const char *path, const char *header, const td_stored *tensors,
                   size_t count, td_error *error)
{
    unsigned char length[8];
    uint64_t      n = strlen(header);
    int           code;
    for (int i = 0; i < 8; i++) /* little-endian, on any machine */
        length[i] = (unsigned char)(n >> 8 * i);
    code = put(f, path, length, 8, error);
    if (!code)
        code = put(f, path, header, (size_t)n, error);
    for (size_t i = 0; i < count && !code; i++) {
        const td_stored *t = &tensors[i];
        assert(t->data || t->stream || !stored_size(t));
        code = t->stream ? put_stream(f, path, t, error)
                         : put(f, path, t->data, stored_size(t), error);
    }
    return code;
}

int td_safetensors_write(const char *path, const td_stored *tensors, size_t count,
                         const char *const *metadata, td_error *error)
{
    td_atomic_file out;
    char          *header = header_text(tensors, count, metadata, error);
    int            code;

    if (!header) /* before the file is touched */
        return td_failed(error, TD_EFORMAT);
    code = td_atomic_open(&out, path, error);
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
