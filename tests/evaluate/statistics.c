/* statistics.c - estimates and tests against numbers from SciPy 1.17 and statsmodels 0.15. */
#include "evaluate/statistics.h"

#include <criterion/criterion.h>
#include <math.h>

enum { N = 60 };

/* Two models on the same 60 sequences, the second worse by 0.1 and a little noise. */
static void make_pairs(double *a, double *b)
{
    for (int j = 0; j < N; j++) {
        a[j] = sin(j * 1.3);
        b[j] = a[j] + 0.1 + 0.3 * sin(j * 2.9 + 1);
    }
}

#define EXPECT_NEAR(x, y, by) \
    cr_expect_float_eq(x, y, by, "%.17g is not %.17g", (double)(x), (double)(y))

Test(statistics, ratio)
{
    double      x[23], w[23];
    td_estimate e;
    for (int i = 0; i < 23; i++) {
        w[i] = i * 7 % 11 + 1;
        x[i] = w[i] * (2 + sin(i * 1.7));
    }
    e = td_ratio(x, w, 23);
    EXPECT_NEAR(e.mean, 1.890759238234956, 1e-14);
    EXPECT_NEAR(e.error, 0.179910092095324, 1e-14);
    e = td_ratio(x, NULL, 23); /* the plain mean: scipy.stats.sem */
    EXPECT_NEAR(e.mean, 10.933520812402136, 1e-13);
    EXPECT_NEAR(e.error, 1.4779240312606854, 1e-13);
    e = td_ratio(x, w, 1);
    cr_expect(e.mean == x[0] / w[0] && isnan(e.error));
    cr_expect(isnan(td_ratio(x, w, 0).mean));
}

/* Percentiles of 50 000 or more samples by NumPy; those of our 10 000 samples differ only by
 * sampling error. */
Test(statistics, paired_bootstrap)
{
    double        a[N], b[N];
    td_pairs      p = { .a = a, .b = b, .n = N };
    td_difference d;
    make_pairs(a, b);
    cr_assert_eq(td_paired_bootstrap(&p, 10000, 3, &d, NULL), 0);
    cr_expect_eq(d.n, N);
    EXPECT_NEAR(d.mean, 0.10408885758371281, 1e-15);
    EXPECT_NEAR(d.low, 0.05200, 0.002);
    EXPECT_NEAR(d.high, 0.15600, 0.002);
    cr_expect(d.p > 0 && d.p < 0.001, "%g", d.p);
    EXPECT_NEAR(d.effect, 0.5025174651543373, 1e-13);
    EXPECT_NEAR(d.effect_low,
                0.5025174651543373 - 1.959964 * sqrt(1. / N + 0.50251746 * 0.50251746 / (2 * N)),
                1e-6);
    for (int j = 0; j < N; j++)
        b[j] -= 0.05;
    cr_assert_eq(td_paired_bootstrap(&p, 10000, 4, &d, NULL), 0);
    EXPECT_NEAR(d.p, 0.04036, 0.008);
}

/* Each stratum is resampled separately, and both count the same whatever their size. */
Test(statistics, strata)
{
    double        a[N], b[N];
    int64_t       ends[] = { 17, N };
    td_pairs      p = { .a = a, .b = b, .n = N, .ends = ends, .strata = 2 };
    td_difference d;
    make_pairs(a, b);
    cr_assert_eq(td_paired_bootstrap(&p, 10000, 3, &d, NULL), 0);
    EXPECT_NEAR(d.mean, 0.10485665947376813, 1e-15);
    EXPECT_NEAR(d.low, 0.04733, 0.003);
    EXPECT_NEAR(d.high, 0.16173, 0.003);
}

/* Sums over unequal weights: a sequence counts in proportion to its tokens. */
Test(statistics, weights)
{
    double        a[] = { 10, 2, 30 }, b[] = { 20, 2, 33 }, w[] = { 100, 1, 10 };
    td_pairs      p = { .a = a, .b = b, .w = w, .n = 3 };
    td_difference d;
    cr_assert_eq(td_paired_bootstrap(&p, 500, 3, &d, NULL), 0);
    EXPECT_NEAR(d.mean, 13. / 111, 1e-15);
    cr_expect(d.low >= 0 && d.high <= 0.3);
}

/* Seeds far apart beside items that hardly differ: Welch's test of the seeds' means, as scipy's
 * ttest_ind(of_b, of_a, equal_var=False) gives it. */
