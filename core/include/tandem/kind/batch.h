/* kind/batch.h - not a kind: the records, examples and batches that data, losses and architectures
 * pass on.
 *
 *     data source         td_record    tokens of running text, or an (inputs, targets) pair
 *       loss.split     -> td_example   given tokens and predicted tokens, with weights
 *       arrange        -> td_batch     named arrays, padded or packed: the graph's inputs
 *
 * Memory: the token arrays of records and examples are borrowed. They point into a data source's
 * memory or come from `allocate` (td_split_in), and live as long as the batch is being made. A
 * td_batch owns its arrays. Ids are i32, below the tokenizer's vocab_size.
 *
 * Example:
 *
 *     // Copy the predicted tokens of examples into an array [rows, length] called "labels".
 *     static int place_labels(td_batch *batch, const td_example *e, int64_t count, int64_t length,
 *                             td_error *error)
 *     {
 *         int32_t *labels = td_batch_add(batch, "labels", TD_I32, batch->rows, length);
 *         if (!labels)
 *             return td_fail(error, TD_ENOMEM, "out of memory for the labels of a batch");
 *         for (int64_t k = 0; k < count; k++)
 *             for (int64_t i = 0; i < e[k].n_predicted && i < length; i++)
 *                 labels[e[k].row * length + i] = e[k].predicted[i];
 *         return 0;
 *     }
 */
#ifndef TANDEM_KIND_BATCH_H
#define TANDEM_KIND_BATCH_H

#include "../graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The special ids of the tokenizer; -1 for one that it lacks. */
typedef struct td_special {
    int32_t pad, bos, eos, unk; /* a decoder starts with pad if there is no bos */
    int32_t vocab_size;
    /* Markers of removed spans (span corruption): sentinel + k * sentinel_step for 0 <= k <
     * sentinels; sentinels is 0 if there are none. */
    int32_t sentinels, sentinel, sentinel_step;
    int32_t mode[3]; /* UL2's mode tokens [R], [S] and [X] */
} td_special;

/* Raw data, as a source delivers it. */
typedef struct td_record {
    const int32_t *inputs; /* NULL: running text, all of it in `targets` */
    int64_t        n_inputs;
    const int32_t *targets;
    int64_t        n_targets;
    const float   *weights; /* of the targets (0 for a chat's user turns); NULL: all 1 */
    /* the document of each target token, from 1; tokens see only their own. NULL: one document */
    const int32_t *documents;
    int32_t        source; /* the number of the source that it came from */
    uint64_t       id;     /* unique in the run: the stream of the record's random numbers */
} td_record;

/* A record as split by a loss. `source` and `id` are the record's. */
typedef struct td_example {
    const int32_t *given;
    int64_t        n_given;
    const int32_t *predicted;
    int64_t        n_predicted;
    const float   *weights;             /* [n_predicted]; NULL: all 1 */
    const int32_t *given_documents;     /* [n_given]; NULL: one document */
    const int32_t *predicted_documents; /* [n_predicted]; NULL: one document */
    int32_t        source;
    uint64_t       id;
    int64_t        row; /* set by the host: the row of the batch; several in one row are packed */
    /* [n_predicted]: the index of the given token in whose place each one is predicted (masked
     * language models); NULL: they follow the given ones. An architecture that only predicts what
     * follows refuses such examples. */
    const int32_t *places;
} td_example;

/* Upper bounds on an example's size: the raw tokens that it is made from, given tokens, predicted
 * tokens, and both together (which may be less than their sum). */
typedef struct td_bounds {
    int64_t raw, given, predicted, total;
} td_bounds;

/* One named array of a batch, row-major. */
typedef struct td_array {
    char    name[32];
    int32_t dtype, rank; /* TD_I32 or TD_F32 */
    int64_t dim[TD_MAX_RANK];
    void   *data; /* NULL where only the shape matters (`tandem describe`) */
} td_array;

typedef struct td_batch td_batch;

/* The arrays that an architecture arranges and a graph reads. */
struct td_batch {
    td_array at[24];
    int32_t  count; /* of arrays */
    int64_t  rows;
    /* Add an array of zeros, owned by the batch, and return its data; NULL if memory ran out.
     * [any] */
    void *(*add)(td_batch *, const char *name, int dtype, int rank, const int64_t *dims);
    void *host; /* private to the host */
};

/* The array `name`, or NULL. [any] */
static inline const td_array *td_batch_find(const td_batch *b, const char *name)
{
    for (int k = 0; k < b->count; k++) {
        const char *p = b->at[k].name, *q = name; /* strcmp, without <string.h> */
        while (*p && *p == *q) {
            p++;
            q++;
        }
        if (*p == *q)
            return &b->at[k];
    }
    return 0;
}

/* Add an array [rows, columns] of zeros; its data, or NULL if memory ran out. [any] */
static inline void *td_batch_add(td_batch *b, const char *name, int dtype, int64_t rows,
                                 int64_t columns)
{
    int64_t dims[] = { rows, columns };
    return b->add(b, name, dtype, 2, dims);
}

/* The graph's input for the array `name`, or NULL if the batch has none. Floats become reals of the
 * graph. Only the array's shape is read. [build] */
static inline td_tensor *td_batch_input(td_graph *g, const td_batch *b, const char *name)
{
    const td_array *a = td_batch_find(b, name);
    return a ? td_input(g, name, a->dtype == TD_F32 ? (int)TD_REAL : a->dtype, a->dim, a->rank) : 0;
}

#ifdef __cplusplus
}
#endif
#endif
