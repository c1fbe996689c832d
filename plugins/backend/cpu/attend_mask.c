/* attend_mask.c - which keys a block of queries sees, decided for the whole block if possible, and
 * the biases. The rule is td_mask's in ops.h. */
#include <limits.h>

#include "attend.h"

static td_attend_range range_of(const int32_t *x, int64_t n)
{
    td_attend_range r = { INT32_MAX, INT32_MIN };
    for (int64_t i = 0; i < n; i++) {
        r.low = x[i] < r.low ? x[i] : r.low;
        r.high = x[i] > r.high ? x[i] : r.high;
    }
    return r;
}

/* Entries first .. first + n - 1 of row `b`, or absent + step i if the call has no such input. */
static void fill(const td_view *v, int64_t b, int64_t first, int64_t n, int32_t absent,
                 int32_t step, int32_t *to)
{
    const int32_t *from = v->data;
    if (from)
        from += b * v->stride[0] + first * v->stride[1];
    for (int64_t i = 0; i < n; i++)
        to[i] = from ? from[i * v->stride[1]] : absent + step * (int32_t)(first + i);
    for (int64_t i = n; i < TD_BLOCK; i++)
        to[i] = 0;
}

static bool counts_up(const int32_t *x, int64_t n)
{
    bool up = true;
    for (int64_t i = 1; i < n; i++)
        up &= (int64_t)x[i] == (int64_t)x[i - 1] + 1;
    return up;
}

void td_attend_load(const td_attend_shape *s, bool keys, int64_t batch, int64_t head, int64_t first,
                    td_attend_side *side)
{
    /* each input of keys follows the one of queries */
    const td_view *in = s->call->in + (keys ? 1 : 0);
    int64_t        n = td_cpu_min(TD_BLOCK, (keys ? td_attend_keys(s, batch) : s->queries) - first);
    side->batch = batch;
    side->head = head;
    side->first = first;
    side->count = n;
    fill(in + TD_ATTEND_Q_SEGMENT, batch, first, n, 1, 0, side->segment);
    fill(in + TD_ATTEND_Q_INPUT, batch, first, n, 0, 0, side->input);
    fill(in + TD_ATTEND_Q_INDEX, batch, first, n, 0, 1, side->index);
    if (s->call->in[TD_ATTEND_TABLE].data) {
        fill(in + TD_ATTEND_Q_POSITION, batch, first, n, 0, 1, side->position);
        side->consecutive = counts_up(side->position, n);
    }
    /* inputs are flags: any number but 0 is true */
    side->padding = false;
    for (int64_t i = 0; i < n; i++) {
        side->input[i] = side->input[i] != 0;
        side->padding |= side->segment[i] == 0;
    }
    side->segments = range_of(side->segment, n);
    side->indices = range_of(side->index, n);
    side->inputs = range_of(side->input, n);
}

static bool apart(td_attend_range a, td_attend_range b) { return a.high < b.low || b.high < a.low; }

/* No query can see any key, judged by ranges. Padding may still see itself, by index. */
static bool sees_none(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k)
{
    if (s->self && q->padding && !apart(q->indices, k->indices))
        return false;
    return apart(q->segments, k->segments) || (k->segments.low == 0 && k->segments.high == 0) ||
           (s->causal && k->indices.low > q->indices.high && !(q->inputs.high && k->inputs.high)) ||
           (s->window > 0 && (int64_t)q->indices.low - k->indices.high >= s->window);
}

/* Every query sees every key, judged by ranges: one segment for all, and nothing in the rule hides
 * a pair. */
static bool sees_all(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k)
{
    return !q->padding && q->segments.low == q->segments.high &&
           k->segments.low == q->segments.low && k->segments.high == q->segments.low &&
           (!s->causal || k->indices.high <= q->indices.low || (q->inputs.low && k->inputs.low)) &&
           (s->window <= 0 || (int64_t)q->indices.high - k->indices.low < s->window);
}

int td_attend_sees(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k)
{
    return sees_none(s, q, k) ? TD_SEES_NONE : sees_all(s, q, k) ? TD_SEES_ALL : TD_SEES_SOME;
}

