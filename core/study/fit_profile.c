/* fit_profile.c - methods that need no curve through all points: isoFLOP profiles and the Pareto
 * frontier. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study/fit.h"

/* ---- parabolas ------------------------------------------------------------------------------- */

/* y = c0 + c1 u + c2 u^2 by least squares, with (X^T X)^-1. */
typedef struct parabola {
    double c[3], inverse[3][3], spread;
} parabola;

/* Inverts a symmetric positive matrix by its cofactors. */
static bool invert(double m[3][3], double out[3][3])
{
    double det = 0;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) {
            int r = (a + 1) % 3, s = (a + 2) % 3, p = (b + 1) % 3, q = (b + 2) % 3;
            out[b][a] = m[r][p] * m[s][q] - m[r][q] * m[s][p];
        }
    for (int a = 0; a < 3; a++)
        det += m[0][a] * out[a][0];
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            out[a][b] /= det;
    return det > 0;
}

/* False with fewer than three different u. `u` must be centred and scaled to about 1. */
static bool fit_parabola(const double *u, const double *y, int64_t n, parabola *out)
{
    double m[3][3] = { { 0 } }, right[3] = { 0 }, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        double power[3] = { 1, u[i], u[i] * u[i] };
        for (int a = 0; a < 3; a++) {
            for (int b = 0; b < 3; b++)
                m[a][b] += power[a] * power[b];
            right[a] += power[a] * y[i];
        }
    }
    memset(out, 0, sizeof *out);
    /* sizes that nearly coincide leave the curvature undetermined */
    if (!invert(m, out->inverse) || !isfinite(out->inverse[2][2]) || out->inverse[2][2] > 1e12)
        return false;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++)
            out->c[a] += out->inverse[a][b] * right[b];
    for (int64_t i = 0; i < n; i++) {
        double r = out->c[0] + u[i] * (out->c[1] + u[i] * out->c[2]) - y[i];
        squares += r * r;
    }
    out->spread = n > 3 ? sqrt(squares / (double)(n - 3)) : (double)NAN;
    return true;
}

/* ---- profiles -------------------------------------------------------------------------------- */

/* A row, to be sorted by budget. */
typedef struct row {
    double  budget, size, loss;
    int64_t number; /* equal budgets stay in the order of the rows */
} row;

static int by_budget(const void *a, const void *b)
{
    const row *x = a, *y = b;
    if (x->budget != y->budget)
        return x->budget < y->budget ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

static const double SAME_BUDGET = 1.05;

/* The minimum -c1 / (2 c2), and its error to first order in c1 and c2. */
static void set_minimum(const parabola *p, double centre, double scale, td_isoflop_profile *out)
{
    double at = -p->c[1] / (2 * p->c[2]), d1 = -1 / (2 * p->c[2]), d2 = -at / p->c[2];
    double variance = d1 * d1 * p->inverse[1][1] + 2 * d1 * d2 * p->inverse[1][2] +
                      d2 * d2 * p->inverse[2][2];
    double margin = td_student_quantile((double)(out->n - 3)) * p->spread * sqrt(variance);
    out->size = exp(centre + scale * at);
    out->loss = p->c[0] + at * (p->c[1] + at * p->c[2]);
    out->size_interval.low = exp(centre + scale * (at - margin));
    out->size_interval.high = exp(centre + scale * (at + margin));
}

/* The profile of rows of one budget; `u` and `y` [n] are scratch. */
static td_isoflop_profile profile_of(const row *rows, int64_t n, double *u, double *y)
{
    td_isoflop_profile p = { .n = n, .size = NAN, .loss = NAN, .size_interval = { NAN, NAN } };
    double             centre = 0, scale = 0, low = INFINITY, high = 0;
    parabola           curve;
    /* around the mean logarithm: powers of raw logarithms would be nearly parallel */
    for (int64_t i = 0; i < n; i++) {
        centre += log(rows[i].size) / (double)n;
        p.budget += log(rows[i].budget) / (double)n;
        low = fmin(low, rows[i].size);
        high = fmax(high, rows[i].size);
    }
    p.budget = exp(p.budget);
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(log(rows[i].size) - centre));
    for (int64_t i = 0; i < n; i++) {
        u[i] = scale > 0 ? (log(rows[i].size) - centre) / scale : 0;
        y[i] = rows[i].loss;
    }
    if (!fit_parabola(u, y, n, &curve) || !(curve.c[2] > 0))
        return p;
    set_minimum(&curve, centre, scale, &p);
    p.inside = p.size >= low && p.size <= high;
    return p;
}

