/* attend_mask.c - which keys a block of queries sees, decided per block where that is possible, and the biases. */
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

/* Entries first .. of row `b`, or `absent` + step i where the input is not there. */
static void fill(const td_view *v, int64_t b, int64_t first, int64_t n, int32_t absent, int32_t step, int32_t *to)
{
    const int32_t *from = v->data;
    if (from)
        from += b * v->stride[0] + first * v->stride[1];
    for (int64_t i = 0; i < n; i++)
        to[i] = from ? from[i * v->stride[1]] : absent + step * (int32_t)(first + i);
    for (int64_t i = n; i < TD_BLOCK; i++)
        to[i] = 0;
}

void td_attend_load(const td_attend_shape *s, bool keys, int64_t batch, int64_t head, int64_t first,
                    td_attend_side *side)
{
    const td_view *in = s->call->in + (keys ? 1 : 0); /* the inputs of keys follow those of queries */
    int64_t        n = td_cpu_min(TD_BLOCK, (keys ? s->keys : s->queries) - first);
    side->batch = batch, side->head = head, side->first = first, side->count = n;
    fill(in + TD_ATTEND_Q_SEGMENT, batch, first, n, 1, 0, side->segment);
    fill(in + TD_ATTEND_Q_INPUT, batch, first, n, 0, 0, side->input);
    fill(in + TD_ATTEND_Q_INDEX, batch, first, n, 0, 1, side->index);
    if (s->call->in[TD_ATTEND_TABLE].data)
        fill(in + TD_ATTEND_Q_POSITION, batch, first, n, 0, 1, side->position);
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

static bool sees_none(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k)
{
    if (s->self && q->padding && !apart(q->indices, k->indices))
        return false;
    return apart(q->segments, k->segments) || (k->segments.low == 0 && k->segments.high == 0) ||
           (s->causal && k->indices.low > q->indices.high && !(q->inputs.high && k->inputs.high)) ||
           (s->window > 0 && (int64_t)q->indices.low - k->indices.high >= s->window);
}

static bool sees_all(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k)
{
    return !q->padding && q->segments.low == q->segments.high && k->segments.low == q->segments.low &&
           k->segments.high == q->segments.low &&
           (!s->causal || k->indices.high <= q->indices.low || (q->inputs.low && k->inputs.low)) &&
           (s->window <= 0 || (int64_t)q->indices.high - k->indices.low < s->window);
}

int td_attend_sees(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k)
{
    return sees_none(s, q, k) ? TD_SEES_NONE : sees_all(s, q, k) ? TD_SEES_ALL : TD_SEES_SOME;
}

static void add_table(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k, float *scores)
{
    const td_view *v = s->call->in + TD_ATTEND_TABLE;
    const float   *table = (const float *)v->data + q->head * v->stride[0];
    for (int64_t j = 0; j < k->count; j++)
        for (int64_t i = 0; i < q->count; i++)
            scores[j * TD_BLOCK + i] += table[td_attend_distance(s, q->position[i], k->position[j]) * v->stride[1]];
}

static void add_dense(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k, float *scores)
{
    const td_view *v = s->call->in + TD_ATTEND_DENSE;
    const float   *dense = td_attend_dense(v, q->batch, q->head) + q->first * v->stride[2] + k->first * v->stride[3];
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

/* The rule of ops.h, 16 queries at a time: bits of -inf where it does not hold. */
TD_CPU_CLONES static void hide(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k,
                               float *scores)
{
    const int32_t late = s->causal ? 0 : -1, self = s->self ? -1 : 0;
    for (int64_t j = 0; j < k->count; j++) {
        const int32_t segment = k->segment[j], index = k->index[j], input = k->input[j] ? -1 : 0;
        const int64_t reach = s->window > 0 ? index + td_cpu_min(s->window, INT32_MAX) - 1 : INT32_MAX;
        const int32_t last = (int32_t)td_cpu_min(reach, INT32_MAX), real = segment ? -1 : 0;
        for (int v = 0; v < TD_BLOCK; v += TD_LANES) {
            td_vi qs = load_int(q->segment + v), qi = load_int(q->index + v), qn = load_int(q->input + v);
            td_vi see = (qs == segment) & real & ((qi >= index) | late | ((qn != 0) & input)) & (qi <= last);
            float *at = scores + j * TD_BLOCK + v;
            see |= (qs == 0) & (qi == index) & self;
            td_vstore(at, td_vpick(see, td_vload(at), td_vset(-INFINITY)));
        }
    }
}

void td_attend_mask(const td_attend_shape *s, const td_attend_side *q, const td_attend_side *k, int sees, float *scores)
{
    if (s->call->in[TD_ATTEND_TABLE].data)
        add_table(s, q, k, scores);
    if (s->call->in[TD_ATTEND_DENSE].data)
        add_dense(s, q, k, scores);
    if (sees != TD_SEES_ALL)
        hide(s, q, k, scores);
}
