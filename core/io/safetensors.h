/* safetensors.h - named tensors in a file: a length, a JSON header, raw data.
 * https://github.com/huggingface/safetensors
 *
 * Reading maps the file and checks all of the header before anything is believed. Writing is
 * atomic.
 */
#ifndef TD_IO_SAFETENSORS_H
#define TD_IO_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem/error.h"

typedef enum td_stored_type {
    TD_STORED_F32,
    TD_STORED_F64,
    TD_STORED_I32,
    TD_STORED_I64,
    TD_STORED_BF16,
    TD_STORED_F16,
    TD_STORED_U8,
    TD_STORED_BOOL,
    TD_STORED_TYPES
} td_stored_type;

enum { TD_STORED_MAX_RANK = 8 };

/* One tensor. When reading, `data` points into the map (any alignment) and `name` is the file's. */
typedef struct td_stored {
    const char *name;
    int         type, rank;
    int64_t     dim[TD_STORED_MAX_RANK];
    const void *data;
    size_t      size; /* bytes; filled in by the writer */
    /* Writing, instead of `data`: give `size` bytes of it from `offset` on. */
    int (*stream)(void *arg, size_t offset, size_t size, void *out, td_error *error);
    void *arg;
} td_stored;

typedef struct td_safetensors td_safetensors;

/* NULL with `error`. */
td_safetensors *td_safetensors_open(const char *path, td_error *error);
void            td_safetensors_close(td_safetensors *);

/* In the order of their data. */
size_t           td_safetensors_count(const td_safetensors *);
const td_stored *td_safetensors_at(const td_safetensors *, size_t i);
const td_stored *td_safetensors_find(const td_safetensors *, const char *name); /* NULL: absent */
const char *td_safetensors_metadata(const td_safetensors *, const char *key);   /* NULL: absent */

/* Bytes of one number, and the name in files: "F32". */
size_t      td_stored_width(int type);
const char *td_stored_type_name(int type);
int64_t     td_stored_count(const td_stored *);

/* Whether it holds floating-point numbers, of any width. */
bool td_stored_is_real(const td_stored *);
/* All numbers, converted. `count` must be td_stored_count. */
int  td_stored_floats(const td_stored *, float *out, int64_t count, td_error *error);
int  td_stored_doubles(const td_stored *, double *out, int64_t count, td_error *error);
int  td_stored_ints(const td_stored *, int32_t *out, int64_t count, td_error *error);

/* Write all of `tensors` in their order. `metadata`: key, value, key, value, .., NULL; or NULL. */
int td_safetensors_write(const char *path, const td_stored *tensors, size_t count,
                         const char *const *metadata, td_error *error);

#endif
