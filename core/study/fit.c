/* fit.c - fits both ways, and warns where the data cannot tell (fit.h). */
#include "study/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study/fit_parts.h"

/* ---- points ---------------------------------------------------------------------------------- */

int td_fit_data_new(const td_fit_points *p, td_fit_data *out, td_error *error)
{
    size_t n = (size_t)p->n, arrays = TD_FIT_TERMS + 1 + TD_FIT_WORK;
    *out = (td_fit_data){ .n = p->n, .terms = p->terms, .y = calloc(n * arrays, sizeof(double)) };
    if (!out->y)
        return td_fail(error, TD_ENOMEM, "out of memory for a fit of %zu points", n);
    memcpy(out->y, p->y, n * sizeof *out->y);
    for (int64_t k = 0; k < TD_FIT_TERMS; k++)
        out->u[k] = out->y + n * (size_t)(k + 1);
    out->work = out->y + n * (TD_FIT_TERMS + 1);
    /* centred logarithms keep coefficients of similar size, and exponents apart from them */
    for (int64_t k = 0; k < p->terms; k++) {
        for (size_t i = 0; i < n; i++)
            out->centre[k] += log(p->x[k][i]) / (double)n;
        for (size_t i = 0; i < n; i++)
            out->u[k][i] = log(p->x[k][i]) - out->centre[k];
    }
    return 0;
}

void td_fit_data_free(td_fit_data *d)
{
    free(d->y);
    memset(d, 0, sizeof *d);
}

td_fit_curve td_fit_uncentred(const td_fit_data *d, td_fit_curve c)
{
    for (int64_t k = 0; k < c.terms; k++)
        c.a[k] += c.alpha[k] * d->centre[k];
    return c;
}

double td_fit_term(const td_fit_data *d, const td_fit_curve *c, int64_t k, int64_t i)
{
    return exp(k < c->terms ? c->a[k] - c->alpha[k] * d->u[k][i] : c->e);
}

double td_fit_value(const td_fit_data *d, const td_fit_curve *c, int64_t i)
{
    double sum = 0;
    for (int64_t k = 0; k <= c->terms; k++)
        sum += td_fit_term(d, c, k, i);
    return sum;
}

double td_fit_at(const td_fit_curve *c, const double *x)
{
    double sum = exp(c->e);
    for (int64_t k = 0; k < c->terms; k++)
        sum += exp(c->a[k] - c->alpha[k] * log(x[k]));
    return sum;
}

/* ---- refusals -------------------------------------------------------------------------------- */

static const char *name_of(const td_fit_options *o, int64_t k)
{
    return o->names[k] ? o->names[k] : "x";
}

/* The number of different values among n; 3 means 3 or more. */
static int64_t distinct(const double *x, int64_t n)
{
    double  seen[3];
    int64_t count = 0;
    for (int64_t i = 0; i < n && count < 3; i++) {
        int64_t k = 0;
        while (k < count && seen[k] != x[i])
            k++;
        if (k == count)
            seen[count++] = x[i];
    }
    return count;
}

static int check_points(const td_fit_points *p, const td_fit_options *o, td_error *error)
{
    int64_t parameters = 2 * p->terms + 1;
    if (p->n > TD_FIT_MOST)
        return td_fail(
            error, TD_ECONFIG,
            "there are %lld points, and a fit takes at most %d: leave some out, such as all "
            "but the last of each run",
            (long long)p->n, (int)TD_FIT_MOST);
    if (p->n <= parameters)
        return td_fail(error, TD_ECONFIG,
                       "there %s %lld point%s, but a curve of %lld parameters takes at least %lld: "
                       "with fewer it passes through all of them and its error is unknown",
                       p->n == 1 ? "is" : "are", (long long)p->n, p->n == 1 ? "" : "s",
                       (long long)parameters, (long long)parameters + 1);
    for (int64_t k = 0; k < p->terms; k++) {
        /* for every floor, a power law passes through two sizes */
        if (distinct(p->x[k], p->n) < 3)
            return td_fail(error, TD_ECONFIG,
                           "there %s only %lld different value%s of '%s': a power law with a floor "
                           "takes at least 3",
                           distinct(p->x[k], p->n) == 1 ? "is" : "are",
                           (long long)distinct(p->x[k], p->n),
                           distinct(p->x[k], p->n) == 1 ? "" : "s", name_of(o, k));
        for (int64_t i = 0; i < p->n; i++)
            if (!(p->x[k][i] > 0) || !isfinite(p->x[k][i]) || !(p->y[i] > 0) || !isfinite(p->y[i]))
                return td_fail(error, TD_ECONFIG,
                               "point %lld is (%g, %g): a power law takes positive numbers",
                               (long long)i + 1, p->x[k][i], p->y[i]);
    }
    return 0;
}

