/* statistics.c - estimates and tests (statistics.h). Sums are taken in the order of the
 * arguments. */
#include "evaluate/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "tandem/random.h"

static double weight_at(const double *w, int64_t i) { return w ? w[i] : 1; }

td_estimate td_ratio(const double *x, const double *w, int64_t n)
{
    td_estimate e = { NAN, NAN };
    double      sum = 0, weight = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        weight += weight_at(w, i);
    }
    if (!(weight > 0))
        return e;
    e.mean = sum / weight;
    for (int64_t i = 0; i < n; i++) {
        double rest = x[i] - e.mean * weight_at(w, i);
        squares += rest * rest;
    }
    /* the linearized variance of a ratio estimator */
    if (n > 1)
        e.error = sqrt((double)n / (double)(n - 1) * squares) / weight;
    return e;
}

static td_difference unknown(int64_t n)
{
    return (td_difference){ n, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
}

/* ---- effect sizes ---------------------------------------------------------------------------- */

/* the 0.975 quantile of the normal distribution */
static const double QUANTILE = 1.959963984540054;

/* Cohen's d from the sum of n differences and the sum of their squares. If all are equal there is
 * no standard deviation to divide by. */
static void set_effect(double sum, double squares, int64_t n, td_difference *d)
{
    double mean = sum / (double)n, variance, error;
    d->effect = d->effect_low = d->effect_high = NAN;
    if (n < 2)
        return;
    variance = (squares - sum * mean) / (double)(n - 1);
    /* a remainder of cancellation is not a variance */
    if (!(variance > 1e-14 * squares / (double)n))
        return;
    d->effect = mean / sqrt(variance);
    error = sqrt(1 / (double)n + d->effect * d->effect / (2 * (double)n));
    d->effect_low = d->effect - QUANTILE * error;
    d->effect_high = d->effect + QUANTILE * error;
}

/* ---- paired bootstrap ------------------------------------------------------------------------ */

static int64_t end_of(const td_pairs *p, int64_t stratum)
{
    return p->strata ? p->ends[stratum] : p->n;
}

/* The mean over strata of sum (b - a) / sum w, over the pairs themselves or, with `draw` >= 0, over
 * a resample. */
static double difference(const td_pairs *p, uint64_t seed, int64_t draw)
{
    int64_t strata = p->strata ? p->strata : 1, first = 0;
    double  sum = 0;
    for (int64_t s = 0; s < strata; s++) {
        int64_t n = end_of(p, s) - first;
        double  x = 0, w = 0;
        for (int64_t i = 0; i < n; i++) {
            /* a number of its own for each draw and pair, so that no draw depends on another */
            uint64_t at = (uint64_t)draw * (uint64_t)p->n + (uint64_t)(first + i);
            int64_t k = first + (draw < 0 ? i : (int64_t)td_random_below(seed, 0, at, (uint64_t)n));
            x += p->b[k] - p->a[k];
            w += weight_at(p->w, k);
        }
        sum += x / w;
        first += n;
    }
    return sum / (double)strata;
}

/* Uses differences per unit of weight, so that long sequences do not count as large effects. */
static void effect_of(const td_pairs *p, td_difference *d)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double x = (p->b[i] - p->a[i]) / weight_at(p->w, i);
        sum += x;
        squares += x * x;
    }
    set_effect(sum, squares, p->n, d);
}

int td_paired_bootstrap(const td_pairs *p, int64_t draws, uint64_t seed, td_difference *out,
                        td_error *error)
{
    double *drawn;
    int64_t as_far = 0;

    *out = unknown(p->n);
    if (p->n < 1)
        return 0;
    out->mean = difference(p, seed, -1);
    effect_of(p, out);
    if (p->n < 2 || draws < 1 || !isfinite(out->mean))
        return 0;
    drawn = malloc((size_t)draws * sizeof *drawn);
    if (!drawn)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld samples", (long long)draws);
    for (int64_t k = 0; k < draws; k++) {
        drawn[k] = difference(p, seed, k);
        /* centred on the observed mean: how often chance alone deviates as far from 0 */
        as_far += fabs(drawn[k] - out->mean) >= fabs(out->mean);
    }
    td_sort(drawn, draws);
    out->low = td_percentile(drawn, draws, 0.025);
    out->high = td_percentile(drawn, draws, 0.975);
    out->p = (double)(as_far + 1) / (double)(draws + 1);
    free(drawn);
    return 0;
}

/* ---- several seeds --------------------------------------------------------------------------- */

static int64_t seeds_of(int64_t seeds) { return seeds > 0 ? seeds : 1; }

/* The mean over strata of sum x / sum w, where x [n] lie `step` apart. */
static double mean_of(const td_pairs *p, const double *x, int64_t step)
{
    int64_t strata = p->strata ? p->strata : 1, i = 0;
    double  mean = 0;
    for (int64_t s = 0; s < strata; s++) {
        double sum = 0, w = 0;
        for (; i < end_of(p, s); i++) {
            sum += x[i * step];
            w += weight_at(p->w, i);
        }
        mean += sum / w / (double)strata;
    }
    return mean;
}

/* A part of a variance, and the degrees of freedom that it was estimated with. */
typedef struct part {
    double variance, freedom;
} part;

