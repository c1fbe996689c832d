/* harness.h - one small graph per case, run on any backend: random real inputs, one output, its
 * gradients.
 *
 * A case is run twice, on two machines (backends, thread counts, or with all ops lowered), and the
 * results are compared. Inputs are functions of their index, so both see the same numbers.
 */
#ifndef TESTS_OPS_HARNESS_H
#define TESTS_OPS_HARNESS_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/threads.h"
#include "check/op_case.h"
#include "plan/plan.h"
#include "plan/internal.h"
#include "tandem/ops.h"
#include "tandem/random.h"

enum { CASE_INPUTS = 6, CASE_ROOTS = CASE_INPUTS + 2 };

typedef td_op_case op_case;

/* An open backend. */
typedef struct machine {
    td_registry *registry;
    td_pool     *pool;
    td_device    device;
} machine;

/* The results of a case: loss, output and gradients, concatenated. */
typedef struct result {
    double *at;
    size_t  count, first[CASE_ROOTS + 1];
} result;

typedef struct bench {
    td_graph     *graph;
    td_variables *variables;
    td_plan      *plan;
    void         *arena;
    td_tensor    *x[CASE_INPUTS], *roots[CASE_ROOTS];
    int           n;
    size_t        n_roots;
} bench;

static inline machine machine_new(const char *backend, int threads)
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    td_error                 error = { 0, "" };
    machine                  m = { 0 };

    m.registry = td_registry_new(paths, NULL, &error);
    cr_assert(m.registry, "%s", error.text);
    m.pool = td_pool_new(threads, NULL, &error);
    cr_assert(m.pool, "%s", error.text);
    m.device.backend = (const void *)td_registry_find(m.registry, TD_BACKEND_KIND, backend, &error);
    cr_assert(m.device.backend, "%s", error.text);
    m.device.services = td_pool_services(m.pool);
    m.device.registry = m.registry;
    cr_assert_eq(m.device.backend->open(NULL, m.device.services, &m.device.state, &error), 0, "%s",
                 error.text);
    return m;
}

static inline void machine_free(machine *m)
{
    m->device.backend->close(m->device.state);
    td_pool_free(m->pool);
    td_registry_free(m->registry);
}

/* The k-th group of "2x3,3,-"; false after the last. */
static inline bool dims_of(const char *text, int k, int64_t *dims, int *rank)
{
    for (; k > 0; k--, text++)
        if (!(text = strchr(text, ',')))
            return false;
    *rank = 0;
    while (*text >= '0' && *text <= '9') {
        dims[(*rank)++] = strtoll(text, (char **)&text, 10);
        text += *text == 'x';
    }
    return true;
}

/* sum(y w) with weights that all differ: a gradient in the wrong place shows. */
static inline td_tensor *weighted_sum(td_graph *g, td_tensor *y)
{
    int64_t    count = td_count(y);
    double    *w = malloc(sizeof(double) * (size_t)(count + 1));
    td_tensor *weights;
    for (int64_t n = 0; n < count; n++)
        w[n] = td_op_noise(77, n, -1, 1);
    weights = td_constant(g, TD_REAL, y->dim, y->rank, w);
    free(w);
    return td_sum_all(td_mul(td_cast(y, TD_REAL), weights));
}

static inline bool contains(const td_graph *g, const char *op)
{
    const td_graph_full *full = td_full_of(g);
    for (int32_t i = 0; i < full->n_nodes; i++)
        if (full->nodes[i]->kind == TD_NODE_OP && td_node_is(full->nodes[i], op))
            return true;
    return false;
}

static inline void bench_inputs(bench *b, const op_case *c)
{
    int64_t dims[TD_MAX_RANK];
    int     rank;
    char    name[16];

    /* parameters, since gradients are taken of these */
    for (b->n = 0; dims_of(c->dims, b->n, dims, &rank); b->n++) {
        td_variable *v;
        snprintf(name, sizeof name, "x%d", b->n);
        v = td_variables_add(b->variables, name, TD_VARIABLE_PARAM, dims, rank, (td_init){ 0, 0 },
                             0);
        b->x[b->n] = td_graph_variable(b->graph, v);
    }
}

static inline void bench_roots(bench *b, const op_case *c)
{
    td_tensor *grads[CASE_INPUTS] = { NULL }, *y = c->build(b->graph, b->x, c->option);
    td_error   error = { 0, "" };

    b->roots[0] = weighted_sum(b->graph, y);
    b->roots[1] = y;
    b->n_roots = 2;
    cr_assert_eq(td_graph_error(b->graph, &error), 0, "%s: %s", c->op, error.text);
    cr_assert(contains(b->graph, c->op), "the case of '%s' has no such node", c->op);
    if (c->flat) /* it has no gradient */
        return;
    cr_assert_eq(td_gradients(b->graph, b->roots[0], b->x, (size_t)b->n, grads, &error), 0,
                 "%s: %s", c->op, error.text);
    for (int k = 0; k < b->n; k++) {
        cr_assert(grads[k], "%s: nothing flows to input %d", c->op, k);
        b->roots[b->n_roots++] = grads[k];
    }
    cr_assert_eq(td_graph_error(b->graph, &error), 0, "%s: %s", c->op, error.text);
}

