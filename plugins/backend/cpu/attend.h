/* attend.h - what the forward and backward kernels of attention share: the problem, products of
 * small blocks, the mask.
 *
 * Queries lie in vector lanes: a block of scores is S^T [keys][64 queries], so softmax needs no sum
 * across lanes, and keys and values are read by broadcast from wherever they are, with any strides
 * and without packing.
 */
#ifndef TD_CPU_ATTEND_H
#define TD_CPU_ATTEND_H

#include "cpu.h"
#include "tandem/ops.h"

enum { TD_BLOCK = 64 }; /* queries, and keys, of a block */

typedef struct td_attend_shape {
    const td_call *call;
    int64_t        batch, heads, groups, queries, keys, e, f;
    int64_t        e_wide, f_wide; /* multiples of 16 */
    bool           causal, self, segments, inputs;
    int64_t        window, offset;
    float          scale;
} td_attend_shape;

td_attend_shape td_attend_shape_of(const td_call *);

/* Keys of an example that are there: the blocks behind them are left out. */
TD_CPU_INLINE int64_t td_attend_keys(const td_attend_shape *s, int64_t batch)
{
    const td_view *v = s->call->in + TD_ATTEND_K_LENGTH;
    int64_t        length = v->data ? ((const int32_t *)v->data)[batch * v->stride[0]] : s->keys;
    return length < s->keys ? length : s->keys;
}

TD_CPU_INLINE float *td_attend_at(const td_view *v, int64_t b, int64_t h, int64_t t)
{
    return (float *)v->data + b * v->stride[0] + h * v->stride[1] + t * v->stride[2];
}

TD_CPU_INLINE int64_t td_attend_wide(int64_t n) { return (n + TD_LANES - 1) / TD_LANES * TD_LANES; }

/* to[i * step] = scale * from[i * step_from]; by vectors where both are contiguous. */
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

/* One operand by broadcast, element (m, k) at data[m * row + k * column]; the other [k][n]
 * row-major, ld floats apart. */
typedef struct td_tile_product {
    const float *a;
    int64_t      row, column;
    const float *b;
    int64_t      ldb;
    float       *c;
    int64_t      ldc;
    int64_t      m, n, k; /* n: a multiple of 16 */
    bool         add;     /* to c; else c is overwritten */
} td_tile_product;

typedef void td_tile_function(const td_tile_product *);

/* The product for this machine's vectors. [any] */
td_tile_function *td_tile_product_here(void);

/* to[columns][ld] = from[rows][ld_from] transposed; lanes beyond `rows` are left alone. */
void td_tile_transpose(const float *from, int64_t ld_from, int64_t rows, int64_t columns, float *to,
                       int64_t ld);

/* ---- mask and bias (attend_mask.c) ----------------------------------------------------------- */

typedef struct td_attend_range {
    int32_t low, high;
} td_attend_range;

/* What the mask knows of up to 64 queries or keys. */
typedef struct td_attend_side {
    int32_t         segment[TD_BLOCK], index[TD_BLOCK], input[TD_BLOCK], position[TD_BLOCK];
    int64_t         batch, head, first, count;
    td_attend_range segments, indices, inputs; /* inputs: 0 or 1 */
    bool            padding;                   /* one has segment 0 */
    bool            consecutive;               /* positions count up by one */
} td_attend_side;

enum { TD_SEES_NONE, TD_SEES_SOME, TD_SEES_ALL };

void td_attend_load(const td_attend_shape *, bool keys, int64_t batch, int64_t head, int64_t first,
                    td_attend_side *side);
int  td_attend_sees(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k);

/* Add the bias to the scores [keys][64], and hide with -inf what `sees` does not show. */
void td_attend_mask(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k,
                    int sees, float *scores);

/* A product in which keys are the rows of c, or what is summed over; or whose rows are keys and
 * that sums over queries. Where a causal mask crosses the block, lanes that see nothing are left
 * out, 16 keys at a time. */
enum { TD_KEYS_BY_LANES, TD_OVER_KEYS, TD_OVER_QUERIES };

void td_attend_product(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k,
                       int sees, int kind, const td_tile_product *);

/* Where a pair looks in the bias table. */
TD_CPU_INLINE int64_t td_attend_distance(const td_attend_shape *s, int64_t q, int64_t k)
{
    int64_t d = k - q + s->offset, last = s->call->in[TD_ATTEND_TABLE].dim[1] - 1;
    return d < 0 ? 0 : d > last ? last : d;
}

/* Where positions of queries and keys are consecutive, a pair's place in the table depends on j - i
 * alone: entry runs[keys - 1 - j + i] of so many. */
enum { TD_RUNS = 2 * TD_BLOCK };

TD_CPU_INLINE bool td_attend_in_runs(const td_attend_side *q, const td_attend_side *k)
{
    return q->consecutive && k->consecutive;
}

/* The place in the table of entry x of the runs. */
TD_CPU_INLINE int64_t td_attend_run(const td_attend_shape *s, const td_attend_side *q,
                                    const td_attend_side *k, int64_t x)
{
    return td_attend_distance(s, q->position[0] + x, k->position[k->count - 1]);
}

/* Where the scores of (batch, head) begin in the dense bias, or in its gradient. */
TD_CPU_INLINE float *td_attend_dense(const td_view *v, int64_t b, int64_t h)
{
    return (float *)v->data + (v->dim[0] > 1 ? b * v->stride[0] : 0) +
           (v->dim[1] > 1 ? h * v->stride[1] : 0);
}

#endif
