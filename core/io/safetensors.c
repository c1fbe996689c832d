/* safetensors.c - reading and writing safetensors files; nothing in one is believed before it is checked. */
#include "io/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"

enum { LARGEST_HEADER = 100 << 20 };

static const struct { const char *name; size_t size; } types[TD_ST_TYPES] = {
    [TD_ST_F64] = { "F64", 8 },   [TD_ST_F32] = { "F32", 4 }, [TD_ST_F16] = { "F16", 2 }, [TD_ST_BF16] = { "BF16", 2 },
    [TD_ST_I64] = { "I64", 8 },   [TD_ST_I32] = { "I32", 4 }, [TD_ST_I16] = { "I16", 2 }, [TD_ST_I8] = { "I8", 1 },
    [TD_ST_U8] = { "U8", 1 },     [TD_ST_BOOL] = { "BOOL", 1 },
};

struct td_safetensors {
    td_map_file   file;
    json_t       *header;
    td_map       *by_name;
    td_st_tensor *tensors;
    size_t        count;
};

size_t              td_safetensors_count(const td_safetensors *s) { return s->count; }
const td_st_tensor *td_safetensors_at(const td_safetensors *s, size_t i) { return &s->tensors[i]; }
const td_st_tensor *td_safetensors_find(const td_safetensors *s, const char *name) { return td_map_get(s->by_name, name); }

const char *td_safetensors_metadata(const td_safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

void td_safetensors_close(td_safetensors *s)
{
    if (!s)
        return;
    json_decref(s->header);
    td_map_free(s->by_name);
    td_map_close(&s->file);
    free(s->tensors);
    free(s);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------ */

static int read_header(td_safetensors *s, const char *path, uint64_t *size, td_error *error)
{
    json_error_t e;
    *size = 0;
    if (s->file.size < 8)
        return td_fail(error, TD_EFORMAT, "'%s' is no safetensors file: it has %zu bytes, and the header's length alone takes 8",
                       path, s->file.size);
    for (int k = 7; k >= 0; k--)
        *size = *size << 8 | s->file.data[k];
    if (*size > LARGEST_HEADER || *size > s->file.size - 8)
        return td_fail(error, TD_EFORMAT, "'%s' is no safetensors file, or cut off: its header would have %llu bytes of %zu", path,
                       (unsigned long long)*size, s->file.size);
    s->header = json_loadb((const char *)s->file.data + 8, (size_t)*size, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(s->header))
        return td_fail(error, TD_EFORMAT, "'%s': its header is no JSON object: %s", path, s->header ? "another type" : e.text);
    return 0;
}

static int type_of(const char *name)
{
    for (int k = 0; name && k < TD_ST_TYPES; k++)
        if (!strcmp(types[k].name, name))
            return k;
    return -1;
}

static int read_tensor(td_safetensors *s, const char *path, const char *name, const json_t *j, uint64_t header, td_st_tensor *t,
                       td_error *error)
{
    const json_t *shape = json_object_get(j, "shape"), *offsets = json_object_get(j, "data_offsets");
    uint64_t      room = s->file.size - 8 - header, begin, end;

    *t = (td_st_tensor){ .name = name, .type = type_of(json_string_value(json_object_get(j, "dtype"))), .count = 1 };
    if (t->type < 0)
        return td_fail(error, TD_EFORMAT, "'%s': tensor '%s' has an unknown dtype", path, name);
    if (!json_is_array(shape) || json_array_size(shape) > TD_MAX_RANK)
        return td_fail(error, TD_EFORMAT, "'%s': tensor '%s' has no shape, or more than %d dims", path, name, TD_MAX_RANK);
    t->rank = (int32_t)json_array_size(shape);
    for (int k = 0; k < t->rank; k++) {
        const json_t *d = json_array_get(shape, (size_t)k);
        t->dim[k] = json_integer_value(d);
        if (!json_is_integer(d) || t->dim[k] < 0 || (t->dim[k] && t->count > (int64_t)(room + 1) / t->dim[k] + 1))
            return td_fail(error, TD_EFORMAT, "'%s': tensor '%s' has a dim that is negative or larger than the file", path, name);
        t->count *= t->dim[k];
    }
    if (json_array_size(offsets) != 2 || !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1)))
        return td_fail(error, TD_EFORMAT, "'%s': tensor '%s' has no data_offsets", path, name);
    begin = (uint64_t)json_integer_value(json_array_get(offsets, 0)), end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
    t->bytes = (size_t)t->count * types[t->type].size;
    if (begin > end || end > room)
        return td_fail(error, TD_EFORMAT, "'%s' is cut off or damaged: tensor '%s' takes bytes %llu .. %llu of %llu", path, name,
                       (unsigned long long)begin, (unsigned long long)end, (unsigned long long)room);
    if (end - begin != t->bytes)
        return td_fail(error, TD_EFORMAT, "'%s': tensor '%s' has %llu bytes, but its shape and dtype take %zu", path, name,
                       (unsigned long long)(end - begin), t->bytes);
    t->data = s->file.data + 8 + header + begin;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const td_st_tensor *p = *(td_st_tensor *const *)a, *q = *(td_st_tensor *const *)b;
    return p->data < q->data ? -1 : p->data > q->data;
}

