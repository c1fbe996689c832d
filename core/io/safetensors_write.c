/* safetensors_write.c - writing safetensors: the header, then the data in order. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "io/put.h"

/* {"dtype": .., "shape": [..], "data_offsets": [begin, end]}; NULL when out of memory. */
static json_t *entry(const td_stored *t, size_t begin)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer(t->dim[i]));
    /* "o" takes over the shape, and the offsets count from the end of the header */
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", td_stored_type_name(t->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + td_stored_bytes(t)));
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
            at += td_stored_bytes(&tensors[i]);
    }
    if (!code)
        return header;
    json_decref(header);
    return NULL;
}

/* The header: its length in 8 bytes, and JSON, padded with spaces so that the data begin at a
 * multiple of 8. Sets its size; free() it. NULL with `error`. */
static char *header_text(const td_stored *tensors, size_t count, const char *const *metadata,
                         size_t *out, td_error *error)
{
    json_t *header = make_header(tensors, count, metadata, error);
    char   *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
    size_t  size = text ? strlen(text) : 0, padded = (size + 7) / 8 * 8;
    char   *grown = text ? realloc(text, 8 + padded) : NULL;

    json_decref(header);
    if (!grown) {
        free(text);
        td_fail(error, TD_ENOMEM, "out of memory for the header of %zu tensors", count);
        return NULL;
    }
    /* padding is part of the header's length; spaces are JSON's white space */
    memmove(grown + 8, grown, size);
    memset(grown + 8 + size, ' ', padded - size);
    for (int i = 0; i < 8; i++) /* little-endian, on any machine */
        grown[i] = (char)((uint64_t)padded >> 8 * i);
    *out = 8 + padded;
    return grown;
}

int td_safetensors_write(const char *path, const td_stored *tensors, size_t count,
                         const char *const *metadata, td_error *error)
{
    size_t size;
    char  *header = header_text(tensors, count, metadata, &size, error);
    int    code = header ? td_put_tensors(path, header, size, tensors, count, 1, error)
                         : td_failed(error, TD_EFORMAT);
    free(header);
    return code;
}
