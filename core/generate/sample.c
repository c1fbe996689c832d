/* sample.c - repetition penalty, temperature, top-k, top-p, min-p, and the draw. */
#include "generate/sample.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/logits.h"
#include "tandem/random.h"

struct td_sampler {
    int64_t  vocab_size;
    double  *logit;     /* [vocab_size] after penalty and temperature */
    double  *weight;    /* [vocab_size] of the candidates, relative to the most likely one */
    int32_t *candidate; /* [vocab_size] a heap of ids, the most likely one first */
    int32_t *kept;      /* [vocab_size] ids that pass the filters, most likely first */
    /* [vocab_size] marks seen tokens: one that was seen twice is penalized once */
    uint8_t *penalized;
};

td_sampling td_sampling_greedy(void)
{
    return (td_sampling){ .repetition_penalty = 1, .temperature = 0, .top_p = 1 };
}

int td_sampling_check(const td_sampling *s, td_error *error)
{
    /* negated comparisons, which refuse NaN */
    if (!(s->repetition_penalty > 0))
        return td_fail(error, TD_ECONFIG,
                       "repetition penalty %g: it must be above 0; 1 switches it off",
                       s->repetition_penalty);
    if (!(s->temperature >= 0) || isinf(s->temperature))
        return td_fail(error, TD_ECONFIG,
                       "temperature %g: it must be 0 (the most likely token) or above",
                       s->temperature);
    if (s->top_k < 0)
        return td_fail(error, TD_ECONFIG, "top-k %lld: it must be 0 (off) or above",
                       (long long)s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return td_fail(error, TD_ECONFIG, "top-p %g: it must be above 0, and at most 1 (off)",
                       s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return td_fail(error, TD_ECONFIG, "min-p %g: it must lie between 0 (off) and 1", s->min_p);
    return 0;
}

td_sampler *td_sampler_new(int64_t vocab_size)
{
    td_sampler *s = calloc(1, sizeof *s);
    size_t      n = (size_t)vocab_size;
    if (!s)
        return NULL;
    s->vocab_size = vocab_size;
    /* every list has room for the whole vocabulary: drawing allocates nothing */
    s->logit = calloc(n, sizeof *s->logit);
    s->weight = calloc(n, sizeof *s->weight);
    s->candidate = calloc(n, sizeof *s->candidate);
    s->kept = calloc(n, sizeof *s->kept);
    s->penalized = calloc(n, sizeof *s->penalized);
    if (s->logit && s->weight && s->candidate && s->kept && s->penalized)
        return s;
    td_sampler_free(s);
    return NULL;
}

void td_sampler_free(td_sampler *s)
{
    if (!s)
        return;
    free(s->logit);
    free(s->weight);
    free(s->candidate);
    free(s->kept);
    free(s->penalized);
    free(s);
}

td_sampler **td_samplers_new(int threads, int64_t vocab_size)
{
    td_sampler **list = calloc((size_t)threads, sizeof(td_sampler *));
    for (int i = 0; list && i < threads; i++) {
        list[i] = td_sampler_new(vocab_size);
        if (!list[i]) {
            td_samplers_free(list, i);
            return NULL;
        }
    }
    return list;
}

void td_samplers_free(td_sampler **list, int threads)
{
    for (int i = 0; list && i < threads; i++)
        td_sampler_free(list[i]);
    free(list);
}

/* ---- penalty --------------------------------------------------------------------------------- */

/* Both signs lower a seen token: a positive logit is divided, a negative one multiplied. */
static void penalize(td_sampler *s, const td_sampling *o, const td_draw *d)
{
    for (int64_t i = 0; i < d->n_seen; i++) {
        int32_t id = d->seen[i];
        double *x;
        if (id < 0 || id >= s->vocab_size || s->penalized[id])
            continue;
        s->penalized[id] = 1;
        x = &s->logit[id];
        *x = *x > 0 ? *x / o->repetition_penalty : *x * o->repetition_penalty;
    }
    /* cleared through the same list, which is shorter than the vocabulary */
    for (int64_t i = 0; i < d->n_seen; i++)
        if (d->seen[i] >= 0 && d->seen[i] < s->vocab_size)
            s->penalized[d->seen[i]] = 0;
}

/* ---- filters --------------------------------------------------------------------------------- */

static bool before(const td_sampler *s, int32_t a, int32_t b)
{
    return s->logit[a] > s->logit[b] || (s->logit[a] == s->logit[b] && a < b);
}

static void sift_down(td_sampler *s, int64_t at, int64_t n)
{
    int32_t *h = s->candidate;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        int32_t id;
        if (child + 1 < n && before(s, h[child + 1], h[child]))
            child++;
        if (!before(s, h[child], h[at]))
            return;
        id = h[child];
        h[child] = h[at];
        h[at] = id;
    }
}

/* A heap, not a sort: the filters usually stop after a few of 32,000 tokens. */
static int64_t make_heap(td_sampler *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->vocab_size; i++)
        if (!isinf(s->logit[i]))
            s->candidate[n++] = (int32_t)i;
    for (int64_t at = n / 2 - 1; at >= 0; at--)
        sift_down(s, at, n);
    return n;
}

