/* logits.c - log-probabilities against sums in long double. */
#include "generate/logits.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "tandem/random.h"

/* lengths around the width of a vector, and a prime */
static const int64_t lengths[] = { 1, 7, 8, 9, 16, 4093 };

enum { LENGTHS = sizeof lengths / sizeof *lengths };

/* Logits within `scale` of 0, some of them banned. */
static float *make_logits(int64_t n, double scale)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = i % 5 == 3 ? -INFINITY
                          : (float)(scale * (2 * td_random_uniform(1, 2, (uint64_t)i) - 1));
    return x;
}

static long double log_sum_of(const float *x, int64_t n, float top)
{
    long double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += expl((long double)x[i] - top);
    return top + logl(sum);
}

Test(logits, sum_as_in_long_double)
{
    static const double scales[] = { 1e-3, 1, 30, 1000 };
    for (int k = 0; k < LENGTHS; k++)
        for (int s = 0; s < 4; s++) {
            float *x = make_logits(lengths[k], scales[s]), top = td_logits_top(x, lengths[k]);
            double got = td_logits_log_sum(x, lengths[k], top);
            double want = (double)log_sum_of(x, lengths[k], top);
            cr_expect_lt(fabs(got - want), 4e-15 + 4e-16 * fabs(want),
                         "%lld, scale %g: %.17g, %.17g", (long long)lengths[k], scales[s], got,
                         want);
            free(x);
        }
}

Test(logits, top_is_the_largest_anywhere)
{
    for (int k = 0; k < LENGTHS; k++)
        for (int64_t at = 0; at < lengths[k]; at++) {
            float *x = make_logits(lengths[k], 1);
            x[at] = 77;
            cr_assert_eq(td_logits_top(x, lengths[k]), 77, "%lld of %lld", (long long)at,
                         (long long)lengths[k]);
            x[at] = NAN;
            cr_assert_eq(td_logits_top(x, lengths[k]), -INFINITY, "NaN at %lld of %lld",
                         (long long)at, (long long)lengths[k]);
            free(x);
        }
}

Test(logits, nothing_is_possible)
{
    float  x[9];
    double out[9];
    for (int i = 0; i < 9; i++)
        x[i] = -INFINITY;
    cr_expect_not(td_log_softmax(x, 9, out));
    x[8] = 3;
    cr_assert(td_log_softmax(x, 9, out));
    cr_expect_eq(out[8], 0);
    cr_expect_eq(out[0], -INFINITY);
}
