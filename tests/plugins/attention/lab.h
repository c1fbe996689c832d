/* lab.h - one attention on the backend 'reference', in double, and the parts of a plain loop
 * that computes the same. */
#ifndef TESTS_PLUGINS_ATTENTION_LAB_H
#define TESTS_PLUGINS_ATTENTION_LAB_H

#include <math.h>

#include "base/threads.h"
#include "plan/rows.h"
#include "plugins/part.h"
#include "tandem/kind/attention.h"
#include "tandem/random.h"

enum { B = 2, T = 7, S = 5, D = 6, MOST = 4096 };

typedef struct lab {
    td_registry  *registry;
    td_pool      *pool;
    td_variables *variables;
    td_device     device;
    td_cache     *cache;  /* of generation, or NULL */
    bool          filled; /* parameters stay as they are */
} lab;

/* A sequence to attend to. Arrays are [B, length]; NULL: no such tensor. */
typedef struct source {
    int64_t        length;
    const double  *x; /* [B, length, D] */
    const int32_t *segment, *position;
} source;

typedef struct scene {
    td_part        attention, position;
    td_role        role;
    bool           causal;
    const char    *path;  /* NULL: "attention" */
    int64_t        layer; /* from 1; 0: not known */
    source         own;   /* queries, and keys in self-attention */
    source         other; /* keys of cross-attention, memory of merged; length 0: none */
    const int32_t *input; /* given tokens of `own` */
    /* in generation: the pass, which reads tokens [first, first + count) of `own` */
    int            phase;
    int64_t        first, count;
} scene;

/* Two rows: two examples and padding; one example. */
static const int32_t segments[B * T] = { 1, 1, 1, 2, 2, 2, 0, 1, 1, 1, 1, 1, 1, 1 };
static const int32_t positions[B * T] = { 0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 3, 4, 5, 6 };
static const int32_t inputs[B * T] = { 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0 };
static const int32_t other_segments[B * S] = { 1, 2, 2, 2, 0, 1, 1, 1, 0, 0 };
static const int32_t other_positions[B * S] = { 0, 0, 1, 2, 0, 0, 1, 2, 0, 0 };

static inline lab lab_new(void)
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    td_error                 error = { 0 };
    lab                      l = { .variables = td_variables_new() };

    l.registry = td_registry_new(paths, NULL, &error);
    l.pool = td_pool_new(1, NULL, &error);
    cr_assert(l.registry && l.pool, "%s", error.text);
    l.device = (td_device){ .services = td_pool_services(l.pool), .registry = l.registry };
    l.device.backend = (const void *)td_registry_find(l.registry, TD_BACKEND_KIND, "reference",
                                                      &error);
    cr_assert(l.device.backend &&
                  l.device.backend->open(NULL, l.device.services, &l.device.state, &error) == 0,
              "%s", error.text);
    return l;
}

/* A new cache for B rows of generation, in place of the old one. */
static inline void lab_cache(lab *l, int64_t capacity, int64_t chunk)
{
    td_error error = { 0 };
    if (l->cache)
        td_cache_release(l->cache, &l->device);
    td_cache_free(l->cache);
    l->cache = td_cache_new(B, capacity, chunk, S, &error);
    cr_assert(l->cache, "%s", error.text);
}

static inline void lab_free(lab *l)
{
    if (l->cache)
        td_cache_release(l->cache, &l->device);
    td_cache_free(l->cache);
    td_variables_release(l->variables, &l->device);
    td_variables_free(l->variables);
    l->device.backend->close(l->device.state);
    td_pool_free(l->pool);
    td_registry_free(l->registry);
}

