/* attend.cuh - shared by attention and its gradient: operands, the mask, tiles in shared memory.
 *
 * A block of 16 x 16 threads works on tiles of TILE queries by TILE keys with heads of up to WIDTH
 * elements, a multiple of 64. Thread (ty, tx) holds the scores in rows ty, ty + 16, .. and columns
 * tx, tx + 16, ..; of the outputs, it holds the same rows and, of every 64 columns, the four from 4
 * tx on. Shared memory is read four floats at a time. Rows are four floats longer than the tile:
 * eight rows then begin in different banks, which is how many a quarter of a warp reads at once.
 */
#ifndef TD_CUDA_ATTEND_CUH
#define TD_CUDA_ATTEND_CUH

#include <limits.h>
#include <math_constants.h>

#include "device.cuh"
#include "tandem/ops.h"

enum { ATTEND_WIDEST = 256, ATTEND_SIDE = 16 };

/* A tensor of up to 4 axes; a step of 0 where it broadcasts. */
typedef struct axes4 {
    td_reals at; /* at.data is NULL: absent */
    int64_t  step[4];
} axes4;

/* Where element (b, h, i, e) is. */
__device__ inline int64_t place(const axes4 &x, int64_t b, int64_t h, int64_t i, int64_t e)
{
    return b * x.step[0] + h * x.step[1] + i * x.step[2] + e * x.step[3];
}

/* Integers [B, T]; NULL: absent. */
typedef struct tokens {
    const int *data;
    int64_t    row, step;
} tokens;

typedef struct attend_args {
    int64_t b, h, g, tq, tk, e, f, r; /* r: entries of the bias table */
    axes4   q, k, v, o, lse, table, dense, grad;
    axes4   dq, dk, dv, ddense;
    tokens  q_segment, k_segment, q_input, k_input, q_index, k_index, q_position, k_position,
        k_length;
    float  *means, *parts;         /* workspace of the gradient */
    int64_t means_row, means_step; /* distances of heads, of queries */
    int64_t tiles;                 /* of queries */
    void   *ranges, *statistics;   /* workspace of the kernels for tensor cores */
    int    *taken;                 /* items of work that blocks have taken */
    int    *suspect;               /* whether there are results to repair; NULL: compute all */
    int     causal, self;
    int64_t window, offset;
    float   scale, cap;
} attend_args;

static inline axes4 axes_of(const td_view *v)
{
    axes4 x = {};
    for (int a = 0; v && a < v->rank && a < 4; a++)
        x.step[a] = v->dim[a] == 1 ? 0 : v->stride[a];
    x.at = td_reals_of(v);
    return x;
}

static inline tokens tokens_of(const td_view *v)
{
    tokens t = {};
    if (!v)
        return t;
    t.data = (const int *)v->data;
    t.row = v->dim[0] == 1 ? 0 : v->stride[0];
    t.step = v->rank > 1 && v->dim[1] != 1 ? v->stride[1] : 0;
    return t;
}

/* The inputs and attributes, for all kernels; outputs are added by each. What is absent has
 * no data. */
