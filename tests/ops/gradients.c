/* gradients.c - the gradient of every op against central differences, in double on the backend
 * 'reference'. */
#include "check/op_cases.h"
#include "ops/harness.h"

static const double step = 1e-5;

static double loss_at(bench *b, const op_case *c, double *place, double x)
{
    double before = *place, loss;
    *place = x;
    bench_run(b, c);
    loss = td_plan_get_scalar(b->plan, b->roots[0]);
    *place = before;
    return loss;
}

static void check(const op_case *c, const machine *m)
{
    bench  b = bench_new(c, m);
    result r = bench_result(&b, c);

    for (int k = 0; k < b.n; k++) {
        td_variable *v = td_variables_at(b.variables, (size_t)k);
        double      *x = v->memory, *grad = r.at + r.first[2 + k],
               scale = largest(grad, (size_t)v->count);
        for (int64_t n = 0; n < v->count; n++) {
            /* in place: the next run reads the changed parameter */
            double slope = (loss_at(&b, c, x + n, x[n] + step) -
                            loss_at(&b, c, x + n, x[n] - step)) /
                           (2 * step);
            cr_expect(fabs(slope - grad[n]) <= 1e-6 * fmax(1, scale),
                      "%s [%s, %lld]: d/dx%d[%lld] is %.10g, not %.10g", c->op, c->dims,
                      (long long)c->option, k, (long long)n, grad[n], slope);
        }
    }
    free(r.at);
    bench_free(&b, m);
}

Test(gradients, match_central_differences)
{
    machine m = machine_new("reference", 1);
    for (int i = 0; i < CASES; i++)
        if (!cases[i].flat)
            check(&cases[i], &m);
    machine_free(&m);
}

static bool covered(const char *op)
{
    for (int i = 0; i < CASES; i++)
        if (!cases[i].flat && !strcmp(cases[i].op, op))
            return true;
    return !strcmp(op, "cast"); /* a graph has one real dtype: no gradient flows through a cast */
}

Test(gradients, every_op_with_a_gradient_has_a_case)
{
    machine m = machine_new("reference", 1);
    int     ops = 0;

    cr_assert_geq(td_registry_scan(m.registry), 0);
    for (size_t i = 0; i < td_registry_count(m.registry); i++) {
        const td_plugin *p = td_registry_plugin(m.registry, i);
        const td_op     *op = (const td_op *)(const void *)p;
        /* ops of modules bring examples, which conformance/plugins runs */
        if (strcmp(p->kind, TD_OP_KIND) || !op->vjp ||
            (td_registry_module(m.registry, p)->path && op->example))
            continue;
        ops++;
        cr_expect(covered(p->name), "op '%s' has a gradient and no case in cases.h", p->name);
    }
    cr_assert_gt(ops, 20);
    machine_free(&m);
}

Test(gradients, hidden_query_gets_zero)
{
    machine m = machine_new("reference", 1);
    op_case c = { "attend", "1x2x3x5,1x2x5x5,1x2x5x3", -1, 1, build_cross, 0, false };
    result  r = case_result(&c, &m);

    for (int h = 0; h < 2; h++) /* query 2 is in segment 3, which no key has */
        for (int e = 0; e < 3; e++)
            cr_expect_eq(r.at[r.first[1] + (size_t)((h * 3 + 2) * 3 + e)], 0.0);
    for (int h = 0; h < 2; h++) /* nobody sees key 3, which is padding */
        for (int e = 0; e < 5; e++)
            cr_expect_eq(r.at[r.first[3] + (size_t)((h * 5 + 3) * 5 + e)], 0.0);
    free(r.at);
    machine_free(&m);
}
