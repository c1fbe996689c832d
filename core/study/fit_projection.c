/* fit_projection.c - variable projection: exponents outside, non-negative least squares inside.
 * Papers: Golub and Pereyra 1973; Kaufman 1975, for the Jacobian. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "study/fit_parts.h"

/* Below LEAST, a power law cannot be distinguished from a logarithm; above MOST, from a step. */
static const double LEAST = 1e-3, MOST = 20;

/* The inner problem at given exponents: 1 = sum of c[k] phi_k, where phi_k = exp(-alpha u) / y. */
typedef struct inner {
    const td_fit_data *data;
    double            *column[TD_FIT_TERMS + 1]; /* [n]: phi */
    double            *basis[TD_FIT_TERMS + 1];  /* [n]: the active ones, orthonormal */
    double            *slope[TD_FIT_TERMS];      /* [n]: d/d alpha, projected */
    double            *rest;                     /* [n]: 1 - sum */
    double             c[TD_FIT_TERMS + 1];      /* >= 0 */
    int64_t            active[TD_FIT_TERMS + 1], n_active;
    double             squares; /* of the rest */
} inner;

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void subtract(double *a, double factor, const double *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        a[i] -= factor * b[i];
}

static inner open_inner(const td_fit_data *d)
{
    inner   in = { .data = d };
    int64_t at = 0;
    for (int k = 0; k <= TD_FIT_TERMS; k++) {
        in.column[k] = d->work + d->n * at++;
        in.basis[k] = d->work + d->n * at++;
    }
    for (int k = 0; k < TD_FIT_TERMS; k++)
        in.slope[k] = d->work + d->n * at++;
    in.rest = d->work + d->n * at++;
    return in;
}

static void set_columns(inner *in, const double *alpha)
{
    const td_fit_data *d = in->data;
    for (int64_t k = 0; k < d->terms; k++)
        for (int64_t i = 0; i < d->n; i++)
            in->column[k][i] = exp(-alpha[k] * d->u[k][i]) / d->y[i];
    for (int64_t i = 0; i < d->n; i++)
        in->column[d->terms][i] = 1 / d->y[i];
}

/* The coefficients of the active columns, from R c = Q^T 1, last one first; the others are 0. False:
 * one is negative. */
static bool substitute(inner *in, double r[][TD_FIT_TERMS + 1], const double *q)
{
    memset(in->c, 0, sizeof in->c);
    for (int64_t j = in->n_active - 1; j >= 0; j--) {
        double x = q[j];
        for (int64_t i = j + 1; i < in->n_active; i++)
            x -= r[j][i] * in->c[in->active[i]];
        in->c[in->active[j]] = x / r[j][j];
        if (in->c[in->active[j]] < 0)
            return false;
    }
    return true;
}

/* Least squares with only the columns of `mask`, by Gram-Schmidt with two passes, because
 * columns of similar exponents are nearly parallel. False: dependent, or a coefficient is
 * negative. */
static bool solve(inner *in, unsigned mask)
{
    int64_t n = in->data->n, m = 0;
    double  r[TD_FIT_TERMS + 1][TD_FIT_TERMS + 1] = { { 0 } }, q[TD_FIT_TERMS + 1];
    for (int64_t k = 0; k <= in->data->terms; k++) {
        double *b = in->basis[m], length;
        if (!(mask >> k & 1))
            continue;
        memcpy(b, in->column[k], (size_t)n * sizeof *b);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < m; j++) {
                double along = dot(in->basis[j], b, n);
                subtract(b, along, in->basis[j], n);
                r[j][m] += along;
            }
        length = sqrt(dot(b, b, n));
        /* what is left of a dependent column is rounding error */
        if (!(length > 64 * DBL_EPSILON * sqrt(dot(in->column[k], in->column[k], n))))
            return false;
        for (int64_t i = 0; i < n; i++)
            b[i] /= length;
        r[m][m] = length;
        in->active[m++] = k;
    }
    in->n_active = m;
    for (int64_t i = 0; i < n; i++)
        in->rest[i] = 1;
    for (int64_t j = 0; j < m; j++) {
        q[j] = dot(in->basis[j], in->rest, n);
        subtract(in->rest, q[j], in->basis[j], n);
    }
    if (!substitute(in, r, q))
        return false;
    in->squares = dot(in->rest, in->rest, n);
    return true;
}

/* Non-negative least squares of at most three columns: all subsets are tried, the whole set
 * first. If that is feasible, as it nearly always is, it is the best. */
static double evaluate(inner *in, const double *alpha)
{
    unsigned all = (2u << in->data->terms) - 1, best = 0;
    double   least = INFINITY;
    set_columns(in, alpha);
    if (solve(in, all))
        return in->squares;
    for (unsigned mask = 1; mask < all; mask++)
        if (solve(in, mask) && in->squares < least) {
            least = in->squares;
            best = mask;
        }
    return best && solve(in, best) ? in->squares : INFINITY;
}

