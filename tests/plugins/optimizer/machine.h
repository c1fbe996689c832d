/* machine.h - some steps of an optimizer in double precision, on the backend 'reference'. */
#ifndef TESTS_PLUGINS_OPTIMIZER_MACHINE_H
#define TESTS_PLUGINS_OPTIMIZER_MACHINE_H

#include <criterion/criterion.h>
#include <math.h>

#include "base/threads.h"
#include "plan/plan.h"
#include "plugin/defaults.h"
#include "tandem/kind/optimizer.h"

enum { STEPS = 3, LARGEST = 64 };

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

static inline void machine_open(struct machine *m)
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

static inline void machine_close(struct machine *m)
{
    td_variables_release(m->variables, &m->device);
    td_variables_free(m->variables);
    m->device.backend->close(m->device.state);
    td_arena_free(m->arena);
    td_pool_free(m->pool);
    td_registry_free(m->registry);
}

static inline td_part part_of(struct machine *m, const char *name)
{
    td_part  p;
    td_error error = { 0 };
    cr_assert(td_part_defaults(m->registry, TD_OPTIMIZER_KIND, name, m->arena, &p, &error) == 0,
              "%s", error.text);
    return p;
}

static inline void set(const td_part *p, const char *name, double value)
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

static inline double first(int k) { return 0.25 * ((k * 7) % 11 - 5); }
static inline double gradient(int step, int k) { return 0.125 * ((k * 5 + step * 3) % 13 - 6); }

/* The parameter that is updated. */
typedef struct weight {
    const char *name;
    int         rank;
    int64_t     dim[3];
} weight;

static inline td_graph *build(struct machine *m, const td_part *p, const weight *w)
{
    td_graph       *g = td_graph_new(m->registry, m->variables,
                                     &(td_graph_options){ .phase = TD_PHASE_TRAIN, .real = TD_F64 });
    td_optimizer_in in = { .graph = g, .name = w->name, .decay_scale = decay_scale };
    in.param = td_param(g, w->name, w->dim, w->rank, td_zeros());
    in.grad = td_input(g, "grad", TD_REAL, w->dim, w->rank);
    in.rate = td_input(g, "rate", TD_REAL, 0, 0);
    in.step = td_input(g, "step", TD_REAL, 0, 0);
    in.clip = td_scalar(g, clip);
    in.gate = td_input(g, "gate", TD_REAL, 0, 0);
    td_push(g, w->name);
    td_assign(in.param, ((const td_optimizer *)(const void *)p->plugin)->build(p->config, &in),
              in.gate);
    td_pop(g);
    return g;
}

static inline void run_step(td_plan *plan, int count, int step, double gate)
{
    float    grad[LARGEST];
    td_error error = { 0 };
    for (int k = 0; k < count; k++)
        grad[k] = (float)gradient(step, k);
    int code = td_plan_set_floats(plan, "grad", grad, count, &error) ||
               td_plan_set_scalar(plan, "rate", rates[step], &error) ||
               td_plan_set_scalar(plan, "step", step + 1, &error) ||
               td_plan_set_scalar(plan, "gate", gate, &error) || td_plan_run(plan, &error);
    cr_assert(!code, "%s", error.text);
}

/* The parameter after STEPS updates, with another between them that the gate blocks. */
static inline void update(struct machine *m, const td_part *p, const weight *shape, float *out)
{
    td_error  error = { 0 };
    td_graph *g = build(m, p, shape);
    td_plan  *plan = td_plan_new(g, NULL, 0, &m->device, &error);
    cr_assert(!td_graph_error(g, &error) && plan, "%s", error.text);
    void *arena = aligned_alloc(64, (td_plan_arena(plan) + 127) / 64 * 64);
    cr_assert(td_variables_allocate(m->variables, &m->device, TD_F64, &error) == 0, "%s",
              error.text);
    cr_assert(td_plan_bind(plan, arena, &error) == 0, "%s", error.text);
    cr_assert(td_variables_initialize(m->variables, &m->device, TD_F64, 1, &error) == 0, "%s",
              error.text);
    td_variable *w = td_variables_at(m->variables, 0);
    int          count = (int)w->count;
    cr_assert_leq(count, LARGEST);
    for (int k = 0; k < count; k++)
        out[k] = (float)first(k);
    td_variable_set(w, &m->device, TD_F64, out, &error);
    for (int s = 0; s < STEPS; s++) {
        run_step(plan, count, (s + 1) % STEPS, 0);
        run_step(plan, count, s, 1);
    }
    td_variable_get(w, &m->device, TD_F64, out, &error);
    td_plan_free(plan);
    free(arena);
    td_graph_free(g);
}

#endif
