/* rope.c - the angles of rotary positions and of their scalings, in double precision, against the
 * papers' formulas. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/threads.h"
#include "graph/graph.h"
#include "plugins/part.h"
#include "tandem/kind/position.h"

enum { T = 5, E = 14, HALF = E / 2 };
enum { NONE, LINEAR, NTK, YARN };

static const int32_t positions[T] = { 0, 1, 7, 100, 2999 };

/* Rotate (1, 0) in every pair: gives cosines, then sines, [T, E]. */
static void rotate(const td_part *part, double out[T * E])
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    td_error                 error = { 0 };
    td_registry             *registry = td_registry_new(paths, NULL, &error);
    td_pool                 *pool = td_pool_new(1, NULL, &error);
    td_variables            *variables = td_variables_new();
    td_device                d = { .services = td_pool_services(pool), .registry = registry };
    int64_t                  dims[] = { 1, 1, T, E }, row[] = { 1, T };
    double                   x[T * E];

    d.backend = (const void *)td_registry_find(registry, TD_BACKEND_KIND, "reference", &error);
    cr_assert(d.backend && d.backend->open(NULL, d.services, &d.state, &error) == 0, "%s",
              error.text);
    td_graph *g = td_graph_new(registry, variables,
                               &(td_graph_options){ .phase = TD_PHASE_EVALUATE, .real = TD_F64 });
    for (int k = 0; k < T * E; k++)
        x[k] = k % E < HALF;
    td_rotate_in in = { td_constant(g, TD_REAL, dims, 4, x),
                        td_input(g, "positions", TD_I32, row, 2), TD_ROLE_DECODER, true };
    td_tensor   *y = ((const td_position *)(const void *)part->plugin)->rotate(part->config, &in);
    td_plan     *plan = td_plan_new(g, &y, 1, &d, &error);
    cr_assert(plan && !td_graph_error(g, &error), "%s", error.text);
    void *arena = aligned_alloc(64, (td_plan_arena(plan) + 127) / 64 * 64);
    int   code = td_plan_bind(plan, arena, &error) ||
               td_plan_set_ints(plan, "positions", positions, T, &error) ||
               td_plan_run(plan, &error) || td_plan_get(plan, y, out, T * E, &error);
    cr_assert(!code, "%s", error.text);
    td_plan_free(plan);
    free(arena);
    td_graph_free(g);
    td_variables_free(variables);
    d.backend->close(d.state);
    td_pool_free(pool);
    td_registry_free(registry);
}

static void expect(const td_part *part, const double frequency[HALF], double grow)
{
    double y[T * E];
    rotate(part, y);
    for (int t = 0; t < T; t++)
        for (int j = 0; j < HALF; j++) {
            double angle = positions[t] * frequency[j];
            cr_expect(fabs(y[t * E + j] - grow * cos(angle)) < 1e-9, "cosine of wave %d at %d", j,
                      positions[t]);
            cr_expect(fabs(y[t * E + HALF + j] - grow * sin(angle)) < 1e-9, "sine of wave %d at %d",
                      j, positions[t]);
        }
}

static td_part scaled(int scaling, double factor)
{
    td_part p = load_part("position-rope", "rope");
    set_option(&p, "scaling", scaling), set_option(&p, "factor", factor);
    return p;
}

Test(rope, plain_and_linear)
{
    for (int scaling = NONE; scaling <= LINEAR; scaling++) {
        td_part p = scaled(scaling, scaling == LINEAR ? 4 : 1);
        double  f[HALF];
        for (int j = 0; j < HALF; j++)
            f[j] = pow(10000, -2.0 * j / E) / (scaling == LINEAR ? 4 : 1);
        expect(&p, f, 1);
        free_part(&p);
    }
}

/* The fastest wave is kept, the slowest is interpolated by the factor. */
Test(rope, ntk)
{
    td_part p = scaled(NTK, 4);
    double  f[HALF];
    for (int j = 0; j < HALF; j++)
        f[j] = pow(10000, -2.0 * j / E) * pow(4, -(double)j / (HALF - 1));
    expect(&p, f, 1);
    free_part(&p);
}

/* Over 2048 tokens, wave 1.76 turns 32 times and wave 4.40 once: waves to 1 are kept, those from 5
 * on interpolated. */
Test(rope, yarn)
{
    static const double share[HALF] = { 0, 0, 0.25, 0.5, 0.75, 1, 1 };
    td_part             p = scaled(YARN, 4);
    double              f[HALF];
    for (int j = 0; j < HALF; j++)
        f[j] = pow(10000, -2.0 * j / E) * (1 - share[j] + share[j] / 4);
    expect(&p, f, 0.1 * log(4) + 1);
    free_part(&p);
}

Test(rope, refuses_odd_heads_and_idle_factors)
{
    td_part  p = scaled(NONE, 1);
    td_error error = { 0 };
    cr_expect(((const td_position *)(const void *)p.plugin)->check_head(p.config, 7, &error) ==
              TD_ECONFIG);
    set_option(&p, "factor", 2);
    cr_expect(p.plugin->check(p.config, NULL) == TD_ECONFIG);
    free_part(&p);
}
