/* safetensors.h - named tensors in a file: a length, a JSON header, raw data.
 * https://github.com/huggingface/safetensors
 *
 * Weights, checkpoints, batches and probes are all exchanged in this format: PyTorch and JAX read
 * it, it maps into memory, and loading it runs no code. Files come from strangers, so reading
 * checks the whole header before anything in it is used. Writing is atomic.
 *
 *     td_safetensors  *s = td_safetensors_open("model.safetensors", &error);
 *     const td_stored *t = s ? td_safetensors_find(s, "model.norm.weight") : NULL;
 *     if (t && td_stored_count(t) == n && !td_stored_floats(t, weights, n, &error))
 *         ..
 *     td_safetensors_close(s);
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
    TD_STORED_I8,
    TD_STORED_I16,
    TD_STORED_U16,
    TD_STORED_U32,
    TD_STORED_U64,
    TD_STORED_TYPES,
    TD_STORED_OTHER = TD_STORED_TYPES, /* when reading: its numbers cannot be converted */
    TD_STORED_Q8_0                     /* of GGUF alone: blocks of 32 bytes with a common factor */
} td_stored_type;

enum {
    TD_STORED_MAX_RANK = 8,
    TD_STORED_BLOCK = 32,      /* elements of a block of Q8_0, all in one row .. */
    TD_STORED_BLOCK_BYTES = 34 /* .. and its bytes: the factor in F16, then the elements */
};

/* One tensor. When reading, `name` and `data` belong to the open file, and `data` may have any
 * alignment: use td_stored_floats and its variants, or memcpy. */
typedef struct td_stored {
    const char *name;
    int         type, rank; /* td_stored_type; rank 0 is a scalar */
    int64_t     dim[TD_STORED_MAX_RANK];
    const void *data;  /* row-major */
    size_t      size;  /* bytes of data; the writer computes it */
    const char *dtype; /* when reading: the type's name in the file */
    /* Writing, instead of `data`: copy `size` bytes from `offset` on to `out`. For tensors that
     * live on a device or are too large to copy as a whole. 0, or a negative code with `error`. */
    int (*stream)(void *arg, size_t offset, size_t size, void *out, td_error *error);
    void *arg;
} td_stored;

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct td_safetensors td_safetensors;

/* NULL with `error`: TD_EIO, TD_ENOMEM, or TD_EFORMAT if the content is wrong. */
td_safetensors *td_safetensors_open(const char *path, td_error *error);
void            td_safetensors_close(td_safetensors *); /* NULL is fine */

/* Tensor i < count, in the order of the data. */
size_t           td_safetensors_count(const td_safetensors *);
const td_stored *td_safetensors_at(const td_safetensors *, size_t i);
/* By name; NULL: no such tensor, or no such key. */
const td_stored *td_safetensors_find(const td_safetensors *, const char *name);
const char      *td_safetensors_metadata(const td_safetensors *, const char *key);

/* ---- one tensor ------------------------------------------------------------------------------ */

/* Bytes of one element, and the type's name in files ("F32"); 0 and "?" for an unknown type, and for
 * Q8_0, whose elements have no bytes of their own. */
size_t      td_stored_width(int type);
const char *td_stored_type_name(int type);
/* Elements: the product of the dimensions. */
int64_t     td_stored_count(const td_stored *);
/* Bytes that the elements take, which follow from type and shape. */
size_t      td_stored_bytes(const td_stored *);
/* Whether it has this shape; the count alone would let a transposed matrix through. */
bool        td_stored_has_shape(const td_stored *, int rank, const int64_t *dim);
/* Writes "[2, 3]" to `out`, and returns it. */
char       *td_shape_text(char out[200], int rank, const int64_t *dim);
/* Whether it is of a floating-point type, of any width. */
bool        td_stored_is_real(const td_stored *);

/* Copy all elements, converted. TD_EFORMAT unless there are `count` of them; td_stored_ints also
 * refuses values that are not 32-bit integers. */
int td_stored_floats(const td_stored *, float *out, int64_t count, td_error *error);
int td_stored_doubles(const td_stored *, double *out, int64_t count, td_error *error);
int td_stored_ints(const td_stored *, int32_t *out, int64_t count, td_error *error);
/* Copy elements [first, first + count) as doubles, which hold them exactly. */
int td_stored_range(const td_stored *, int64_t first, int64_t count, double *out, td_error *error);

/* ---- writing --------------------------------------------------------------------------------- */

/* Write all tensors, in this order. `metadata`: key, value, key, value, .., NULL; or NULL. */
int td_safetensors_write(const char *path, const td_stored *tensors, size_t count,
                         const char *const *metadata, td_error *error);

#endif
