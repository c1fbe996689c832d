/* fit_parts.h - declarations shared by fit.c and the files beside it. */
#ifndef TD_STUDY_FIT_PARTS_H
#define TD_STUDY_FIT_PARTS_H

#include "study/fit.h"

/* Prepared points: logarithms of the sizes minus their means, so that no coefficient is as large
 * as 1e20, and exponent and coefficient are nearly uncorrelated. */
typedef struct td_fit_data {
    int64_t n, terms;
    double *u[TD_FIT_TERMS]; /* [n]: log x - centre */
    double *y;               /* [n] */
    double  centre[TD_FIT_TERMS];
    double *work; /* [TD_FIT_WORK][n] */
} td_fit_data;

enum { TD_FIT_WORK = 2 * TD_FIT_PARAMETERS + 2 };

static inline int64_t td_fit_count(const td_fit_data *d) { return 2 * d->terms + 1; }

int  td_fit_data_new(const td_fit_points *, td_fit_data *out, td_error *error);
void td_fit_data_free(td_fit_data *);

/* In these files a curve is centred: its a is the logarithm of the term at the mean of log x. */
td_fit_curve td_fit_uncentred(const td_fit_data *, td_fit_curve);
/* Term k at point i; k = terms: the floor. */
double       td_fit_term(const td_fit_data *, const td_fit_curve *, int64_t k, int64_t i);
double       td_fit_value(const td_fit_data *, const td_fit_curve *, int64_t i);

/* Minimize the squared relative errors over all parameters; `start` is a curve to begin from
 * (NULL: a grid). */
double td_fit_project(const td_fit_data *, const td_fit_curve *start, td_fit_curve *out);
/* Minimize the Huber loss of log L, in units of its delta squared. */
double td_fit_huber(const td_fit_data *, const td_fit_curve *start, td_fit_curve *out);

/* Student's t intervals, covariance, spread and condition of the projection. */
void td_fit_student(const td_fit_data *, const td_fit_curve *centred, td_fit *out);
/* Percentiles of both estimates over resampled errors. */
int  td_fit_bootstrap(const td_fit_data *, const td_fit_curve *projected, const td_fit_curve *huber,
                      const td_fit_options *, td_fit *out, td_error *error);

/* Singular values of x, columns [count][n], which become orthogonal; v [count][count] gets the
 * rotations: column j of v as v[.][j]. One-sided Jacobi (Hestenes 1958): also accurate for small
 * singular values, which a product x^T x would lose. */
void td_fit_singular(double *x, int64_t n, int64_t count, double *values,
                     double v[TD_FIT_PARAMETERS][TD_FIT_PARAMETERS]);

#endif
