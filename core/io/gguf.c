/* gguf.c - reading GGUF: nothing in the file is used before it is checked. */
#include "io/gguf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/map.h"

enum {
    LONGEST = 65535, /* bytes of a key: the format's limit */
    MOST_DIMS = 4,   /* the library's limit */
    ALIGNMENT = 32   /* unless general.alignment says another */
};

struct td_gguf {
    td_mapped_file map;
    td_arena      *arena;
    td_map        *keys;    /* td_gguf_value */
    td_map        *tensors; /* td_stored */
    size_t         at;      /* while opening: how far it has been read */
};

/* ---- pieces ---------------------------------------------------------------------------------- */

static const size_t widths[TD_GGUF_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

/* Little-endian, on any machine. */
static uint64_t number_at(const unsigned char *p, size_t size)
{
    uint64_t x = 0;
    while (size-- > 0)
        x = x << 8 | p[size];
    return x;
}

static size_t left(const td_gguf *g) { return g->map.size - g->at; }

static int truncated(const td_gguf *g, const char *what, td_error *error)
{
    return td_fail(error, TD_EFORMAT,
                   "%s at byte %zu does not fit in a file of %zu: it is truncated or damaged", what,
                   g->at, g->map.size);
}

static int take(td_gguf *g, size_t size, const char *what, uint64_t *out, td_error *error)
{
    if (size > left(g))
        return truncated(g, what, error);
    *out = number_at(g->map.data + g->at, size);
    g->at += size;
    return 0;
}

/* Moves past a text; the text may be larger than what is left of the file. */
static int skip_text(td_gguf *g, const char *what, td_error *error)
{
    uint64_t size = 0;
    int      code = take(g, 8, what, &size, error);
    if (!code && size > left(g))
        code = truncated(g, what, error);
    if (!code)
        g->at += (size_t)size;
    return code;
}

/* A key or a tensor's name, copied with a 0 at its end. */
static int take_name(td_gguf *g, const char *what, char **out, td_error *error)
{
    size_t before = g->at, size;
    int    code = skip_text(g, what, error);
    if (code)
        return code;
    size = g->at - before - 8;
    if (!size || size > LONGEST || memchr(g->map.data + before + 8, 0, size))
        return td_fail(error, TD_EFORMAT,
                       "%s at byte %zu has %zu bytes: it must have from 1 to %d, none of them 0",
                       what, before, size, LONGEST);
    *out = td_arena_alloc(g->arena, size + 1);
    if (!*out)
        return td_fail(error, TD_ENOMEM, "out of memory for %s", what);
    memcpy(*out, g->map.data + before + 8, size);
    if (!td_is_utf8(*out))
        return td_fail(error, TD_EFORMAT, "%s at byte %zu is not UTF-8", what, before);
    return 0;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* The items after the type and, for a list, the count, which cannot be trusted. */
static int skip_items(td_gguf *g, const char *key, td_gguf_value *v, td_error *error)
{
    int code = 0;
    v->data = g->map.data + g->at;
    if (v->type == TD_GGUF_TEXT) {
        for (uint64_t k = 0; !code && k < v->count; k++)
            code = skip_text(g, key, error);
        return code;
    }
    if (v->count > left(g) / widths[v->type])
        return truncated(g, key, error);
    g->at += (size_t)v->count * widths[v->type];
    return 0;
}

static int take_type(td_gguf *g, const char *key, bool list, td_gguf_value *v, td_error *error)
{
    uint64_t type = 0;
    int      code = take(g, 4, key, &type, error);
    if (!code && (type >= TD_GGUF_TYPES || (list && type == TD_GGUF_LIST)))
        code = td_fail(error, TD_EFORMAT, "the key '%.200s' %s type %llu, which cannot be read",
                       key, list ? "is a list of" : "has", (unsigned long long)type);
    v->type = (int)type;
    return code;
}

static int take_value(td_gguf *g, const char *key, td_gguf_value *v, td_error *error)
{
    int code = take_type(g, key, false, v, error);
    v->count = 1;
    v->list = !code && v->type == TD_GGUF_LIST;
    if (v->list)
        code = take_type(g, key, true, v, error);
    if (!code && v->list)
        code = take(g, 8, key, &v->count, error);
    return code ? code : skip_items(g, key, v, error);
}

static int add(td_map *map, const char *what, const char *name, void *value, td_error *error)
{
    if (td_map_get(map, name))
        return td_fail(error, TD_EFORMAT, "the %s '%.200s' occurs twice", what, name);
    return td_map_set(map, name, value)
               ? td_fail(error, TD_ENOMEM, "out of memory for the %ss", what)
               : 0;
}

static int take_key(td_gguf *g, td_error *error)
{
    td_gguf_value *v = td_arena_alloc(g->arena, sizeof *v);
    char          *key;
    int            code = v ? take_name(g, "a key", &key, error)
                            : td_fail(error, TD_ENOMEM, "out of memory for the keys");
    if (!code)
        code = take_value(g, key, v, error);
    return code ? code : add(g->keys, "key", key, v, error);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Types of other numbers are named, so that a message can say what a file has. */
static const struct {
    int         type;
    const char *name;
} types[] = {
    [0] = { TD_STORED_F32, "F32" },        [1] = { TD_STORED_F16, "F16" },
    [2] = { TD_STORED_OTHER, "Q4_0" },     [3] = { TD_STORED_OTHER, "Q4_1" },
    [6] = { TD_STORED_OTHER, "Q5_0" },     [7] = { TD_STORED_OTHER, "Q5_1" },
    [8] = { TD_STORED_Q8_0, "Q8_0" },      [9] = { TD_STORED_OTHER, "Q8_1" },
    [10] = { TD_STORED_OTHER, "Q2_K" },    [11] = { TD_STORED_OTHER, "Q3_K" },
    [12] = { TD_STORED_OTHER, "Q4_K" },    [13] = { TD_STORED_OTHER, "Q5_K" },
    [14] = { TD_STORED_OTHER, "Q6_K" },    [15] = { TD_STORED_OTHER, "Q8_K" },
    [16] = { TD_STORED_OTHER, "IQ2_XXS" }, [17] = { TD_STORED_OTHER, "IQ2_XS" },
    [18] = { TD_STORED_OTHER, "IQ3_XXS" }, [19] = { TD_STORED_OTHER, "IQ1_S" },
    [20] = { TD_STORED_OTHER, "IQ4_NL" },  [21] = { TD_STORED_OTHER, "IQ3_S" },
    [22] = { TD_STORED_OTHER, "IQ2_S" },   [23] = { TD_STORED_OTHER, "IQ4_XS" },
    [24] = { TD_STORED_OTHER, "I8" },      [25] = { TD_STORED_OTHER, "I16" },
    [26] = { TD_STORED_OTHER, "I32" },     [27] = { TD_STORED_OTHER, "I64" },
    [28] = { TD_STORED_F64, "F64" },       [29] = { TD_STORED_OTHER, "IQ1_M" },
    [30] = { TD_STORED_BF16, "BF16" },     [34] = { TD_STORED_OTHER, "TQ1_0" },
    [35] = { TD_STORED_OTHER, "TQ2_0" },   [39] = { TD_STORED_OTHER, "MXFP4" },
};

/* The dims, the innermost first; sets the count of elements. */
static int take_dims(td_gguf *g, td_stored *t, int64_t *count, td_error *error)
{
    uint64_t rank = 0, dim = 0;
    int      code = take(g, 4, t->name, &rank, error);
    if (!code && (!rank || rank > MOST_DIMS))
        code = td_fail(error, TD_EFORMAT, "tensor '%.200s' has %llu dims: it must have 1 to %d",
                       t->name, (unsigned long long)rank, MOST_DIMS);
    t->rank = code ? 0 : (int)rank;
    for (int k = t->rank - 1; !code && k >= 0; k--) {
        code = take(g, 8, t->name, &dim, error);
        t->dim[k] = (int64_t)dim;
    }
    *count = 1;
    /* in the order of td_stored_count: with a dim of 0, another order may not overflow where it does */
    for (int k = 0; !code && k < t->rank; k++)
        if (t->dim[k] < 0 || __builtin_mul_overflow(*count, t->dim[k], count))
            code = td_fail(error, TD_EFORMAT,
                           "tensor '%.200s': the size of its shape overflows 64 bits", t->name);
    return code;
}

/* Sets its bytes; 0 if its type cannot be read, since they are unknown. */
static int measure(td_stored *t, int64_t count, td_error *error)
{
    int64_t row = t->dim[t->rank - 1], bytes = 0;
    bool    over = false;
    if (t->type == TD_STORED_Q8_0 && row % TD_STORED_BLOCK)
        return td_fail(error, TD_EFORMAT,
                       "tensor '%.200s' is of type Q8_0, but its rows of %lld do not divide into "
                       "blocks of %d",
                       t->name, (long long)row, TD_STORED_BLOCK);
    if (t->type == TD_STORED_Q8_0)
        over = __builtin_mul_overflow(count / TD_STORED_BLOCK, TD_STORED_BLOCK_BYTES, &bytes);
    else
        over = __builtin_mul_overflow(count, (int64_t)td_stored_width(t->type), &bytes);
    t->size = (size_t)bytes;
    return over ? td_fail(error, TD_EFORMAT,
                          "tensor '%.200s': the size of its shape overflows 64 bits", t->name)
                : 0;
}

/* `data` is its offset until the place of all data is known. */
static int take_tensor(td_gguf *g, td_error *error)
{
    td_stored *t = td_arena_alloc(g->arena, sizeof *t);
    uint64_t   type = 0, offset = 0;
    int64_t    count;
    char      *name;
    int        code = t ? take_name(g, "a tensor's name", &name, error)
                        : td_fail(error, TD_ENOMEM, "out of memory for the tensors");
    if (code)
        return code;
    t->name = name;
    code = take_dims(g, t, &count, error);
    if (!code)
        code = take(g, 4, name, &type, error);
    if (!code)
        code = take(g, 8, name, &offset, error);
    if (code)
        return code;
    /* a type that cannot be read is reported only if the tensor is needed */
    bool known = type < sizeof types / sizeof *types && types[type].name;
    t->type = known ? types[type].type : TD_STORED_OTHER;
    t->dtype = known ? types[type].name
                     : td_arena_print(g->arena, "%llu", (unsigned long long)type);
    t->data = (const void *)(uintptr_t)offset;
    if (!t->dtype)
        return td_fail(error, TD_ENOMEM, "out of memory for the tensors");
    code = measure(t, count, error);
    return code ? code : add(g->tensors, "tensor", name, t, error);
}

/* ---- the data -------------------------------------------------------------------------------- */

static int find_alignment(const td_gguf *g, size_t *out, td_error *error)
{
    const td_gguf_value *v = td_gguf_get(g, "general.alignment");
    bool                 wrong = v && (v->list || v->type != TD_GGUF_U32);
    uint64_t             x = v && !wrong ? number_at(v->data, 4) : ALIGNMENT;
    if (wrong || !x || x % 8)
        return td_fail(error, TD_EFORMAT, "general.alignment must be a multiple of 8 in 32 bits");
    *out = (size_t)x;
    return 0;
}

static int by_data(const void *a, const void *b)
{
    const td_stored *x = *(const td_stored *const *)a, *y = *(const td_stored *const *)b;
    if (x->data != y->data)
        return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static int check_overlap(const td_gguf *g, td_error *error)
{
    size_t            n = td_map_count(g->tensors);
    const td_stored **sorted = malloc((n + 1) * sizeof *sorted);
    int code = sorted ? 0 : td_fail(error, TD_ENOMEM, "out of memory for %zu tensors", n);
    for (size_t i = 0; !code && i < n; i++)
        sorted[i] = td_map_value(g->tensors, i);
    if (!code && n)
        qsort(sorted, n, sizeof *sorted, by_data);
    for (size_t i = 1; !code && i < n; i++)
        if ((const char *)sorted[i - 1]->data + sorted[i - 1]->size > (const char *)sorted[i]->data)
            code = td_fail(error, TD_EFORMAT, "tensors '%.200s' and '%.200s' overlap",
                           sorted[i - 1]->name, sorted[i]->name);
    free(sorted);
    return code;
}

/* Offsets count from the first aligned byte after the last tensor's description. */
static int place_tensors(td_gguf *g, td_error *error)
{
    size_t alignment = 0, begin, room;
    int    code = find_alignment(g, &alignment, error);
    if (code)
        return code;
    begin = (g->at + alignment - 1) / alignment * alignment;
    room = begin < g->map.size ? g->map.size - begin : 0;
    for (size_t i = 0; i < td_map_count(g->tensors); i++) {
        td_stored *t = td_map_value(g->tensors, i);
        size_t     offset = (uintptr_t)t->data;
        /* in this order nothing wraps around */
        if (offset % alignment || offset > room || t->size > room - offset)
            return td_fail(error, TD_EFORMAT,
                           "tensor '%.200s': %zu bytes from byte %zu on lie outside the file's %zu "
                           "bytes of data, or do not begin at a multiple of %zu",
                           t->name, t->size, offset, room, alignment);
        t->data = g->map.data + (room ? begin : 0) + offset;
    }
    return check_overlap(g, error);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Other versions count differently, and other machines' bytes are in another order. */
static int take_version(td_gguf *g, td_error *error)
{
    uint64_t magic = 0, version = 0;
    int      code = take(g, 4, "the file's beginning", &magic, error);
    if (!code)
        code = take(g, 4, "the file's beginning", &version, error);
    if (code)
        return code;
    if (memcmp(g->map.data, "GGUF", 4))
        return td_fail(error, TD_EFORMAT, "it does not begin with GGUF");
    if (version != 2 && version != 3)
        return td_fail(error, TD_EFORMAT,
                       "it has version %llu; versions 2 and 3, little-endian, can be read",
                       (unsigned long long)version);
    return 0;
}

/* The counts cannot be trusted, but each item takes some bytes, so reading ends with the file. */
static int read_file(td_gguf *g, td_error *error)
{
    uint64_t tensors = 0, keys = 0;
    int      code = take_version(g, error);
    if (!code)
        code = take(g, 8, "the file's beginning", &tensors, error);
    if (!code)
        code = take(g, 8, "the file's beginning", &keys, error);
    for (uint64_t k = 0; !code && k < keys; k++)
        code = take_key(g, error);
    for (uint64_t k = 0; !code && k < tensors; k++)
        code = take_tensor(g, error);
    return code ? code : place_tensors(g, error);
}

td_gguf *td_gguf_open(const char *path, td_error *error)
{
    td_gguf *g = calloc(1, sizeof *g);
    td_error why = { 0 };
    int      code = g ? td_file_map(&g->map, path, error) : TD_ENOMEM;
    if (!code) {
        g->arena = td_arena_new();
        g->keys = td_map_new();
        g->tensors = td_map_new();
        code = g->arena && g->keys && g->tensors ? read_file(g, &why) : TD_ENOMEM;
        if (code)
            td_fail(error, code, "cannot read '%s' as GGUF: %.1900s", path,
                    *why.text ? why.text : "out of memory");
    } else if (!g)
        td_fail(error, TD_ENOMEM, "out of memory while opening '%s'", path);
    if (!code)
        return g;
    td_gguf_close(g);
    return NULL;
}

void td_gguf_close(td_gguf *g)
{
    if (!g)
        return;
    td_map_free(g->keys);
    td_map_free(g->tensors);
    td_arena_free(g->arena);
    td_file_unmap(&g->map);
    free(g);
}

/* A pipe would block, and lose what is read here. */
bool td_gguf_is(const char *path)
{
    char        begin[4];
    struct stat st;
    int         fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool        regular = fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode);
    ssize_t     n = regular ? read(fd, begin, sizeof begin) : -1;
    if (fd >= 0)
        close(fd);
    return n == sizeof begin && !memcmp(begin, "GGUF", sizeof begin);
}

/* ---- what is there --------------------------------------------------------------------------- */

const char *td_gguf_key(const td_gguf *g, size_t i)
{
    return i < td_map_count(g->keys) ? td_map_key(g->keys, i) : NULL;
}

const td_gguf_value *td_gguf_at(const td_gguf *g, size_t i)
{
    return i < td_map_count(g->keys) ? td_map_value(g->keys, i) : NULL;
}

const td_gguf_value *td_gguf_get(const td_gguf *g, const char *key)
{
    return td_map_get(g->keys, key);
}

/* The bits of a float, as its value. */
static double real_of(uint64_t bits, size_t width)
{
    uint32_t half = (uint32_t)bits;
    float    single;
    double   x;
    memcpy(&single, &half, sizeof single);
    memcpy(&x, &bits, sizeof x);
    return width == sizeof single ? (double)single : x;
}

double td_gguf_number(const td_gguf_value *v, uint64_t i)
{
    size_t   width = widths[v->type];
    uint64_t bits = number_at(v->data + i * width, width);
    switch (v->type) {
    case TD_GGUF_F32:
    case TD_GGUF_F64:
        return real_of(bits, width);
    case TD_GGUF_I8:
        return (int8_t)bits;
    case TD_GGUF_I16:
        return (int16_t)bits;
    case TD_GGUF_I32:
        return (int32_t)bits;
    case TD_GGUF_I64:
        return (double)(int64_t)bits;
    default:
        return (double)bits;
    }
}

const char *td_gguf_text(const unsigned char **at, size_t *size)
{
    const char *text = (const char *)*at + 8;
    *size = (size_t)number_at(*at, 8);
    *at += 8 + *size;
    return text;
}

size_t td_gguf_count(const td_gguf *g) { return td_map_count(g->tensors); }

const td_stored *td_gguf_tensor(const td_gguf *g, size_t i) { return td_map_value(g->tensors, i); }
