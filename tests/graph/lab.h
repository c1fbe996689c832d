/* lab.h - small graphs over states, one at a time: a test builds it, plans it, runs it and reads
 * the results. */
#ifndef TESTS_GRAPH_LAB_H
#define TESTS_GRAPH_LAB_H

#include "ops/harness.h"

#include "plan/internal.h"

typedef struct sheet {
    machine      *m;
    td_variables *variables;
    td_graph     *g;
    td_plan      *plan;
    void         *arena;
} sheet;

static inline sheet sheet_new(machine *m)
{
    td_graph_options o = { .phase = TD_PHASE_TRAIN, .real = td_device_real(&m->device) };
    sheet            s = { .m = m, .variables = td_variables_new() };
    s.g = td_graph_new(m->registry, s.variables, &o);
    return s;
}

static inline void sheet_free(sheet *s)
{
    if (s->arena)
        s->m->device.backend->release(s->m->device.state, s->arena, td_plan_arena(s->plan) + 64);
    td_plan_free(s->plan);
    td_graph_free(s->g);
    td_variables_release(s->variables, &s->m->device);
    td_variables_free(s->variables);
}

/* A state whose elements all begin as `value`. */
static inline td_tensor *state_of(sheet *s, const char *name, int64_t rows, int64_t columns,
                                  double value)
{
    return s->g->host->state(s->g, name, (int64_t[]){ rows, columns }, 2, value);
}

static inline td_tensor *all(sheet *s, int64_t rows, int64_t columns, double value)
{
    return td_full(s->g, TD_REAL, (int64_t[]){ rows, columns }, 2, value);
}

static inline void sheet_plan(sheet *s, td_tensor **roots, size_t n)
{
    td_error e = { 0 };
    s->plan = td_plan_new(s->g, roots, n, &s->m->device, &e);
    cr_assert(s->plan, "%s", e.text);
}

/* Give the plan and its variables memory. */
static inline void sheet_bind(sheet *s)
{
    td_error e = { 0 };
    int      real = td_device_real(&s->m->device);
    cr_assert(!td_variables_allocate(s->variables, &s->m->device, real, &e), "%s", e.text);
    cr_assert(!td_variables_initialize(s->variables, &s->m->device, real, 5, &e), "%s", e.text);
    s->arena = s->m->device.backend->allocate(s->m->device.state, td_plan_arena(s->plan) + 64);
    cr_assert(!td_plan_bind(s->plan, s->arena, &e), "%s", e.text);
}

static inline void sheet_run(sheet *s)
{
    td_error e = { 0 };
    sheet_bind(s);
    cr_assert(!td_plan_run(s->plan, &e), "%s", e.text);
}

/* Element `at` of a root, or of a state, after the run. */
static inline double root_at(sheet *s, td_tensor *root, int64_t at)
{
    td_error e = { 0 };
    double  *x = calloc((size_t)td_count(root), sizeof *x), value;
    cr_assert(!td_plan_get(s->plan, root, x, td_count(root), &e), "%s", e.text);
    value = x[at];
    free(x);
    return value;
}

static inline double state_at(sheet *s, const char *name, int64_t at)
{
    td_error     e = { 0 };
    td_variable *v = td_variables_find(s->variables, name);
    float       *x = calloc((size_t)v->count, sizeof *x), value;
    cr_assert(!td_variable_get(v, &s->m->device, td_device_real(&s->m->device), x, &e), "%s",
              e.text);
    value = x[at];
    free(x);
    return (double)value;
}

/* Expect that the graph cannot be planned, and that the error contains `message`. */
static inline void expect_no_plan(sheet *s, td_tensor **roots, size_t n, const char *message)
{
    td_error e = { 0 };
    td_plan *p = td_plan_new(s->g, roots, n, &s->m->device, &e);
    cr_expect(!p && strstr(e.text, message), "the message is '%s'; expected '%s'", e.text, message);
    td_plan_free(p);
}

/* The number of calls of the op in the plan. */
static inline int calls_of(const td_plan *p, const char *op)
{
    int count = 0;
    for (int32_t i = 0; i < p->n_calls; i++)
        count += !p->calls[i]->dropped && !strcmp(p->calls[i]->kernel->op, op);
    return count;
}

#endif