/* `count` numbers between -1 and 1, which depend only on the name. */
static inline double *randoms(const char *name, int64_t count)
{
    double *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = 2 * td_random_uniform(3, td_random_stream(name), (uint64_t)i) - 1;
    return x;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static inline td_tensor *numbers(td_graph *g, const int32_t *x, int64_t length, int64_t first,
                                 int64_t count)
{
    int64_t dims[] = { B, count };
    double  values[MOST];
    if (!x)
        return NULL;
    for (int64_t i = 0; i < B * count; i++)
        values[i] = x[i / count * length + first + i % count];
    return td_constant(g, TD_I32, dims, 2, values);
}

static inline td_tensor *reals(td_graph *g, const source *s, int64_t first, int64_t count)
{
    int64_t dims[] = { B, count, D };
    double  values[MOST];
    for (int64_t i = 0; i < B * count * D; i++) {
        int64_t row = i / (count * D), t = i / D % count;
        values[i] = s->x[(row * s->length + first + t) * D + i % D];
    }
    return td_constant(g, TD_REAL, dims, 3, values);
}

static inline td_attention_in attention_in(td_graph *g, const scene *s)
{
    int64_t         first = s->first, count = s->count ? s->count : s->own.length;
    bool            cross = s->role == TD_ROLE_CROSS, merged = s->other.length && !cross;
    td_attention_in in = { .role = s->role,
                           .rotated = true,
                           .stack = "stack",
                           .position = s->position,
                           .layer = s->layer };
    td_tensor      *segment = numbers(g, s->own.segment, s->own.length, first, count),
              *memory_segment = numbers(g, s->other.segment, s->other.length, 0, s->other.length),
              *memory_position = numbers(g, s->other.position, s->other.length, 0, s->other.length);

    in.query = in.key = reals(g, &s->own, first, count);
    in.q_position = in.k_position = numbers(g, s->own.position, s->own.length, first, count);
    in.mask = (td_mask){
        .causal = s->causal, .self = !cross, .q_segment = segment, .k_segment = segment
    };
    in.mask.q_input = in.mask.k_input = numbers(g, s->input, s->own.length, first, count);
    if (s->phase >= TD_PHASE_PREFILL && !cross)
        in.mask.q_index = in.mask.k_index = in.q_position;
    if (cross) {
        in.key = reals(g, &s->other, 0, s->other.length);
        in.mask.k_segment = memory_segment;
        in.k_position = memory_position;
    }
    if (merged) {
        in.memory = reals(g, &s->other, 0, s->other.length);
        in.memory_position = memory_position;
        in.memory_mask = (td_mask){ .q_segment = segment, .k_segment = memory_segment };
    }
    return in;
}

static inline td_graph *build(lab *l, const scene *s, td_tensor **out)
{
    td_graph       *g = td_graph_new(l->registry, l->variables,
                                     &(td_graph_options){
                                         .phase = s->phase, .real = TD_F64, .cache = l->cache });
    td_attention_in in = attention_in(g, s);
    *out = td_attention_build(&s->attention, s->path ? s->path : "attention", &in);
    return g;
}

/* Every parameter gets numbers between -1 and 1, which depend only on its name. */
static inline void fill_parameters(lab *l)
{
    for (size_t i = 0; !l->filled && i < td_variables_count(l->variables); i++) {
        td_variable *v = td_variables_at(l->variables, i);
        double      *x = v->kind == TD_VARIABLE_PARAM ? randoms(v->name, v->count) : NULL;
        if (x)
            memcpy(v->memory, x, (size_t)v->count * sizeof *x);
        free(x);
    }
}

/* Set all elements of a parameter, for later runs too. */
static inline void set_parameter(lab *l, const char *name, double value)
{
    td_variable *v = td_variables_find(l->variables, name);
    cr_assert(v, "no parameter '%s'", name);
    for (int64_t i = 0; i < v->count; i++)
        ((double *)v->memory)[i] = value;
    l->filled = true;
}

/* All rows have read the same number of tokens, and now read the same number of new ones. */
static inline int place_tokens(lab *l, const scene *s, td_plan *plan, td_error *error)
{
    int32_t count = (int32_t)(s->count ? s->count : s->own.length);
    int32_t lengths[B], counts[B];
    for (int b = 0; b < B; b++) {
        lengths[b] = (int32_t)s->first;
        counts[b] = count;
    }
    if (s->phase < TD_PHASE_PREFILL)
        return 0;
    return td_cache_place(l->cache, plan, count, lengths, counts, error);
}

/* The outputs, [B, count, D]; free them. */
static inline double *run(lab *l, const scene *s)
{
    td_error   error = { 0 };
    td_tensor *y;
    td_graph  *g = build(l, s, &y);
    td_plan   *plan = td_plan_new(g, &y, 1, &l->device, &error);
    double    *out = malloc((size_t)td_count(y) * sizeof *out);

    cr_assert(plan && !td_graph_error(g, &error), "%s", error.text);
    void *arena = aligned_alloc(64, (td_plan_arena(plan) + 127) / 64 * 64);
    int   code = td_variables_allocate(l->variables, &l->device, TD_F64, &error);
    fill_parameters(l);
    if (s->phase >= TD_PHASE_PREFILL)
        code = code || td_cache_allocate(l->cache, &l->device, &error);
    code = code || td_plan_bind(plan, arena, &error) || place_tokens(l, s, plan, &error) ||
           td_plan_run(plan, &error) || td_plan_get(plan, y, out, td_count(y), &error);
    cr_assert(!code, "%s", error.text);
    td_plan_free(plan);
    free(arena);
    td_graph_free(g);
    return out;
}

/* Expect that building fails with this message. */
static inline void expect_mistake(lab *l, const scene *s, const char *message)
{
    td_error   error = { 0 };
    td_tensor *y;
    td_graph  *g = build(l, s, &y);
    cr_expect(td_graph_error(g, &error) && strstr(error.text, message),
              "the message is '%s'; "
              "expected '%s'",
              error.text, message);
    td_graph_free(g);
}

/* ---- plain loops ----------------------------------------------------------------------------- */

static inline const double *parameter(const lab *l, const char *name)
{
    td_variable *v = td_variables_find(l->variables, name);
    cr_assert(v, "no parameter '%s'", name);
    return v->memory;
}

/* x [rows, in] times the transpose of a parameter: [rows, out]; free it. */
static inline double *times(const lab *l, const char *name, const double *x, int64_t rows,
                            int64_t in, int64_t out)
{
    const double *w = parameter(l, name);
    double       *y = calloc((size_t)(rows * out), sizeof *y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t i = 0; i < in; i++)
                y[r * out + o] += x[r * in + i] * w[o * in + i];
    return y;
}

/* RMS-normalize rows of width n; w [n] is the scale, or NULL. */
static inline void normalize(double *x, int64_t rows, int64_t n, const double *w)
{
    for (int64_t r = 0; r < rows; r++, x += n) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += x[i] * x[i];
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] / sqrt(sum / (double)n + 1e-6) * (w ? w[i] : 1);
    }
}