Test(statistics, seeds)
{
    enum { N = 200, A = 4, B = 3 };
    static double       a[N * A], b[N * B];
    static const double of_a[] = { 0.1, 0.5, 0.2, 0.8 }, of_b[] = { 1.0, 1.6, 1.1 };
    td_pairs            p = { .a = a, .b = b, .seeds_a = A, .seeds_b = B, .n = N };
    td_difference       d;
    td_error            e = { 0 };
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < A; k++)
            a[i * A + k] = sin(i) + of_a[k];
        for (int k = 0; k < B; k++)
            b[i * B + k] = sin(i) + of_b[k];
    }
    cr_assert_eq(td_seeded_difference(&p, &d, &e), 0, "%s", e.text);
    EXPECT_NEAR(d.mean, 3.7 / 3 - 0.4, 1e-12);
    EXPECT_NEAR(d.p, 0.023025426712019802, 1e-10);
    EXPECT_NEAR(d.low, 0.1804388290589366, 1e-9);
    EXPECT_NEAR(d.high, 1.4862278376077303, 1e-9);
}

/* One seed of each, and many items: the usual paired t-test, scipy's ttest_rel. */
Test(statistics, items_of_one_seed)
{
    double a[] = { 0.3, 0.1, 0.9, 0.4, 0.7, 0.2, 0.5 }, b[] = { 0.5, 0.4, 0.8, 0.7, 0.9, 0.1, 0.9 };
    td_pairs      p = { .a = a, .b = b, .n = 7 };
    td_difference d;
    td_error      e = { 0 };
    cr_assert_eq(td_seeded_difference(&p, &d, &e), 0, "%s", e.text);
    EXPECT_NEAR(d.p, 0.06149746045895474, 1e-10);
    EXPECT_NEAR(d.low, -0.011325298924452831, 1e-9);
    EXPECT_NEAR(d.high, 0.35418244178159575, 1e-9);
}

Test(statistics, the_same_seed_gives_the_same_numbers)
{
    double        a[N], b[N];
    td_pairs      p = { .a = a, .b = b, .n = N };
    td_difference one, two, other;
    make_pairs(a, b);
    cr_assert_eq(td_paired_bootstrap(&p, 400, 7, &one, NULL), 0);
    cr_assert_eq(td_paired_bootstrap(&p, 400, 7, &two, NULL), 0);
    cr_assert_eq(td_paired_bootstrap(&p, 400, 8, &other, NULL), 0);
    cr_expect(one.low == two.low && one.high == two.high && one.p == two.p);
    cr_expect(one.low != other.low);
}

/* Too little data gives no result, and equal models do not differ. */
Test(statistics, too_little)
{
    double        a[] = { 1, 2, 3 };
    td_pairs      p = { .a = a, .b = a, .n = 3 };
    td_difference d;
    cr_assert_eq(td_paired_bootstrap(&p, 100, 1, &d, NULL), 0);
    cr_expect(d.mean == 0 && d.low == 0 && d.high == 0 && d.p == 1 && isnan(d.effect));
    p.n = 1;
    cr_assert_eq(td_paired_bootstrap(&p, 100, 1, &d, NULL), 0);
    cr_expect(d.mean == 0 && isnan(d.low) && isnan(d.p));
    p.n = 0;
    cr_assert_eq(td_paired_bootstrap(&p, 100, 1, &d, NULL), 0);
    cr_expect(isnan(d.mean) && isnan(d.p));
    d = td_mcnemar(0, 0, 0, 0);
    cr_expect(isnan(d.mean) && isnan(d.p));
}

/* statsmodels' mcnemar(exact=True); the interval by the formula of the paper. */
Test(statistics, mcnemar)
{
    td_difference d = td_mcnemar(10, 5, 15, 10);
    cr_expect_eq(d.n, 40);
    EXPECT_NEAR(d.mean, 0.25, 1e-15);
    EXPECT_NEAR(d.p, 0.04138946533203125, 1e-12);
    EXPECT_NEAR(d.low, 0.03673323075928556, 1e-12);
    EXPECT_NEAR(d.high, 0.4394572454311906, 1e-12);
    EXPECT_NEAR(d.effect, 0.37321001364608947, 1e-13);
    EXPECT_NEAR(td_mcnemar(3, 0, 6, 3).p, 0.03125, 1e-13);
    EXPECT_NEAR(td_mcnemar(10, 121, 59, 10).p, 4.4344492637551645e-06, 1e-15);
    cr_expect(td_mcnemar(1, 30, 30, 9).p == 1 && td_mcnemar(0, 1, 0, 9).p == 1);
    d = td_mcnemar(12, 0, 0, 8); /* the same answers: the interval still has a width */
    cr_expect(d.p == 1 && d.mean == 0);
    EXPECT_NEAR(d.high, 0.08908927202454792, 1e-12);
}

