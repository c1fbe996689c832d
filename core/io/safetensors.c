/* safetensors.c - reading safetensors: nothing in the header is used before it is checked. */
#include "io/safetensors.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"
#include "tandem/files.h"

/* The limit of the reference implementation: a larger length is noise, not a header. */
#define HEADER_LIMIT (100u << 20)

struct td_safetensors {
    td_mapped_file map;
    json_t        *header;  /* owns the names */
    td_stored     *tensors; /* in the order of their data */
    size_t         count;
    td_map        *by_name;
};

/* In the order of td_stored_type. The format has more (F8_E4M3, ..): a file may contain them, as
 * long as nobody asks for their numbers. */
static const struct {
    const char *name;
    size_t      width;
} types[TD_STORED_TYPES] = {
    [TD_STORED_F32] = { "F32", 4 },   [TD_STORED_F64] = { "F64", 8 },
    [TD_STORED_I32] = { "I32", 4 },   [TD_STORED_I64] = { "I64", 8 },
    [TD_STORED_BF16] = { "BF16", 2 }, [TD_STORED_F16] = { "F16", 2 },
    [TD_STORED_U8] = { "U8", 1 },     [TD_STORED_BOOL] = { "BOOL", 1 },
    [TD_STORED_I8] = { "I8", 1 },     [TD_STORED_I16] = { "I16", 2 },
    [TD_STORED_U16] = { "U16", 2 },   [TD_STORED_U32] = { "U32", 4 },
    [TD_STORED_U64] = { "U64", 8 },
};

size_t td_stored_width(int type)
{
    return type >= 0 && type < TD_STORED_TYPES ? types[type].width : 0;
}

const char *td_stored_type_name(int type)
{
    return type >= 0 && type < TD_STORED_TYPES ? types[type].name : "?";
}

/* Cannot overflow for a tensor that was read: read_shape has multiplied the same numbers. */
int64_t td_stored_count(const td_stored *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

size_t td_stored_bytes(const td_stored *t)
{
    size_t n = (size_t)td_stored_count(t);
    return t->type == TD_STORED_Q8_0 ? n / TD_STORED_BLOCK * TD_STORED_BLOCK_BYTES
                                     : n * td_stored_width(t->type);
}

bool td_stored_has_shape(const td_stored *t, int rank, const int64_t *dim)
{
    bool same = t->rank == rank;
    for (int k = 0; same && k < rank; k++)
        same = t->dim[k] == dim[k];
    return same;
}

char *td_shape_text(char out[200], int rank, const int64_t *dim)
{
    size_t n = (size_t)snprintf(out, 200, "[");
    for (int k = 0; k < rank && n < 170; k++)
        n += (size_t)snprintf(out + n, 200 - n, "%s%lld", k ? ", " : "", (long long)dim[k]);
    snprintf(out + n, 200 - n, "]");
    return out;
}

/* ---- header ---------------------------------------------------------------------------------- */

/* -1: unknown, or the entry has none. */
static int find_type(const char *name)
{
    for (int i = 0; name && i < TD_STORED_TYPES; i++)
        if (!strcmp(name, types[i].name))
            return i;
    return -1;
}

/* Sets rank, dims and size. */
static int read_shape(const json_t *shape, td_stored *t, td_error *error)
{
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape) || rank > TD_STORED_MAX_RANK)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': 'shape' must be a list of at most %d integers", t->name,
                       TD_STORED_MAX_RANK);
    /* Sizes are multiplied in bytes from the start, so that one overflow check covers them all. */
    int64_t bytes = t->type == TD_STORED_OTHER ? 1 : (int64_t)types[t->type].width;
    t->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return td_fail(error, TD_EFORMAT,
                           "tensor '%s': dimension %zu must be an integer, 0 or more", t->name, i);
        t->dim[i] = json_integer_value(d);
        if (__builtin_mul_overflow(bytes, t->dim[i], &bytes))
            return td_fail(error, TD_EFORMAT,
                           "tensor '%s': the size of its shape overflows 64 bits", t->name);
    }
    t->size = (size_t)bytes;
    return 0;
}

