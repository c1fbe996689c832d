/* updates.c - three steps of each optimizer in double precision, against plain loops. */
#include "plugins/optimizer/machine.h"

enum { ROWS = 3, COLUMNS = 5, N = ROWS * COLUMNS };

static const weight matrix = { "w", 2, { ROWS, COLUMNS } };

static void expect(const char *what, const float got[N], const double want[N])
{
    for (int k = 0; k < N; k++)
        cr_expect(fabs(got[k] - want[k]) <= 1e-6, "%s: element %d is %.9g, not %.9g", what, k,
                  got[k], want[k]);
}

/* ---- plain loops ----------------------------------------------------------------------------- */

Test(optimizer, sgd)
{
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        struct machine m;
        double         p[N], v[N] = { 0 };
        float          got[N];
        machine_open(&m);
        td_part part = part_of(&m, "sgd");
        set(&part, "nesterov", nesterov);
        set(&part, "weight_decay", 0.2);
        update(&m, &part, &matrix, got);
        for (int k = 0; k < N; k++)
            p[k] = first(k);
        for (int s = 0; s < STEPS; s++)
            for (int k = 0; k < N; k++) {
                double g = clip * gradient(s, k);
                v[k] = 0.9 * v[k] + g;
                p[k] -= rates[s] * ((nesterov ? g + 0.9 * v[k] : v[k]) + 0.2 * decay_scale * p[k]);
            }
        expect(nesterov ? "nesterov" : "momentum", got, p);
        machine_close(&m);
    }
}

Test(optimizer, lion)
{
    struct machine m;
    double         p[N], v[N] = { 0 };
    float          got[N];
    machine_open(&m);
    td_part part = part_of(&m, "lion");
    set(&part, "weight_decay", 0.2);
    update(&m, &part, &matrix, got);
    for (int k = 0; k < N; k++)
        p[k] = first(k);
    for (int s = 0; s < STEPS; s++)
        for (int k = 0; k < N; k++) {
            double g = clip * gradient(s, k), c = 0.9 * v[k] + (1 - 0.9) * g;
            p[k] -= rates[s] * ((c > 0) - (c < 0) + 0.2 * decay_scale * p[k]);
            v[k] = 0.99 * v[k] + (1 - 0.99) * g;
        }
    expect("lion", got, p);
    machine_close(&m);
}

struct second {
    double whole[N], row[ROWS], column[COLUMNS];
};

/* v of the whole matrix, or from its row and column means. */
static void second_moment(struct second *v, int step, bool factored, double out[N])
{
    double keep = pow(step + 1, -0.8), mean = 0, row[ROWS] = { 0 }, column[COLUMNS] = { 0 };
    for (int k = 0; k < N; k++) {
        double square = pow(clip * gradient(step, k), 2) + 1e-30;
        v->whole[k] = (1 - keep) * v->whole[k] + keep * square;
        row[k / COLUMNS] += square / COLUMNS;
        column[k % COLUMNS] += square / ROWS;
    }
    for (int i = 0; i < ROWS; i++)
        mean += (v->row[i] = (1 - keep) * v->row[i] + keep * row[i]) / ROWS;
    for (int j = 0; j < COLUMNS; j++)
        v->column[j] = (1 - keep) * v->column[j] + keep * column[j];
    for (int k = 0; k < N; k++)
        out[k] = factored ? v->row[k / COLUMNS] * v->column[k % COLUMNS] / mean : v->whole[k];
}

static double rms(const double *x)
{
    double sum = 0;
    for (int k = 0; k < N; k++)
        sum += x[k] * x[k];
    return sqrt(sum / N);
}

static void adafactor_step(double p[N], double m[N], struct second *state, int s, bool factored,
                           double decay)
{
    double v[N], u[N], scale = rates[s] * fmax(1e-3, rms(p));
    second_moment(state, s, factored, v);
    for (int k = 0; k < N; k++)
        u[k] = clip * gradient(s, k) / sqrt(v[k]);
    scale /= fmax(1, rms(u));
    for (int k = 0; k < N; k++) {
        m[k] = 0.9 * m[k] + 0.1 * scale * u[k];
        p[k] = (1 - decay) * p[k] - m[k];
    }
}