/* statsmodels' multipletests(method="holm"); NaN is no test. */
Test(statistics, holm)
{
    double p[] = { 0.01, 0.04, NAN, 0.03, 0.005, 0.5, 0.04 }, out[7];
    double right[] = { 0.05, 0.12, NAN, 0.12, 0.03, 0.5, 0.12 };
    td_holm(p, 7, out);
    for (int k = 0; k < 7; k++)
        if (k == 2)
            cr_expect(isnan(out[k]));
        else
            EXPECT_NEAR(out[k], right[k], 1e-15);
    td_holm(p, 0, out);
    p[0] = 0.9;
    p[1] = 0.8;
    td_holm(p, 2, out);
    cr_expect(out[0] == 1 && out[1] == 1);
}

/* By the closed forms of Abramowitz and Stegun, 26.7.3 and 26.7.4. */
Test(statistics, student)
{
    static const double freedom[] = { 1, 2, 5, 30, 1000 };
    static const double quantiles[] = { 12.70620473617471, 4.302652729749464, 2.5705818356363146,
                                        2.0422724563012373, 1.9623390808264078 };
    const double        x[] = { 1, 2, 3, 4 };
    td_interval         i = td_mean_interval(x, 4);
    for (int k = 0; k < 5; k++) {
        EXPECT_NEAR(td_student_quantile(freedom[k]) / quantiles[k], 1, 1e-11);
        EXPECT_NEAR(td_student_beyond(quantiles[k], freedom[k]), 0.05, 1e-13);
    }
    EXPECT_NEAR(i.low, 2.5 - 3.182446305284263 * sqrt(5 / 12.), 1e-12);
    EXPECT_NEAR(i.high, 2.5 + 3.182446305284263 * sqrt(5 / 12.), 1e-12);
    cr_expect(isnan(td_mean_interval(x, 1).low) && isnan(td_student_quantile(0)));
}

/* R's power.t.test and G*Power on the sizes of effect of Cohen 1988, table 2.3 and 2.4; the numbers of
 * seeds are those of the same programs, rounded upwards. */
Test(statistics, seeds_that_show_a_difference)
{
    EXPECT_NEAR(td_seeds_power(1, 1, 0, 20), 0.8689528, 1e-6);
    EXPECT_NEAR(td_seeds_power(0.5, 1, 0, 64), 0.8014596, 1e-6);
    EXPECT_NEAR(td_seeds_power(0.8, 1, 0, 26), 0.8074866, 1e-6);
    EXPECT_NEAR(td_seeds_power(0.016, 0.02, 0, 26), 0.8074866, 1e-6);
    EXPECT_NEAR(td_seeds_power(-0.8, 1, 0, 26), 0.8074866, 1e-6);
    EXPECT_NEAR(td_seeds_power(0, 1, 0, 7), 0.05,
                1e-9); /* nothing there: the rate of false alarms */
    cr_expect_eq(td_seeds_needed(0.2, 1, 0, 0.8), 394);
    cr_expect_eq(td_seeds_needed(0.5, 1, 0, 0.8), 64);
    cr_expect_eq(td_seeds_needed(0.8, 1, 0, 0.8), 26);
    cr_expect_eq(td_seeds_needed(1, 1, 0, 0.9), 23);
    cr_expect_eq(td_seeds_needed(100, 1, 0, 0.8), 2);
    cr_expect(isnan(td_seeds_power(1, 1, 0, 1)));
}

/* What seeds do not lessen: with an error of the items of a third of the difference, 0.8 is reached;
 * with one of a half, never. */
Test(statistics, seeds_do_not_help_against_few_items)
{
    int64_t n = td_seeds_needed(1, 1, 1 / 3., 0.8);
    cr_expect(n > td_seeds_needed(1, 1, 0, 0.8), "%ld", (long)n);
    cr_expect(td_seeds_power(1, 1, 1 / 3., n) >= 0.8 && td_seeds_power(1, 1, 1 / 3., n - 1) < 0.8);
    cr_expect_eq(td_seeds_needed(1, 1, 0.5, 0.8), 0);
    cr_expect_eq(td_seeds_needed(0, 1, 0, 0.8), 0);
}
