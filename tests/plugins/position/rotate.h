/* rotate.h - rotates (1, 0) in every pair by a position plugin, in double. */
#ifndef TESTS_PLUGINS_POSITION_ROTATE_H
#define TESTS_PLUGINS_POSITION_ROTATE_H

#include <criterion/criterion.h>
#include <math.h>

#include "base/threads.h"
#include "plan/plan.h"
#include "plugins/part.h"
#include "tandem/kind/position.h"

enum { T = 5, E = 14, HALF = E / 2 };

/* Cosines, then sines, times the factor by which the scheme scales them: [T, E]. */
static inline void rotate(const td_part *part, const int32_t positions[T], td_role role,
                          bool is_query, double out[T * E])
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
                        td_input(g, "positions", TD_I32, row, 2), role, is_query };
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

#endif
