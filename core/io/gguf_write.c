/* gguf_write.c - writing GGUF: keys, descriptions of the tensors, and their data, streamed. */
#include "io/gguf.h"

#include <string.h>

#include "io/put.h"

enum { ALIGNMENT = 32 };

/* ---- keys ------------------------------------------------------------------------------------ */

/* Little-endian, on any machine. */
static void put_number(td_text *out, uint64_t x, size_t size)
{
    char bytes[8];
    for (size_t k = 0; k < size; k++)
        bytes[k] = (char)(x >> 8 * k);
    td_text_append(out, bytes, size);
}

static void put_sized(td_text *out, const char *text, size_t size)
{
    put_number(out, size, 8);
    td_text_append(out, text, size);
}

static void put_key(td_gguf_out *out, const char *key, td_gguf_type type)
{
    put_sized(&out->data, key, strlen(key));
    put_number(&out->data, type, 4);
    out->count++;
}

void td_gguf_put_u32(td_gguf_out *out, const char *key, uint32_t x)
{
    put_key(out, key, TD_GGUF_U32);
    put_number(&out->data, x, 4);
}

void td_gguf_put_f32(td_gguf_out *out, const char *key, float x)
{
    put_key(out, key, TD_GGUF_F32);
    td_gguf_item(out, &x, sizeof x);
}

void td_gguf_put_bool(td_gguf_out *out, const char *key, bool x)
{
    put_key(out, key, TD_GGUF_BOOL);
    put_number(&out->data, x, 1);
}

void td_gguf_put_text(td_gguf_out *out, const char *key, const char *text)
{
    put_key(out, key, TD_GGUF_TEXT);
    put_sized(&out->data, text, strlen(text));
}

void td_gguf_put_list(td_gguf_out *out, const char *key, td_gguf_type type, uint64_t count)
{
    put_key(out, key, TD_GGUF_LIST);
    put_number(&out->data, type, 4);
    put_number(&out->data, count, 8);
}

void td_gguf_item(td_gguf_out *out, const void *number, size_t size)
{
    td_text_append(&out->data, number, size);
}

void td_gguf_item_text(td_gguf_out *out, const char *text, size_t size)
{
    put_sized(&out->data, text, size);
}

void td_gguf_out_free(td_gguf_out *out)
{
    td_text_free(&out->data);
    *out = (td_gguf_out){ 0 };
}

/* ---- tensors --------------------------------------------------------------------------------- */

int td_gguf_type_for(int type, int rank, const int64_t *dim)
{
    bool whole = rank && dim[rank - 1] % TD_STORED_BLOCK == 0;
    return rank < 2 || (type == TD_STORED_Q8_0 && !whole) ? TD_STORED_F32 : type;
}

/* The format's number; -1: it is not written. */
static int number_of(int type)
{
    return type == TD_STORED_F32    ? 0
           : type == TD_STORED_BF16 ? 30
           : type == TD_STORED_Q8_0 ? 8
                                    : -1;
}

static size_t aligned(size_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* llama.cpp cuts names at 64 bytes, with the 0 at their end. */
static int check(const td_stored *t, td_error *error)
{
    if (number_of(t->type) < 0 || t->rank < 1 || t->rank > 4 || strlen(t->name) >= 64)
        return td_fail(error, TD_EFORMAT,
                       "cannot write tensor '%.200s', of type %d and rank %d, as GGUF: it takes "
                       "F32, BF16 and Q8_0, ranks 1 to 4, and names of less than 64 bytes",
                       t->name, t->type, t->rank);
    return 0;
}

static void describe(td_text *out, const td_stored *t, size_t offset)
{
    put_sized(out, t->name, strlen(t->name));
    put_number(out, (uint64_t)t->rank, 4);
    for (int k = t->rank - 1; k >= 0; k--) /* the innermost first */
        put_number(out, (uint64_t)t->dim[k], 8);
    put_number(out, (uint64_t)number_of(t->type), 4);
    put_number(out, offset, 8);
}

/* Everything before the data, padded to where they begin. */
static int make_header(const td_gguf_out *keys, const td_stored *tensors, size_t count,
                       td_text *out, td_error *error)
{
    static const char zeros[ALIGNMENT];
    size_t            offset = 0;
    td_text_append(out, "GGUF", 4);
    put_number(out, 3, 4);
    put_number(out, count, 8);
    put_number(out, keys->count, 8);
    td_text_append(out, td_text_get(&keys->data), keys->data.size);
    for (size_t i = 0; i < count; i++) {
        int code = check(&tensors[i], error);
        if (code)
            return code;
        describe(out, &tensors[i], offset);
        offset += aligned(td_stored_bytes(&tensors[i]));
    }
    td_text_append(out, zeros, aligned(out->size) - out->size);
    return out->failed || keys->data.failed
               ? td_fail(error, TD_ENOMEM, "out of memory for the header of %zu tensors", count)
               : 0;
}

int td_gguf_write(const char *path, const td_gguf_out *keys, const td_stored *tensors, size_t count,
                  td_error *error)
{
    td_text header = { 0 };
    int     code = make_header(keys, tensors, count, &header, error);
    if (!code)
        code = td_put_tensors(path, header.data, header.size, tensors, count, ALIGNMENT, error);
    td_text_free(&header);
    return code;
}