static int32_t pop(td_sampler *s, int64_t *n)
{
    int32_t id = s->candidate[0];
    s->candidate[0] = s->candidate[--*n];
    sift_down(s, 0, *n);
    return id;
}

static double weight_of(const td_sampler *s, int32_t id, double most)
{
    return exp(s->logit[id] - most);
}

/* Without filters all candidates are kept, and need not be sorted. */
static int64_t keep_all(td_sampler *s, double most)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < s->vocab_size; i++)
        if (!isinf(s->logit[i])) {
            s->kept[kept] = (int32_t)i;
            s->weight[kept++] = weight_of(s, (int32_t)i, most);
        }
    return kept;
}

/* The total that top-p is a share of: the weights of the tokens that top-k leaves. */
static double mass_before_top_p(td_sampler *s, int64_t wanted, int64_t n, double most)
{
    double sum = 0;
    if (wanted == n) {
        for (int64_t i = 0; i < n; i++)
            sum += weight_of(s, s->candidate[i], most);
        return sum;
    }
    for (int64_t i = 0; i < wanted; i++) {
        int32_t id = pop(s, &n);
        sum += weight_of(s, id, most);
    }
    return sum;
}

/* Takes candidates from the most likely one down, until a filter ends the list. */
static int64_t keep_likely(td_sampler *s, const td_sampling *o, double most)
{
    int64_t n = make_heap(s), wanted = o->top_k > 0 && o->top_k < n ? o->top_k : n, kept = 0;
    double  enough = INFINITY, sum = 0;

    if (o->top_p < 1) {
        enough = o->top_p * mass_before_top_p(s, wanted, n, most);
        n = make_heap(s); /* computing the mass of top-k removed tokens from the heap */
    }
    while (kept < wanted && sum < enough) {
        int32_t id = pop(s, &n);
        double  w = weight_of(s, id, most);
        /* the most likely token always stays; weights only fall from there */
        if (kept && w < o->min_p * s->weight[0])
            break;
        s->kept[kept] = id;
        s->weight[kept++] = w;
        sum += w;
    }
    return kept;
}

/* ---- drawing --------------------------------------------------------------------------------- */

/* The first of the kept tokens at which the running sum exceeds the drawn share of the total. */
static int32_t draw(const td_sampler *s, int64_t kept, double share)
{
    double  all = 0, sum = 0;
    int64_t i = 0;
    for (int64_t k = 0; k < kept; k++)
        all += s->weight[k];
    /* the last one needs no comparison: rounding may leave the sum below the target */
    while (i + 1 < kept && share * all >= (sum += s->weight[i]))
        i++;
    return s->kept[i];
}

static int32_t most_likely(const td_sampler *s)
{
    int32_t best = 0;
    for (int64_t i = 1; i < s->vocab_size; i++)
        if (s->logit[i] > s->logit[best])
            best = (int32_t)i;
    return best;
}

/* Collects the tokens that may be drawn, with their weights; `most` is the largest logit. */
static int64_t filter(td_sampler *s, const td_sampling *o, double most)
{
    bool    filters = o->top_k > 0 || o->top_p < 1 || o->min_p > 0;
    int64_t kept;
    for (int64_t i = 0; i < s->vocab_size; i++)
        s->logit[i] /= o->temperature;
    most /= o->temperature;
    kept = filters ? keep_likely(s, o, most) : keep_all(s, most);
    assert(kept > 0); /* the most likely token is finite and passes every filter */
    return kept;
}

/* The most likely token without a penalty needs no copy of the logits. */
static int32_t first_equal(const float *logits, float top)
{
    int32_t i = 0;
    while (logits[i] != top)
        i++;
    return i;
}

static int32_t choose(td_sampler *s, const td_sampling *o, const td_draw *d, float top)
{
    int32_t token;
    if (o->repetition_penalty == 1 && o->temperature == 0)
        return first_equal(d->logits, top);
    for (int64_t i = 0; i < s->vocab_size; i++)
        s->logit[i] = d->logits[i];
    if (o->repetition_penalty != 1)
        penalize(s, o, d);
    token = most_likely(s);
    if (o->temperature == 0)
        return token;
    return draw(s, filter(s, o, s->logit[token]), td_random_uniform(o->seed, d->stream, d->index));
}

int32_t td_sample(td_sampler *s, const td_sampling *o, const td_draw *d, double *logprob)
{
    float   top = td_logits_top(d->logits, s->vocab_size);
    int32_t token;
    if (isinf(top))
        return -1;
    token = choose(s, o, d, top);
    if (logprob) /* of the unchanged logits: filters must not affect reported probabilities */
        *logprob = d->logits[token] - td_logits_log_sum(d->logits, s->vocab_size, top);
    return token;
}