static void check_adafactor(bool factored, bool by_rate)
{
    struct machine machine;
    struct second  state = { 0 };
    double         p[N], m[N] = { 0 };
    float          got[N];
    machine_open(&machine);
    td_part part = part_of(&machine, "adafactor");
    set(&part, "beta1", 0.9);
    set(&part, "factored", factored);
    set(&part, "min_factored", ROWS);
    set(&part, by_rate ? "decay_by_rate" : "weight_decay", by_rate ? 1 : 0.02);
    update(&machine, &part, &matrix, got);
    for (int k = 0; k < N; k++)
        p[k] = first(k);
    for (int s = 0; s < STEPS; s++)
        adafactor_step(p, m, &state, s, factored,
                       decay_scale * (by_rate ? rates[s] * rates[s] : 0.02));
    expect(factored ? "adafactor, factored" : "adafactor", got, p);
    machine_close(&machine);
}

Test(optimizer, adafactor) { check_adafactor(false, false); }
Test(optimizer, adafactor_decay_by_rate) { check_adafactor(false, true); }
Test(optimizer, adafactor_factored) { check_adafactor(true, false); }
Test(optimizer, adafactor_factored_decay_by_rate) { check_adafactor(true, true); }

Test(optimizer, adamw)
{
    struct machine machine;
    double         p[N], m[N] = { 0 }, v[N] = { 0 };
    float          got[N];
    machine_open(&machine);
    td_part part = part_of(&machine, "adamw");
    update(&machine, &part, &matrix, got);
    for (int k = 0; k < N; k++)
        p[k] = first(k);
    for (int s = 0; s < STEPS; s++)
        for (int k = 0; k < N; k++) {
            double g = clip * gradient(s, k);
            m[k] = 0.9 * m[k] + 0.1 * g;
            v[k] = 0.95 * v[k] + 0.05 * g * g;
            p[k] -= rates[s] *
                    (m[k] / (1 - pow(0.9, s + 1)) / (sqrt(v[k] / (1 - pow(0.95, s + 1))) + 1e-8) +
                     0.1 * decay_scale * p[k]);
        }
    expect("adamw", got, p);
    machine_close(&machine);
}

/* With alpha and the slow momentum's decay growing over two of the three steps, and without. */
static void check_ademamix(double warmup, double beta3)
{
    struct machine machine;
    double         p[N], m[N] = { 0 }, slow[N] = { 0 }, v[N] = { 0 };
    float          got[N];
    machine_open(&machine);
    td_part part = part_of(&machine, "ademamix");
    set(&part, "warmup", warmup);
    set(&part, "beta3", beta3);
    update(&machine, &part, &matrix, got);
    for (int k = 0; k < N; k++)
        p[k] = first(k);
    for (int s = 0; s < STEPS; s++) {
        double t = s + 1, share = warmup > 0 ? fmin(t / warmup, 1) : 1;
        double half = (1 - share) * log(0.5) / log(0.9) + share * log(0.5) / log(beta3);
        double b3 = pow(0.5, 1 / half); /* half-lives grow evenly */
        for (int k = 0; k < N; k++) {
            double g = clip * gradient(s, k);
            m[k] = 0.9 * m[k] + 0.1 * g;
            v[k] = 0.999 * v[k] + 0.001 * g * g;
            slow[k] = b3 * slow[k] + (1 - b3) * g;
            p[k] -= rates[s] * ((m[k] / (1 - pow(0.9, t)) + share * 5 * slow[k]) /
                                    (sqrt(v[k] / (1 - pow(0.999, t))) + 1e-8) +
                                0.1 * decay_scale * p[k]);
        }
    }
    expect("ademamix", got, p);
    machine_close(&machine);
}

Test(optimizer, ademamix) { check_ademamix(0, 0.9999); }
Test(optimizer, ademamix_warming_up)
{
    check_ademamix(2, 0.9);
    check_ademamix(2, 0.99);
    check_ademamix(7, 0.9999);
}
