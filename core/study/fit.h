/* fit.h - scaling laws: curves through (size, loss) points, with intervals, and warnings where the
 * points do not determine them.
 *
 *     power   L(x) = exp(a) / x^alpha + exp(e)                       one size, 3 parameters
 *     joint   L(N, D) = exp(a) / N^alpha + exp(b) / D^beta + exp(e)  parameters and tokens, 5
 *
 * Each is fitted twice. The first fit is by variable projection (Golub and Pereyra 1973): for given
 * exponents, the rest is a non-negative least-squares problem, which is solved exactly, so that
 * only one or two numbers are searched for. It minimizes squared relative errors, and its intervals
 * are Student's t. The second fit follows Hoffmann et al. (2022, arXiv 2203.15556) and Zhang et al.
 * (2025, arXiv 2510.26622): it minimizes the Huber loss of log L by L-BFGS from a grid of starts,
 * with bootstrap intervals.
 *
 *     td_fit_points p = { .n = 5, .terms = 1, .x = { flops }, .y = nll };
 *     td_fit        fit;
 *     if (!td_fit_curves(&p, &(td_fit_options){ .draws = 1000, .seed = 1 }, &fit, &error))
 *         printf("alpha %g\n", fit.projection.curve.alpha[0]);
 *
 * All functions are pure: the same points and seed give the same numbers.
 */
#ifndef TD_STUDY_FIT_H
#define TD_STUDY_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "evaluate/statistics.h" /* td_interval */
#include "tandem/error.h"

enum { TD_FIT_TERMS = 2, TD_FIT_PARAMETERS = 2 * TD_FIT_TERMS + 1, TD_FIT_MOST = 100000 };

typedef struct td_fit_points {
    int64_t       n;
    int64_t       terms;           /* 1: power, 2: joint */
    const double *x[TD_FIT_TERMS]; /* [n] each: sizes, positive */
    const double *y;               /* [n]: losses, positive */
} td_fit_points;

/* L = the sum over terms of exp(a) / x^alpha, plus exp(e). A term that the data do not need is
 * zero: its logarithm is -INFINITY. */
typedef struct td_fit_curve {
    int64_t terms;
    double  a[TD_FIT_TERMS], alpha[TD_FIT_TERMS], e;
} td_fit_curve;

/* In arrays, parameters are in this order: a and alpha of each term, then e. Intervals are 95 %
 * intervals, and NaN if unknown. */
typedef struct td_fit_estimate {
    td_fit_curve curve;
    double       objective;                    /* what was minimized, at the minimum */
    td_interval  student[TD_FIT_PARAMETERS];   /* only of the projection */
    td_interval  bootstrap[TD_FIT_PARAMETERS]; /* percentiles */
} td_fit_estimate;

typedef struct td_fit {
    td_fit_estimate projection, huber;
    int64_t         n, freedom; /* points, and points less the parameters that were estimated */
    double          spread;     /* standard deviation of the relative errors */
    /* Of the projection, in the order above; rows and columns of a term that is zero are 0. */
    double          covariance[TD_FIT_PARAMETERS][TD_FIT_PARAMETERS];
    /* The largest over the smallest singular value of the Jacobian, whose columns are scaled to
     * length 1 (Belsley, Kuh and Welsch 1980): above 100, the data hardly distinguish the
     * parameters. */
    double          condition;
    td_text         warnings; /* one per line, in words */
} td_fit;

typedef struct td_fit_options {
    int64_t     draws; /* of the bootstrap; 0: none */
    uint64_t    seed;
    const char *names[TD_FIT_TERMS]; /* of the sizes, for messages; NULL: "x" */
    /* Called from time to time; a non-zero result stops the fit with that code. May be NULL. */
    int (*progress)(void *arg, int64_t done, int64_t all);
    void *arg;
} td_fit_options;

/* Fit both ways. TD_ECONFIG: too few points, more than TD_FIT_MOST, or sizes too alike for any
 * fit; the message says how many there are and how many are needed. Free `out`, also after a
 * failure. */
int  td_fit_curves(const td_fit_points *, const td_fit_options *, td_fit *out, td_error *error);
void td_fit_free(td_fit *);

/* The curve at x [terms]. */
double      td_fit_at(const td_fit_curve *, const double *x);
/* The 95 % interval of the projection's curve at x: Student's t, to first order. */
td_interval td_fit_band(const td_fit *, const double *x);

/* How compute is best divided according to a joint fit: L is least for a given C = factor N D at N
 * = n_scale (C / factor)^n_power and D = d_scale (C / factor)^d_power. */
typedef struct td_fit_optimum {
    double      factor;           /* FLOPs per parameter and token */
    double      n_power, d_power; /* beta / (alpha + beta) and alpha / (alpha + beta) */
    double      n_scale, d_scale;
    td_interval n_power_interval, d_power_interval; /* Student's t, to first order */
} td_fit_optimum;
/* False if a term of the fit is zero: then there is nothing to divide. */
bool td_fit_optimal(const td_fit *, double factor, td_fit_optimum *out);

/* ---- without a curve ------------------------------------------------------------------------- */

/* IsoFLOP profiles (approach 2 of Hoffmann et al.): for each budget, a parabola of the loss in
 * log N through its models, and its minimum; then a power law through the best sizes. */
typedef struct td_isoflop_profile {
    double      budget; /* FLOPs: the geometric mean of its rows */
    int64_t     n;
    double      size, loss;    /* where the parabola is least; NaN: it has no minimum */
    td_interval size_interval; /* Student's t, to first order */
    bool        inside;        /* the minimum lies within the range of trained sizes */
} td_isoflop_profile;

typedef struct td_isoflop {
    td_isoflop_profile *profiles;     /* [count], by budget */
    int64_t             count, used;  /* profiles with a minimum */
    double              scale, power; /* size = scale budget^power; NaN with fewer than two */
    td_interval         power_interval;
    td_text             warnings;
} td_isoflop;

/* Rows whose budgets differ by less than 5 % share a profile. */
int  td_isoflop_fit(const double *budget, const double *size, const double *loss, int64_t n,
                    td_isoflop *out, td_error *error);
void td_isoflop_free(td_isoflop *);

/* The Pareto frontier: the points for which no other has both an x no larger and a y no larger.
 * Of equal points, only the first counts. Writes their indices to `out` [n] in order of
 * increasing x, and returns how many there are, or TD_ENOMEM. */
int64_t td_frontier(const double *x, const double *y, int64_t n, int64_t *out);

#endif