/* How the rest changes with each exponent, to first order, after the coefficients have made up
 * for what they can (Kaufman's approximation). */
static void set_slopes(inner *in)
{
    const td_fit_data *d = in->data;
    for (int64_t k = 0; k < d->terms; k++) {
        for (int64_t i = 0; i < d->n; i++)
            in->slope[k][i] = -d->u[k][i] * in->c[k] * in->column[k][i];
        for (int64_t j = 0; j < in->n_active; j++)
            subtract(in->slope[k], dot(in->basis[j], in->slope[k], d->n), in->basis[j], d->n);
    }
}

/* The damped Gauss-Newton step of one or two exponents. */
static void find_step(const inner *in, double damping, double *step)
{
    int64_t n = in->data->n;
    double  a = dot(in->slope[0], in->slope[0], n) * (1 + damping), p, b, c, q, det;
    p = dot(in->slope[0], in->rest, n);
    step[0] = a > 0 ? p / a : 0;
    if (in->data->terms < 2)
        return;
    b = dot(in->slope[0], in->slope[1], n);
    c = dot(in->slope[1], in->slope[1], n) * (1 + damping);
    q = dot(in->slope[1], in->rest, n);
    det = a * c - b * b;
    step[1] = c > 0 ? q / c : 0;
    /* else the slopes are parallel, and each exponent takes its own step */
    if (det > DBL_EPSILON * a * c) {
        step[0] = (p * c - q * b) / det;
        step[1] = (q * a - p * b) / det;
    }
}

/* Levenberg and Marquardt from `alpha`, until no step improves. */
static double polish(inner *in, double *alpha)
{
    double squares = evaluate(in, alpha), damping = 1e-3;
    for (int k = 0; k < 200 && damping < 1e12; k++) {
        double step[TD_FIT_TERMS], tried[TD_FIT_TERMS], now, moved = 0;
        set_slopes(in);
        find_step(in, damping, step);
        for (int64_t t = 0; t < in->data->terms; t++) {
            tried[t] = fmin(MOST, fmax(LEAST, alpha[t] + step[t]));
            moved = fmax(moved, fabs(tried[t] - alpha[t]) / alpha[t]);
        }
        if (moved < 1e-15)
            break;
        now = evaluate(in, tried);
        if (now < squares) {
            memcpy(alpha, tried, sizeof tried);
            squares = now;
            damping = fmax(damping / 10, 1e-12);
        } else {
            damping *= 10;
            evaluate(in, alpha); /* back, for the next step's slopes */
        }
    }
    return squares;
}

/* ---- starts ---------------------------------------------------------------------------------- */

enum { GRID = 24, STARTS = 6 };

static double grid_at(int k) { return LEAST * 10 * pow(400, k / (double)(GRID - 1)); }

/* Keeps the best STARTS of the grid, best first. */
typedef struct starts {
    double alpha[STARTS][TD_FIT_TERMS], squares[STARTS];
    int    count;
} starts;

static void keep(starts *s, const double *alpha, double squares)
{
    int k = s->count < STARTS ? s->count++ : STARTS;
    if (k == STARTS && !(squares < s->squares[--k]))
        return;
    for (; k > 0 && s->squares[k - 1] > squares; k--) {
        s->squares[k] = s->squares[k - 1];
        memcpy(s->alpha[k], s->alpha[k - 1], sizeof s->alpha[k]);
    }
    s->squares[k] = squares;
    memcpy(s->alpha[k], alpha, sizeof s->alpha[k]);
}

static starts search_grid(inner *in)
{
    starts s = { .count = 0 };
    int    inner_size = in->data->terms > 1 ? GRID : 1;
    for (int k = 0; k < GRID; k++)
        for (int j = 0; j < inner_size; j++) {
            double alpha[TD_FIT_TERMS] = { grid_at(k), grid_at(j) };
            keep(&s, alpha, evaluate(in, alpha));
        }
    return s;
}

double td_fit_project(const td_fit_data *d, const td_fit_curve *start, td_fit_curve *out)
{
    inner  in = open_inner(d);
    starts s = { .count = 1 };
    double best[TD_FIT_TERMS] = { 1, 1 }, least = INFINITY;
    if (start)
        memcpy(s.alpha[0], start->alpha, sizeof s.alpha[0]);
    else
        s = search_grid(&in);
    for (int k = 0; k < s.count; k++) {
        double squares = polish(&in, s.alpha[k]);
        if (squares < least) {
            least = squares;
            memcpy(best, s.alpha[k], sizeof best);
        }
    }
    /* `in` holds the coefficients of the last start, not of the best */
    least = evaluate(&in, best);
    *out = (td_fit_curve){ .terms = d->terms, .e = log(in.c[d->terms]) };
    for (int64_t k = 0; k < d->terms; k++) {
        out->alpha[k] = best[k];
        out->a[k] = log(in.c[k]);
    }
    return least;
}