static int check_overlap(const td_safetensors *s, const char *path, td_error *error)
{
    const td_st_tensor **order = malloc((s->count + 1) * sizeof *order);
    int                  code = order ? 0 : td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
    size_t               n = 0;
    for (size_t i = 0; !code && i < s->count; i++)
        if (s->tensors[i].bytes)
            order[n++] = &s->tensors[i];
    if (!code)
        qsort(order, n, sizeof *order, by_place);
    for (size_t i = 1; !code && i < n; i++)
        if ((const char *)order[i - 1]->data + order[i - 1]->bytes > (const char *)order[i]->data)
            code = td_fail(error, TD_EFORMAT, "'%s': tensors '%s' and '%s' overlap", path, order[i - 1]->name, order[i]->name);
    free(order);
    return code;
}

static int read_tensors(td_safetensors *s, const char *path, uint64_t header, td_error *error)
{
    const char *name;
    json_t     *j;
    s->tensors = calloc(json_object_size(s->header) + 1, sizeof *s->tensors);
    s->by_name = td_map_new();
    if (!s->tensors || !s->by_name)
        return td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
    json_object_foreach(s->header, name, j) {
        td_st_tensor *t = &s->tensors[s->count];
        if (!strcmp(name, "__metadata__"))
            continue;
        if (read_tensor(s, path, name, j, header, t, error))
            return TD_EFORMAT;
        s->count++;
        if (td_map_set(s->by_name, name, t))
            return td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
    }
    return check_overlap(s, path, error);
}

td_safetensors *td_safetensors_open(const char *path, td_error *error)
{
    td_safetensors *s = calloc(1, sizeof *s);
    uint64_t        header = 0;
    if (!s)
        td_fail(error, TD_ENOMEM, "out of memory while reading '%s'", path);
    else if (!td_map_open(&s->file, path, error) && !read_header(s, path, &header, error) &&
             !read_tensors(s, path, header, error))
        return s;
    td_safetensors_close(s);
    return NULL;
}

/* ---- values ------------------------------------------------------------------------------------------------------------------- */

