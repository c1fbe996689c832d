/* batch.c - named arrays whose memory is used again from batch to batch. */
#include "model/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = sizeof(((td_batch *)0)->at) / sizeof(((td_batch *)0)->at[0]) };

typedef struct buffers {
    void  *at[ARRAYS];
    size_t room[ARRAYS];
} buffers;

static void *add(td_batch *b, const char *name, int dtype, int rank, const int64_t *dims)
{
    buffers  *memory = b->host;
    td_array *a = &b->at[b->count];
    size_t    bytes = 4;
    void     *larger;

    if (b->count == ARRAYS || rank < 0 || rank > TD_MAX_RANK || strlen(name) >= sizeof a->name)
        return NULL;
    for (int k = 0; k < rank; k++) {
        if (dims[k] < 0 || (dims[k] && bytes > (size_t)1 << 40) ||
            (dims[k] && bytes * (size_t)dims[k] / (size_t)dims[k] != bytes))
            return NULL;
        bytes *= (size_t)dims[k];
    }
    if (bytes > memory->room[b->count]) {
        larger = realloc(memory->at[b->count], bytes);
        if (!larger)
            return NULL;
        memory->at[b->count] = larger;
        memory->room[b->count] = bytes;
    }
    memset(a, 0, sizeof *a);
    strcpy(a->name, name);
    a->dtype = dtype;
    a->rank = rank;
    if (rank)
        memcpy(a->dim, dims, (size_t)rank * sizeof *dims);
    if (!memory->at[b->count]) {
        memory->at[b->count] = malloc(4);
        memory->room[b->count] = 4;
    }
    a->data = memory->at[b->count];
    if (!a->data)
        return NULL;
    memset(a->data, 0, bytes);
    b->count++;
    return a->data;
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

int td_batch_check(const td_batch *b, int64_t vocab, td_error *error)
{
    const td_array *labels = td_batch_find(b, "labels"),
                   *weights = td_batch_find(b, "loss_weights");

    if (!labels || !weights || labels->dtype != TD_I32 || weights->dtype != TD_F32 ||
        labels->rank != 2 || weights->rank != 2 ||
        memcmp(labels->dim, weights->dim, 2 * sizeof *labels->dim))
        return td_fail(error, TD_EFORMAT,
                       "batch: 'labels' (int32) and 'loss_weights' (float32) must both be there, "
                       "[rows, length]");
    for (int64_t i = 0; i < count_of(weights); i++)
        if (!isfinite(((const float *)weights->data)[i]))
            return td_fail(error, TD_EFORMAT, "batch: 'loss_weights'[%lld] is not finite",
                           (long long)i);
    for (int32_t k = 0; k < b->count; k++) {
        const td_array *a = &b->at[k];
        size_t          length = strlen(a->name);
        if (a->rank < 1 || a->dim[0] != labels->dim[0])
            return td_fail(error, TD_EFORMAT, "batch: '%s' does not have the %lld rows of 'labels'",
                           a->name, (long long)labels->dim[0]);
        if (a->dtype == TD_I32 && length > 4 && !strcmp(a->name + length - 4, "_ids") &&
            check_ids(a, NULL, vocab, error))
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
    for (int32_t k = 0; k < b->count; k++) {
        const td_array *a = &b->at[k];
        size_t          length = strlen(a->name);
        if (a->dtype != TD_I32 || length < 8 || strcmp(a->name + length - 8, "segments"))
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
        bytes += (size_t)count_of(&b->at[k]) * 4;
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
