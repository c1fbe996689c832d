/* attend.h - what the forward and backward kernels of attention share: the problem, products of
 * small blocks, the mask.
 *
 * Work is cut into blocks of 64 queries by 64 keys. Queries lie in vector lanes: a block of scores
 * is S^T [keys][64 queries]. So softmax needs no sum across lanes, and keys and values are read one
 * number at a time and broadcast, from wherever they are, with any strides and without packing. A
 * block of scores takes 16 KiB, half of a first-level cache.
 */
#ifndef TD_CPU_ATTEND_H
#define TD_CPU_ATTEND_H

#include "cpu.h"
#include "tandem/ops.h"

enum { TD_BLOCK = 64 }; /* queries, and keys, of a block */

typedef struct td_attend_shape {
    const td_call *call;
    int64_t        batch, heads, groups, queries, keys, e, f;
    int64_t        e_wide, f_wide; /* e and f rounded up to whole vectors */
    bool           causal, self, segments, inputs;
    int64_t        window, offset;
    float          scale;
} td_attend_shape;

td_attend_shape td_attend_shape_of(const td_call *);

/* How many keys an example has: in generation, fewer than its buffer has places. Blocks beyond are
 * skipped. */
TD_CPU_INLINE int64_t td_attend_keys(const td_attend_shape *s, int64_t batch)
{
    const td_view *v = s->call->in + TD_ATTEND_K_LENGTH;
    int64_t        length = v->data ? ((const int32_t *)v->data)[batch * v->stride[0]] : s->keys;
    return length < s->keys ? length : s->keys;
}

/* Row t of head h of example b. */
TD_CPU_INLINE float *td_attend_at(const td_view *v, int64_t b, int64_t h, int64_t t)
{
    return (float *)v->data + b * v->stride[0] + h * v->stride[1] + t * v->stride[2];
}

TD_CPU_INLINE int64_t td_attend_wide(int64_t n) { return (n + TD_LANES - 1) / TD_LANES * TD_LANES; }

/* to[i * step] = scale * from[i * step_from]. Two loops, of which the compiler vectorizes the
 * first. */
TD_CPU_INLINE void td_attend_copy(float *to, int64_t step, const float *from, int64_t step_from,
                                  int64_t n, float scale)
{
    if (step == 1 && step_from == 1)
        for (int64_t i = 0; i < n; i++)
            to[i] = scale * from[i];
    else
        for (int64_t i = 0; i < n; i++)
            to[i * step] = scale * from[i * step_from];
}

/* ---- products (attend_tile.c) ---------------------------------------------------------------- */

/* c[m][n] (+)= a[m][k] b[k][n]. a is read by broadcast, element (m, k) at a[m * row + k * column];
 * b and c by vectors, their rows ldb and ldc floats apart. */
typedef struct td_tile_product {
    const float *a;
    int64_t      row, column;
    const float *b;
    int64_t      ldb;
    float       *c;
    int64_t      ldc;
    int64_t      m, n, k; /* n: a multiple of 16 */
    bool         add;     /* to c; otherwise c is overwritten */
} td_tile_product;

typedef void td_tile_function(const td_tile_product *);

/* The product for this machine's vectors. [any] */
td_tile_function *td_tile_product_here(void);

/* to[columns][ld] = from[rows][ld_from] transposed. Lanes beyond `rows` stay as they are. */
void td_tile_transpose(const float *from, int64_t ld_from, int64_t rows, int64_t columns, float *to,
                       int64_t ld);

/* ---- mask and bias (attend_mask.c) ----------------------------------------------------------- */

typedef struct td_attend_range {
    int32_t low, high;
} td_attend_range;

/* What the mask knows of a block of queries or keys, and the ranges of it, from which most blocks
 * can be decided as a whole. */
typedef struct td_attend_side {
    int32_t         segment[TD_BLOCK], index[TD_BLOCK], input[TD_BLOCK], position[TD_BLOCK];
    int64_t         batch, head, first, count;
    td_attend_range segments, indices, inputs; /* inputs: 0 or 1 */
    bool            padding;                   /* some are: segment 0 */
    bool            consecutive;               /* positions count up by one */
} td_attend_side;

