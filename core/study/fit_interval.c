/* fit_interval.c - how well a fit is determined: Student's t from the Jacobian, and a bootstrap. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study/fit_parts.h"
#include "tandem/random.h"

enum { P = TD_FIT_PARAMETERS };

/* ---- singular values ------------------------------------------------------------------------- */

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void rotate(double *a, double *b, int64_t n, int64_t stride, double c, double s)
{
    for (int64_t i = 0; i < n; i++) {
        double x = a[i * stride], y = b[i * stride];
        a[i * stride] = c * x - s * y;
        b[i * stride] = s * x + c * y;
    }
}

/* Makes columns a and b orthogonal; false if they already were. */
static bool turn(double *x, int64_t n, int64_t a, int64_t b, int64_t count, double v[P][P])
{
    double *xa = x + a * n, *xb = x + b * n;
    double  aa = dot(xa, xa, n), bb = dot(xb, xb, n), ab = dot(xa, xb, n), t, c, zeta;
    if (fabs(ab) <= 1e-16 * sqrt(aa * bb))
        return false;
    zeta = (bb - aa) / (2 * ab);
    t = copysign(1, zeta) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    c = 1 / sqrt(1 + t * t);
    rotate(xa, xb, n, 1, c, c * t);
    rotate(&v[0][a], &v[0][b], count, P, c, c * t);
    return true;
}

/* One-sided Jacobi (Hestenes 1958): rotate pairs of columns until all are orthogonal; their lengths
 * are the singular values then. It needs no more than a few sweeps for so few columns. */
void td_fit_singular(double *x, int64_t n, int64_t count, double *values, double v[P][P])
{
    bool moved = true;
    memset(v, 0, sizeof(double) * P * P);
    for (int64_t k = 0; k < count; k++)
        v[k][k] = 1;
    for (int sweep = 0; sweep < 60 && moved; sweep++) {
        moved = false;
        for (int64_t a = 0; a < count; a++)
            for (int64_t b = a + 1; b < count; b++)
                moved = turn(x, n, a, b, count, v) || moved;
    }
    for (int64_t k = 0; k < count; k++)
        values[k] = sqrt(dot(x + k * n, x + k * n, n));
}

/* ---- Student's t ----------------------------------------------------------------------------- */

/* The Jacobian of the relative errors f / y - 1; only for the parameters of parts that are not
 * zero; their indices go to `which`. */
static int64_t jacobian(const td_fit_data *d, const td_fit_curve *c, double *x, int64_t *which)
{
    int64_t count = 0;
    for (int64_t k = 0; k <= d->terms; k++) {
        double *by_a = x + count * d->n, *by_alpha = by_a + d->n;
        /* a part that is zero has no direction in which it could vary */
        if (!(td_fit_term(d, c, k, 0) > 0))
            continue;
        for (int64_t i = 0; i < d->n; i++) {
            by_a[i] = td_fit_term(d, c, k, i) / d->y[i];
            if (k < d->terms)
                by_alpha[i] = -d->u[k][i] * by_a[i];
        }
        which[count++] = 2 * k;
        if (k < d->terms)
            which[count++] = 2 * k + 1;
    }
    return count;
}

static void scale_columns(double *x, int64_t n, int64_t count, double *lengths)
{
    for (int64_t k = 0; k < count; k++) {
        lengths[k] = sqrt(dot(x + k * n, x + k * n, n));
        for (int64_t i = 0; i < n && lengths[k] > 0; i++)
            x[k * n + i] /= lengths[k];
    }
}

static double spread_of(const td_fit_data *d, const td_fit_curve *c, int64_t freedom)
{
    double squares = 0;
    for (int64_t i = 0; i < d->n; i++) {
        double r = td_fit_value(d, c, i) / d->y[i] - 1;
        squares += r * r;
    }
    return freedom > 0 ? sqrt(squares / (double)freedom) : (double)NAN;
}

/* (x^T x)^-1 spread^2 of the scaled columns, with the scales undone. */
static void set_covariance(const double *values, double v[P][P], const double *lengths,
                           const int64_t *which, int64_t count, td_fit *out)
{
    for (int64_t a = 0; a < count; a++)
        for (int64_t b = 0; b < count; b++) {
            double sum = 0;
            for (int64_t k = 0; k < count; k++)
                sum += v[a][k] * v[b][k] / (values[k] * values[k]);
            out->covariance[which[a]][which[b]] = out->spread * out->spread * sum /
                                                  (lengths[a] * lengths[b]);
        }
}

/* From centred parameters to those of the curve as written: a grows by centre times alpha. */
static void uncentre(const td_fit_data *d, double c[P][P])
{
    for (int64_t k = 0; k < d->terms; k++) {
        for (int64_t j = 0; j < P; j++)
            c[2 * k][j] += d->centre[k] * c[2 * k + 1][j];
        for (int64_t j = 0; j < P; j++)
            c[j][2 * k] += d->centre[k] * c[j][2 * k + 1];
    }
}

static double parameter(const td_fit_curve *c, int64_t k)
{
    return k == 2 * c->terms ? c->e : k % 2 ? c->alpha[k / 2] : c->a[k / 2];
}

