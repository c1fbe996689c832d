/* safetensors.c - reading safetensors: nothing in the header is believed before it is checked. */
#include "io/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"

#define HEADER_LIMIT (100u << 20)

struct td_safetensors {
    td_mapped_file map;
    json_t        *header; /* owns the names */
    td_stored     *tensors;
    size_t         count;
    td_map        *by_name;
};

static const struct {
    const char *name;
    size_t      width;
} types[TD_STORED_TYPES] = {
    [TD_STORED_F32] = { "F32", 4 },   [TD_STORED_F64] = { "F64", 8 },
    [TD_STORED_I32] = { "I32", 4 },   [TD_STORED_I64] = { "I64", 8 },
    [TD_STORED_BF16] = { "BF16", 2 }, [TD_STORED_F16] = { "F16", 2 },
    [TD_STORED_U8] = { "U8", 1 },     [TD_STORED_BOOL] = { "BOOL", 1 },
};

size_t td_stored_width(int type)
{
    return type >= 0 && type < TD_STORED_TYPES ? types[type].width : 0;
}

const char *td_stored_type_name(int type)
{
    return type >= 0 && type < TD_STORED_TYPES ? types[type].name : "?";
}

int64_t td_stored_count(const td_stored *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

/* ---- header ---------------------------------------------------------------------------------- */

static int find_type(const char *name)
{
    for (int i = 0; name && i < TD_STORED_TYPES; i++)
        if (!strcmp(name, types[i].name))
            return i;
    return -1;
}

static int read_shape(const json_t *shape, td_stored *t, td_error *error)
{
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape) || rank > TD_STORED_MAX_RANK)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': 'shape' is not a list of at most %d numbers", t->name,
                       TD_STORED_MAX_RANK);
    int64_t bytes = (int64_t)types[t->type].width;
    t->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return td_fail(error, TD_EFORMAT, "tensor '%s': dimension %zu is not a number from 0",
                           t->name, i);
        t->dim[i] = json_integer_value(d);
        if (__builtin_mul_overflow(bytes, t->dim[i], &bytes))
            return td_fail(error, TD_EFORMAT, "tensor '%s': its shape is too large for any memory",
                           t->name);
    }
    t->size = (size_t)bytes;
    return 0;
}

static int read_offsets(const json_t *offsets, td_stored *t, const unsigned char *data, size_t room,
                        td_error *error)
{
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return td_fail(error, TD_EFORMAT, "tensor '%s': 'data_offsets' is not a pair of numbers",
                       t->name);
    int64_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin || (uint64_t)end > room)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': bytes %lld to %lld do not lie in the file's %zu bytes of data",
                       t->name, (long long)begin, (long long)end, room);
    if ((size_t)(end - begin) != t->size)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': its shape needs %zu bytes, its offsets give %lld", t->name,
                       t->size, (long long)(end - begin));
    t->data = data + begin;
    return 0;
}

static int read_tensor(const char *name, const json_t *entry, td_stored *t,
                       const unsigned char *data, size_t room, td_error *error)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    t->name = name;
    t->type = find_type(type);
    if (t->type < 0)
        return td_fail(
            error, TD_EFORMAT,
            "tensor '%s': dtype '%s' is unknown; known are F32 F64 I32 I64 BF16 F16 U8 BOOL", name,
            type ? type : "(none)");
    int code = read_shape(json_object_get(entry, "shape"), t, error);
    return code ? code : read_offsets(json_object_get(entry, "data_offsets"), t, data, room, error);
}

static int by_data(const void *a, const void *b)
{
    const td_stored *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

/* The format has no holes, and nothing behind the last tensor: such a file is another's work. */
static int check_cover(const td_safetensors *s, size_t room, td_error *error)
{
    size_t used = 0;
    for (size_t i = 0; i < s->count; i++)
        used += s->tensors[i].size;
    return used == room
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "the tensors have %zu bytes, the file's data has %zu: it is damaged", used,
                         room);
}

static int check_overlap(const td_safetensors *s, td_error *error)
{
    for (size_t i = 1; i < s->count; i++) {
        const td_stored *a = &s->tensors[i - 1], *b = &s->tensors[i];
        if ((const char *)a->data + a->size > (const char *)b->data)
            return td_fail(error, TD_EFORMAT, "tensors '%s' and '%s' overlap", a->name, b->name);
    }
    return 0;
}

static int read_tensors(td_safetensors *s, const unsigned char *data, size_t room, td_error *error)
{
    const char *name;
    json_t     *entry;

    s->tensors = calloc(json_object_size(s->header) + 1, sizeof *s->tensors);
    s->by_name = td_map_new();
    if (!s->tensors || !s->by_name)
        return td_fail(error, TD_ENOMEM, "no memory for %zu tensors", json_object_size(s->header));
    json_object_foreach(s->header, name, entry)
    {
        if (!strcmp(name, "__metadata__"))
            continue;
        int code = read_tensor(name, entry, &s->tensors[s->count], data, room, error);
        if (code)
            return code;
        s->count++;
    }
    if (s->count)
        qsort(s->tensors, s->count, sizeof *s->tensors, by_data);
    for (size_t i = 0; i < s->count; i++)
        if (td_map_set(s->by_name, s->tensors[i].name, &s->tensors[i]))
            return td_fail(error, TD_ENOMEM, "no memory for %zu tensors", s->count);
    return check_overlap(s, error) || check_cover(s, room, error) ? TD_EFORMAT : 0;
}

