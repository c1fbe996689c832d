/* weights.h - statistics of one attention's weights, without a matrix of all of them.
 *
 * The weights are computed again from queries, keys, mask and bias, a few queries at a time, and
 * only sums are kept, by parts of the text, whose number does not depend on its length. The result
 * does not depend on the number of threads.
 */
#ifndef TD_EVALUATE_WEIGHTS_H
#define TD_EVALUATE_WEIGHTS_H

#include "graph/mask.h"
#include "tandem/host.h"

enum {
    TD_WEIGHTS_PARTS = 128, /* most rows and columns of a map */
    TD_WEIGHTS_NEAR = 4     /* locality: the weight on the token itself and this number of tokens
                             * before it */
};

/* One row of an attention's inputs (td_mask and td_bias, tandem/ops.h). Head h reads the keys of
 * group h / (heads / groups). */
typedef struct td_weights_in {
    int64_t        heads, groups, queries, keys, width;
    const double  *q;          /* [heads][queries][width] */
    const double  *k;          /* [groups][keys][width] */
    double         scale, cap; /* cap: of scores before biases; 0: none */
    td_mask_rule   rule;
    const double  *table; /* [heads][distances]; NULL: none */
    int64_t        distances, offset;
    const int32_t *q_position, *k_position; /* of the table */
    const double  *dense;                   /* [dense_heads][queries][keys]; NULL: none */
    int64_t        dense_heads;             /* 1, or heads */
    int64_t        own;    /* the first keys are the queries' own tokens, the others an encoder's */
    int64_t        before; /* tokens of the text that come before query 0 */
    const int64_t *chosen; /* [n_chosen] heads */
    size_t         n_chosen;
    float         *rows; /* out, zeroed: [n_chosen][queries][keys], the weights; NULL: not kept */
} td_weights_in;

/* Sums over queries and heads, by parts of the queries. */
typedef struct td_weights {
    int64_t queries, own, memory; /* tokens; memory: an encoder's */
    int64_t query_parts, own_parts, memory_parts;
    double *count; /* [query_parts]: of queries times heads; those that see no keys are left out */
    double *locality;   /* [query_parts]: weight on own tokens t-4 .. t */
    double *entropy;    /* [query_parts]: in nats */
    double *distance;   /* [query_parts]: mean distance in tokens of the text */
    double *own_map;    /* [query_parts][own_parts]: weight on a part of the own tokens */
    double *memory_map; /* [query_parts][memory_parts] */
    double *received;   /* [query_parts][memory]: weight on each token of an encoder */
} td_weights;

/* Part k of n tokens cut into `parts` begins here. */
static inline int64_t td_weights_part(int64_t k, int64_t n, int64_t parts)
{
    return parts ? k * n / parts : 0;
}

/* Sets all to zero. False: out of memory; free it even then. */
bool td_weights_open(td_weights *, int64_t queries, int64_t own, int64_t memory);
void td_weights_free(td_weights *);

/* Add an attention of the dims that the sums were opened for. False: out of memory. */
bool td_weights_add(td_weights *, const td_weights_in *, const td_services *);
/* Add other sums of the same dims. */
void td_weights_join(td_weights *, const td_weights *more);

#endif