/* A straight line through (log budget, log size) of the profiles with a minimum. */
static void fit_power(td_isoflop *f)
{
    double x = 0, y = 0, xx = 0, xy = 0, squares = 0, n = 0;
    f->scale = f->power = f->power_interval.low = f->power_interval.high = NAN;
    for (int64_t k = 0; k < f->count; k++)
        if (f->profiles[k].inside) {
            n++;
            x += log(f->profiles[k].budget);
            y += log(f->profiles[k].size);
        }
    f->used = (int64_t)n;
    if (n < 2)
        return;
    for (int64_t k = 0; k < f->count; k++)
        if (f->profiles[k].inside) {
            /* centred, so that slope and intercept are independent */
            double u = log(f->profiles[k].budget) - x / n;
            xx += u * u;
            xy += u * log(f->profiles[k].size);
        }
    f->power = xy / xx;
    f->scale = exp((y - f->power * x) / n);
    for (int64_t k = 0; k < f->count; k++)
        if (f->profiles[k].inside) {
            double r = log(f->profiles[k].size) - log(f->scale) -
                       f->power * log(f->profiles[k].budget);
            squares += r * r;
        }
    if (n > 2) {
        double margin = td_student_quantile(n - 2) * sqrt(squares / (n - 2) / xx);
        f->power_interval = (td_interval){ f->power - margin, f->power + margin };
    }
}

static void warn(td_isoflop *f)
{
    for (int64_t k = 0; k < f->count; k++) {
        const td_isoflop_profile *p = &f->profiles[k];
        if (p->inside)
            continue;
        td_text_print(&f->warnings, "budget %.3g: %s; this budget is left out of the power law\n",
                      p->budget,
                      p->n < 3         ? "fewer than 3 models"
                      : isnan(p->size) ? "the losses have no minimum in the size of the model"
                                       : "the parabola's minimum lies outside the trained sizes");
    }
    if (f->used < 3)
        td_text_print(&f->warnings,
                      "%lld of %lld budgets have a minimum: a power law needs at least 2, and an "
                      "interval at least 3\n",
                      (long long)f->used, (long long)f->count);
    td_text_print(&f->warnings,
                  "parabolas are biased even without noise, because the loss is not a parabola in "
                  "log N: the best size is off by about 4 %% if sizes span a factor of 16 to "
                  "either side (arXiv 2404.10102); prefer the joint form\n");
}

int td_isoflop_fit(const double *budget, const double *size, const double *loss, int64_t n,
                   td_isoflop *out, td_error *error)
{
    row    *rows = calloc((size_t)n + 1, sizeof *rows);
    double *scratch = calloc(2 * (size_t)n + 1, sizeof *scratch);
    memset(out, 0, sizeof *out);
    out->profiles = calloc((size_t)n + 1, sizeof *out->profiles);
    if (!rows || !scratch || !out->profiles) {
        free(rows);
        free(scratch);
        return td_fail(error, TD_ENOMEM, "out of memory for profiles of %lld points", (long long)n);
    }
    for (int64_t i = 0; i < n; i++)
        rows[i] = (row){ budget[i], size[i], loss[i], i };
    qsort(rows, (size_t)n, sizeof *rows, by_budget);
    for (int64_t first = 0, end; first < n; first = end) {
        /* FLOPs of a budget are counted or measured, and so rarely exactly equal */
        for (end = first + 1; end < n && rows[end].budget < SAME_BUDGET * rows[first].budget;)
            end++;
        out->profiles[out->count++] = profile_of(rows + first, end - first, scratch, scratch + n);
    }
    free(rows);
    free(scratch);
    fit_power(out);
    warn(out);
    return 0;
}

void td_isoflop_free(td_isoflop *f)
{
    free(f->profiles);
    td_text_free(&f->warnings);
    memset(f, 0, sizeof *f);
}

/* ---- frontier -------------------------------------------------------------------------------- */

typedef struct point {
    double  x, y;
    int64_t number;
} point;

static int by_x(const void *a, const void *b)
{
    const point *p = a, *q = b;
    if (p->x != q->x)
        return p->x < q->x ? -1 : 1;
    if (p->y != q->y)
        return p->y < q->y ? -1 : 1;
    return p->number < q->number ? -1 : 1;
}

int64_t td_frontier(const double *x, const double *y, int64_t n, int64_t *out)
{
    point  *sorted = calloc((size_t)n + 1, sizeof *sorted);
    double  least = INFINITY;
    int64_t count = 0;
    for (int64_t i = 0; sorted && i < n; i++)
        sorted[i] = (point){ x[i], y[i], i };
    if (sorted)
        qsort(sorted, (size_t)n, sizeof *sorted, by_x);
    for (int64_t i = 0; sorted && i < n; i++)
        /* none of those that cost as much or less is as good */
        if (sorted[i].y < least) {
            least = sorted[i].y;
            out[count++] = sorted[i].number;
        }
    free(sorted);
    return sorted ? count : TD_ENOMEM;
}