/* Row j of the scores is shifted by one entry against row j + 1. */
TD_CPU_CLONES static void add_runs(const float *runs, int64_t keys, int64_t lanes, float *scores)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i += TD_LANES) {
            float *to = scores + j * TD_BLOCK + i;
            td_vstore(to, td_vload(to) + td_vload(runs + keys - 1 - j + i));
        }
}

/* scores += table[h, distance] */
static void add_table(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                      float *scores)
{
    const td_view *v = s->call->in + TD_ATTEND_TABLE;
    const float   *table = (const float *)v->data + q->head * v->stride[0];
    float          runs[TD_RUNS];

    /* the usual case; packed rows, whose positions start again, look up every pair */
    if (td_attend_in_runs(q, k)) {
        for (int64_t x = 0; x < TD_RUNS; x++)
            runs[x] = table[td_attend_run(s, q, k, x) * v->stride[1]];
        add_runs(runs, k->count, td_attend_wide(q->count), scores);
        return;
    }
    for (int64_t j = 0; j < k->count; j++)
        for (int64_t i = 0; i < q->count; i++)
            scores[j * TD_BLOCK + i] +=
                table[td_attend_distance(s, q->position[i], k->position[j]) * v->stride[1]];
}

/* scores += dense[b, h], transposed */
static void add_dense(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                      float *scores)
{
    const td_view *v = s->call->in + TD_ATTEND_DENSE;
    const float   *dense = td_attend_dense(v, q->batch, q->head) + q->first * v->stride[2] +
                         k->first * v->stride[3];
    for (int64_t i = 0; i < q->count; i++)
        for (int64_t j = 0; j < k->count; j++)
            scores[j * TD_BLOCK + i] += dense[i * v->stride[2] + j * v->stride[3]];
}

TD_CPU_INLINE td_vi load_int(const int32_t *p)
{
    td_vi v;
    memcpy(&v, p, sizeof v);
    return v;
}

TD_CPU_INLINE td_vi set_int(int32_t x) { return (td_vi){ 0 } + x; }

/* The rule for one key, as integers to compare 16 queries with; true is -1, all bits. `last`: the
 * last index within the window. */
typedef struct key_rule {
    int32_t segment, index, input, last, real;
} key_rule;

TD_CPU_INLINE key_rule rule_of(const td_attend_shape *s, const td_attend_side *k, int64_t j)
{
    const int64_t reach = s->window > 0 ? k->index[j] + td_cpu_min(s->window, INT32_MAX) - 1
                                        : INT32_MAX;
    return (key_rule){ k->segment[j], k->index[j], k->input[j] ? -1 : 0,
                       (int32_t)td_cpu_min(reach, INT32_MAX), k->segment[j] ? -1 : 0 };
}

/* -inf where the rule does not hold, 16 queries at a time. `plain`, a constant once this is
 * inlined: one segment and no input tokens, so that only indices decide. The usual case is causal
 * text. */
TD_CPU_INLINE void hide_rule(const td_attend_shape *s, const td_attend_side *q,
                             const td_attend_side *k, float *scores, const bool plain)
{
    /* without causality any index will do: `late` is then true for all */
    const int32_t late = s->causal ? 0 : -1, self = s->self ? -1 : 0;
    for (int64_t j = 0; j < k->count; j++) {
        const key_rule r = rule_of(s, k, j);
        const int32_t  from = s->causal ? r.index : INT32_MIN;
        for (int v = 0; v < TD_BLOCK; v += TD_LANES) {
            td_vi  qi = load_int(q->index + v), qs, qn, see;
            float *at = scores + j * TD_BLOCK + v;
            if (plain) {
                td_vf x = td_vpick(td_vabove_i(set_int(from), qi), td_vset(-INFINITY),
                                   td_vload(at));
                td_vi gone = td_vabove_i(qi, set_int(r.last));
                td_vstore(at, s->window > 0 ? td_vpick(gone, td_vset(-INFINITY), x) : x);
                continue;
            }
            qs = load_int(q->segment + v);
            qn = load_int(q->input + v);
            see = td_vsame_i(qs, set_int(r.segment)) & r.real &
                  (~td_vabove_i(set_int(r.index), qi) | late |
                   (~td_vsame_i(qn, set_int(0)) & r.input)) &
                  ~td_vabove_i(qi, set_int(r.last));
            see |= td_vsame_i(qs, set_int(0)) & td_vsame_i(qi, set_int(r.index)) & self;
            td_vstore(at, td_vpick(see, td_vload(at), td_vset(-INFINITY)));
        }
    }
}

