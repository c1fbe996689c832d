/* gguf.h - the files of llama.cpp: typed keys with values, and named tensors.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * Files come from strangers, so opening checks all of a file's keys and tensors before anything in
 * them is used: sizes, bounds, names and overlaps. Reading takes versions 2 and 3, little-endian;
 * writing produces version 3. */
#ifndef TD_IO_GGUF_H
#define TD_IO_GGUF_H

#include "base/text.h"
#include "io/safetensors.h"

/* The numbers are the format's. */
typedef enum td_gguf_type {
    TD_GGUF_U8,
    TD_GGUF_I8,
    TD_GGUF_U16,
    TD_GGUF_I16,
    TD_GGUF_U32,
    TD_GGUF_I32,
    TD_GGUF_F32,
    TD_GGUF_BOOL,
    TD_GGUF_TEXT,
    TD_GGUF_LIST,
    TD_GGUF_U64,
    TD_GGUF_I64,
    TD_GGUF_F64,
    TD_GGUF_TYPES
} td_gguf_type;

/* One value, or a list of them. */
typedef struct td_gguf_value {
    int                  type; /* td_gguf_type; for a list, of its items */
    bool                 list;
    uint64_t             count; /* of a list; else 1 */
    const unsigned char *data;  /* belongs to the open file; of any alignment */
} td_gguf_value;

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct td_gguf td_gguf;

/* Whether the file begins like one. */
bool     td_gguf_is(const char *path);
/* NULL with `error`: TD_EIO, TD_ENOMEM, or TD_EFORMAT if the content is wrong. */
td_gguf *td_gguf_open(const char *path, td_error *error);
void     td_gguf_close(td_gguf *); /* NULL is fine */

/* Key i, in the file's order, and its value; NULL past the last. */
const char          *td_gguf_key(const td_gguf *, size_t i);
const td_gguf_value *td_gguf_at(const td_gguf *, size_t i);
/* The value of a key; NULL if the file lacks it. */
const td_gguf_value *td_gguf_get(const td_gguf *, const char *key);

/* Item i of numbers or booleans; 0 for a text. Integers are exact up to 2^53. */
double      td_gguf_number(const td_gguf_value *, uint64_t i);
/* The text at `*at`, which is `data` at first and is moved to the next text. It is not terminated. */
const char *td_gguf_text(const unsigned char **at, size_t *size);

/* Tensor i < count, in the file's order. Dims are row-major, as everywhere here: the last is the
 * length of a row. */
size_t           td_gguf_count(const td_gguf *);
const td_stored *td_gguf_tensor(const td_gguf *, size_t i);

/* ---- writing --------------------------------------------------------------------------------- */

/* Keys and values to write, in order. Zero-initialize it; td_gguf_out_free it. */
typedef struct td_gguf_out {
    td_text  data;
    uint64_t count;
} td_gguf_out;

void td_gguf_put_u32(td_gguf_out *, const char *key, uint32_t);
void td_gguf_put_f32(td_gguf_out *, const char *key, float);
void td_gguf_put_bool(td_gguf_out *, const char *key, bool);
void td_gguf_put_text(td_gguf_out *, const char *key, const char *text);
/* A list, whose `count` items follow: as many calls of td_gguf_item, or of td_gguf_item_text. */
void td_gguf_put_list(td_gguf_out *, const char *key, td_gguf_type, uint64_t count);
void td_gguf_item(td_gguf_out *, const void *number, size_t size);
void td_gguf_item_text(td_gguf_out *, const char *text, size_t size);
void td_gguf_out_free(td_gguf_out *);

/* The type that a tensor of this shape has in a file of `type`: vectors are always F32, and so are
 * tensors of Q8_0 whose rows do not divide into blocks. */
int td_gguf_type_for(int type, int rank, const int64_t *dim);

/* Write a file: first the keys, then the tensors. A streamed tensor is requested in whole blocks. */
int td_gguf_write(const char *path, const td_gguf_out *, const td_stored *tensors, size_t count,
                  td_error *error);

#endif