/* Sets data, once its place in the file is known to be right. */
static int read_offsets(const json_t *offsets, td_stored *t, const unsigned char *data, size_t room,
                        td_error *error)
{
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return td_fail(error, TD_EFORMAT, "tensor '%s': 'data_offsets' must be a pair of integers",
                       t->name);
    int64_t begin = json_integer_value(b), end = json_integer_value(e);
    /* in this order nothing wraps around: 0 <= begin <= end <= room */
    if (begin < 0 || end < begin || (uint64_t)end > room)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': bytes %lld to %lld lie outside the file's %zu bytes of data",
                       t->name, (long long)begin, (long long)end, room);
    /* Shape and offsets say the same thing twice; if they differ, the numbers could be a
     * neighbour's. */
    if (t->type == TD_STORED_OTHER) /* of unknown width: only the offsets say it */
        t->size = (size_t)(end - begin);
    if ((size_t)(end - begin) != t->size)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': its shape needs %zu bytes, but its offsets span %lld", t->name,
                       t->size, (long long)(end - begin));
    t->data = data + begin;
    return 0;
}

/* One entry of the header; `room` bytes of data follow it. */
static int read_tensor(const char *name, const json_t *entry, td_stored *t,
                       const unsigned char *data, size_t room, td_error *error)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    t->name = name;
    t->type = find_type(type); /* before the shape, which is measured with its width */
    t->dtype = type;
    if (!type)
        return td_fail(error, TD_EFORMAT, "tensor '%s' has no dtype", name);
    if (t->type < 0)
        t->type = TD_STORED_OTHER;
    int code = read_shape(json_object_get(entry, "shape"), t, error);
    return code ? code : read_offsets(json_object_get(entry, "data_offsets"), t, data, room, error);
}

/* By address, so that overlaps are between neighbours. */
static int by_data(const void *a, const void *b)
{
    const td_stored *x = a, *y = b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    /* empty tensors share the address of the next tensor; sorted before it, they overlap nothing */
    return x->size < y->size ? -1 : x->size > y->size;
}

/* The format allows no gaps, and nothing after the last tensor. As nothing overlaps, it is enough
 * to compare the sums. */
static int check_cover(const td_safetensors *s, size_t room, td_error *error)
{
    size_t used = 0;
    for (size_t i = 0; i < s->count; i++)
        used += s->tensors[i].size;
    if (used == room)
        return 0;
    return td_fail(error, TD_EFORMAT,
                   "the tensors take %zu bytes, but the file has %zu bytes of data: it is damaged",
                   used, room);
}

/* Sorted by address, only neighbours can overlap. */
static int check_overlap(const td_safetensors *s, td_error *error)
{
    for (size_t i = 1; i < s->count; i++) {
        const td_stored *a = &s->tensors[i - 1], *b = &s->tensors[i];
        if ((const char *)a->data + a->size > (const char *)b->data)
            return td_fail(error, TD_EFORMAT, "tensors '%s' and '%s' overlap", a->name, b->name);
    }
    return 0;
}

/* All entries of the header; `room` bytes of data follow it. */
static int read_tensors(td_safetensors *s, const unsigned char *data, size_t room, td_error *error)
{
    const char *name;
    json_t     *entry;

    /* one too many if there is metadata, and never 0 */
    s->tensors = calloc(json_object_size(s->header) + 1, sizeof *s->tensors);
    s->by_name = td_map_new();
    if (!s->tensors || !s->by_name)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu tensors",
                       json_object_size(s->header));
    json_object_foreach(s->header, name, entry)
    {
        if (!strcmp(name, "__metadata__")) /* text values, not a tensor */
            continue;
        int code = read_tensor(name, entry, &s->tensors[s->count], data, room, error);
        if (code)
            return code;
        s->count++;
    }
    /* sort before indexing: the map keeps pointers into the array */
    if (s->count)
        qsort(s->tensors, s->count, sizeof *s->tensors, by_data);
    for (size_t i = 0; i < s->count; i++)
        if (td_map_set(s->by_name, s->tensors[i].name, &s->tensors[i]))
            return td_fail(error, TD_ENOMEM, "out of memory for %zu tensors", s->count);
    return check_overlap(s, error) || check_cover(s, room, error) ? TD_EFORMAT : 0;
}

