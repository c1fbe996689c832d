/* precision.c - mixed precision: rounding, which values a plan stores in bf16, copies of parameters
 * that updates write, and the same numbers from the two backends. */
#include <string.h>

#include "graph/lab.h"
#include "tandem/bf16.h"

/* ---- rounding -------------------------------------------------------------------------------- */

/* The nearest of the two neighbours below and above, by comparing distances in double. */
static uint16_t nearest(double x)
{
    uint16_t best = 0;
    double   least = INFINITY;
    for (uint32_t bits = 0; bits < 0x7F80; bits++) {
        double y = (double)td_bf16_to_float((uint16_t)bits), away = fabs(y - fabs(x));
        /* ties go to the even one, whose last bit is 0 */
        if (away < least || (away == least && !(bits & 1))) {
            least = away;
            best = (uint16_t)bits;
        }
    }
    return best | (signbit(x) ? 0x8000 : 0);
}

Test(precision, rounding_goes_to_the_nearest)
{
    double step = ldexp(1, -8); /* half of the distance of neighbours above 1 */
    double cases[] = {
        0,        -0.0,  1,       -1,   1 + step,         1 + 3 * step,     3.14159,
        -2.71828, 1e-40, 1.5e-45, 1e38, 1 + step + 1e-12, 1 + step - 1e-12, 1 + 3 * step - 1e-12
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        cr_expect_eq(td_bf16_from_double(cases[k]), nearest(cases[k]), "%.17g", cases[k]);
        if ((double)(float)cases[k] == cases[k])
            cr_expect_eq(td_bf16_from_float((float)cases[k]), nearest(cases[k]), "%.17g", cases[k]);
    }
    for (uint64_t k = 0; k < 200; k++) {
        double x = td_op_noise(5, (int64_t)k, -4, 4);
        cr_expect_eq(td_bf16_from_double(x), nearest(x), "%.17g", x);
    }
}

Test(precision, what_is_not_finite_stays_so)
{
    cr_expect_eq(td_bf16_from_float(INFINITY), 0x7F80);
    cr_expect_eq(td_bf16_from_double(-INFINITY), 0xFF80);
    /* above the largest finite number and its half step */
    cr_expect_eq(td_bf16_from_float(3.4e38f), 0x7F80);
    cr_expect_eq(td_bf16_from_double(1e300), 0x7F80);
    for (uint32_t payload = 1; payload < 0x800000; payload = payload * 5 + 1) {
        uint32_t bits = 0x7F800000 | payload;
        float    nan;
        memcpy(&nan, &bits, sizeof nan);
        cr_expect(isnan(td_bf16_to_float(td_bf16_from_float(nan))), "payload 0x%x", payload);
    }
    cr_expect(isnan(td_bf16_to_float(td_bf16_from_double(NAN))));
}

Test(precision, all_of_bf16_survives)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float x = td_bf16_to_float((uint16_t)bits);
        if (!isnan(x))
            cr_assert_eq(td_bf16_from_float(x), bits, "0x%x", bits);
    }
}

/* ---- plans ----------------------------------------------------------------------------------- */

/* A residual block: x + (norm(x) a) b, read by a second norm and a loss. */
typedef struct model {
    td_graph     *graph;
    td_variables *variables;
    td_plan      *plan;
    td_tensor    *loss, *logits;
    void         *arena;
} model;

static td_tensor *weight(td_graph *g, const char *name, int64_t rows, int64_t columns)
{
    int64_t dims[] = { rows, columns };
    td_init normal = { TD_INIT_NORMAL, 0.3 };
    return td_param(g, name, dims, 2, normal);
}

static td_tensor *block(td_graph *g, td_tensor *x)
{
    td_tensor *h = td_rms_norm(x, NULL, 1e-6);
    h = td_matmul(h, weight(g, "a", 24, 40));
    h = td_matmul(td_tanh(h), weight(g, "b", 40, 24));
    return td_add(x, h);
}

