/* safetensors.h - named tensors in one file: 8 bytes of header length, a JSON header, the data. */
#ifndef TD_IO_SAFETENSORS_H
#define TD_IO_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "tandem/error.h"
#include "tandem/graph.h"

typedef enum td_st_type {
    TD_ST_F64, TD_ST_F32, TD_ST_F16, TD_ST_BF16, TD_ST_I64, TD_ST_I32, TD_ST_I16, TD_ST_I8, TD_ST_U8, TD_ST_BOOL, TD_ST_TYPES
} td_st_type;

typedef struct td_st_tensor {
    const char *name;
    int32_t     type, rank; /* td_st_type */
    int64_t     dim[TD_MAX_RANK];
    int64_t     count;
    const void *data; /* in the mapped file: not aligned; td_st_floats and td_st_ints copy */
    size_t      bytes;
} td_st_tensor;

typedef struct td_safetensors td_safetensors;

/* Map and check a file. NULL with `error`, which names what is wrong with it. */
td_safetensors     *td_safetensors_open(const char *path, td_error *error);
void                td_safetensors_close(td_safetensors *);
size_t              td_safetensors_count(const td_safetensors *);
const td_st_tensor *td_safetensors_at(const td_safetensors *, size_t i);
const td_st_tensor *td_safetensors_find(const td_safetensors *, const char *name);
/* The header's free text under "__metadata__", or NULL. */
const char *td_safetensors_metadata(const td_safetensors *, const char *key);

/* All values as float, or as int32 (out of range: an error). */
int td_st_floats(const td_st_tensor *, float *out, td_error *error);
int td_st_ints(const td_st_tensor *, int32_t *out, td_error *error);

/* Writing: `fill` copies the tensor's bytes into a buffer, called in order, so that nothing is held twice. */
typedef struct td_st_out {
    const char *name;
    int32_t     type, rank;
    int64_t     dim[TD_MAX_RANK];
    int (*fill)(void *arg, void *buffer, size_t bytes, td_error *error);
    void *arg;
} td_st_out;
typedef struct td_st_pair { const char *key, *value; } td_st_pair;

/* Atomic: after a crash there is the old file or the new one. */
int td_safetensors_write(const char *path, const td_st_out *tensors, size_t n, const td_st_pair *metadata, size_t n_metadata,
                         td_error *error);

#endif
