/* updates.c - three steps of each optimiser in double precision, against plain loops. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/threads.h"
#include "graph/graph.h"
#include "plugin/options.h"
#include "tandem/kind/optimizer.h"

enum { ROWS = 3, COLUMNS = 5, N = ROWS * COLUMNS, STEPS = 3 };

static const double rates[STEPS] = { 0.01, 0.1, 0.05 };
static const double clip = 0.5, decay_scale = 0.75;

/* ---- the plugin, on the reference backend ---------------------------------------------------- */

struct machine {
    td_registry  *registry;
    td_pool      *pool;
    td_arena     *arena;
    td_device     device;
    td_variables *variables;
};

static void machine_open(struct machine *m)
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    td_error                 error = { 0 };
    *m = (struct machine){ .registry = td_registry_new(paths, NULL, &error),
                           .pool = td_pool_new(1, NULL, &error),
                           .arena = td_arena_new(),
                           .variables = td_variables_new() };
    cr_assert(m->registry && m->pool, "%s", error.text);
    m->device = (td_device){ .backend = (const void *)td_registry_find(m->registry, TD_BACKEND_KIND,
                                                                       "reference", &error),
                             .services = td_pool_services(m->pool),
                             .registry = m->registry };
    cr_assert(m->device.backend, "%s", error.text);
    cr_assert(m->device.backend->open(NULL, m->device.services, &m->device.state, &error) == 0,
              "%s", error.text);
}

static void machine_close(struct machine *m)
{
    td_variables_release(m->variables, &m->device);
    td_variables_free(m->variables);
    m->device.backend->close(m->device.state);
    td_arena_free(m->arena);
    td_pool_free(m->pool);
    td_registry_free(m->registry);
}

static td_part part_of(struct machine *m, const char *name)
{
    td_part  p;
    td_error error = { 0 };
    cr_assert(td_part_defaults(m->registry, TD_OPTIMIZER_KIND, name, m->arena, &p, &error) == 0,
              "%s", error.text);
    return p;
}

static void set(const td_part *p, const char *name, double value)
{
    for (const td_option *o = p->plugin->options; o->type != TD_TYPE_END; o++) {
        char *at = (char *)(uintptr_t)p->config + o->offset;
        if (strcmp(o->name, name))
            continue;
        if (o->type == TD_TYPE_BOOL)
            *(bool *)at = value != 0;
        else if (o->type == TD_TYPE_INT)
            *(int64_t *)at = (int64_t)value;
        else
            *(double *)at = value;
        return;
    }
    cr_assert_fail("no option %s", name);
}

static double first(int k) { return 0.25 * ((k * 7) % 11 - 5); }
static double gradient(int step, int k) { return 0.125 * ((k * 5 + step * 3) % 13 - 6); }

static td_graph *build(struct machine *m, const td_part *p)
{
    int64_t         dims[] = { ROWS, COLUMNS };
    td_graph       *g = td_graph_new(m->registry, m->variables,
                                     &(td_graph_options){ .phase = TD_PHASE_TRAIN, .real = TD_F64 });
    td_optimizer_in in = { .graph = g, .name = "w", .decay_scale = decay_scale };
    in.param = td_param(g, "w", dims, 2, td_zeros()),
    in.grad = td_input(g, "grad", TD_REAL, dims, 2);
    in.rate = td_input(g, "rate", TD_REAL, 0, 0), in.step = td_input(g, "step", TD_REAL, 0, 0);
    in.clip = td_scalar(g, clip), in.gate = td_input(g, "gate", TD_REAL, 0, 0);
    td_push(g, "w");
    td_assign(in.param, ((const td_optimizer *)(const void *)p->plugin)->build(p->config, &in),
              in.gate);
    td_pop(g);
    return g;
}

static void run_step(td_plan *plan, int step, double gate)
{
    float    grad[N];
    td_error error = { 0 };
    for (int k = 0; k < N; k++)
        grad[k] = (float)gradient(step, k);
    int code = td_plan_set_floats(plan, "grad", grad, N, &error) ||
               td_plan_set_scalar(plan, "rate", rates[step], &error) ||
               td_plan_set_scalar(plan, "step", step + 1, &error) ||
               td_plan_set_scalar(plan, "gate", gate, &error) || td_plan_run(plan, &error);
    cr_assert(!code, "%s", error.text);
}

/* The parameter after STEPS updates, with one between them that the gate holds back. */
static void update(struct machine *m, const td_part *p, float out[N])
{
    td_error  error = { 0 };
    td_graph *g = build(m, p);
    td_plan  *plan = td_plan_new(g, NULL, 0, &m->device, &error);
    cr_assert(!td_graph_error(g, &error) && plan, "%s", error.text);
    void *arena = aligned_alloc(64, (td_plan_arena(plan) + 127) / 64 * 64);
    cr_assert(td_variables_allocate(m->variables, &m->device, TD_F64, &error) == 0, "%s",
              error.text);
    cr_assert(td_plan_bind(plan, arena, &error) == 0, "%s", error.text);
    cr_assert(td_variables_initialise(m->variables, &m->device, TD_F64, 1, &error) == 0, "%s",
              error.text);
    td_variable *w = td_variables_at(m->variables, 0);
    for (int k = 0; k < N; k++)
        out[k] = (float)first(k);
    td_variable_set(w, &m->device, TD_F64, out, &error);
    for (int s = 0; s < STEPS; s++) {
        run_step(plan, (s + 1) % STEPS, 0);
        run_step(plan, s, 1);
    }
    td_variable_get(w, &m->device, TD_F64, out, &error);
    td_plan_free(plan);
    free(arena);
    td_graph_free(g);
}

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
        set(&part, "nesterov", nesterov), set(&part, "weight_decay", 0.2);
        update(&m, &part, got);
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
    update(&m, &part, got);
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

/* v from the whole matrix, or from its rows and columns. */
static void second_moment(struct second *v, int step, bool factored, double out[N])
{
    double keep = pow(step + 1, -0.8), mean = 0, row[ROWS] = { 0 }, column[COLUMNS] = { 0 };
    for (int k = 0; k < N; k++) {
        double square = pow(clip * gradient(step, k), 2) + 1e-30;
        v->whole[k] = (1 - keep) * v->whole[k] + keep * square;
        row[k / COLUMNS] += square / COLUMNS, column[k % COLUMNS] += square / ROWS;
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
    set(&part, "beta1", 0.9), set(&part, "factored", factored), set(&part, "min_factored", ROWS);
    set(&part, by_rate ? "decay_by_rate" : "weight_decay", by_rate ? 1 : 0.02);
    update(&machine, &part, got);
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
    update(&machine, &part, got);
    for (int k = 0; k < N; k++)
        p[k] = first(k);
    for (int s = 0; s < STEPS; s++)
        for (int k = 0; k < N; k++) {
            double g = clip * gradient(s, k);
            m[k] = 0.9 * m[k] + 0.1 * g, v[k] = 0.95 * v[k] + 0.05 * g * g;
            p[k] -= rates[s] *
                    (m[k] / (1 - pow(0.9, s + 1)) / (sqrt(v[k] / (1 - pow(0.95, s + 1))) + 1e-8) +
                     0.1 * decay_scale * p[k]);
        }
    expect("adamw", got, p);
    machine_close(&machine);
}
