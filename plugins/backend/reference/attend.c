/* attend.c - attention under the mask rule of tandem/ops.h, pair by pair (Vaswani et al. 2017).
 * Scores are computed again wherever they are needed: nothing is kept between passes over the
 * keys. */
#include "kernels.h"
#include "reference.h"

/* Query i of head h of example b, and a key j. */
typedef struct pair {
    int64_t b, h, i, j;
} pair;

static double at4(const td_view *v, int64_t b, int64_t h, int64_t t, int64_t e)
{
    int64_t index[] = { b, h, t, e };
    return td_ref_get(v, td_ref_offset(v, index, 4));
}

static void add4(const td_view *v, int64_t b, int64_t h, int64_t t, int64_t e, double x)
{
    int64_t index[] = { b, h, t, e }, at = td_ref_offset(v, index, 4);
    td_ref_put(v, at, td_ref_get(v, at) + x);
}

/* The key head that query head h reads. */
static int64_t group(const td_call *call, int64_t h)
{
    return h / (call->in[TD_ATTEND_Q].dim[1] / call->in[TD_ATTEND_K].dim[1]);
}

/* Entry t of a mask input [B, T], or `absent` if the call has no such input. */
static int64_t entry(const td_call *call, int input, int64_t b, int64_t t, int64_t absent)
{
    const td_view *v = td_ref_in(call, input);
    int64_t        index[] = { b, t };
    return v ? (int64_t)td_ref_get(v, td_ref_offset(v, index, 2)) : absent;
}

/* The number of keys of example b: in generation, fewer than its buffer has places. */
static int64_t keys_of(const td_call *call, int64_t b)
{
    const td_view *v = td_ref_in(call, TD_ATTEND_K_LENGTH);
    int64_t        all = call->in[TD_ATTEND_K].dim[2];
    int64_t        length = v ? (int64_t)td_ref_get(v, b * v->stride[0]) : all;
    return length < all ? length : all;
}

/* The rule, line by line as ops.h has it. */
static bool visible(const td_call *call, pair p)
{
    const int64_t *rule = call->attrs->i;
    int64_t        q = entry(call, TD_ATTEND_Q_INDEX, p.b, p.i, p.i),
            k = entry(call, TD_ATTEND_K_INDEX, p.b, p.j, p.j);
    int64_t segment = entry(call, TD_ATTEND_Q_SEGMENT, p.b, p.i, 1);
    bool    inputs = entry(call, TD_ATTEND_Q_INPUT, p.b, p.i, 0) &&
                  entry(call, TD_ATTEND_K_INPUT, p.b, p.j, 0);

    if (p.j >= keys_of(call, p.b))
        return false;
    /* padding sees nothing, or itself alone */
    if (segment == 0)
        return rule[2] && q == k;
    if (segment != entry(call, TD_ATTEND_K_SEGMENT, p.b, p.j, 1))
        return false;
    if (rule[0] && k > q && !inputs)
        return false;
    return rule[1] <= 0 || q - k < rule[1];
}

/* The entry of the bias table for a pair. */
static int64_t distance(const td_call *call, pair p)
{
    int64_t last = call->in[TD_ATTEND_TABLE].dim[1] - 1;
    int64_t d = entry(call, TD_ATTEND_K_POSITION, p.b, p.j, 0) -
                entry(call, TD_ATTEND_Q_POSITION, p.b, p.i, 0) + call->attrs->i[3];
    return d < 0 ? 0 : d > last ? last : d;
}

/* scale q . k, capped: cap tanh(scale q . k / cap). */
static double product(const td_call *call, pair p)
{
    const td_view *q = &call->in[TD_ATTEND_Q], *k = &call->in[TD_ATTEND_K];
    double         dot = 0, cap = call->attrs->f[1];
    for (int64_t e = 0; e < q->dim[3]; e++)
        dot += at4(q, p.b, p.h, p.i, e) * at4(k, p.b, group(call, p.h), p.j, e);
    dot *= call->attrs->f[0];
    return cap > 0 ? cap * tanh(dot / cap) : dot;
}

/* The product and the biases, or -inf if the pair is hidden. */
static double score(const td_call *call, pair p)
{
    const td_view *table = td_ref_in(call, TD_ATTEND_TABLE),
                  *dense = td_ref_in(call, TD_ATTEND_DENSE);
    double x;

    /* before the product: a hidden key may be NaN */
    if (!visible(call, p))
        return -INFINITY;
    x = product(call, p);
    if (table)
        x += td_ref_get(table, p.h * table->stride[0] + distance(call, p) * table->stride[1]);
    return dense ? x + at4(dense, p.b, p.h, p.i, p.j) : x;
}

/* log sum_j e^score, relative to the largest score; -inf if the query sees nothing. */
static double logsumexp(const td_call *call, pair p)
{
    int64_t keys = keys_of(call, p.b);
    double  top = -INFINITY, sum = 0;

    for (p.j = 0; p.j < keys; p.j++) {
        double x = score(call, p);
        top = isnan(top) || x <= top ? top : x; /* NaN propagates */
    }
    for (p.j = 0; p.j < keys && top != -INFINITY; p.j++)
        sum += exp(score(call, p) - top);
    return top == -INFINITY ? top : top + log(sum);
}

