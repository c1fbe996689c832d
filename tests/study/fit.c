/* fit.c - scaling laws: the paper's points, planted curves, intervals that cover, what data cannot
 * tell. */
#include "study/fit.h"

#include <criterion/criterion.h>
#include <math.h>

#include "tandem/random.h"

#define EXPECT_NEAR(x, y, by) \
    cr_expect_float_eq(x, y, by, "%.9g is not %.9g +- %g", (double)(x), (double)(y), (double)(by))

enum { MOST = 100 };

/* ---- the paper's points ---------------------------------------------------------------------- */

enum { SIZES = 5 };

typedef struct published {
    const char *name;
    double      x[SIZES], y[SIZES];
    double      a, alpha, e;
} published;

/* Zhang et al. 2025: losses of five sizes against parameters, and against the FLOPs of one forward pass
 * over the 819.2M sequences; and the parameters of its fits. */
#define RED_NLL                           \
    {                                     \
        2.262, 1.830, 1.719, 1.651, 1.528 \
    }
#define DEC_NLL                           \
    {                                     \
        2.088, 1.716, 1.616, 1.537, 1.430 \
    }
static const published papers[] = {
    { "DecLLM by N",
      { 167789568, 1140918272, 2181143040, 3724692480, 8724418560 },
      DEC_NLL,
      3.41,
      0.163,
      -0.35 },
    { "RedLLM by N",
      { 146818048, 1124149248, 2207372800, 3498209280, 8590229504 },
      RED_NLL,
      3.61,
      0.172,
      -0.22 },
    { "DecLLM by C",
      { 7.880704e20, 4.5039616e21, 8.3034112e21, 1.3848576e22, 3.15252736e22 },
      DEC_NLL,
      9.90,
      0.201,
      -0.18 },
    { "RedLLM by C",
      { 3.907584e20, 2.2585344e21, 4.2221568e21, 6.5232896e21, 1.54525696e22 },
      RED_NLL,
      11.47,
      0.237,
      0.00 },
};

static td_fit fit_published(const published *p, const double *y)
{
    td_fit_points points = { .n = SIZES, .terms = 1, .x = { p->x }, .y = y };
    td_fit        fit;
    td_error      e = { 0 };
    cr_assert_eq(td_fit_curves(&points, &(td_fit_options){ 0 }, &fit, &e), 0, "%s", e.text);
    return fit;
}

static void widen(td_interval *i, double x)
{
    i->low = fmin(i->low, x);
    i->high = fmax(i->high, x);
}

/* The published losses are rounded to three decimals. The published parameters, rounded as well, must
 * lie among those of the fits through points that round to these; both methods. */
Test(fit, the_papers_points_give_its_parameters_within_rounding)
{
    for (size_t k = 0; k < sizeof papers / sizeof *papers; k++) {
        const published *p = &papers[k];
        td_interval      range[2][3];
        for (int i = 0; i < 6; i++)
            range[i / 3][i % 3] = (td_interval){ INFINITY, -INFINITY };
        for (int corner = 0; corner < 1 << SIZES; corner++) {
            double y[SIZES];
            for (int i = 0; i < SIZES; i++)
                y[i] = p->y[i] + (corner >> i & 1 ? 0.0005 : -0.0005);
            td_fit              fit = fit_published(p, y);
            const td_fit_curve *curves[] = { &fit.projection.curve, &fit.huber.curve };
            for (int m = 0; m < 2; m++) {
                widen(&range[m][0], curves[m]->a[0]);
                widen(&range[m][1], curves[m]->alpha[0]);
                widen(&range[m][2], curves[m]->e);
            }
            td_fit_free(&fit);
        }
        for (int m = 0; m < 2; m++) {
            const double paper[] = { p->a, p->alpha, p->e }, half[] = { 0.005, 0.0005, 0.005 };
            for (int i = 0; i < 3; i++)
                cr_expect(paper[i] >= range[m][i].low - half[i] &&
                              paper[i] <= range[m][i].high + half[i],
                          "%s, method %d, parameter %d: %g is not in %g .. %g", p->name, m, i,
                          paper[i], range[m][i].low, range[m][i].high);
        }
    }
}

