/* moe.c - the mixture of experts against plain loops: the chosen experts, their weights,
 * padding, shared experts, dropout, and the auxiliary losses. */
#include "check/internal.h"
#include "ops/harness.h"
#include "tandem/kind/ffn.h"
#include "plugin/defaults.h"

enum { B = 2, T = 7, D = 5, F = 3, N = B * T, MOST = 4 };

static const int32_t segments[N] = { 1, 1, 1, 2, 2, 0, 0, 1, 1, 1, 1, 1, 1, 0 };

typedef struct shape {
    int64_t experts, top_k, shared, geglu, all;
    double  rate; /* of dropout */
} shape;

static double value(uint64_t stream, int64_t k)
{
    return td_random_uniform(5, stream, (uint64_t)k) * 3 - 1.5;
}

static void set(const td_part *p, const char *name, int64_t type, double x)
{
    void *at = td_check_field(p, name, type);
    cr_assert(at, "no option %s", name);
    if (type == TD_TYPE_FLOAT)
        *(double *)at = x;
    else
        *(int64_t *)at = (int64_t)x;
}

/* ---- the plugin ------------------------------------------------------------------------------ */

typedef struct layer {
    machine       lab;
    td_arena     *arena;
    td_graph     *graph;
    td_variables *variables;
    td_plan      *plan;
    void         *memory;
    double        y[N * D], mask[N * MOST * F], balance, z;
} layer;

static td_part part_with(layer *l, const shape *s)
{
    td_error error = { 0 };
    td_part  p;
    cr_assert(!td_part_defaults(l->lab.registry, TD_FFN_KIND, "moe", l->arena, &p, &error), "%s",
              error.text);
    set(&p, "d_ff", TD_TYPE_INT, F);
    set(&p, "experts", TD_TYPE_INT, (double)s->experts);
    set(&p, "top_k", TD_TYPE_INT, (double)s->top_k);
    set(&p, "shared", TD_TYPE_INT, (double)s->shared);
    set(&p, "activation", TD_TYPE_CHOICE, (double)s->geglu);
    set(&p, "weights", TD_TYPE_CHOICE, (double)s->all);
    set(&p, "balance", TD_TYPE_FLOAT, 0.5);
    set(&p, "router_z", TD_TYPE_FLOAT, 0.25);
    return p;
}

/* y, the two losses, and the dropout mask of the hidden layer, computed as dropout of ones at
 * the same place. */
static size_t build(layer *l, const shape *s, td_tensor **roots)
{
    int64_t    dims[] = { B, T, D }, inside[] = { B, T * s->top_k, F };
    td_graph  *g = l->graph;
    td_dropout dropout = { s->rate, false, td_full(g, TD_I32, 0, 0, 3), td_iota(g, TD_I32, B) };
    td_part    p = part_with(l, s);
    td_ffn_in  in = { td_input(g, "x", TD_REAL, dims, 3), td_input(g, "s", TD_I32, dims, 2),
                      &dropout };
    size_t     n;
    roots[0] = td_ffn_build(&p, "mlp", &in);
    const td_aux *aux = td_graph_aux(g, &n);
    cr_assert(n == 2 && !strcmp(aux[0].name, "moe_balance") && !strcmp(aux[1].name, "moe_z"));
    roots[1] = aux[0].loss;
    roots[2] = aux[1].loss;
    td_push(g, "mlp");
    td_push(g, "experts");
    roots[3] = td_drop(td_full(g, TD_REAL, inside, 3, 1), &dropout, "inside", 1);
    td_pop(g);
    td_pop(g);
    return 4;
}

