/* attend.h - shared by the forward and backward kernels of attention: the problem, products of
 * small blocks, the mask.
 *
 * Work is cut into blocks of 64 queries by 64 keys. Queries are in vector lanes: a block of scores
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
    float          scale, cap;
} td_attend_shape;

td_attend_shape td_attend_shape_of(const td_call *);

/* The number of keys of an example: in generation, fewer than its buffer has places. Blocks
 * beyond are skipped. */
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

/* Row t of head h of example b, n numbers, times `scale`: from a view, in f32 or bf16, to floats,
 * and back. */
TD_CPU_INLINE void td_attend_load_row(float *to, const td_view *v, int64_t b, int64_t h, int64_t t,
                                      int64_t n, float scale)
{
    const uint16_t *from = (const uint16_t *)v->data + b * v->stride[0] + h * v->stride[1] +
                           t * v->stride[2];
    if (v->dtype != TD_BF16) {
        td_attend_copy(to, 1, td_attend_at(v, b, h, t), v->stride[3], n, scale);
        return;
    }
    td_cpu_widen(to, from, v->stride[3], n);
    for (int64_t i = 0; i < n && scale != 1; i++)
        to[i] *= scale;
}

/* `from` may be scaled on the way. */
TD_CPU_INLINE void td_attend_store_row(const td_view *v, int64_t b, int64_t h, int64_t t,
                                       float *from, int64_t n, float scale)
{
    uint16_t *to = (uint16_t *)v->data + b * v->stride[0] + h * v->stride[1] + t * v->stride[2];
    if (v->dtype != TD_BF16) {
        td_attend_copy(td_attend_at(v, b, h, t), v->stride[3], from, 1, n, scale);
        return;
    }
    for (int64_t i = 0; i < n && scale != 1; i++)
        from[i] *= scale;
    td_cpu_narrow(to, v->stride[3], from, n);
}

/* ---- softmax (attend.c) and few queries (attend_few.c) --------------------------------------- */

/* Workspace of a thread. */
size_t td_attend_slice_floats(const td_attend_shape *);

/* One step of online softmax: scores [keys][64] become weights relative to the new largest
 * score, and `fade` is the factor for the earlier sums. `lanes` is a multiple of 16. */
void td_attend_soften(float *scores, int64_t keys, int64_t lanes, float *top, float *sum,
                      float *fade);

/* -inf for a query that sees nothing. */
TD_CPU_INLINE float td_attend_lse(float top, float sum)
{
    return sum == 0 ? -INFINITY : top + logf(sum);
}

/* Are there so few queries that td_attend_few_task is faster? It does all of one head of one
 * example: task = example * heads + head. */
bool td_attend_is_few(const td_attend_shape *);
void td_attend_few_task(void *shape, int64_t task, int thread);

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

/* to[columns][ld] = from[rows][ld_from] transposed. Lanes beyond `rows` are unchanged. */
void td_tile_transpose(const float *from, int64_t ld_from, int64_t rows, int64_t columns, float *to,
                       int64_t ld);

/* ---- caps (attend_cap.c) --------------------------------------------------------------------- */

/* Scores [keys][64] become cap tanh(score / cap); nothing without a cap. `slopes` [keys][64]: the
 * derivatives, 1 - tanh^2, or NULL. */
void td_attend_cap(const td_attend_shape *, int64_t keys, int64_t lanes, float *scores,
                   float *slopes);
/* ds *= slope, but exactly 0 where ds is: the slope of a hidden pair may be NaN. */
void td_attend_cap_grad(int64_t keys, int64_t lanes, const float *slopes, float *ds);

/* ---- mask and bias (attend_mask.c) ----------------------------------------------------------- */

typedef struct td_attend_range {
    int32_t low, high;
} td_attend_range;

/* The mask's inputs for a block of queries or keys, and their ranges, from which most blocks can
 * be decided as a whole. */
typedef struct td_attend_side {
    int32_t         segment[TD_BLOCK], index[TD_BLOCK], input[TD_BLOCK], position[TD_BLOCK];
    int64_t         batch, head, first, count;
    td_attend_range segments, indices, inputs; /* inputs: 0 or 1 */
    bool            padding;                   /* some are: segment 0 */
    bool            consecutive;               /* positions count up by one */
} td_attend_side;

enum { TD_SEES_NONE, TD_SEES_SOME, TD_SEES_ALL };

/* Loads the block from `first` on; entries after the last are 0. */
void td_attend_load(const td_attend_shape *, bool keys, int64_t batch, int64_t head, int64_t first,
                    td_attend_side *side);
/* Do the queries of a block see none of the keys, some, or all? NONE is exact; ALL may be
 * missed. */
int  td_attend_sees(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k);

/* Add the biases to the scores [keys][64], then overwrite those of hidden pairs with -inf. */
void td_attend_mask(const td_attend_shape *, const td_attend_side *q, const td_attend_side *k,
                    int sees, float *scores);

/* The keys or values of a block as floats: element (j, e) is data[j * row + e * column]. */
typedef struct td_attend_block {
    const float *data;
    int64_t      row, column;
} td_attend_block;

/* Where they are; if they are bf16, widened into `room` [64][wide]. */
TD_CPU_INLINE td_attend_block td_attend_floats(const td_view *v, const td_attend_side *k,
                                               int64_t group, int64_t wide, float *room)
{
    if (v->dtype != TD_BF16)
        return (td_attend_block){ td_attend_at(v, k->batch, group, k->first), v->stride[2],
                                  v->stride[3] };
    for (int64_t j = 0; j < k->count; j++)
        td_attend_load_row(room + j * wide, v, k->batch, group, k->first + j, v->dim[3], 1);
    return (td_attend_block){ room, wide, 1 };
}

/* Floats that a block of keys and one of values are widened into; 0 if they are floats. */
TD_CPU_INLINE size_t td_attend_room(const td_attend_shape *s)
{
    bool narrow = s->call->in[TD_ATTEND_K].dtype == TD_BF16 ||
                  s->call->in[TD_ATTEND_V].dtype == TD_BF16;
    return narrow ? (size_t)(TD_BLOCK * (s->e_wide + s->f_wide)) : 0;
}

/* A product with a block of scores, of which a causal mask may hide half. By kind: scores
 * themselves, c [keys][queries]; a sum over keys, c [..][queries]; a sum over queries, c
 * [keys][..]. For each 16 keys, queries that see none of them are skipped. */
enum { TD_KEYS_BY_LANES, TD_OVER_KEYS, TD_OVER_QUERIES };

/* c[keys][64] = x b, with the rows x of a block of keys, or of its values, and b [width][64]. */
TD_CPU_INLINE td_tile_product td_attend_rows(const td_attend_block *v, const td_attend_side *k,
                                             int64_t width, int64_t lanes, const float *b, float *c)
{
    return (td_tile_product){ .a = v->data,
                              .row = v->row,
                              .column = v->column,
                              .b = b,
                              .ldb = TD_BLOCK,
                              .c = c,
                              .ldc = TD_BLOCK,
                              .m = k->count,
                              .n = lanes,
                              .k = width };
}

/* c[width][64] += x^T b, with the same rows and b [keys][64] */
TD_CPU_INLINE td_tile_product td_attend_columns(const td_attend_block *v, const td_attend_side *k,
                                                int64_t width, int64_t lanes, const float *b,
                                                float *c)
{
    td_tile_product p = td_attend_rows(v, k, k->count, lanes, b, c);
    p.row = v->column;
    p.column = v->row;
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
 * from runs[keys - 1 - j] on: a load instead of 64 lookups. */
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