enum { TD_SEES_NONE, TD_SEES_SOME, TD_SEES_ALL };

/* Load the block from `first` on; entries behind the last are 0. */
void td_attend_load(const td_attend_shape *, bool keys, int64_t batch, int64_t head, int64_t first,
                    td_attend_side *side);
/* Do the queries of a block see none of the keys, some, or all? NONE is always right, ALL may be
 * missed. */
int  td_attend_sees(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k);

/* Add the biases to the scores [keys][64], then overwrite those of hidden pairs with -inf. */
void td_attend_mask(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k,
                    int sees, float *scores);

/* A product with a block of scores, of which a causal mask may hide half. By kind: scores
 * themselves, c [keys][queries]; a sum over keys, c [..][queries]; a sum over queries, c
 * [keys][..]. Queries that see none of 16 keys are left out of their part of it. */
enum { TD_KEYS_BY_LANES, TD_OVER_KEYS, TD_OVER_QUERIES };

/* c[keys][64] = x b, with the rows x of a block of keys in `v`, the keys or the values of head
 * `group`, and b [width][64]. */
TD_CPU_INLINE td_tile_product td_attend_rows(const td_view *v, const td_attend_side *k,
                                             int64_t group, int64_t width, int64_t lanes,
                                             const float *b, float *c)
{
    return (td_tile_product){ .a = td_attend_at(v, k->batch, group, k->first),
                              .row = v->stride[2],
                              .column = v->stride[3],
                              .b = b,
                              .ldb = TD_BLOCK,
                              .c = c,
                              .ldc = TD_BLOCK,
                              .m = k->count,
                              .n = lanes,
                              .k = width };
}

/* c[width][64] += x^T b, with the same rows and b [keys][64] */
TD_CPU_INLINE td_tile_product td_attend_columns(const td_view *v, const td_attend_side *k,
                                                int64_t group, int64_t width, int64_t lanes,
                                                const float *b, float *c)
{
    td_tile_product p = td_attend_rows(v, k, group, k->count, lanes, b, c);
    p.row = v->stride[3];
    p.column = v->stride[2];
    p.m = width;
    p.add = true;
    return p;
}

void td_attend_product(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k,
                       int sees, int kind, const td_tile_product *);

/* The entry of the bias table for a pair of positions. */
TD_CPU_INLINE int64_t td_attend_distance(const td_attend_shape *s, int64_t q, int64_t k)
{
    int64_t d = k - q + s->offset, last = s->call->in[TD_ATTEND_TABLE].dim[1] - 1;
    return d < 0 ? 0 : d > last ? last : d;
}

/* If positions of queries and keys are consecutive, a pair's entry depends on j - i alone. Then the
 * block's entries are first laid out in a row, "runs", so that row j of the block is the 64 floats
 * from runs[keys - 1 - j] on: a load in place of 64 lookups. */
enum { TD_RUNS = 2 * TD_BLOCK };

TD_CPU_INLINE bool td_attend_in_runs(const td_attend_side *q, const td_attend_side *k)
{
    return q->consecutive && k->consecutive;
}

/* The entry of the table that belongs at runs[x]. */
TD_CPU_INLINE int64_t td_attend_run(const td_attend_shape *s, const td_attend_side *q,
                                    const td_attend_side *k, int64_t x)
{
    return td_attend_distance(s, q->position[0] + x, k->position[k->count - 1]);
}

/* Where the scores of (batch, head) begin in a dense bias, or in its gradient, either of which may
 * be broadcast. */
TD_CPU_INLINE float *td_attend_dense(const td_view *v, int64_t b, int64_t h)
{
    return (float *)v->data + (v->dim[0] > 1 ? b * v->stride[0] : 0) +
           (v->dim[1] > 1 ? h * v->stride[1] : 0);
}

#endif