/* `narrow`: in bf16. Gradients are assigned, as a training step does. */
static model model_new(const machine *m, int narrow)
{
    td_graph_options    o = { .phase = TD_PHASE_TRAIN,
                              .real = td_device_real(&m->device),
                              .narrow = narrow };
    model               s = { .variables = td_variables_new() };
    td_error            e = { 0 };
    static const double ids[] = { 3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5 };
    td_tensor          *x, *w[3], *grads[3], *roots[2];

    s.graph = td_graph_new(m->registry, s.variables, &o);
    w[0] = weight(s.graph, "embedding", 11, 24);
    x = td_gather(w[0], td_constant(s.graph, TD_I32, (int64_t[]){ 11 }, 1, ids));
    x = td_rms_norm(block(s.graph, x), NULL, 1e-6);
    s.logits = td_matmul(x, td_transpose(w[0], 0, 1));
    s.loss = td_sum_all(td_mul(td_softmax(s.logits), td_softmax(s.logits)));
    w[1] = weight(s.graph, "a", 24, 40);
    w[2] = weight(s.graph, "b", 40, 24);
    cr_assert(!td_gradients(s.graph, s.loss, w, 3, grads, &e), "%s", e.text);
    for (int k = 0; k < 3; k++) {
        td_variable *v = td_value_of(w[k])->node->variable, *to;
        char         name[64];
        snprintf(name, sizeof name, "%s.grad", v->name);
        to = td_variables_add(s.variables, name, TD_VARIABLE_GRAD, v->dim, v->rank,
                              (td_init){ TD_INIT_ZEROS, 0 }, 0);
        td_assign(td_graph_variable(s.graph, to), grads[k], NULL);
    }
    roots[0] = s.loss;
    roots[1] = s.logits;
    s.plan = td_plan_new(s.graph, roots, 2, &m->device, &e);
    cr_assert(s.plan, "%s", e.text);
    cr_assert(!td_variables_allocate(s.variables, &m->device, o.real, &e), "%s", e.text);
    cr_assert(!td_variables_initialize(s.variables, &m->device, o.real, 7, &e), "%s", e.text);
    s.arena = m->device.backend->allocate(m->device.state, td_plan_arena(s.plan) + 64);
    cr_assert(!td_plan_bind(s.plan, s.arena, &e), "%s", e.text);
    return s;
}

static void model_free(model *s, const machine *m)
{
    m->device.backend->release(m->device.state, s->arena, td_plan_arena(s->plan) + 64);
    td_plan_free(s->plan);
    td_graph_free(s->graph);
    td_variables_release(s->variables, &m->device);
    td_variables_free(s->variables);
}

/* The calls of the n-th product of the graph and such. */
static const td_kernel_call *call_of(const model *s, const char *op, int n)
{
    for (int32_t i = 0; i < s->plan->n_calls; i++)
        if (!strcmp(s->plan->calls[i]->kernel->op, op) && n-- == 0)
            return s->plan->calls[i];
    cr_assert(false, "the plan has fewer calls of %s", op);
    return NULL;
}

Test(precision, without_it_nothing_is_bf16)
{
    machine m = machine_new("cpu", 1);
    model   s = model_new(&m, 0);
    for (int32_t i = 0; i < s.plan->n_calls; i++)
        cr_expect_neq(s.plan->calls[i]->kernel->dtype, TD_BF16);
    cr_expect(!td_variables_find(s.variables, "a")->copy);
    model_free(&s, &m);
    machine_free(&m);
}

/* Products read copies of parameters and activations in bf16; the stream x and the logits, a root
 * that only a softmax reads besides, are wide, as are gradients of parameters. */
static void expect_rules(const char *backend)
{
    machine               m = machine_new(backend, 1);
    int                   real = td_device_real(&m.device);
    model                 s = model_new(&m, TD_BF16);
    const td_kernel_call *first = call_of(&s, "matmul", 0), *second = call_of(&s, "matmul", 1);
    const td_kernel_call *logits = call_of(&s, "matmul", 2), *norm = call_of(&s, "rms_norm", 0);

    cr_expect_eq(norm->call.in[0].dtype, real, "x is wide");
    cr_expect_eq(norm->call.out[0].dtype, TD_BF16, "only a product reads norm(x)");
    cr_expect_eq(first->call.in[1].dtype, TD_BF16);
    cr_expect_eq(first->call.in[1].data, td_variables_find(s.variables, "a")->copy);
    cr_expect_eq(first->call.out[0].dtype, TD_BF16);
    /* x + h is one product, which starts from x */
    cr_expect_eq(second->call.in[2].dtype, real);
    cr_expect_eq(second->call.out[0].dtype, real);
    cr_expect_eq(logits->call.out[0].dtype, real);
    for (int32_t i = 0; i < s.plan->n_storages; i++) {
        const td_storage *x = &s.plan->storages[i];
        if (x->kind == TD_STORAGE_VARIABLE && x->leaf->variable->kind == TD_VARIABLE_GRAD)
            cr_expect_eq(x->dtype, real);
    }
    model_free(&s, &m);
    machine_free(&m);
}

Test(precision, rules_hold_on_cpu) { expect_rules("cpu"); }
Test(precision, rules_hold_on_reference) { expect_rules("reference"); }