static inline attend_args attend_args_of(const td_call *call)
{
    const td_view *q = &call->in[TD_ATTEND_Q], *k = &call->in[TD_ATTEND_K],
                  *v = &call->in[TD_ATTEND_V], *table = td_cuda_in(call, TD_ATTEND_TABLE);
    attend_args a = {};
    a.b = q->dim[0];
    a.h = q->dim[1];
    a.tq = q->dim[2];
    a.e = q->dim[3];
    a.g = k->dim[1];
    a.tk = k->dim[2];
    a.f = v->dim[3];
    a.r = table ? table->dim[1] : 0;
    a.q = axes_of(q);
    a.k = axes_of(k);
    a.v = axes_of(v);
    a.table = axes_of(table);
    a.dense = axes_of(td_cuda_in(call, TD_ATTEND_DENSE));
    a.q_segment = tokens_of(td_cuda_in(call, TD_ATTEND_Q_SEGMENT));
    a.k_segment = tokens_of(td_cuda_in(call, TD_ATTEND_K_SEGMENT));
    a.q_input = tokens_of(td_cuda_in(call, TD_ATTEND_Q_INPUT));
    a.k_input = tokens_of(td_cuda_in(call, TD_ATTEND_K_INPUT));
    a.q_index = tokens_of(td_cuda_in(call, TD_ATTEND_Q_INDEX));
    a.k_index = tokens_of(td_cuda_in(call, TD_ATTEND_K_INDEX));
    a.q_position = tokens_of(td_cuda_in(call, TD_ATTEND_Q_POSITION));
    a.k_position = tokens_of(td_cuda_in(call, TD_ATTEND_K_POSITION));
    a.k_length = tokens_of(td_cuda_in(call, TD_ATTEND_K_LENGTH));
    a.causal = call->attrs->i[0] != 0;
    a.window = call->attrs->i[1];
    a.self = call->attrs->i[2] != 0;
    a.offset = call->attrs->i[3];
    a.scale = (float)call->attrs->f[0];
    a.cap = (float)call->attrs->f[1];
    return a;
}

/* ---- items of work ----------------------------------------------------------------------------
 *
 * An item is a tile of a head. A block has one; but if the kernel only repairs what tensor cores made
 * of NaN in hidden places (attend_cores.cuh), which is rare, a few blocks check whether they have
 * to.
 */

enum { REPAIRERS = 264 };

static inline unsigned item_grid(const attend_args *a, int64_t tiles, int64_t heads)
{
    unsigned items = td_cuda_grid(tiles * heads * a->b, 1);
    return a->suspect && items > REPAIRERS ? REPAIRERS : items;
}

/* work(tile, head, example) for the block's items. */
template <class F>
__device__ inline void each_tile(const attend_args &a, int64_t tiles, int64_t heads, F work)
{
    if (a.suspect && !*a.suspect)
        return;
    for (int64_t n = blockIdx.x; n < tiles * heads * a.b; n += gridDim.x) {
        work(n % tiles, n / tiles % heads, n / tiles / heads);
        __syncthreads(); /* shared memory is free again */
    }
}

/* Store a result; when repairing, only where the old one is NaN. */
__device__ inline void store(const attend_args &a, const axes4 &y, int64_t at, float value)
{
    float old = a.suspect ? td_get(y.at, at) : CUDART_NAN_F;
    if (old != old)
        td_set(y.at, at, value);
}

/* ---- the mask -------------------------------------------------------------------------------- */

/* What the rule needs to know about the tokens of a tile. */
template <int TILE> struct tile_tokens {
    int index[TILE], segment[TILE], input[TILE], position[TILE];
};

__device__ inline int token(const tokens &t, int64_t b, int64_t i, int absent)
{
    return t.data ? t.data[b * t.row + i * t.step] : absent;
}

/* For queries or keys [first, ..); those beyond `count` are never used. */
template <int TILE>
__device__ inline void load_tokens(tile_tokens<TILE> &to, const tokens &index,
                                   const tokens &segment, const tokens &input,
                                   const tokens &position, int64_t b, int64_t first, int64_t count)
{
    int     n = threadIdx.x;
    int64_t i = first + n;
    if (n >= TILE || i >= count)
        return;
    to.index[n] = token(index, b, i, (int)i);
    to.segment[n] = token(segment, b, i, 1);
    to.input[n] = token(input, b, i, 0);
    to.position[n] = token(position, b, i, 0);
}

/* What the rule needs to know about one token. */
typedef struct facts {
    int index, segment, input;
} facts;

/* The keys that a query sees: those with low < index <= high, in its segment or, if `any`, in
 * all segments; and, if it is an input token, all input tokens. */
typedef struct bounds {
    int  segment, low, high;
    bool any, input;
} bounds;

/* No key at all. */
__device__ inline bounds no_bounds()
{
    bounds s = { 0, INT_MAX, INT_MIN, false, false };
    return s;
}

