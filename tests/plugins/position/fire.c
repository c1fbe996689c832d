/* fire.c - the dense bias against the paper's formula, for keys behind a query and ahead of it. */
#include "plugins/attention/lab.h"

enum { H = 3, HIDDEN = 5 };

static double psi(double x, double c) { return log(fabs(c) * x + 1); }

static double share(const lab *l, int32_t i, int32_t j)
{
    double c = 0.1 * *parameter(l, "stack.fire.c"),
           threshold = 4 * fabs(*parameter(l, "stack.fire.threshold"));
    return (i < j ? -1 : 1) * psi(fabs((double)i - j), c) / psi(fmax(threshold, i > j ? i : j), c);
}

static double plain(const lab *l, int h, int32_t i, int32_t j)
{
    const double *in = parameter(l, "stack.fire.inner.weight"),
                 *in_bias = parameter(l, "stack.fire.inner.bias"),
                 *out = parameter(l, "stack.fire.outer.weight");
    double sum = parameter(l, "stack.fire.outer.bias")[h];
    for (int u = 0; u < HIDDEN; u++)
        sum += out[h * HIDDEN + u] * fmax(in[u] * share(l, i, j) + in_bias[u], 0);
    return sum;
}

/* The bias hook's dense tensor [B, H, T, T] or NULL. */
static double *biased(lab *l, const td_part *p, td_role role)
{
    td_error    error = { 0 };
    double     *y = malloc(sizeof *y * B * H * T * T);
    td_graph   *g = td_graph_new(l->registry, l->variables,
                                 &(td_graph_options){ .phase = TD_PHASE_EVALUATE, .real = TD_F64 });
    td_tensor  *at = numbers(g, positions, T, 0, T);
    td_bias_in  in = { g, role, "stack", H, T, T, at, at };
    td_bias_out out = { { 0 }, NULL };
    td_plan    *plan;

    td_push(g, "layers.3");
    td_push(g, "attention"); /* the name does not depend on the scope in which the bias is built */
    ((const td_position *)(const void *)p->plugin)->bias(p->config, &in, &out);
    td_pop(g);
    td_pop(g);
    plan = out.dense ? td_plan_new(g, &out.dense, 1, &l->device, &error) : NULL;
    cr_assert(!td_graph_error(g, &error) && (plan || !out.dense), "%s", error.text);
    cr_expect(!out.table.table);
    if (plan) {
        void *arena = aligned_alloc(64, (td_plan_arena(plan) + 127) / 64 * 64);
        int   code = td_variables_allocate(l->variables, &l->device, TD_F64, &error);
        fill_parameters(l);
        code = code || td_plan_bind(plan, arena, &error) || td_plan_run(plan, &error) ||
               td_plan_get(plan, out.dense, y, (int64_t)B * H * T * T, &error);
        cr_assert(!code, "%s", error.text);
        td_plan_free(plan);
        free(arena);
    } else {
        free(y);
        y = NULL;
    }
    td_graph_free(g);
    return y;
}

static td_part fire(void)
{
    td_part p = load_part("position-fire", "fire");
    set_option(&p, "hidden", HIDDEN);
    set_option(&p, "threshold", 4);
    return p;
}

static void check(td_role role)
{
    lab     l = lab_new();
    td_part p = fire();
    double *y = biased(&l, &p, role);
    for (int n = 0; n < B * H * T * T; n++) {
        int    b = n / (H * T * T), i = n / T % T, j = n % T;
        double want = plain(&l, n / (T * T) % H, positions[b * T + i], positions[b * T + j]);
        cr_expect(fabs(y[n] - want) < 1e-12, "row %d, query %d, key %d: %.15g, not %.15g", b, i, j,
                  y[n], want);
    }
    free(y);
    free_part(&p);
    lab_free(&l);
}

Test(fire, decoder) { check(TD_ROLE_DECODER); }
Test(fire, encoder) { check(TD_ROLE_ENCODER); }

Test(fire, leaves_cross_attention_alone)
{
    lab     l = lab_new();
    td_part p = fire();
    cr_expect(!biased(&l, &p, TD_ROLE_CROSS));
    free_part(&p);
    lab_free(&l);
}

/* One set of parameters, however many layers request the bias. */
Test(fire, one_set_per_stack)
{
    lab     l = lab_new();
    td_part p = fire();
    free(biased(&l, &p, TD_ROLE_DECODER));
    free(biased(&l, &p, TD_ROLE_DECODER));
    cr_expect_eq(td_variables_count(l.variables), 6);
    free_part(&p);
    lab_free(&l);
}