void td_fit_student(const td_fit_data *d, const td_fit_curve *centred, td_fit *out)
{
    double       lengths[P], values[P], v[P][P], least = INFINITY, most = 0, t;
    int64_t      which[P], count = jacobian(d, centred, d->work, which);
    td_fit_curve curve = td_fit_uncentred(d, *centred);

    out->freedom = d->n - count;
    out->spread = spread_of(d, centred, out->freedom);
    /* columns of length 1, so that the condition number does not depend on units */
    scale_columns(d->work, d->n, count, lengths);
    td_fit_singular(d->work, d->n, count, values, v);
    for (int64_t k = 0; k < count; k++) {
        least = fmin(least, values[k]);
        most = fmax(most, values[k]);
    }
    out->condition = most / least;
    set_covariance(values, v, lengths, which, count, out);
    uncentre(d, out->covariance);
    t = td_student_quantile((double)out->freedom);
    for (int64_t k = 0; k < td_fit_count(d); k++) {
        double error = sqrt(out->covariance[k][k]), at = parameter(&curve, k);
        bool   known = isfinite(at) && isfinite(error);
        out->projection.student[k].low = known ? at - t * error : (double)NAN;
        out->projection.student[k].high = known ? at + t * error : (double)NAN;
    }
}

/* The delta method: the variance of L(x) is g' C g, with g the gradient of L by the parameters. */
td_interval td_fit_band(const td_fit *f, const double *x)
{
    const td_fit_curve *c = &f->projection.curve;
    double              at = td_fit_at(c, x), g[P] = { 0 }, variance = 0, margin;
    for (int64_t k = 0; k < c->terms; k++) {
        g[2 * k] = exp(c->a[k] - c->alpha[k] * log(x[k]));
        g[2 * k + 1] = -log(x[k]) * g[2 * k];
    }
    g[2 * c->terms] = exp(c->e);
    for (int64_t a = 0; a <= 2 * c->terms; a++)
        for (int64_t b = 0; b <= 2 * c->terms; b++)
            variance += g[a] * f->covariance[a][b] * g[b];
    margin = td_student_quantile((double)f->freedom) * sqrt(fmax(variance, 0));
    return (td_interval){ at - margin, at + margin };
}

/* ---- bootstrap ------------------------------------------------------------------------------- */

typedef struct bootstrap {
    td_fit_data   data; /* the same points with other losses */
    const double *fitted, *errors;
    double       *drawn[2]; /* [parameters][draws] of the projection and of Huber's */
    int64_t       draws;
} bootstrap;

/* Relative errors of the fit, centred, and scaled to the size of the true errors: a fit of p
 * parameters to n points leaves errors that are too small by the factor sqrt((n - p) / n). */
static void set_errors(const td_fit_data *d, const td_fit_curve *c, double *fitted, double *errors)
{
    double mean = 0, factor = sqrt((double)d->n / (double)(d->n - td_fit_count(d)));
    for (int64_t i = 0; i < d->n; i++) {
        fitted[i] = td_fit_value(d, c, i);
        errors[i] = d->y[i] / fitted[i] - 1;
        mean += errors[i] / (double)d->n;
    }
    for (int64_t i = 0; i < d->n; i++)
        errors[i] = (errors[i] - mean) * factor;
}

/* Keeps losses positive, whatever is drawn. */
static void draw(bootstrap *b, uint64_t seed, int64_t number)
{
    uint64_t stream = td_random_stream("fit.bootstrap"), n = (uint64_t)b->data.n;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t k = td_random_below(seed, stream, (uint64_t)number * n + i, n);
        b->data.y[i] = b->fitted[i] * fmax(1 + b->errors[k], 1e-3);
    }
}

static void keep(bootstrap *b, int which, int64_t number, td_fit_curve c)
{
    c = td_fit_uncentred(&b->data, c);
    for (int64_t k = 0; k < td_fit_count(&b->data); k++)
        b->drawn[which][k * b->draws + number] = parameter(&c, k);
}

static void set_percentiles(bootstrap *b, int which, td_interval *out)
{
    for (int64_t k = 0; k < td_fit_count(&b->data); k++) {
        double *own = b->drawn[which] + k * b->draws;
        td_sort(own, b->draws);
        out[k].low = td_percentile(own, b->draws, 0.025);
        out[k].high = td_percentile(own, b->draws, 0.975);
        /* parts that are zero have no logarithm to interpolate */
        if (isnan(out[k].low))
            out[k].low = -INFINITY;
    }
}

static int draw_all(bootstrap *b, const td_fit_curve *projected, const td_fit_curve *huber,
                    const td_fit_options *o, td_error *error)
{
    for (int64_t k = 0; k < b->draws; k++) {
        td_fit_curve c;
        draw(b, o->seed, k);
        /* both estimators see the same sample, so their intervals can be compared */
        td_fit_project(&b->data, projected, &c);
        keep(b, 0, k, c);
        td_fit_huber(&b->data, huber, &c);
        keep(b, 1, k, c);
        if (o->progress && o->progress(o->arg, k + 1, b->draws))
            return td_fail(error, TD_EEND, "stopped after %lld of %lld bootstrap samples",
                           (long long)k + 1, (long long)b->draws);
    }
    return 0;
}

int td_fit_bootstrap(const td_fit_data *d, const td_fit_curve *projected, const td_fit_curve *huber,
                     const td_fit_options *o, td_fit *out, td_error *error)
{
    size_t    n = (size_t)d->n, room = (size_t)o->draws * P;
    double   *values = calloc(3 * n + 2 * room, sizeof *values);
    bootstrap b = { .data = *d, .draws = o->draws };
    int       code;
    if (!values)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld bootstrap samples",
                       (long long)o->draws);
    /* one allocation: resampled y, fitted y, relative errors, then the draws of both methods */
    b.data.y = values;
    set_errors(d, projected, values + n, values + 2 * n);
    b.fitted = values + n;
    b.errors = values + 2 * n;
    b.drawn[0] = values + 3 * n;
    b.drawn[1] = b.drawn[0] + room;
    code = draw_all(&b, projected, huber, o, error);
    if (!code) {
        set_percentiles(&b, 0, out->projection.bootstrap);
        set_percentiles(&b, 1, out->huber.bootstrap);
    }
    free(values);
    return code;
}