/* The rule, as ops.h has it, for one query. */
__device__ inline bounds bounds_of(const attend_args &a, const facts &q)
{
    bounds s = { q.segment, INT_MIN, INT_MAX, false, q.input != 0 };
    if (q.segment == 0) {
        s = no_bounds();
        if (a.self) { /* a padding query sees itself */
            s.low = q.index - 1;
            s.high = q.index;
            s.any = true;
        }
        return s;
    }
    if (a.causal)
        s.high = q.index;
    if (a.window > 0)
        s.low = (int)max((int64_t)INT_MIN, q.index - a.window);
    return s;
}

/* Without branches, because tiles call this for each of their pairs. */
__device__ inline bool within(const bounds &s, const facts &k)
{
    return (s.any | (s.segment == k.segment)) & (k.index > s.low) &
           ((k.index <= s.high) | (s.input & (k.input != 0)));
}

__device__ inline bool sees(const attend_args &a, const facts &q, const facts &k)
{
    return within(bounds_of(a, q), k);
}

template <int TILE>
__device__ inline bool visible(const attend_args &a, const tile_tokens<TILE> &qs,
                               const tile_tokens<TILE> &ks, int i, int j)
{
    facts q = { qs.index[i], qs.segment[i], qs.input[i] };
    facts k = { ks.index[j], ks.segment[j], ks.input[j] };
    return sees(a, q, k);
}

/* The number of keys that example b has. */
__device__ inline int64_t keys_of(const attend_args &a, int64_t b)
{
    int64_t length = a.k_length.data ? a.k_length.data[b * a.k_length.row] : a.tk;
    return length < a.tk ? length : a.tk;
}

/* The entry of the bias table for a pair. */
template <int TILE>
__device__ inline int64_t distance(const attend_args &a, const tile_tokens<TILE> &qs,
                                   const tile_tokens<TILE> &ks, int i, int j)
{
    int64_t d = (int64_t)ks.position[j] - qs.position[i] + a.offset;
    return d < 0 ? 0 : d > a.r - 1 ? a.r - 1 : d;
}