static void layer_run(layer *l, td_tensor *const *roots)
{
    td_error error = { 0 };
    float    x[N * D];
    for (int k = 0; k < N * D; k++)
        x[k] = (float)value(1, k);
    cr_assert(!td_plan_set_floats(l->plan, "x", x, N * D, &error) &&
                  !td_plan_set_ints(l->plan, "s", segments, N, &error) &&
                  !td_plan_run(l->plan, &error) &&
                  !td_plan_get(l->plan, roots[0], l->y, N * D, &error) &&
                  !td_plan_get(l->plan, roots[3], l->mask, td_count(roots[3]), &error),
              "%s", error.text);
    l->balance = td_plan_get_scalar(l->plan, roots[1]);
    l->z = td_plan_get_scalar(l->plan, roots[2]);
}

static void layer_open(layer *l, const shape *s)
{
    td_error   error = { 0 };
    td_tensor *roots[4];
    *l = (layer){ .lab = machine_new("reference", 1),
                  .arena = td_arena_new(),
                  .variables = td_variables_new() };
    l->graph = td_graph_new(l->lab.registry, l->variables,
                            &(td_graph_options){ .phase = TD_PHASE_TRAIN, .real = TD_F64 });
    size_t n = build(l, s, roots);
    cr_assert_eq(td_graph_error(l->graph, &error), 0, "%s", error.text);
    l->plan = td_plan_new(l->graph, roots, n, &l->lab.device, &error);
    cr_assert(l->plan, "%s", error.text);
    cr_assert_eq(td_variables_allocate(l->variables, &l->lab.device, TD_F64, &error), 0);
    for (size_t i = 0; i < td_variables_count(l->variables); i++) {
        td_variable *v = td_variables_at(l->variables, i);
        for (int64_t k = 0; k < v->count; k++)
            ((double *)v->memory)[k] = value(td_random_stream(v->name), k);
    }
    l->memory = aligned_alloc(64, (td_plan_arena(l->plan) + 127) / 64 * 64);
    cr_assert_eq(td_plan_bind(l->plan, l->memory, &error), 0, "%s", error.text);
    layer_run(l, roots);
}

static void layer_close(layer *l)
{
    td_plan_free(l->plan);
    free(l->memory);
    td_graph_free(l->graph);
    td_variables_release(l->variables, &l->lab.device);
    td_variables_free(l->variables);
    td_arena_free(l->arena);
    machine_free(&l->lab);
}

/* ---- plain loops ----------------------------------------------------------------------------- */

static double weight(const char *name, int64_t k) { return value(td_random_stream(name), k); }

static double activation(double x, bool gelu)
{
    return gelu
               ? 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)))
               : x / (1 + exp(-x));
}

/* out += scale * (f(x Wg) * (x Wu) * mask) Wd; `at`: the first row of the expert's matrices. */
static void expert(const char *scope, int64_t at, int64_t width, const double *x, double scale,
                   bool gelu, const double *mask, double *out)
{
    char name[3][64];
    for (int k = 0; k < 3; k++)
        snprintf(name[k], 64, "mlp.%s.%s_proj.weight", scope,
                 (const char *[]){ "gate", "up", "down" }[k]);
    for (int64_t f = 0; f < width; f++) {
        double gate = 0, up = 0;
        for (int64_t d = 0; d < D; d++) {
            gate += x[d] * weight(name[0], (at + f) * D + d);
            up += x[d] * weight(name[1], (at + f) * D + d);
        }
        for (int64_t d = 0; d < D; d++)
            out[d] += scale * activation(gate, gelu) * up * (mask ? mask[f] : 1) *
                      weight(name[2], (at * D) + d * width + f);
    }
}

/* Softmax of n logits; returns log Z. */
static double softmax(const double *logits, int64_t n, double *out)
{
    double sum = 0;
    for (int64_t e = 0; e < n; e++)
        sum += exp(logits[e]);
    for (int64_t e = 0; e < n; e++)
        out[e] = exp(logits[e]) / sum;
    return log(sum);
}

typedef struct sums {
    double tokens, chosen[16], probable[16], z;
} sums;