/* o = sum_j e^(score - logsumexp) v_j. Weights of 0 are skipped: a hidden value may be NaN. */
static void attend_query(const td_call *call, int64_t n, pair p)
{
    const td_view *v = &call->in[TD_ATTEND_V], *o = td_ref_out(call, 0), *lse = td_ref_out(call, 1);
    double         all = logsumexp(call, p);

    if (lse)
        td_ref_write(lse, n, all);
    for (p.j = 0; o && all != -INFINITY && p.j < keys_of(call, p.b); p.j++) {
        double weight = exp(score(call, p) - all);
        for (int64_t e = 0; e < v->dim[3] && weight != 0; e++)
            add4(o, p.b, p.h, p.i, e, weight * at4(v, p.b, group(call, p.h), p.j, e));
    }
}

/* Call f for every query in row-major order, n being its number. */
static void each_query(const td_call *call, void (*f)(const td_call *, int64_t n, pair))
{
    const td_view *q = &call->in[TD_ATTEND_Q];
    int64_t        n = 0;
    for (int64_t b = 0; b < q->dim[0]; b++)
        for (int64_t h = 0; h < q->dim[1]; h++)
            for (int64_t i = 0; i < q->dim[2]; i++)
                f(call, n++, (pair){ b, h, i, 0 });
}

int td_ref_attend(const td_call *call)
{
    if (td_ref_out(call, 0))
        td_ref_fill(&call->out[0], 0);
    each_query(call, attend_query);
    return 0;
}

/* ---- gradients -------------------------------------------------------------------------------
 *
 * With weights p:  dv = p^T do,  ds = p (do v^T - sum_f do o),  dq = scale ds k,  dk = scale ds^T q;
 * under a cap, ds is multiplied by its slope, 1 - (product / cap)^2, on the way to q and k
 */

enum { DQ, DK, DV, DTABLE, DDENSE };

/* The slope of the cap at a pair's product; 1 without a cap. */
static double slope(const td_call *call, pair p)
{
    double cap = call->attrs->f[1], share = cap > 0 ? product(call, p) / cap : 0;
    return 1 - share * share;
}

/* The contribution of one pair to all requested gradients. */
static void grad_pair(const td_call *call, pair p, double weight, double ds)
{
    const td_view *q = &call->in[TD_ATTEND_Q], *k = &call->in[TD_ATTEND_K],
                  *go = &call->in[TD_ATTEND_GRAD];
    const td_view *dq = td_ref_out(call, DQ), *dk = td_ref_out(call, DK),
                  *dv = td_ref_out(call, DV);
    const td_view *dtable = td_ref_out(call, DTABLE), *ddense = td_ref_out(call, DDENSE);
    int64_t        g = group(call, p.h);
    double         scaled = ds * call->attrs->f[0] * slope(call, p);

    /* grouped heads: several query heads add to one key head */
    for (int64_t e = 0; e < q->dim[3]; e++) {
        if (dq)
            add4(dq, p.b, p.h, p.i, e, scaled * at4(k, p.b, g, p.j, e));
        if (dk)
            add4(dk, p.b, g, p.j, e, scaled * at4(q, p.b, p.h, p.i, e));
    }
    for (int64_t e = 0; dv && e < go->dim[3]; e++)
        add4(dv, p.b, g, p.j, e, weight * at4(go, p.b, p.h, p.i, e));
    if (dtable && td_ref_in(call, TD_ATTEND_TABLE))
        td_ref_add_to(dtable, p.h * dtable->dim[1] + distance(call, p), ds);
    if (ddense && td_ref_in(call, TD_ATTEND_DENSE))
        add4(ddense, p.b, p.h, p.i, p.j, ds);
}

/* `mean` is sum_f do o, which equals sum_j p_j dp_j. */
static void grad_query(const td_call *call, int64_t n, pair p)
{
    const td_view *v = &call->in[TD_ATTEND_V], *go = &call->in[TD_ATTEND_GRAD],
                  *o = &call->in[TD_ATTEND_OUT];
    double all = td_ref_read(&call->in[TD_ATTEND_LSE], n), mean = 0;

    for (int64_t e = 0; e < v->dim[3]; e++)
        mean += at4(go, p.b, p.h, p.i, e) * at4(o, p.b, p.h, p.i, e);
    for (p.j = 0; p.j < keys_of(call, p.b) && all > -INFINITY; p.j++) {
        double weight = exp(score(call, p) - all), dp = 0;
        if (weight == 0)
            continue; /* a hidden key or value may be NaN */
        for (int64_t e = 0; e < v->dim[3]; e++)
            dp += at4(go, p.b, p.h, p.i, e) * at4(v, p.b, group(call, p.h), p.j, e);
        grad_pair(call, p, weight, weight * (dp - mean));
    }
}

int td_ref_attend_grad(const td_call *call)
{
    for (int k = 0; k < call->n_out; k++)
        if (td_ref_out(call, k))
            td_ref_fill(&call->out[k], 0);
    each_query(call, grad_query);
    return 0;
}
