/* statistics.h - standard errors, paired tests and corrections: whether a difference between two
 * models is more than chance in the text that they were scored on.
 *
 *     td_estimate e = td_ratio(nll, tokens, sequences);      nll per token, and its standard error
 *     td_paired_bootstrap(&pairs, 10000, 1, &d, &error);     two models on the same sequences
 *     d = td_mcnemar(both, only_a, only_b, neither);         two models on the same questions
 *     td_holm(p, n, adjusted);                               all of the p-values together
 *
 * Everything here is a pure function of its arguments; random numbers come from a seed. None of
 * this accounts for chance in training: another seed of the same config is another model.
 */
#ifndef TD_EVALUATE_STATISTICS_H
#define TD_EVALUATE_STATISTICS_H

#include <stdint.h>

#include "tandem/error.h"

/* NaN where there is too little data: no weight or, for an error, fewer than two observations. */
typedef struct td_estimate {
    double mean, error; /* error: standard error of the mean */
} td_estimate;

/* sum x / sum w over n independent observations, as for sequences of unequal length; w NULL: all 1,
 * which is the plain mean. The error is a ratio estimator's (Cochran 1977, section 2.11), sqrt(n /
 * (n - 1) sum (x - mean w)^2) / sum w, which for w = 1 is the usual one. */
td_estimate td_ratio(const double *x, const double *w, int64_t n);

/* The difference of two models, b minus a. NaN where it is unknown. */
typedef struct td_difference {
    int64_t n;         /* pairs */
    double  mean;      /* b - a */
    double  low, high; /* its 95 % interval */
    double  p;         /* two-sided: the probability of such a difference by chance alone */
    /* Cohen's d of pairs: the mean difference divided by the standard deviation of the differences,
     * with an approximate 95 % interval (Hedges and Olkin 1985) */
    double  effect, effect_low, effect_high;
    double  items; /* of td_seeded_difference: its standard error over items alone, which more seeds
                    * would not make smaller */
} td_difference;

/* The same sequences, or items, under two models, or under models with several seeds each. */
typedef struct td_pairs {
    const double  *a, *b; /* [n][seeds]: sums, such as NLL over the tokens of a sequence */
    const double  *w;     /* [n]: what they are sums over, the same for both; NULL: all 1 */
    int64_t        n;
    const int64_t *ends;   /* [strata]: where each stratum (a source of text) ends; the last is n */
    int64_t        strata; /* 0: one */
    int64_t        seeds_a, seeds_b; /* 0: one */
} td_pairs;

/* The mean over strata of sum (b - a) / sum w. Its interval lies between the 2.5 and 97.5
 * percentiles of `draws` samples, each with as many pairs of every stratum, drawn with replacement;
 * p counts the samples that lie at least as far from the difference as it lies from 0, and is never
 * 0 (Efron and Tibshirani 1993). The same seed gives the same numbers. Each model has one seed. */
int td_paired_bootstrap(const td_pairs *, int64_t draws, uint64_t seed, td_difference *out,
                        td_error *error);

/* The same mean for models with several seeds each: on each pair a model's value is the mean over
 * its seeds. Its variance is the variance over the pairs plus, for each model with n > 1 seeds, the
 * variance of its mean over seeds, s^2 / n. Interval and p are Student's t, with Welch and
 * Satterthwaite's degrees of freedom: few seeds are few observations, which a bootstrap would not
 * take into account. */
int td_seeded_difference(const td_pairs *, td_difference *out, td_error *error);

/* The difference of two accuracies, from the numbers of questions that both models, only one of
 * them or neither answered correctly. p is from McNemar's exact test; the interval is Agresti and
 * Min's (2005). */
td_difference td_mcnemar(int64_t both, int64_t only_a, int64_t only_b, int64_t neither);

/* ---- Student's t ------------------------------------------------------------------------------ */

typedef struct td_interval {
    double low, high;
} td_interval;

/* The probability that Student's t with `freedom` degrees of freedom is at least as far from 0 as
 * `t`. */
double      td_student_beyond(double t, double freedom);
/* The t that is exceeded, on either side, with probability 0.05; NaN if `freedom` is 0. */
double      td_student_quantile(double freedom);
/* The 95 % interval of the mean of n independent numbers; NaN for fewer than two. */
td_interval td_mean_interval(const double *x, int64_t n);

enum { TD_SEEDS_MOST = 100000 };

/* The probability that a two-sided t test at 0.05 of two configs, `seeds` runs each, shows a
 * difference: the scores of each vary over seeds with the standard deviation `spread`, and `fixed`
 * is a standard error of the difference that more seeds do not make smaller, such as the error over
 * the scored items (0: none). By the noncentral t distribution with 2 (seeds - 1) degrees of
 * freedom, exact for normal scores without `fixed`. NaN for fewer than two seeds. */
double  td_seeds_power(double difference, double spread, double fixed, int64_t seeds);
/* The fewest seeds of each config with that power, at least 2; 0: not even TD_SEEDS_MOST are
 * enough. */
int64_t td_seeds_needed(double difference, double spread, double fixed, double power);

/* ---- lists of numbers ------------------------------------------------------------------------- */

/* Sort in ascending order. */
void   td_sort(double *x, int64_t n);
/* Interpolates between the two nearest of n sorted numbers; share 0 .. 1. */
double td_percentile(const double *sorted, int64_t n, double share);

/* p-values adjusted for n simultaneous tests (Holm 1979): if all differences with adjusted[k] <
 * 0.05 are called real, the probability that any of them is not stays below 0.05. NaN means no
 * test, and stays NaN. */
void td_holm(const double *p, int64_t n, double *adjusted);

#endif