/* The result for one token, and its contribution to the losses. */
static void one_token(const shape *s, const double *x, bool real, const double *mask, double *y,
                      sums *sum)
{
    double logits[16] = { 0 }, p[16], z;
    bool   taken[16] = { false };
    for (int64_t e = 0; e < s->experts; e++)
        for (int d = 0; d < D; d++)
            logits[e] += x[d] * weight("mlp.gate.weight", e * D + d);
    z = softmax(logits, s->experts, p);
    for (int d = 0; d < D; d++)
        y[d] = 0;
    if (s->shared)
        expert("shared_expert", 0, F * s->shared, x, 1, s->geglu, NULL, y);
    if (!real)
        return;
    sum->tokens++;
    sum->z += z * z;
    int64_t best[MOST];
    double  total = 0;
    for (int64_t k = 0; k < s->top_k; k++) {
        best[k] = -1;
        for (int64_t e = 0; e < s->experts; e++)
            if (!taken[e] && (best[k] < 0 || p[e] > p[best[k]]))
                best[k] = e;
        taken[best[k]] = true;
        total += p[best[k]];
        sum->chosen[best[k]]++;
    }
    for (int64_t k = 0; k < s->top_k; k++)
        expert("experts", best[k] * F, F, x, s->all ? p[best[k]] : p[best[k]] / total, s->geglu,
               mask + k * F, y);
    for (int64_t e = 0; e < s->experts; e++)
        sum->probable[e] += p[e];
}

static void check_layer(const shape *s)
{
    layer  l;
    sums   sum = { 0 };
    double even = 0;
    int    busy = 0;
    layer_open(&l, s);
    for (int n = 0; n < N; n++) {
        double x[D], y[D];
        for (int d = 0; d < D; d++)
            x[d] = (double)(float)value(1, n * D + d);
        one_token(s, x, segments[n] != 0, l.mask + n * s->top_k * F, y, &sum);
        for (int d = 0; d < D; d++)
            cr_expect(fabs(l.y[n * D + d] - y[d]) <= 1e-12 * fmax(1, fabs(y[d])),
                      "token %d, element %d: %.15g, not %.15g", n, d, l.y[n * D + d], y[d]);
    }
    for (int64_t e = 0; e < s->experts; e++) {
        even += sum.chosen[e] / (double)s->top_k / sum.tokens * sum.probable[e] / sum.tokens;
        busy += sum.chosen[e] > 0;
    }
    cr_expect_gt(busy, 1, "all tokens chose the same");
    cr_expect_float_eq(l.balance, 0.5 * (double)s->experts * even, 1e-12);
    cr_expect_float_eq(l.z, 0.25 * sum.z / sum.tokens, 1e-12);
    layer_close(&l);
}

Test(moe, is_the_sum_of_the_chosen)
{
    static const shape shapes[] = {
        { .experts = 7, .top_k = 2 },
        { .experts = 5, .top_k = 3, .geglu = 1, .shared = 2 },
        { .experts = 3, .top_k = 1, .all = 1 },
        { .experts = 11, .top_k = 4, .all = 1, .shared = 1 },
        { .experts = 2, .top_k = 2 },
        { .experts = 7, .top_k = 2, .rate = 0.5 },
        { .experts = 7, .top_k = 3, .rate = 0.25, .all = 1 },
    };
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        check_layer(&shapes[k]);
}

static void expect_refused(const shape *s, const char *says)
{
    layer    l = { .lab = machine_new("reference", 1), .arena = td_arena_new() };
    td_part  p = part_with(&l, s);
    td_error error = { 0 };
    cr_expect_eq(p.plugin->check(p.config, &error), TD_ECONFIG);
    cr_expect(strstr(error.text, says), "%s", error.text);
    td_arena_free(l.arena);
    machine_free(&l.lab);
}

Test(moe, refuses_impossible_values)
{
    expect_refused(&(shape){ .experts = 3, .top_k = 4 }, "top_k = 4 is more than experts = 3");
    expect_refused(&(shape){ .experts = 3, .top_k = 1 }, "set weights = \"all\"");
}