/* ---- warnings -------------------------------------------------------------------------------- */

static double span(const double *u, int64_t n)
{
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        low = fmin(low, u[i]);
        high = fmax(high, u[i]);
    }
    return exp(high - low);
}

static double correlation(const td_fit_data *d)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < d->n; i++) { /* both are centred */
        ab += d->u[0][i] * d->u[1][i];
        aa += d->u[0][i] * d->u[0][i];
        bb += d->u[1][i] * d->u[1][i];
    }
    return ab / sqrt(aa * bb);
}

static void warn_of_sizes(const td_fit_data *d, const td_fit_options *o, td_text *out)
{
    for (int64_t k = 0; k < d->terms; k++)
        if (span(d->u[k], d->n) < 10)
            td_text_print(out,
                          "'%s' spans only a factor of %.2g: over so short a range a power law and "
                          "a constant look alike\n",
                          name_of(o, k), span(d->u[k], d->n));
    if (d->terms > 1 && fabs(correlation(d)) > 0.95)
        td_text_print(out,
                      "'%s' and '%s' change together (correlation of their logarithms %.2f): the "
                      "data cannot tell which of them lowers the loss; vary them independently\n",
                      name_of(o, 0), name_of(o, 1), correlation(d));
}

static void warn_of_parts(const td_fit *f, const td_fit_options *o, td_text *out)
{
    const td_fit_curve *c = &f->projection.curve;
    /* a and e are logarithms: infinity stands for a part of 0 */
    for (int64_t k = 0; k < c->terms; k++)
        if (isinf(c->a[k]))
            td_text_print(out, "the loss does not fall with '%s': its term in the best fit is 0\n",
                          name_of(o, k));
        else if (f->projection.student[2 * k + 1].low <= 0)
            td_text_print(out,
                          "the interval of the exponent of '%s' includes 0: the data do not show "
                          "a power law\n",
                          name_of(o, k));
    if (isinf(c->e))
        td_text_print(out, "the floor of the best fit is 0: the data show no irreducible loss\n");
}

static void warn_of_condition(const td_fit *f, td_text *out)
{
    /* not >=: NaN is a reason to warn, too */
    if (!(f->condition < 100))
        td_text_print(
            out,
            "the data barely distinguish the parameters (condition number %.3g, where 30 is a "
            "warning and 100 is too much): quote intervals, not values, and do not extrapolate\n",
            f->condition);
    if (f->freedom < 3)
        td_text_print(out,
                      "%lld points leave %lld %s of freedom: intervals are wide, and only "
                      "Student's t can be trusted\n",
                      (long long)f->n, (long long)f->freedom,
                      f->freedom == 1 ? "degree" : "degrees");
}

/* Whether the two methods agree: each of Huber's parameters inside the projection's interval. */
static void warn_of_disagreement(const td_fit *f, td_text *out)
{
    const td_fit_curve *a = &f->projection.curve, *b = &f->huber.curve;
    for (int64_t k = 0; k < a->terms; k++) {
        td_interval own = f->projection.student[2 * k + 1];
        /* without noise, intervals shrink to points */
        double      room = 1e-6 * fabs(a->alpha[k]);
        if (isnan(own.low) || (b->alpha[k] >= own.low - room && b->alpha[k] <= own.high + room))
            continue;
        td_text_print(out,
                      "the two methods disagree: exponent %.4g by least squares, %.4g by the Huber "
                      "loss, which outliers hardly move; check the points for outliers\n",
                      a->alpha[k], b->alpha[k]);
    }
}