/* The points as they are printed: the same to the digits that five rounded losses determine. */
Test(fit, the_papers_points_as_printed)
{
    for (size_t k = 0; k < sizeof papers / sizeof *papers; k++) {
        td_fit fit = fit_published(&papers[k], papers[k].y);
        EXPECT_NEAR(fit.huber.curve.a[0], papers[k].a, 0.07);
        EXPECT_NEAR(fit.huber.curve.alpha[0], papers[k].alpha, 0.0015);
        EXPECT_NEAR(fit.huber.curve.e, papers[k].e, 0.016);
        EXPECT_NEAR(fit.projection.curve.alpha[0], fit.huber.curve.alpha[0], 0.0015);
        cr_expect_eq(fit.freedom, 2);
        td_fit_free(&fit);
    }
}

/* ---- planted curves --------------------------------------------------------------------------- */

typedef struct planted {
    td_fit_curve truth;
    double       x[2][MOST], y[MOST];
    int64_t      n;
} planted;

static double normal(uint64_t set, uint64_t i)
{
    double u = td_random_uniform(7, set, 2 * i) + 1e-17, v = td_random_uniform(7, set, 2 * i + 1);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* Losses with relative noise; `set` chooses it. */
static void plant(planted *p, double noise, uint64_t set)
{
    for (int64_t i = 0; i < p->n; i++) {
        double x[2] = { p->x[0][i], p->x[1][i] };
        p->y[i] = td_fit_at(&p->truth, x) * (1 + noise * normal(set, (uint64_t)i));
    }
}

static planted power_law(int64_t n)
{
    planted p = { .truth = { .terms = 1, .a = { 6.9 }, .alpha = { 0.29 }, .e = 0.45 }, .n = n };
    for (int64_t i = 0; i < n; i++)
        p.x[0][i] = 3e7 * pow(1000, (double)i / (double)(n - 1));
    return p;
}

/* Chinchilla's, on a grid of 6 by 6. */
static planted joint_law(void)
{
    planted p = { .truth = { .terms = 2,
                             .a = { log(406.4), log(410.7) },
                             .alpha = { 0.34, 0.28 },
                             .e = log(1.69) },
                  .n = 36 };
    for (int i = 0; i < 36; i++) {
        p.x[0][i] = 1e7 * pow(10, (i / 6) * 0.6);
        p.x[1][i] = 1e9 * pow(10, (i % 6) * 0.6);
    }
    return p;
}

static td_fit fit_planted(const planted *p, int64_t draws)
{
    td_fit_points points = {
        .n = p->n, .terms = p->truth.terms, .x = { p->x[0], p->x[1] }, .y = p->y
    };
    td_fit   fit;
    td_error e = { 0 };
    cr_assert_eq(td_fit_curves(&points, &(td_fit_options){ .draws = draws, .seed = 1 }, &fit, &e),
                 0, "%s", e.text);
    return fit;
}

static void expect_planted(const planted *p)
{
    td_fit              fit = fit_planted(p, 0);
    const td_fit_curve *both[] = { &fit.projection.curve, &fit.huber.curve };
    for (int m = 0; m < 2; m++) {
        for (int64_t k = 0; k < p->truth.terms; k++) {
            EXPECT_NEAR(both[m]->a[k], p->truth.a[k], 1e-6);
            EXPECT_NEAR(both[m]->alpha[k], p->truth.alpha[k], 1e-6);
        }
        EXPECT_NEAR(exp(both[m]->e), exp(p->truth.e), 1e-6);
    }
    td_fit_free(&fit);
}

Test(fit, planted_parameters_come_back)
{
    static const double exponents[] = { 0.05, 0.163, 0.5, 1.1 }, floors[] = { 0.2, 1, 3 };
    planted             power = power_law(7), joint = joint_law();
    for (int k = 0; k < 4; k++)
        for (int j = 0; j < 3; j++) {
            power.truth.alpha[0] = exponents[k];
            power.truth.a[0] = exponents[k] * 19; /* a term of the order of 1 */
            power.truth.e = log(floors[j]);
            plant(&power, 0, 0);
            expect_planted(&power);
        }
    plant(&joint, 0, 0);
    expect_planted(&joint);
    joint.truth.alpha[0] = 0.6;
    joint.truth.a[0] = 10;
    plant(&joint, 0, 0);
    expect_planted(&joint);
}

/* Without a floor there is none, and it is said. */
Test(fit, no_floor)
{
    planted p = power_law(8);
    td_fit  fit;
    p.truth.e = -INFINITY;
    plant(&p, 0.001, 3);
    for (int i = 0; i < 8; i++) /* bent downwards: a floor would be negative */
        p.y[i] *= 1 - 0.01 * pow(i - 3.5, 2);
    fit = fit_planted(&p, 0);
    cr_expect(isinf(fit.projection.curve.e), "%g", fit.projection.curve.e);
    cr_expect(isnan(fit.projection.student[2].low));
    cr_expect(strstr(td_text_get(&fit.warnings), "the floor of the best fit is 0"));
    cr_expect_eq(fit.freedom, 6);
    td_fit_free(&fit);
}

/* ---- coverage -------------------------------------------------------------------------------- */

enum { SETS = 100 };

static bool covers(td_interval i, double x) { return i.low <= x && x <= i.high; }

/* How many of 100 sets have each parameter in its Student's t interval. */
static void count_covered(planted *p, double noise, int *covered)
{
    const td_fit_curve *t = &p->truth;
    td_fit_optimum      o;
    for (int set = 0; set < SETS; set++) {
        plant(p, noise, 1000 + (uint64_t)set);
        td_fit fit = fit_planted(p, 0);
        for (int64_t k = 0; k < t->terms; k++) {
            covered[2 * k] += covers(fit.projection.student[2 * k], t->a[k]);
            covered[2 * k + 1] += covers(fit.projection.student[2 * k + 1], t->alpha[k]);
        }
        covered[2 * t->terms] += covers(fit.projection.student[2 * t->terms], t->e);
        if (td_fit_optimal(&fit, 6, &o))
            covered[TD_FIT_PARAMETERS] += covers(o.n_power_interval,
                                                 t->alpha[1] / (t->alpha[0] + t->alpha[1]));
        td_fit_free(&fit);
    }
}

static void expect_coverage(planted p, double noise)
{
    int covered[TD_FIT_PARAMETERS + 1] = { 0 }; /* the last: the power of the best size */
    count_covered(&p, noise, covered);
    if (p.truth.terms > 1)
        cr_expect(covered[TD_FIT_PARAMETERS] >= 90 && covered[TD_FIT_PARAMETERS] <= 98, "%d",
                  covered[TD_FIT_PARAMETERS]);
    for (int64_t k = 0; k < 2 * p.truth.terms + 1; k++)
        cr_expect(covered[k] >= 90 && covered[k] <= 98,
                  "%ld terms, %ld points: %d of 100 intervals of "
                  "parameter %ld cover it",
                  (long)p.truth.terms, (long)p.n, covered[k], (long)k);
}

Test(fit, intervals_cover_as_stated)
{
    expect_coverage(power_law(5), 0.002);
    expect_coverage(power_law(12), 0.005);
    expect_coverage(joint_law(), 0.005);
}

/* With many points the bootstrap's intervals are Student's; both methods' percentiles cover. */
Test(fit, bootstrap)
{
    planted p = power_law(60);
    int     covered[2] = { 0 };
    td_fit  fit;
    for (int set = 0; set < 40; set++) {
        plant(&p, 0.005, 500 + (uint64_t)set);
        fit = fit_planted(&p, 200);
        covered[0] += covers(fit.projection.bootstrap[1], p.truth.alpha[0]);
        covered[1] += covers(fit.huber.bootstrap[1], p.truth.alpha[0]);
        td_fit_free(&fit);
    }
    cr_expect(covered[0] >= 35 && covered[1] >= 35, "%d and %d of 40", covered[0], covered[1]);
    fit = fit_planted(&p, 1000);
    for (int k = 0; k < 3; k++) {
        td_interval t = fit.projection.student[k], b = fit.projection.bootstrap[k];
        EXPECT_NEAR((b.high - b.low) / (t.high - t.low), 1, 0.12);
    }
    td_fit_free(&fit);
}

Test(fit, the_same_seed_gives_the_same_intervals)
{
    planted p = power_law(9);
    plant(&p, 0.01, 4);
    td_fit a = fit_planted(&p, 100), b = fit_planted(&p, 100);
    cr_expect(!memcmp(a.huber.bootstrap, b.huber.bootstrap, 3 * sizeof(td_interval)));
    cr_expect(!memcmp(a.projection.bootstrap, b.projection.bootstrap, 3 * sizeof(td_interval)));
    td_fit_free(&a);
    td_fit_free(&b);
}

/* The band of the curve covers the truth where there are points and beyond them. */
Test(fit, band)
{
    planted p = power_law(10);
    double  x[] = { 3e8, 3e11 };
    int     covered[2] = { 0 };
    for (int set = 0; set < SETS; set++) {
        plant(&p, 0.004, 3000 + (uint64_t)set);
        td_fit fit = fit_planted(&p, 0);
        for (int k = 0; k < 2; k++)
            covered[k] += covers(td_fit_band(&fit, &x[k]), td_fit_at(&p.truth, &x[k]));
        td_fit_free(&fit);
    }
    for (int k = 0; k < 2; k++)
        cr_expect(covered[k] >= 90 && covered[k] <= 99, "%d at %g", covered[k], x[k]);
}

/* ---- what data cannot tell -------------------------------------------------------------------- */

static void expect_refused(int64_t n, int64_t terms, const double *x, const double *y,
                           const char *message)
{
    td_fit_points p = { .n = n, .terms = terms, .x = { x, x }, .y = y };
    td_fit        fit;
    td_error      e = { 0 };
    cr_expect_eq(td_fit_curves(&p, &(td_fit_options){ .names = { "size" } }, &fit, &e), TD_ECONFIG);
    cr_expect(strstr(e.text, message), "'%s' does not say '%s'", e.text, message);
    td_fit_free(&fit);
}

Test(fit, too_few_points_are_refused)
{
    static const double x[] = { 1, 2, 3, 4, 5, 6 }, y[] = { 6, 5, 4, 3, 2, 1 };
    static const double two[] = { 1, 1, 2, 2, 2, 2 }, zero[] = { 6, 5, 0, 3, 2, 1 };
    expect_refused(1, 1, x, y, "there is 1 point, but a curve of 3 parameters takes at least 4");
    expect_refused(3, 1, x, y, "there are 3 points, but a curve of 3 parameters takes at least 4");
    expect_refused(5, 2, x, y, "there are 5 points, but a curve of 5 parameters takes at least 6");
    expect_refused(6, 1, two, y, "only 2 different values of 'size'");
    expect_refused(6, 1, x, zero, "point 3 is (3, 0)");
    expect_refused(TD_FIT_MOST + 1, 1, x, y,
                   "there are 100001 points, and a fit takes at most 100000");
}

/* Sizes that span a factor of 2, and tokens in proportion to parameters. */
Test(fit, what_the_data_cannot_tell_is_said)
{
    planted p = power_law(8);
    td_fit  fit;
    for (int i = 0; i < 8; i++)
        p.x[0][i] = 1e9 * pow(2, i / 7.);
    plant(&p, 0.002, 1);
    fit = fit_planted(&p, 0);
    cr_expect(fit.condition > 100, "%g", fit.condition);
    cr_expect(strstr(td_text_get(&fit.warnings), "spans only a factor of 2"));
    cr_expect(strstr(td_text_get(&fit.warnings), "condition number"));
    td_fit_free(&fit);
    p = joint_law();
    for (int i = 0; i < 36; i++)
        p.x[1][i] = 20 * p.x[0][i] * (1 + 0.01 * sin(i));
    plant(&p, 0.002, 1);
    fit = fit_planted(&p, 0);
    cr_expect(strstr(td_text_get(&fit.warnings), "change together"), "%s",
              td_text_get(&fit.warnings));
    td_fit_free(&fit);
}

/* One point far off hardly moves the Huber loss. */
Test(fit, outlier)
{
    planted p = power_law(20);
    td_fit  fit;
    double  near, far;
    plant(&p, 0.0005, 9);
    p.y[19] *= 1.1;
    fit = fit_planted(&p, 0);
    far = fabs(fit.projection.curve.alpha[0] - p.truth.alpha[0]);
    near = fabs(fit.huber.curve.alpha[0] - p.truth.alpha[0]);
    cr_expect(far > 0.02 && near < far / 5, "%g and %g", far, near);
    td_fit_free(&fit);
}

/* ---- compute --------------------------------------------------------------------------------- */

/* Against a search along N D = C / 6. */
Test(fit, the_best_use_of_compute)
{
    planted        p = joint_law();
    td_fit_optimum o;
    double         compute = 1e21, best = INFINITY, best_n = 0;
    plant(&p, 0, 0);
    td_fit fit = fit_planted(&p, 0);
    cr_assert(td_fit_optimal(&fit, 6, &o));
    for (double n = 1e8; n < 1e11; n *= 1.0005) {
        double x[] = { n, compute / 6 / n }, y = td_fit_at(&p.truth, x);
        if (y < best) {
            best = y;
            best_n = n;
        }
    }
    EXPECT_NEAR(o.n_scale * pow(compute / 6, o.n_power) / best_n, 1, 0.001);
    EXPECT_NEAR(o.n_power, 0.28 / 0.62, 1e-7);
    EXPECT_NEAR(o.n_power + o.d_power, 1, 1e-12);
    EXPECT_NEAR(o.n_scale * o.d_scale, 1, 1e-9);
    td_fit_free(&fit);
}

/* Losses that are parabolas in log N, whose best sizes grow as C^0.47. */
Test(fit, isoflop_profiles)
{
    double     budget[40], size[40], loss[40];
    td_isoflop f;
    int        n = 0;
    for (int b = 0; b < 4; b++)
        for (int k = -2; k <= 2; k++, n++) {
            double best = 0.3 * pow(1e18 * pow(10, b), 0.47);
            budget[n] = 1e18 * pow(10, b) * (1 + 0.004 * k); /* never exactly the same */
            size[n] = best * pow(2, k + 0.3);
            loss[n] = 3 - 0.2 * b + 0.05 * pow(log(size[n] / best), 2);
        }
    cr_assert_eq(td_isoflop_fit(budget, size, loss, n, &f, NULL), 0);
    cr_assert_eq(f.count, 4);
    cr_expect_eq(f.used, 4);
    EXPECT_NEAR(f.power, 0.47, 1e-4);
    EXPECT_NEAR(f.profiles[1].size / (0.3 * pow(1e19, 0.47)), 1, 1e-9);
    EXPECT_NEAR(f.profiles[1].loss, 2.8, 1e-9);
    cr_expect(strstr(td_text_get(&f.warnings), "biased"));
    td_isoflop_free(&f);
    for (int k = 0; k < 5; k++) /* the least of the first budget is at its edge and beyond */
        loss[k] = 3 - 0.01 * k - 0.001 * k * k;
    cr_assert_eq(td_isoflop_fit(budget, size, loss, n, &f, NULL), 0);
    cr_expect_eq(f.used, 3);
    cr_expect(strstr(td_text_get(&f.warnings), "no minimum"), "%s", td_text_get(&f.warnings));
    td_isoflop_free(&f);
}

/* Against the definition, on points with ties. */
Test(fit, frontier)
{
    double  x[60], y[60];
    int64_t out[60], n;
    bool    on[60] = { false };
    for (int i = 0; i < 60; i++) {
        x[i] = (double)td_random_below(1, 1, (uint64_t)i, 12);
        y[i] = 20 - x[i] / 2 + (double)td_random_below(1, 2, (uint64_t)i, 9);
    }
    n = td_frontier(x, y, 60, out);
    for (int64_t k = 0; k < n; k++) {
        on[out[k]] = true;
        cr_expect(!k || x[out[k]] > x[out[k - 1]]);
    }
    for (int i = 0; i < 60; i++) {
        bool beaten = false;
        for (int j = 0; j < 60; j++)
            beaten = beaten ||
                     (x[j] <= x[i] && y[j] <= y[i] && (x[j] < x[i] || y[j] < y[i] || j < i));
        cr_expect_eq(on[i], !beaten, "point %d", i);
    }
}