static inline void bench_fill(bench *b, const op_case *c, const machine *m)
{
    td_error error = { 0, "" };
    int      real = td_device_real(&m->device);

    cr_assert_eq(td_variables_allocate(b->variables, &m->device, real, &error), 0, "%s",
                 error.text);
    for (int k = 0; k < b->n; k++) {
        td_variable *v = td_variables_at(b->variables, (size_t)k);
        float       *values = malloc(sizeof(float) * (size_t)(v->count + 1));
        /* floats even for doubles, so that all backends see the same inputs */
        for (int64_t n = 0; n < v->count; n++)
            values[n] = (float)td_op_noise((uint64_t)k, n, c->low, c->high);
        cr_assert_eq(td_variable_set(v, &m->device, real, values, &error), 0, "%s", error.text);
        free(values);
    }
}

static inline bench bench_new(const op_case *c, const machine *m)
{
    td_error         error = { 0, "" };
    td_graph_options o = { .phase = TD_PHASE_TRAIN,
                           .real = td_device_real(&m->device),
                           .dropout_seed = 5 };
    bench            b = { .variables = td_variables_new() };

    b.graph = td_graph_new(m->registry, b.variables, &o);
    bench_inputs(&b, c);
    bench_roots(&b, c);
    b.plan = td_plan_new(b.graph, b.roots, b.n_roots, &m->device, &error);
    cr_assert(b.plan, "%s: %s", c->op, error.text);
    bench_fill(&b, c, m);
    b.arena = m->device.backend->allocate(m->device.state, td_plan_arena(b.plan) + 64);
    cr_assert_eq(td_plan_bind(b.plan, b.arena, &error), 0, "%s: %s", c->op, error.text);
    return b;
}

static inline void bench_free(bench *b, const machine *m)
{
    m->device.backend->release(m->device.state, b->arena, td_plan_arena(b->plan) + 64);
    td_plan_free(b->plan);
    td_graph_free(b->graph);
    td_variables_release(b->variables, &m->device);
    td_variables_free(b->variables);
}

static inline void bench_run(bench *b, const op_case *c)
{
    td_error error = { 0, "" };
    cr_assert_eq(td_plan_run(b->plan, &error), 0, "%s: %s", c->op, error.text);
}

static inline result bench_result(bench *b, const op_case *c)
{
    td_error error = { 0, "" };
    result   r = { 0 };

    bench_run(b, c);
    /* one after the other, each from first[k] on */
    for (size_t k = 0; k < b->n_roots; k++) {
        r.first[k] = r.count;
        r.count += (size_t)td_count(b->roots[k]);
    }
    r.first[b->n_roots] = r.count;
    r.at = calloc(r.count + 1, sizeof(double));
    for (size_t k = 0; k < b->n_roots; k++)
        cr_assert_eq(td_plan_get(b->plan, b->roots[k], r.at + r.first[k], td_count(b->roots[k]),
                                 &error),
                     0, "%s: %s", c->op, error.text);
    return r;
}

static inline result case_result(const op_case *c, const machine *m)
{
    bench  b = bench_new(c, m);
    result r = bench_result(&b, c);
    bench_free(&b, m);
    return r;
}

static inline double largest(const double *x, size_t n)
{
    double top = 1e-3;
    for (size_t i = 0; i < n; i++)
        top = isfinite(x[i]) ? fmax(top, fabs(x[i])) : top;
    return top;
}

/* Root by root, relative to the root's largest element. The loss is a sum that cancels, so it is
 * compared to the size that a sum of as many random terms has. */
static inline void expect_close(const op_case *c, const char *what, const result *have,
                                const result *want, size_t roots, double tolerance)
{
    for (size_t k = 0; k < roots; k++) {
        size_t of = k ? k : 1;
        size_t count = want->first[of + 1] - want->first[of];
        double scale = largest(want->at + want->first[of], count) *
                       (k ? 1 : sqrt((double)count + 1));
        for (size_t i = want->first[k]; i < want->first[k + 1]; i++)
            cr_expect(have->at[i] == want->at[i] ||
                          fabs(have->at[i] - want->at[i]) <= tolerance * scale,
                      "%s [%s, %lld], %s: root %zu element %zu is %.12g, not %.12g", c->op, c->dims,
                      (long long)c->option, what, k, i - want->first[k], have->at[i], want->at[i]);
    }
}

#endif