/* Rotate the two halves of each head by its token's position. A token has `width` numbers; its
 * heads have n each and lie `stride` apart. */
static inline void turn(double *x, int64_t tokens, int64_t width, int64_t heads, int64_t stride,
                        int64_t n, const int32_t *position)
{
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t j = 0; j < n / 2; j++) {
                double *u = x + t * width + h * stride + j, *v = u + n / 2;
                double  angle = position[t] * pow(10000, -2.0 * (double)j / (double)n), was = *u;
                *u = was * cos(angle) - *v * sin(angle);
                *v = *v * cos(angle) + was * sin(angle);
            }
}

/* One query and its keys in one head: q [e], k [length, e], v [length, f]. */
typedef struct view {
    const double *q, *k, *v;
    int64_t       k_stride, v_stride, length, e, f;
    double        scale;
    const double *bias; /* [length], or NULL */
    const bool   *see;
    double        cap; /* 0: none */
} view;

/* o = sum softmax(..) v, or 0 */
static inline void softmax_of(const view *x, double *o)
{
    double weight[64], sum = 0;
    for (int64_t j = 0; j < x->length; j++) {
        weight[j] = 0;
        for (int64_t i = 0; x->see[j] && i < x->e; i++)
            weight[j] += x->q[i] * x->k[j * x->k_stride + i];
        weight[j] *= x->scale;
        if (x->cap > 0)
            weight[j] = x->cap * tanh(weight[j] / x->cap);
        weight[j] = x->see[j] ? exp(weight[j] + (x->bias ? x->bias[j] : 0)) : 0;
        sum += weight[j];
    }
    for (int64_t i = 0; i < x->f; i++) {
        o[i] = 0;
        for (int64_t j = 0; j < x->length; j++)
            o[i] += sum > 0 ? weight[j] / sum * x->v[j * x->v_stride + i] : 0;
    }
}

/* Whether query i of row b sees key j of its own sequence, by the rule of ops.h without windows. */
static inline bool sees_own(const scene *s, int64_t b, int64_t i, int64_t j)
{
    const int32_t *segment = s->own.segment + b * T, *given = s->input ? s->input + b * T : NULL;
    if (!segment[i])
        return i == j;
    return segment[i] == segment[j] && (!s->causal || j <= i || (given && given[i] && given[j]));
}

static inline bool sees_other(const scene *s, int64_t b, int64_t i, int64_t j)
{
    int32_t segment = s->own.segment[b * T + i];
    return segment && segment == s->other.segment[b * S + j];
}

/* ---- scenes ---------------------------------------------------------------------------------- */

static inline scene scene_of(const char *attention, const char *position)
{
    char  file[64], place[64];
    scene s = { .role = TD_ROLE_DECODER, .causal = true, .phase = TD_PHASE_EVALUATE };
    snprintf(file, sizeof file, "attention-%s", attention);
    snprintf(place, sizeof place, "position-%s", position);
    s.attention = load_part(file, attention);
    s.position = load_part(place, position);
    s.own = (source){ T, randoms("own", (int64_t)B * T * D), segments, positions };
    return s;
}

static inline void add_other(scene *s)
{
    s->other = (source){ S, randoms("other", (int64_t)B * S * D), other_segments, other_positions };
}

static inline void scene_free(scene *s)
{
    free_part(&s->attention);
    free_part(&s->position);
    free((void *)(uintptr_t)s->own.x);
    free((void *)(uintptr_t)s->other.x);
}

/* Compare; frees both. Padding is compared where `padding`. */
static inline void expect_same(const char *what, const scene *s, double *have, double *want,
                               bool padding)
{
    for (int64_t i = 0; i < (int64_t)B * T * D; i++)
        if (padding || s->own.segment[i / D])
            cr_expect(fabs(have[i] - want[i]) <= 1e-12 * fmax(1, fabs(want[i])),
                      "%s: row %d, token %d, element %d is %.15g, not %.15g", what,
                      (int)(i / D / T), (int)(i / D % T), (int)(i % D), have[i], want[i]);
    free(have);
    free(want);
}

#endif