TD_CPU_CLONES static void hide_plain(const td_attend_shape *s, const td_attend_side *q,
                                     const td_attend_side *k, float *scores)
{
    hide_rule(s, q, k, scores, true);
}

TD_CPU_CLONES static void hide_any(const td_attend_shape *s, const td_attend_side *q,
                                   const td_attend_side *k, float *scores)
{
    hide_rule(s, q, k, scores, false);
}

/* The cheaper of the two for this block. */
static void hide(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                 float *scores)
{
    bool one = !q->padding && q->segments.low == q->segments.high &&
               k->segments.low == k->segments.high && q->segments.low == k->segments.low;
    if (one && !(q->inputs.high && k->inputs.high))
        hide_plain(s, q, k, scores);
    else
        hide_any(s, q, k, scores);
}

void td_attend_mask(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                    int sees, float *scores)
{
    if (s->call->in[TD_ATTEND_TABLE].data)
        add_table(s, q, k, scores);
    if (s->call->in[TD_ATTEND_DENSE].data)
        add_dense(s, q, k, scores);
    if (sees != TD_SEES_ALL)
        hide(s, q, k, scores);
}

/* ---- products without hidden pairs ----------------------------------------------------------- */

/* The first lane, a multiple of 16, that can see any of the 16 keys from `at` on. Only causality is
 * considered: it hides a triangle, whose lower lanes see nothing. */
static int64_t first_lane(const td_attend_shape *s, const td_attend_side *q,
                          const td_attend_side *k, int64_t at)
{
    int64_t         lane = 0, keys = td_cpu_min(TD_LANES, k->count - at);
    td_attend_range index = range_of(k->index + at, keys);
    if (!s->causal || (q->inputs.high && k->inputs.high) || (s->self && q->padding))
        return 0;
    while (lane + TD_LANES < q->count && range_of(q->index + lane, TD_LANES).high < index.low)
        lane += TD_LANES;
    return lane;
}

void td_attend_product(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                       int sees, int kind, const td_tile_product *whole)
{
    td_tile_function *product = td_tile_product_here();
    if (sees == TD_SEES_ALL || !first_lane(s, q, k, (k->count - 1) / TD_LANES * TD_LANES)) {
        product(whole);
        return;
    }
    for (int64_t at = 0; at < k->count; at += TD_LANES) {
        int64_t         lane = first_lane(s, q, k, at), keys = td_cpu_min(TD_LANES, k->count - at);
        /* Hidden scores are -inf or have weight 0, so leaving them out changes no bit. The part of
         * each operand: by kind, keys are its rows, its columns or what is summed over, and so are
         * lanes. */
        td_tile_product p = *whole;
        p.a += at * (kind == TD_OVER_KEYS ? p.column : p.row) +
               (kind == TD_OVER_QUERIES ? lane * p.column : 0);
        p.b += kind == TD_OVER_QUERIES ? lane * p.ldb
                                       : lane + (kind == TD_OVER_KEYS ? at * p.ldb : 0);
        p.c += (kind == TD_OVER_KEYS ? 0 : at * p.ldc) + (kind == TD_OVER_QUERIES ? 0 : lane);
        p.n -= kind == TD_OVER_QUERIES ? 0 : lane;
        p.k = kind == TD_OVER_KEYS ? keys : kind == TD_OVER_QUERIES ? p.k - lane : p.k;
        p.m = kind == TD_OVER_KEYS ? p.m : keys;
        product(&p);
    }
}