/* The file is 8 bytes of length, that many bytes of JSON, and the data to the end. */
static int read_header(td_safetensors *s, td_error *error)
{
    uint64_t     length = 0;
    json_error_t problem;

    if (s->map.size < 8)
        return td_fail(error, TD_EFORMAT, "%zu bytes are too few for a safetensors file",
                       s->map.size);
    for (int i = 7; i >= 0; i--) /* little-endian, on any machine */
        length = length << 8 | s->map.data[i];
    /* `length` is any 64 bits at first; compared from this side, nothing wraps around */
    if (length > HEADER_LIMIT || length > s->map.size - 8)
        return td_fail(error, TD_EFORMAT,
                       "a header of %llu bytes does not fit in a file of %zu: it is truncated, or "
                       "not a safetensors file",
                       (unsigned long long)length, s->map.size);
    /* Of two entries with one name, readers disagree on which counts. */
    s->header = json_loadb((const char *)s->map.data + 8, (size_t)length, JSON_REJECT_DUPLICATES,
                           &problem);
    if (!s->header)
        return td_fail(error, TD_EFORMAT, "the header is not valid JSON: %s (byte %d)",
                       problem.text, problem.position);
    if (!json_is_object(s->header))
        return td_fail(error, TD_EFORMAT, "the header is not a JSON object");
    return read_tensors(s, s->map.data + 8 + length, s->map.size - 8 - (size_t)length, error);
}

/* Hints for files that are often named by mistake; NULL for all others. */
static const char *what_instead(const td_mapped_file *m, const char *path)
{
    static const struct {
        const char *begins, *is;
    } known[] = {
        { "PK\3\4", "it is a PyTorch file (.bin, .pt): save it as safetensors" },
        { "\x80\x02", "it is a PyTorch file (.bin, .pt): save it as safetensors" },
        { "GGUF", "it is a llama.cpp file (GGUF): 'tandem convert FILE RUN' reads it as a run" },
    };
    static const char index[] = ".index.json";
    size_t            n = strlen(path);
    if (n > sizeof index && !strcmp(path + n - sizeof index + 1, index))
        return "it is the index of a model in several files: merge them into one safetensors file";
    if (td_is_pointer(m->data, m->size))
        return TD_POINTER_ADVICE;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        if (m->size >= strlen(known[k].begins) &&
            !memcmp(m->data, known[k].begins, strlen(known[k].begins)))
            return known[k].is;
    return NULL;
}

/* Everything is checked here, so that the result can be used without further checks. */
td_safetensors *td_safetensors_open(const char *path, td_error *error)
{
    td_safetensors *s = calloc(1, sizeof *s);
    td_error        why = { 0 };

    if (!s) {
        td_fail(error, TD_ENOMEM, "out of memory while opening '%s'", path);
        return NULL;
    }
    if (td_file_map(&s->map, path, error) == 0) {
        /* below, messages name tensors; the path is put before them here, once */
        int         code = read_header(s, &why);
        const char *instead = code ? what_instead(&s->map, path) : NULL;
        if (!code)
            return s;
        td_fail(error, code, "cannot read '%s' as safetensors: %.1900s", path,
                instead ? instead : why.text);
    }
    td_safetensors_close(s);
    return NULL;
}

void td_safetensors_close(td_safetensors *s)
{
    if (!s)
        return;
    td_map_free(s->by_name);
    free(s->tensors);
    json_decref(s->header);
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

/* jansson's getters take NULL and return it: so this returns NULL without metadata or without
 * the key. */
const char *td_safetensors_metadata(const td_safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

/* ---- elements -------------------------------------------------------------------------------- */

/* The upper half of a float. */
static double from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float    f;
    memcpy(&f, &wide, sizeof f);
    return f;
}

/* IEEE 754 binary16: 1 sign bit, 5 bits of exponent (bias 15), 10 of mantissa. */
static double from_f16(uint16_t bits)
{
    int    exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value;
    if (exponent == 31)
        value = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent)
        value = ldexp(1024 + mantissa, exponent - 25);
    else
        value = ldexp(mantissa, -24); /* subnormal: no implicit 1 */
    return bits >> 15 ? -value : value;
}