/* The visible pairs of the thread: bit r * (TILE / 16) + c. */
template <int TILE>
__device__ inline unsigned visible_pairs(const attend_args &a, const tile_tokens<TILE> &qs,
                                         const tile_tokens<TILE> &ks, int64_t queries, int64_t keys)
{
    constexpr int N = TILE / ATTEND_SIDE;
    int           tx = threadIdx.x % ATTEND_SIDE, ty = threadIdx.x / ATTEND_SIDE;
    unsigned      bits = 0;
    for (int r = 0; r < N; r++)
        for (int c = 0; c < N; c++) {
            int i = ty + ATTEND_SIDE * r, j = tx + ATTEND_SIDE * c;
            if (i < queries && j < keys && visible<TILE>(a, qs, ks, i, j))
                bits |= 1u << (r * N + c);
        }
    return bits;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Rows [first, ..) of head `head`, as [TILE][WIDTH + 4]. Zeros beyond the tensor: keys beyond
 * its end are never read. */
template <int WIDTH, int TILE>
__device__ inline void load_tile(float *to, const axes4 &x, int64_t b, int64_t head, int64_t first,
                                 int64_t count, int64_t width)
{
    int64_t from = b * x.step[0] + head * x.step[1];
    for (int n = threadIdx.x; n < TILE * WIDTH; n += TD_CUDA_THREADS) {
        int i = n / WIDTH, e = n % WIDTH;
        to[i * (WIDTH + 4) + e] = first + i < count && e < width
                                      ? td_get(x.at, from + (first + i) * x.step[2] + e * x.step[3])
                                      : 0;
    }
}

/* x y^T of two tiles, the thread's pairs. */
template <int WIDTH, int TILE>
__device__ inline void pair_products(float (&s)[TILE / ATTEND_SIDE][TILE / ATTEND_SIDE],
                                     const float *x, const float *y, int width)
{
    constexpr int N = TILE / ATTEND_SIDE, LD = WIDTH + 4;
    int           tx = threadIdx.x % ATTEND_SIDE, ty = threadIdx.x / ATTEND_SIDE;
    for (int r = 0; r < N; r++)
        for (int c = 0; c < N; c++)
            s[r][c] = 0;
    /* beyond `width` the rows hold zeros */
    for (int e = 0; e < width; e += 4) {
        float4 p[N], q[N];
        for (int r = 0; r < N; r++)
            p[r] = *(const float4 *)(x + (ty + ATTEND_SIDE * r) * LD + e);
        for (int c = 0; c < N; c++)
            q[c] = *(const float4 *)(y + (tx + ATTEND_SIDE * c) * LD + e);
        for (int r = 0; r < N; r++)
            for (int c = 0; c < N; c++) {
                s[r][c] += p[r].x * q[c].x;
                s[r][c] += p[r].y * q[c].y;
                s[r][c] += p[r].z * q[c].z;
                s[r][c] += p[r].w * q[c].w;
            }
    }
}

/* The column of a head that the thread's c-th output belongs to. */
__device__ inline int output_column(int c)
{
    return c / 4 * 64 + (int)threadIdx.x % ATTEND_SIDE * 4 + c % 4;
}

/* to += w x, of a tile of weights [TILE][TILE + 4] and one of rows; TRANSPOSED: w^T x. Weights
 * of 0 are skipped, because hidden values may be NaN. */
template <int WIDTH, int TILE, bool TRANSPOSED>
__device__ inline void weighted_rows(float (&to)[TILE / ATTEND_SIDE][WIDTH / ATTEND_SIDE],
                                     const float *w, const float *x)
{
    constexpr int N = TILE / ATTEND_SIDE, C = WIDTH / ATTEND_SIDE, LD = WIDTH + 4, LS = TILE + 4;
    int           ty = threadIdx.x / ATTEND_SIDE;
#pragma unroll 4
    for (int j = 0; j < TILE; j++) {
        float  p[N];
        float4 y[C / 4];
        for (int r = 0; r < N; r++) {
            int i = ty + ATTEND_SIDE * r;
            p[r] = TRANSPOSED ? w[j * LS + i] : w[i * LS + j];
        }
        for (int c = 0; c < C; c += 4)
            y[c / 4] = *(const float4 *)(x + j * LD + output_column(c));
        for (int r = 0; r < N; r++)
            for (int c = 0; c < C; c += 4)
                /* a weight of 0 may belong to a hidden key, whose NaN must not reach the sum */
                if (p[r] != 0) {
                    to[r][c] += p[r] * y[c / 4].x;
                    to[r][c + 1] += p[r] * y[c / 4].y;
                    to[r][c + 2] += p[r] * y[c / 4].z;
                    to[r][c + 3] += p[r] * y[c / 4].w;
                }
    }
}

/* scale q . k under the cap, from the product. */
__device__ inline float capped(const attend_args &a, float product)
{
    float s = product * a.scale;
    return a.cap > 0 ? a.cap * tanhf(s / a.cap) : s;
}

/* The slope of the cap there. */
__device__ inline float cap_slope(const attend_args &a, float product)
{
    float share = a.cap > 0 ? tanhf(product * a.scale / a.cap) : 0;
    return 1 - share * share;
}

/* The score of a visible pair, with its biases, from the product. */
template <int TILE>
__device__ inline float score(const attend_args &a, float product, const tile_tokens<TILE> &qs,
                              const tile_tokens<TILE> &ks, int64_t b, int64_t h, int i, int j,
                              int64_t query, int64_t key)
{
    float s = capped(a, product);
    if (a.table.at.data)
        s += td_get(a.table.at,
                    h * a.table.step[0] + distance<TILE>(a, qs, ks, i, j) * a.table.step[1]);
    if (a.dense.at.data)
        s += td_get(a.dense.at, place(a.dense, b, h, query, key));
    return s;
}

/* Compute results that are NaN again, if a.suspect says that there are any. */
int td_cuda_repair_attend(td_cuda *cuda, attend_args a);
int td_cuda_repair_attend_grad(td_cuda *cuda, const attend_args &a);

#endif