/* Of the mean over the seeds of one model: s^2 / n. A single seed says nothing of others. */
static part variance_of_seeds(const td_pairs *p, const double *x, int64_t seeds)
{
    double mean = 0, squares = 0;
    for (int64_t k = 0; k < seeds; k++) {
        double value = mean_of(p, x + k, seeds), delta = value - mean;
        mean += delta / (double)(k + 1);
        squares += delta * (value - mean);
    }
    return seeds > 1 ? (part){ squares / (double)(seeds - 1) / (double)seeds, (double)(seeds - 1) }
                     : (part){ 0, 1 };
}

/* Of the mean difference over the items, each stratum's independent of the others'. */
static part variance_of_items(const td_pairs *p, const double *d)
{
    int64_t strata = p->strata ? p->strata : 1, first = 0;
    part    all = { 0, (double)(p->n - strata) };
    for (int64_t s = 0; s < strata; s++) {
        int64_t     n = end_of(p, s) - first;
        td_estimate e = td_ratio(d + first, p->w ? p->w + first : NULL, n);
        all.variance += e.error * e.error / (double)(strata * strata);
        first += n;
    }
    return all;
}

/* Welch and Satterthwaite: the freedom of a sum of variances. */
static part add_parts(const part *parts, size_t n)
{
    part   all = { 0, 0 };
    double rest = 0;
    for (size_t k = 0; k < n; k++) {
        all.variance += parts[k].variance;
        rest += parts[k].variance * parts[k].variance / parts[k].freedom;
    }
    all.freedom = all.variance * all.variance / rest;
    return all;
}

static double mean_over(const double *x, int64_t i, int64_t seeds)
{
    double sum = 0;
    for (int64_t k = 0; k < seeds; k++)
        sum += x[i * seeds + k];
    return sum / (double)seeds;
}

int td_seeded_difference(const td_pairs *p, td_difference *out, td_error *error)
{
    int64_t  seeds_a = seeds_of(p->seeds_a), seeds_b = seeds_of(p->seeds_b);
    double  *zero = calloc((size_t)p->n + 1, sizeof *zero);
    double  *d = calloc((size_t)p->n + 1, sizeof *d), margin;
    td_pairs means = { zero, d, p->w, p->n, p->ends, p->strata, 1, 1 };
    part     all;

    *out = unknown(p->n);
    for (int64_t i = 0; zero && d && i < p->n; i++)
        d[i] = mean_over(p->b, i, seeds_b) - mean_over(p->a, i, seeds_a);
    if (zero && d && p->n > 0) {
        const part parts[] = { variance_of_items(p, d), variance_of_seeds(p, p->a, seeds_a),
                               variance_of_seeds(p, p->b, seeds_b) };
        out->items = sqrt(parts[0].variance);
        out->mean = mean_of(p, d, 1);
        effect_of(&means, out);
        all = add_parts(parts, 3);
        /* nothing can be tested without a variance, for example with a single item */
        if (all.variance > 0 && all.freedom > 0) {
            margin = td_student_quantile(all.freedom) * sqrt(all.variance);
            out->low = out->mean - margin;
            out->high = out->mean + margin;
            out->p = td_student_beyond(out->mean / sqrt(all.variance), all.freedom);
        }
    }
    free(zero);
    free(d);
    return zero && d ? 0
                     : td_fail(error, TD_ENOMEM, "out of memory for a test of %lld items",
                               (long long)p->n);
}

/* ---- two models on the same questions -------------------------------------------------------- */

/* Twice the probability of `fewer` heads or less in n throws of a fair coin. */
static double two_sided(int64_t fewer, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k <= fewer; k++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)k + 1) - lgamma((double)(n - k) + 1) -
                   (double)n * log(2));
    return 2 * sum < 1 ? 2 * sum : 1;
}

td_difference td_mcnemar(int64_t both, int64_t only_a, int64_t only_b, int64_t neither)
{
    int64_t       n = both + only_a + only_b + neither;
    td_difference d = unknown(n);
    double        b = (double)only_a + 0.5, c = (double)only_b + 0.5, size = (double)n + 2;
    double        centre = (c - b) / size, error;

    if (n < 1)
        return d;
    d.mean = (double)(only_b - only_a) / (double)n;
    /* half a question is added to each cell; otherwise the interval of two equal models would be a
     * point */
    error = sqrt(b + c - (c - b) * (c - b) / size) / size;
    d.low = fmax(-1, centre - QUANTILE * error);
    d.high = fmin(1, centre + QUANTILE * error);
    d.p = two_sided(only_a < only_b ? only_a : only_b, only_a + only_b);
    set_effect((double)(only_b - only_a), (double)(only_a + only_b), n, &d);
    return d;
}

/* ---- many tests at once ---------------------------------------------------------------------- */

/* The smallest p not adjusted yet, the first of equal ones; n: none is left. */
static int64_t smallest(const double *p, const double *adjusted, int64_t n)
{
    int64_t best = n;
    for (int64_t k = 0; k < n; k++)
        if (!isnan(p[k]) && adjusted[k] < 0 && (best == n || p[k] < p[best]))
            best = k;
    return best;
}

void td_holm(const double *p, int64_t n, double *adjusted)
{
    int64_t tests = 0;
    double  before = 0;
    for (int64_t k = 0; k < n; k++) {
        tests += !isnan(p[k]);
        adjusted[k] = isnan(p[k]) ? NAN : -1;
    }
    /* quadratic, but there are only as many tests as lines in a table */
    for (int64_t left = tests; left > 0; left--) {
        int64_t k = smallest(p, adjusted, n);
        double  x = p[k] * (double)left;
        before = fmin(1, fmax(before, x));
        adjusted[k] = before;
    }
}