/* ---- fitting --------------------------------------------------------------------------------- */

/* With more points than this, the bootstrap takes minutes, and Student's t is as good. */
static const int64_t MOST_DRAWN = 2000;

static void forget(td_fit_estimate *e)
{
    for (int k = 0; k < TD_FIT_PARAMETERS; k++)
        e->student[k] = e->bootstrap[k] = (td_interval){ NAN, NAN };
}

static int fit(const td_fit_data *d, const td_fit_options *o, td_fit *out, td_error *error)
{
    td_fit_curve projected, huber;
    int          code = 0;
    out->projection.objective = td_fit_project(d, NULL, &projected);
    out->projection.curve = td_fit_uncentred(d, projected);
    out->huber.objective = td_fit_huber(d, NULL, &huber);
    out->huber.curve = td_fit_uncentred(d, huber);
    /* also without enough points for a bootstrap */
    td_fit_student(d, &projected, out);
    if (o->draws > 0 && d->n > MOST_DRAWN)
        td_text_print(&out->warnings,
                      "there is no bootstrap for more than %lld points: use "
                      "Student's t\n",
                      (long long)MOST_DRAWN);
    else if (o->draws > 0)
        code = td_fit_bootstrap(d, &projected, &huber, o, out, error);
    return code;
}

int td_fit_curves(const td_fit_points *p, const td_fit_options *o, td_fit *out, td_error *error)
{
    td_fit_data d;
    int         code;
    memset(out, 0, sizeof *out);
    out->n = p->n;
    /* NaN, so that what is not computed is not taken for 0 */
    forget(&out->projection);
    forget(&out->huber);
    code = check_points(p, o, error);
    if (code || (code = td_fit_data_new(p, &d, error)) != 0)
        return code;
    code = fit(&d, o, out, error);
    if (!code) {
        warn_of_sizes(&d, o, &out->warnings);
        warn_of_parts(out, o, &out->warnings);
        warn_of_condition(out, &out->warnings);
        warn_of_disagreement(out, &out->warnings);
    }
    td_fit_data_free(&d);
    return code;
}

void td_fit_free(td_fit *f) { td_text_free(&f->warnings); }

/* ---- the best use of compute ------------------------------------------------------------------ */

/* Minimizing A N^-al + B D^-be along N D = C / factor gives al A N^-al = be B D^-be. */
bool td_fit_optimal(const td_fit *f, double factor, td_fit_optimum *out)
{
    const td_fit_curve *c = &f->projection.curve;
    double al = c->alpha[0], be = c->alpha[1], sum = al + be, log_scale, margin, da, db;
    if (c->terms != 2 || isinf(c->a[0]) || isinf(c->a[1]))
        return false;
    log_scale = (log(al) + c->a[0] - log(be) - c->a[1]) / sum;
    *out = (td_fit_optimum){ .factor = factor,
                             .n_power = be / sum,
                             .d_power = al / sum,
                             .n_scale = exp(log_scale),
                             .d_scale = exp(-log_scale) };
    /* the delta method: derivatives of be / sum */
    da = -be / (sum * sum);
    db = al / (sum * sum);
    margin = td_student_quantile((double)f->freedom) *
             sqrt(fmax(0, da * da * f->covariance[1][1] + 2 * da * db * f->covariance[1][3] +
                              db * db * f->covariance[3][3]));
    out->n_power_interval = (td_interval){ out->n_power - margin, out->n_power + margin };
    out->d_power_interval = (td_interval){ out->d_power - margin, out->d_power + margin };
    return true;
}
