/* batch.c - named arrays whose memory is reused from batch to batch. */
#include "model/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = sizeof(((td_batch *)0)->at) / sizeof(((td_batch *)0)->at[0]) };
enum { WIDTH = 4 }; /* bytes of an element: an int32_t or a float */

/* Behind td_batch.host: the k-th array of one batch gets the memory of the k-th of the batch
 * before. */
typedef struct buffers {
    void  *at[ARRAYS];
    size_t room[ARRAYS];
} buffers;

/* Returns false if a dim is negative or the count overflows. */
static bool bytes_of(int rank, const int64_t *dims, size_t *bytes)
{
    *bytes = WIDTH;
    for (int k = 0; k < rank; k++)
        if (dims[k] < 0 || __builtin_mul_overflow(*bytes, (size_t)dims[k], bytes))
            return false;
    return true;
}

/* At least one element, so that an empty array has an address as well. */
static void *reserve(buffers *memory, int32_t k, size_t bytes)
{
    void *larger;
    bytes = bytes ? bytes : WIDTH;
    if (bytes <= memory->room[k])
        return memory->at[k];
    larger = realloc(memory->at[k], bytes);
    if (!larger)
        return NULL;
    memory->at[k] = larger;
    memory->room[k] = bytes;
    return larger;
}

/* The hook `add` of td_batch, which plugins call. */
static void *add(td_batch *b, const char *name, int dtype, int rank, const int64_t *dims)
{
    td_array *a = &b->at[b->count];
    size_t    bytes;
    void     *data;

    if (b->count == ARRAYS || rank < 0 || rank > TD_MAX_RANK || strlen(name) >= sizeof a->name ||
        !bytes_of(rank, dims, &bytes))
        return NULL;
    data = reserve(b->host, b->count, bytes);
    if (!data)
        return NULL;
    /* zeroed whole, `dim` too: nothing of the array that was here before must show */
    *a = (td_array){ .dtype = dtype, .rank = rank, .data = data };
    strcpy(a->name, name);
    if (rank)
        memcpy(a->dim, dims, (size_t)rank * sizeof *dims);
    memset(data, 0, bytes);
    b->count++;
    return data;
}

td_batch *td_batch_new(void)
{
    td_batch *b = calloc(1, sizeof *b);
    if (b) {
        b->host = calloc(1, sizeof(buffers));
        b->add = add;
    }
    if (b && b->host)
        return b;
    free(b);
    return NULL;
}

void td_batch_free(td_batch *b)
{
    if (!b)
        return;
    for (int k = 0; k < ARRAYS; k++)
        free(((buffers *)b->host)->at[k]);
    free(b->host);
    free(b);
}

void td_batch_clear(td_batch *b)
{
    b->count = 0;
    b->rows = 0;
}

static int64_t count_of(const td_array *a)
{
    int64_t n = 1;
    for (int k = 0; k < a->rank; k++)
        n *= a->dim[k];
    return n;
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* Where a weight is 0, a label is not read: padding may be any number. */
static int check_ids(const td_array *a, const float *weights, int64_t vocab, td_error *error)
{
    const int32_t *ids = a->data;
    for (int64_t i = 0; i < count_of(a); i++)
        if ((!weights || weights[i] != 0) && (ids[i] < 0 || ids[i] >= vocab))
            return td_fail(error, TD_EFORMAT,
                           "batch: '%s'[%lld] is %d, outside the vocabulary of %lld", a->name,
                           (long long)i, ids[i], (long long)vocab);
    return 0;
}

/* The arrays that every loss reads: a label and a weight for each predicted position. */
static bool is_pair(const td_array *labels, const td_array *weights)
{
    return labels && weights && labels->dtype == TD_I32 && weights->dtype == TD_F32 &&
           labels->rank == 2 && weights->rank == 2 &&
           !memcmp(labels->dim, weights->dim, 2 * sizeof *labels->dim);
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

int td_batch_check(const td_batch *b, int64_t vocab, td_error *error)
{
    const td_array *labels = td_batch_find(b, "labels"),
                   *weights = td_batch_find(b, "loss_weights");

    if (!is_pair(labels, weights))
        return td_fail(error, TD_EFORMAT,
                       "batch: it needs 'labels' (int32) and 'loss_weights' (float32), both "
                       "[rows, length]");
    for (int64_t i = 0; i < count_of(weights); i++)
        if (!isfinite(((const float *)weights->data)[i]))
            return td_fail(error, TD_EFORMAT, "batch: 'loss_weights'[%lld] is NaN or infinite",
                           (long long)i);
    for (int32_t k = 0; k < b->count; k++) {
        const td_array *a = &b->at[k];
        if (a->rank < 1 || a->dim[0] != labels->dim[0])
            return td_fail(error, TD_EFORMAT, "batch: '%s' does not have the %lld rows of 'labels'",
                           a->name, (long long)labels->dim[0]);
        /* ids index the embedding: one outside would read past it */
        if (a->dtype == TD_I32 && ends_in(a->name, "_ids") && check_ids(a, NULL, vocab, error))
            return TD_EFORMAT;
    }
    return check_ids(labels, weights->data, vocab, error);
}

/* ---- counts ---------------------------------------------------------------------------------- */

double td_batch_weight(const td_batch *b)
{
    const td_array *w = td_batch_find(b, "loss_weights");
    double          sum = 0;
    for (int64_t i = 0; w && i < count_of(w); i++)
        sum += (double)((const float *)w->data)[i];
    return sum;
}

int64_t td_batch_targets(const td_batch *b)
{
    const td_array *w = td_batch_find(b, "loss_weights");
    int64_t         n = 0;
    for (int64_t i = 0; w && i < count_of(w); i++)
        n += ((const float *)w->data)[i] != 0;
    return n;
}

int64_t td_batch_tokens(const td_batch *b)
{
    int64_t n = 0;
    /* "segments" of a decoder, "encoder_segments": 0 is padding, in every architecture */
    for (int32_t k = 0; k < b->count; k++) {
        const td_array *a = &b->at[k];
        if (a->dtype != TD_I32 || (strcmp(a->name, "segments") && !ends_in(a->name, "segments")))
            continue;
        for (int64_t i = 0; i < count_of(a); i++)
            n += ((const int32_t *)a->data)[i] != 0;
    }
    return n;
}

size_t td_batch_bytes(const td_batch *b)
{
    size_t bytes = 0;
    for (int32_t k = 0; k < b->count; k++)
        bytes += (size_t)count_of(&b->at[k]) * WIDTH;
    return bytes;
}

void td_batch_key(const td_batch *b, char *out, size_t size)
{
    size_t at = 0;
    out[0] = 0;
    for (int32_t k = 0; k < b->count && at < size; k++) {
        at += (size_t)snprintf(out + at, size - at, "%s:%d", b->at[k].name, b->at[k].dtype);
        for (int d = 0; d < b->at[k].rank && at < size; d++)
            at += (size_t)snprintf(out + at, size - at, ",%lld", (long long)b->at[k].dim[d]);
        if (at < size)
            at += (size_t)snprintf(out + at, size - at, ";");
    }
}