/* Headers have any length, so the data may have any alignment. */
#define LOAD(type, p)                \
    (__extension__({                 \
        type v_;                     \
        memcpy(&v_, (p), sizeof v_); \
        v_;                          \
    }))

/* An element of Q8_0: its byte times the factor of its block. */
static double from_block(const unsigned char *data, int64_t i)
{
    const unsigned char *block = data + i / TD_STORED_BLOCK * TD_STORED_BLOCK_BYTES;
    return from_f16(LOAD(uint16_t, block)) * (signed char)block[2 + i % TD_STORED_BLOCK];
}

/* Element i as a double: exact for all types, except I64 and U64 beyond 2^53. */
static double element(const td_stored *t, int64_t i)
{
    if (t->type == TD_STORED_Q8_0)
        return from_block(t->data, i);
    assert(t->type >= 0 && t->type < TD_STORED_TYPES);
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
    case TD_STORED_I8:
        return (signed char)*p;
    case TD_STORED_I16:
        return LOAD(int16_t, p);
    case TD_STORED_U16:
        return LOAD(uint16_t, p);
    case TD_STORED_U32:
        return LOAD(uint32_t, p);
    case TD_STORED_U64:
        return (double)LOAD(uint64_t, p);
    default: /* U8, BOOL */
        return *p;
    }
}

/* The caller's buffer has `count` elements, whatever the file says. */
static int check_count(const td_stored *t, int64_t count, td_error *error)
{
    if (t->type == TD_STORED_OTHER)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%s': numbers of dtype '%s' cannot be read: convert it to F32, F16 "
                       "or BF16",
                       t->name, t->dtype);
    if (td_stored_count(t) == count)
        return 0;
    return td_fail(error, TD_EFORMAT, "tensor '%s' has %lld elements; expected %lld", t->name,
                   (long long)td_stored_count(t), (long long)count);
}

/* Counters and masks are stored along with weights: a loader of weights must not pick those up
 * by mistake. */
bool td_stored_is_real(const td_stored *t)
{
    return t->type == TD_STORED_F32 || t->type == TD_STORED_F64 || t->type == TD_STORED_F16 ||
           t->type == TD_STORED_BF16 || t->type == TD_STORED_Q8_0;
}

int td_stored_floats(const td_stored *t, float *out, int64_t count, td_error *error)
{
    int code = check_count(t, count, error);
    /* an empty tensor may have no data to copy from */
    if (code || !count)
        return code;
    if (t->type == TD_STORED_F32) /* nearly all weights */
        memcpy(out, t->data, t->size);
    else
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)element(t, i);
    return 0;
}

/* For checks in double precision: nothing is rounded on the way. */
int td_stored_doubles(const td_stored *t, double *out, int64_t count, td_error *error)
{
    int code = check_count(t, count, error);
    return code ? code : td_stored_range(t, 0, count, out, error);
}

int td_stored_range(const td_stored *t, int64_t first, int64_t count, double *out, td_error *error)
{
    int64_t all = td_stored_count(t);
    int     code = check_count(t, all, error); /* that it has numbers at all */
    if (!code && (first < 0 || count < 0 || first > all || count > all - first))
        code = td_fail(error, TD_EFORMAT, "tensor '%s' has %lld elements, not %lld from %lld on",
                       t->name, (long long)all, (long long)count, (long long)first);
    for (int64_t i = 0; !code && i < count; i++)
        out[i] = element(t, first + i);
    return code;
}

int td_stored_ints(const td_stored *t, int32_t *out, int64_t count, td_error *error)
{
    int code = check_count(t, count, error);
    for (int64_t i = 0; !code && i < count; i++) {
        double x = element(t, i);
        /* 64 bits beyond 2^53 are rounded here, but still refused; the ! also catches NaN */
        if (!(x >= INT32_MIN && x <= INT32_MAX) || x != floor(x))
            return td_fail(error, TD_EFORMAT,
                           "tensor '%s': element %lld is %g, not a 32-bit integer", t->name,
                           (long long)i, x);
        out[i] = (int32_t)x;
    }
    return code;
}