/* All numbers of a run: the loss, the logits, the gradients. */
static size_t numbers_of(model *s, const machine *m, double *out)
{
    static const char *const names[] = { "embedding.grad", "a.grad", "b.grad" };
    int                      real = td_device_real(&m->device);
    size_t                   n = 1 + (size_t)td_count(s->logits);
    float                    values[24 * 40];
    td_error                 e = { 0 };

    cr_assert(!td_plan_run(s->plan, &e), "%s", e.text);
    out[0] = td_plan_get_scalar(s->plan, s->loss);
    cr_assert(!td_plan_get(s->plan, s->logits, out + 1, td_count(s->logits), &e), "%s", e.text);
    for (int k = 0; k < 3; k++) {
        const td_variable *v = td_variables_find(s->variables, names[k]);
        cr_assert(!td_variable_get(v, &m->device, real, values, &e), "%s", e.text);
        for (int64_t i = 0; i < v->count; i++)
            out[n++] = (double)values[i];
    }
    return n;
}

/* The root mean square of the difference, relative to that of the numbers. */
static double distance(const double *x, const double *y, size_t n)
{
    double apart = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        apart += (x[i] - y[i]) * (x[i] - y[i]);
        size += y[i] * y[i];
    }
    return sqrt(apart / size);
}

/* bf16 is off by some 2^-9 an operand; the same bf16 on two backends by far less, as only a few
 * roundings differ. With all ops lowered the same rules hold. */
Test(precision, backends_agree)
{
    machine cpu = machine_new("cpu", 2), plain = machine_new("reference", 1);
    model   exact = model_new(&plain, 0), want = model_new(&plain, TD_BF16), have, lowered;
    double  a[4000], b[4000], c[4000], d[4000];
    size_t  n = numbers_of(&exact, &plain, a);

    cr_assert_eq(numbers_of(&want, &plain, b), n);
    have = model_new(&cpu, TD_BF16);
    numbers_of(&have, &cpu, c);
    cr_expect_lt(distance(b, a, n), 0.02, "bf16 is off by %g", distance(b, a, n));
    cr_expect_gt(distance(b, a, n), 1e-4, "is it bf16 at all?");
    cr_expect_lt(distance(c, b, n), 0.003, "cpu is off by %g", distance(c, b, n));
    cpu.device.lower_all = true;
    lowered = model_new(&cpu, TD_BF16);
    numbers_of(&lowered, &cpu, d);
    cr_expect_lt(distance(d, a, n), 0.02, "lowered, it is off by %g", distance(d, a, n));
    model_free(&exact, &plain);
    model_free(&want, &plain);
    model_free(&have, &cpu);
    model_free(&lowered, &cpu);
    machine_free(&cpu);
    machine_free(&plain);
}

/* ---- copies of parameters -------------------------------------------------------------------- */

static void expect_copy(const td_variable *v, const float *values)
{
    for (int64_t i = 0; i < v->count; i++)
        cr_expect_eq(((const uint16_t *)v->copy)[i], td_bf16_from_float(values[i]), "%s[%lld]",
                     v->name, (long long)i);
}

/* Initial values, values that are set, and a plan that updates: the copy follows. */
Test(precision, copies_follow_their_parameters)
{
    machine          m = machine_new("cpu", 2);
    model            s = model_new(&m, TD_BF16);
    td_variable     *v = td_variables_find(s.variables, "a");
    float            values[24 * 40];
    td_error         e = { 0 };
    td_graph_options o = { .phase = TD_PHASE_TRAIN, .real = TD_F32 };
    td_graph        *g = td_graph_new(m.registry, s.variables, &o);
    td_plan         *update;
    void            *arena;

    expect_copy(v, v->memory);
    for (int64_t i = 0; i < v->count; i++)
        values[i] = (float)td_op_noise(3, i, -1, 1);
    cr_assert(!td_variable_set(v, &m.device, TD_F32, values, &e), "%s", e.text);
    expect_copy(v, values);
    td_assign(td_graph_variable(g, v), td_scale(td_graph_variable(g, v), 1.01), NULL);
    update = td_plan_new(g, NULL, 0, &m.device, &e);
    cr_assert(update, "%s", e.text);
    arena = m.device.backend->allocate(m.device.state, td_plan_arena(update) + 64);
    cr_assert(!td_plan_bind(update, arena, &e), "%s", e.text);
    cr_assert(!td_plan_run(update, &e), "%s", e.text);
    cr_expect_float_eq(((float *)v->memory)[5], values[5] * 1.01f, 1e-6);
    expect_copy(v, v->memory);
    m.device.backend->release(m.device.state, arena, td_plan_arena(update) + 64);
    td_plan_free(update);
    td_graph_free(g);
    model_free(&s, &m);
    machine_free(&m);
}