static double half(uint16_t h)
{
    int    exponent = h >> 10 & 31, mantissa = h & 1023;
    double x = exponent == 31 ? (mantissa ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                              : ldexp(mantissa, -24);
    return h >> 15 ? -x : x;
}

static double brain(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float    x;
    memcpy(&x, &bits, 4);
    return (double)x;
}

static double value(const td_st_tensor *t, int64_t i)
{
    const char *p = (const char *)t->data + (size_t)i * types[t->type].size;
    double      f64;
    float       f32;
    int64_t     i64;
    int32_t     i32;
    int16_t     i16;
    uint16_t    bits;
    switch (t->type) {
    case TD_ST_F64: memcpy(&f64, p, 8); return f64;
    case TD_ST_F32: memcpy(&f32, p, 4); return (double)f32;
    case TD_ST_F16: memcpy(&bits, p, 2); return half(bits);
    case TD_ST_BF16: memcpy(&bits, p, 2); return brain(bits);
    case TD_ST_I64: memcpy(&i64, p, 8); return (double)i64;
    case TD_ST_I32: memcpy(&i32, p, 4); return (double)i32;
    case TD_ST_I16: memcpy(&i16, p, 2); return (double)i16;
    case TD_ST_I8: return (double)*(const signed char *)p;
    default: return (double)*(const unsigned char *)p;
    }
}

int td_st_floats(const td_st_tensor *t, float *out, td_error *error)
{
    (void)error;
    if (t->type == TD_ST_F32)
        memcpy(out, t->data, t->bytes);
    else
        for (int64_t i = 0; i < t->count; i++)
            out[i] = (float)value(t, i);
    return 0;
}

int td_st_ints(const td_st_tensor *t, int32_t *out, td_error *error)
{
    for (int64_t i = 0; i < t->count; i++) {
        double x = value(t, i);
        if (!(x >= INT32_MIN && x <= INT32_MAX) || x != floor(x))
            return td_fail(error, TD_EFORMAT, "tensor '%s': element %lld is %g, no 32-bit integer", t->name, (long long)i, x);
        out[i] = (int32_t)x;
    }
    return 0;
}

/* ---- writing -------------------------------------------------------------------------------------------------------------------- */

static size_t bytes_of(const td_st_out *t)
{
    size_t n = types[t->type].size;
    for (int k = 0; k < t->rank; k++)
        n *= (size_t)t->dim[k];
    return n;
}

static char *make_header(const td_st_out *tensors, size_t n, const td_st_pair *metadata, size_t n_metadata)
{
    json_t *root = json_object(), *meta = json_object();
    size_t  at = 0;
    char   *text;
    for (size_t i = 0; i < n_metadata; i++)
        json_object_set_new(meta, metadata[i].key, json_string(metadata[i].value));
    if (n_metadata)
        json_object_set(root, "__metadata__", meta);
    for (size_t i = 0; i < n; i++) {
        json_t *shape = json_array(), *offsets = json_array(), *t = json_object();
        for (int k = 0; k < tensors[i].rank; k++)
            json_array_append_new(shape, json_integer(tensors[i].dim[k]));
        json_array_append_new(offsets, json_integer((json_int_t)at));
        json_array_append_new(offsets, json_integer((json_int_t)(at += bytes_of(&tensors[i]))));
        json_object_set_new(t, "dtype", json_string(types[tensors[i].type].name));
        json_object_set_new(t, "shape", shape);
        json_object_set_new(t, "data_offsets", offsets);
        json_object_set_new(root, tensors[i].name, t);
    }
    text = json_dumps(root, JSON_COMPACT);
    json_decref(root), json_decref(meta);
    return text;
}

static int write_data(FILE *file, const td_st_out *tensors, size_t n, td_error *error)
{
    void  *buffer = NULL;
    size_t room = 0;
    int    code = 0;
    for (size_t i = 0; i < n && !code; i++) {
        size_t bytes = bytes_of(&tensors[i]);
        void  *larger = bytes > room ? realloc(buffer, bytes) : buffer;
        if (bytes && !larger) {
            code = td_fail(error, TD_ENOMEM, "out of memory while writing tensor '%s' (%zu bytes)", tensors[i].name, bytes);
            break;
        }
        buffer = larger, room = bytes > room ? bytes : room;
        if (bytes)
            code = tensors[i].fill(tensors[i].arg, buffer, bytes, error);
        if (!code && bytes)
            fwrite(buffer, 1, bytes, file);
    }
    free(buffer);
    return code;
}

int td_safetensors_write(const char *path, const td_st_out *tensors, size_t n, const td_st_pair *metadata, size_t n_metadata,
                         td_error *error)
{
    char          *header = make_header(tensors, n, metadata, n_metadata);
    size_t         size = header ? strlen(header) : 0, padded = (size + 7) / 8 * 8;
    unsigned char  length[8];
    td_atomic_file file;
    int            code;

    if (!header)
        return td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    code = td_atomic_open(&file, path, error);
    if (!code) {
        for (int k = 0; k < 8; k++)
            length[k] = (unsigned char)((uint64_t)padded >> 8 * k);
        fwrite(length, 1, 8, file.file);
        fwrite(header, 1, size, file.file);
        fwrite("       ", 1, padded - size, file.file);
        code = write_data(file.file, tensors, n, error);
        if (code)
            td_atomic_abandon(&file);
        else
            code = td_atomic_commit(&file, error);
    }
    free(header);
    return code;
}
