/* safetensors.h - the golden test's own reader, since it must not trust the code under test. */
#ifndef TESTS_GOLDEN_SAFETENSORS_H
#define TESTS_GOLDEN_SAFETENSORS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tensors {
    char   *data;        /* the whole file */
    size_t  size, first; /* first byte after the header */
    json_t *header;
};

struct values {
    double *at;
    size_t  count;
    int64_t dim[4];
    size_t  rank;
};

static inline bool tensors_open(struct tensors *t, const char *path)
{
    FILE    *f = fopen(path, "rb");
    uint64_t n = 0;
    memset(t, 0, sizeof *t);
    if (!f)
        return false;
    fseek(f, 0, SEEK_END);
    t->size = (size_t)ftell(f);
    rewind(f);
    t->data = malloc(t->size + 1);
    bool ok = t->data && fread(t->data, 1, t->size, f) == t->size && t->size >= 8;
    fclose(f);
    if (ok)
        memcpy(&n, t->data, 8);
    t->first = 8 + n;
    t->header = ok && n <= t->size - 8 ? json_loadb(t->data + 8, n, 0, NULL) : NULL;
    return t->header != NULL;
}

static inline void tensors_close(struct tensors *t)
{
    json_decref(t->header);
    free(t->data);
}

static inline double tensors_item(const char *dtype, const char *from, size_t i)
{
    float   f;
    double  d;
    int32_t k;
    if (!strcmp(dtype, "F32")) {
        memcpy(&f, from + 4 * i, 4);
        return f;
    }
    if (!strcmp(dtype, "I32")) {
        memcpy(&k, from + 4 * i, 4);
        return k;
    }
    memcpy(&d, from + 8 * i, 8);
    return d;
}

/* The tensor as doubles; `at`, which the caller frees, is NULL if there is no such tensor. */
static inline struct values tensors_get(const struct tensors *t, const char *name)
{
    struct values v = { NULL, 1, { 1, 1, 1, 1 }, 0 };
    json_t     *entry = json_object_get(t->header, name), *shape = json_object_get(entry, "shape");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    size_t      start = (size_t)json_integer_value(
             json_array_get(json_object_get(entry, "data_offsets"), 0));
    size_t width = dtype && !strcmp(dtype, "F64") ? 8 : 4;

    if (!entry || !dtype || json_array_size(shape) > 4)
        return v;
    v.rank = json_array_size(shape);
    for (size_t k = 0; k < v.rank; k++)
        v.count *= (size_t)(v.dim[k] = json_integer_value(json_array_get(shape, k)));
    if (t->first + start + v.count * width > t->size ||
        !(v.at = malloc((v.count + 1) * sizeof *v.at)))
        return v;
    for (size_t i = 0; i < v.count; i++)
        v.at[i] = tensors_item(dtype, t->data + t->first + start, i);
    return v;
}

#endif
