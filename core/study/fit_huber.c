/* fit_huber.c - the Huber loss of log L, minimized by L-BFGS from a grid of starts.
 * Papers: Hoffmann et al. 2022 (arXiv 2203.15556), section D.2; Besiroglu et al. 2024 (arXiv
 * 2404.10102), who found that fit stopped early because the loss it minimized was so small. */
#include <lbfgs.h>
#include <math.h>
#include <string.h>

#include "study/fit_parts.h"

static const double DELTA = 1e-3;

/* The loss is in units of DELTA^2, and so about as large as the number of points: L-BFGS stops
 * when the gradient is small, and would otherwise take every point for a minimum. */
static double huber(double r, double *slope)
{
    double size = fabs(r) / DELTA;
    if (size <= 1) {
        *slope = r / (DELTA * DELTA);
        return size * size / 2;
    }
    *slope = copysign(1 / DELTA, r);
    return size - 0.5;
}

static td_fit_curve curve_of(const td_fit_data *d, const double *p)
{
    td_fit_curve c = { .terms = d->terms, .e = p[2 * d->terms] };
    for (int64_t k = 0; k < d->terms; k++) {
        c.a[k] = p[2 * k];
        c.alpha[k] = p[2 * k + 1];
    }
    return c;
}

/* log L at point i as the log of a sum of exponentials, and the share of each part in the sum. */
static double log_value(const td_fit_data *d, const double *p, int64_t i, double *share)
{
    double  part[TD_FIT_TERMS + 1], most = -INFINITY, sum = 0;
    int64_t parts = d->terms + 1;
    for (int64_t k = 0; k < parts; k++) {
        part[k] = k < d->terms ? p[2 * k] - p[2 * k + 1] * d->u[k][i] : p[2 * k];
        most = fmax(most, part[k]);
    }
    for (int64_t k = 0; k < parts; k++)
        sum += share[k] = exp(part[k] - most);
    for (int64_t k = 0; k < parts; k++)
        share[k] /= sum;
    return most + log(sum);
}

/* With share_k of part k in the sum, and the floor as the last part:
 *
 *     d log L / d a_k = share_k;  d log L / d alpha_k = -u_k share_k;  d log L / d e = share_e
 */
static double loss(void *arg, const double *p, double *gradient, int n, double step)
{
    const td_fit_data *d = arg;
    double             sum = 0, share[TD_FIT_TERMS + 1], slope;
    (void)step;
    memset(gradient, 0, (size_t)n * sizeof *gradient);
    for (int64_t i = 0; i < d->n; i++) {
        sum += huber(log_value(d, p, i, share) - log(d->y[i]), &slope);
        for (int64_t k = 0; k < d->terms; k++) {
            gradient[2 * k] += slope * share[k];
            gradient[2 * k + 1] -= slope * share[k] * d->u[k][i];
        }
        gradient[2 * d->terms] += slope * share[d->terms];
    }
    return sum;
}

/* Moves p to a minimum. A line search that finds nothing better has arrived, as far as doubles
 * can tell, so its error code is not a failure: p is the best point in any case. */
static double descend(const td_fit_data *d, double *p)
{
    lbfgs_parameter_t o;
    double            value = INFINITY, gradient[TD_FIT_PARAMETERS];
    int               n = (int)td_fit_count(d);
    lbfgs_parameter_init(&o);
    o.epsilon = 1e-11;
    o.max_iterations = 2000;
    lbfgs(n, p, &value, loss, NULL, (void *)(uintptr_t)d, &o);
    value = loss((void *)(uintptr_t)d, p, gradient, n, 0);
    return isfinite(value) ? value : INFINITY;
}

/* ---- starts ---------------------------------------------------------------------------------- */

/* The grid of Zhang et al.: exponents {0, .5, .. 2}, coefficients {0, 5, .. 25}, floor {-1, -.5,
 * .. 1}. Of the joint form's 4500 starts, only the best are followed to the end; with many
 * points, which leave little doubt, only a few. */
enum { ALPHAS = 5, COEFFICIENTS = 6, FLOORS = 5, KEPT = 150, KEPT_OF_MANY = 10, MANY = 2000 };

static double start_at(const td_fit_data *d, int64_t number, double *p)
{
    double gradient[TD_FIT_PARAMETERS];
    for (int64_t k = 0; k < d->terms; k++) {
        double alpha = 0.5 * (double)(number % ALPHAS);
        double a = 5 * (double)(number / ALPHAS % COEFFICIENTS);
        p[2 * k] = a - alpha * d->centre[k];
        p[2 * k + 1] = alpha;
        number /= ALPHAS * COEFFICIENTS;
    }
    p[2 * d->terms] = -1 + 0.5 * (double)number;
    return loss((void *)(uintptr_t)d, p, gradient, (int)td_fit_count(d), 0);
}

static int64_t starts_of(const td_fit_data *d)
{
    int64_t n = FLOORS;
    for (int64_t k = 0; k < d->terms; k++)
        n *= ALPHAS * COEFFICIENTS;
    return n;
}

/* The indices of the best starts, ordered by loss; ties are in the order of the grid. */
static int64_t choose_starts(const td_fit_data *d, int64_t *best)
{
    double  value[KEPT], p[TD_FIT_PARAMETERS];
    int64_t all = starts_of(d), kept = d->n > MANY ? KEPT_OF_MANY : KEPT, n = 0;
    for (int64_t s = 0; s < all; s++) {
        double  own = start_at(d, s, p);
        int64_t k = n < kept ? n++ : kept;
        /* not better than the worst of those kept */
        if (k == kept && !(own < value[--k]))
            continue;
        for (; k > 0 && value[k - 1] > own; k--) {
            value[k] = value[k - 1];
            best[k] = best[k - 1];
        }
        value[k] = own;
        best[k] = s;
    }
    return n;
}

static void set_start(const td_fit_curve *c, double *p)
{
    for (int64_t k = 0; k < c->terms; k++) {
        p[2 * k] = fmax(c->a[k], -30);
        p[2 * k + 1] = c->alpha[k];
    }
    p[2 * c->terms] = fmax(c->e, -30);
}

double td_fit_huber(const td_fit_data *d, const td_fit_curve *start, td_fit_curve *out)
{
    int64_t chosen[KEPT], n = start ? 1 : choose_starts(d, chosen);
    double  best[TD_FIT_PARAMETERS] = { 0 }, least = INFINITY;
    for (int64_t k = 0; k < n; k++) {
        double p[TD_FIT_PARAMETERS], value;
        if (start)
            set_start(start, p);
        else
            start_at(d, chosen[k], p);
        value = descend(d, p);
        if (value < least) {
            least = value;
            memcpy(best, p, sizeof best);
        }
    }
    *out = curve_of(d, best);
    /* log L cannot reach a floor of 0: it walks towards minus infinity until nothing changes */
    if (exp(out->e) < 1e-6 * td_fit_value(d, out, 0))
        out->e = -INFINITY;
    return least;
}