static int read_header(td_safetensors *s, td_error *error)
{
    uint64_t     length = 0;
    json_error_t problem;

    if (s->map.size < 8)
        return td_fail(error, TD_EFORMAT, "%zu bytes are too few: no safetensors file",
                       s->map.size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | s->map.data[i];
    if (length > HEADER_LIMIT || length > s->map.size - 8)
        return td_fail(
            error, TD_EFORMAT,
            "a header of %llu bytes does not fit a file of %zu: truncated, or no safetensors",
            (unsigned long long)length, s->map.size);
    s->header = json_loadb((const char *)s->map.data + 8, (size_t)length, JSON_REJECT_DUPLICATES,
                           &problem);
    if (!s->header)
        return td_fail(error, TD_EFORMAT, "the header is no valid JSON: %s (byte %d)", problem.text,
                       problem.position);
    if (!json_is_object(s->header))
        return td_fail(error, TD_EFORMAT, "the header is no JSON object");
    return read_tensors(s, s->map.data + 8 + length, s->map.size - 8 - (size_t)length, error);
}

td_safetensors *td_safetensors_open(const char *path, td_error *error)
{
    td_safetensors *s = calloc(1, sizeof *s);
    td_error        why = { 0 };

    if (!s) {
        td_fail(error, TD_ENOMEM, "no memory to open '%s'", path);
        return NULL;
    }
    if (td_file_map(&s->map, path, error) == 0) {
        int code = read_header(s, &why);
        if (!code)
            return s;
        td_fail(error, code, "cannot read '%s' as safetensors: %.1900s", path, why.text);
    }
    td_safetensors_close(s);
    return NULL;
}

void td_safetensors_close(td_safetensors *s)
{
    if (!s)
        return;
    if (s->by_name)
        td_map_free(s->by_name);
    free(s->tensors);
    json_decref(s->header);
    if (s->map.data)
        td_file_unmap(&s->map);
    free(s);
}

size_t td_safetensors_count(const td_safetensors *s) { return s->count; }

const td_stored *td_safetensors_at(const td_safetensors *s, size_t i)
{
    return i < s->count ? &s->tensors[i] : NULL;
}

const td_stored *td_safetensors_find(const td_safetensors *s, const char *name)
{
    return td_map_get(s->by_name, name);
}

const char *td_safetensors_metadata(const td_safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

/* ---- numbers --------------------------------------------------------------------------------- */

static double from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float    f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

static double from_f16(uint16_t bits)
{
    int    exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
                   : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                  : ldexp(mantissa, -24);
    return bits >> 15 ? -value : value;
}

#define LOAD(type, p)                \
    (__extension__({                 \
        type v_;                     \
        memcpy(&v_, (p), sizeof v_); \
        v_;                          \
    }))

static double number(const td_stored *t, int64_t i)
{
    const unsigned char *p = (const unsigned char *)t->data + (size_t)i * types[t->type].width;
    switch (t->type) {
    case TD_STORED_F32:
        return LOAD(float, p);
    case TD_STORED_F64:
        return LOAD(double, p);
    case TD_STORED_I32:
        return LOAD(int32_t, p);
    case TD_STORED_I64:
        return (double)LOAD(int64_t, p);
    case TD_STORED_BF16:
        return from_bf16(LOAD(uint16_t, p));
    case TD_STORED_F16:
        return from_f16(LOAD(uint16_t, p));
    default:
        return *p;
    }
}

static int check_count(const td_stored *t, int64_t count, td_error *error)
{
    if (td_stored_count(t) == count)
        return 0;
    return td_fail(error, TD_EFORMAT, "tensor '%s' has %lld numbers, %lld are needed", t->name,
                   (long long)td_stored_count(t), (long long)count);
}

bool td_stored_is_real(const td_stored *t)
{
    return t->type == TD_STORED_F32 || t->type == TD_STORED_F64 || t->type == TD_STORED_F16 ||
           t->type == TD_STORED_BF16;
}

int td_stored_floats(const td_stored *t, float *out, int64_t count, td_error *error)
{
    int code = check_count(t, count, error);
    if (code || !count)
        return code;
    if (t->type == TD_STORED_F32)
        memcpy(out, t->data, t->size);
    else
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)number(t, i);
    return 0;
}

int td_stored_doubles(const td_stored *t, double *out, int64_t count, td_error *error)
{
    int code = check_count(t, count, error);
    for (int64_t i = 0; !code && i < count; i++)
        out[i] = number(t, i);
    return code;
}

int td_stored_ints(const td_stored *t, int32_t *out, int64_t count, td_error *error)
{
    int code = check_count(t, count, error);
    for (int64_t i = 0; !code && i < count; i++) {
        double x = number(t, i);
        if (!(x >= INT32_MIN && x <= INT32_MAX) || x != floor(x))
            return td_fail(error, TD_EFORMAT,
                           "tensor '%s': number %lld is %g, not a 32-bit integer", t->name,
                           (long long)i, x);
        out[i] = (int32_t)x;
    }
    return code;
}
