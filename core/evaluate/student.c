/* student.c - Student's t: intervals, and how many seeds show a difference (statistics.h). */
#include <math.h>
#include <stdlib.h>

#include "evaluate/statistics.h"

/* ---- sorted numbers -------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void td_sort(double *x, int64_t n) { qsort(x, (size_t)n, sizeof *x, ascending); }

double td_percentile(const double *sorted, int64_t n, double share)
{
    double  at = share * (double)(n - 1);
    int64_t k = (int64_t)at;
    return k + 1 < n ? sorted[k] + (at - (double)k) * (sorted[k + 1] - sorted[k]) : sorted[n - 1];
}

/* ---- Student's t ----------------------------------------------------------------------------- */

/* The continued fraction of the incomplete beta function, by Lentz's method; it converges fast for
 * x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), value = d;
    for (int k = 1; k < 1000; k++) {
        double even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k));
        double odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1));
        double before = value;
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        value *= c * d;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        value *= c * d;
        if (fabs(value - before) <= 1e-15 * fabs(value))
            break;
    }
    return value;
}

/* I_x(a, b), the regularized incomplete beta function. */
static double beta(double a, double b, double x)
{
    double front;
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double td_student_beyond(double t, double freedom)
{
    return beta(freedom / 2, 0.5, freedom / (freedom + t * t));
}

double td_student_quantile(double freedom)
{
    double low = 0, high = 1;
    if (!(freedom > 0))
        return NAN;
    /* There is no closed form, so bisect. With few degrees of freedom the quantile is large (12.7
     * for 1). It is two-sided: 5 % lie beyond it on both sides together. */
    while (td_student_beyond(high, freedom) > 0.05)
        high *= 2;
    for (int k = 0; k < 200 && low < high; k++) {
        double middle = (low + high) / 2;
        if (td_student_beyond(middle, freedom) > 0.05)
            low = middle;
        else
            high = middle;
    }
    return high;
}

td_interval td_mean_interval(const double *x, int64_t n)
{
    td_estimate e = td_ratio(x, NULL, n);
    double      margin = td_student_quantile((double)(n - 1)) * e.error;
    return (td_interval){ e.mean - margin, e.mean + margin };
}

/* ---- power ----------------------------------------------------------------------------------- */

static double normal_below(double x) { return erfc(-x / sqrt(2)) / 2; }

/* The density of S = sqrt(chi^2 / freedom) at s. */
static double density_of_spread(double s, double freedom)
{
    double half = freedom / 2;
    return exp(log(2) + half * log(half) - lgamma(half) + (freedom - 1) * log(s) - half * s * s);
}

/* P(|T| > t) of noncentral T = (Z + shift) / S: the integral over s of what the normal distribution
 * gives for it, by Simpson's rule. S has mean about 1 and variance about 1 / (2 freedom), so that ten
 * deviations around it hold everything that a double can tell. */
static double noncentral_beyond(double t, double freedom, double shift)
{
    enum { STEPS = 4000 };
    double reach = 10 / sqrt(2 * freedom), low = fmax(0, 1 - reach), high = 1 + reach;
    double width = (high - low) / STEPS, sum = 0;
    for (int k = 0; k <= STEPS; k++) {
        double s = low + k * width, weight = k == 0 || k == STEPS ? 1 : k % 2 ? 4 : 2;
        double tails = normal_below(shift - t * s) + normal_below(-t * s - shift);
        if (s > 0)
            sum += weight * tails * density_of_spread(s, freedom);
    }
    return sum * width / 3;
}

double td_seeds_power(double difference, double spread, double fixed, int64_t seeds)
{
    double freedom = 2 * (double)(seeds - 1);
    double error = sqrt(fixed * fixed + 2 * spread * spread / (double)seeds);
    if (seeds < 2 || !(error > 0) || !isfinite(error) || !isfinite(difference))
        return NAN;
    return noncentral_beyond(td_student_quantile(freedom), freedom, fabs(difference) / error);
}

int64_t td_seeds_needed(double difference, double spread, double fixed, double power)
{
    int64_t low = 1, high = 2;
    if (!(td_seeds_power(difference, spread, fixed, TD_SEEDS_MOST) >= power))
        return 0;
    /* power grows with the number of seeds */
    while (high < TD_SEEDS_MOST && td_seeds_power(difference, spread, fixed, high) < power) {
        low = high;
        high = 2 * high < TD_SEEDS_MOST ? 2 * high : TD_SEEDS_MOST;
    }
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (td_seeds_power(difference, spread, fixed, middle) < power)
            low = middle;
        else
            high = middle;
    }
    return high;
}
