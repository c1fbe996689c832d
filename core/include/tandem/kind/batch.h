/* kind/batch.h - not a kind: examples and batches, the things that losses and architectures hand to
 * each other.
 *
 * A record is raw data: a run of tokens, or an (inputs, targets) pair. A loss splits it into an
 * example: given tokens and predicted tokens with weights. An architecture arranges examples into a
 * batch: named arrays, the graph's inputs.
 */
#ifndef TANDEM_KIND_BATCH_H
#define TANDEM_KIND_BATCH_H

#include "../graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The special ids of the tokenizer, -1 where it has none. */
typedef struct td_special {
    int32_t pad, bos, eos, unk; /* pad is also what a decoder begins with */
    int32_t vocab_size;
    /* Marks of removed spans: sentinel + k * sentinel_step, 0 <= k < sentinels; 0: there are
     * none. */
    int32_t sentinels, sentinel, sentinel_step;
    int32_t mode[3]; /* UL2's [R], [S] and [X] */
} td_special;

typedef struct td_record {
    const int32_t *inputs; /* NULL: a plain run of tokens, all in `targets` */
    int64_t        n_inputs;
    const int32_t *targets;
    int64_t        n_targets;
    const float   *weights; /* of the targets, or NULL: all 1 */
    /* document number of each target token from 1, or NULL: do not mask by document */
    const int32_t *documents;
    int32_t        source; /* index of the source it came from */
    uint64_t       id;     /* of the record in its run: the stream of its random numbers */
} td_record;

typedef struct td_example {
    const int32_t *given;
    int64_t        n_given;
    const int32_t *predicted;
    int64_t        n_predicted;
    const float   *weights;             /* [n_predicted], or NULL: all 1 */
    const int32_t *given_documents;     /* or NULL */
    const int32_t *predicted_documents; /* or NULL */
    int32_t        source;
    uint64_t       id;
    int64_t        row; /* packing: the row of the batch it goes to */
    /* [n_predicted]: the given token in whose place each one is predicted (masked language
     * models); NULL: they follow the given ones. An architecture that predicts only what follows
     * refuses it. */
    const int32_t *places;
} td_example;

/* How much there is of examples: how many raw tokens one is made from, its longest given and
 * predicted parts, and the longest of both together. */
typedef struct td_bounds {
    int64_t raw, given, predicted, total;
} td_bounds;

typedef struct td_array {
    char    name[32];
    int32_t dtype, rank; /* TD_I32 or TD_F32 */
    int64_t dim[TD_MAX_RANK];
    void   *data; /* NULL when only the shape is of interest (describe) */
} td_array;

typedef struct td_batch td_batch;

struct td_batch {
    td_array at[24];
    int32_t  count;
    int64_t  rows;
    /* A new array of zeros, owned by the batch; its data, or NULL when memory ran out. [any] */
    void *(*add)(td_batch *, const char *name, int dtype, int rank, const int64_t *dims);
    void *host; /* the host's own */
};

static inline const td_array *td_batch_find(const td_batch *b, const char *name)
{
    for (int k = 0; k < b->count; k++) {
        const char *p = b->at[k].name, *q = name;
        while (*p && *p == *q) {
            p++;
            q++;
        }
        if (*p == *q)
            return &b->at[k];
    }
    return 0;
}

static inline void *td_batch_add(td_batch *b, const char *name, int dtype, int64_t rows,
                                 int64_t columns)
{
    int64_t dims[] = { rows, columns };
    return b->add(b, name, dtype, 2, dims);
}

/* The graph's input for the array `name`, or NULL if the batch has none. Floats become the graph's
 * reals. */
static inline td_tensor *td_batch_input(td_graph *g, const td_batch *b, const char *name)
{
    const td_array *a = td_batch_find(b, name);
    return a ? td_input(g, name, a->dtype == TD_F32 ? (int)TD_REAL : a->dtype, a->dim, a->rank) : 0;
}

#ifdef __cplusplus
}
#endif
#endif
