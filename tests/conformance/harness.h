/* harness.h - tiny models of any parts, on the backend 'reference', run on two examples alone or
 * packed into a row. */
#ifndef TESTS_CONFORMANCE_HARNESS_H
#define TESTS_CONFORMANCE_HARNESS_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/threads.h"
#include "plugin/options.h"
#include "train/batch.h"
#include "train/model.h"

enum { VOCAB = 11, WIDTH = 6, TOKENS = 64 };

/* The parts of a model, by name. */
typedef struct recipe {
    const char *architecture, *loss, *attention, *position, *norm, *ffn;
} recipe;

typedef struct lab {
    td_registry *registry;
    td_pool     *pool;
    td_arena    *arena;
    td_device    device;
} lab;

/* A model, its parameters, and the examples that it reads. */
typedef struct subject {
    lab          *lab;
    recipe        recipe;
    td_model      model;
    td_variables *variables;
    bool          bare; /* without auxiliary losses: means over a batch, no sums of its examples */
} subject;

/* One batch's graph, planned. */
typedef struct trial {
    td_batch *batch;
    td_built  built;
    td_plan  *plan;
    void     *memory;
} trial;

typedef struct sentence {
    int32_t given[5], predicted[5];
    int64_t n_given, n_predicted;
} sentence;

static inline lab lab_new(void)
{
    static const char *const paths[] = { TANDEM_PLUGINS, NULL };
    td_error                 error = { 0, "" };
    lab                      l = { .arena = td_arena_new() };

    l.registry = td_registry_new(paths, NULL, &error);
    cr_assert(l.registry, "%s", error.text);
    l.pool = td_pool_new(1, NULL, &error);
    l.device.backend = (const void *)td_registry_find(l.registry, TD_BACKEND_KIND, "reference",
                                                      &error);
    cr_assert(l.pool && l.device.backend, "%s", error.text);
    l.device.services = td_pool_services(l.pool), l.device.registry = l.registry;
    cr_assert_eq(l.device.backend->open(NULL, l.device.services, &l.device.state, &error), 0, "%s",
                 error.text);
    return l;
}

static inline void lab_free(lab *l)
{
    l->device.backend->close(l->device.state);
    td_pool_free(l->pool);
    td_registry_free(l->registry);
    td_arena_free(l->arena);
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* Where the option `name` of `type` is in the part's config; NULL if it has none. */
static inline void *field(const td_part *part, const char *name, int64_t type)
{
    td_option o;
    for (size_t i = 0; part->plugin->options &&
                       td_option_row(part->plugin->options, part->plugin->option_size, i, &o);
         i++)
        if (!strcmp(o.name, name) && o.type == type)
            return (char *)(uintptr_t)part->config + o.offset;
    return NULL;
}

static inline void set_int(const td_part *part, const char *name, int64_t value)
{
    int64_t *at = field(part, name, TD_TYPE_INT);
    if (at)
        *at = value;
}

static inline td_part part_of(lab *l, const char *kind, const char *name)
{
    td_error error = { 0, "" };
    td_part  part;
    cr_assert_eq(td_part_defaults(l->registry, kind, name, l->arena, &part, &error), 0, "%s",
                 error.text);
    set_int(&part, "heads", 2), set_int(&part, "head_dim", 4), set_int(&part, "d_ff", 5);
    set_int(&part, "max_positions", 32), set_int(&part, "vocab_size", VOCAB),
        set_int(&part, "d_model", WIDTH);
    set_int(&part, "layers", 2), set_int(&part, "encoder_layers", 2),
        set_int(&part, "decoder_layers", 1);
    return part;
}

static inline void set_part(lab *l, const td_part *owner, const char *slot, const char *kind,
                            const char *name)
{
    td_part *at = field(owner, slot, TD_TYPE_PART);
    cr_assert(at, "architecture '%s' has no part '%s'", owner->plugin->name, slot);
    *at = part_of(l, kind, name);
}

static inline subject subject_new(lab *l, recipe r)
{
    subject s = { .lab = l, .recipe = r, .variables = td_variables_new() };

    s.model.registry = l->registry, s.model.real = TD_F64;
    s.model.architecture = part_of(l, TD_ARCHITECTURE_KIND, r.architecture);
    s.model.loss = part_of(l, TD_LOSS_KIND, r.loss);
    set_part(l, &s.model.architecture, "attention", TD_ATTENTION_KIND, r.attention);
    set_part(l, &s.model.architecture, "position", TD_POSITION_KIND, r.position);
    set_part(l, &s.model.architecture, "norm", TD_NORM_KIND, r.norm);
    set_part(l, &s.model.architecture, "ffn", TD_FFN_KIND, r.ffn);
    return s;
}

static inline void subject_free(subject *s)
{
    td_variables_release(s->variables, &s->lab->device);
    td_variables_free(s->variables);
}

static inline const char *label(const subject *s)
{
    const recipe *r = &s->recipe;
    return td_arena_print(s->lab->arena, "%s+%s+%s+%s+%s+%s", r->architecture, r->loss,
                          r->attention, r->position, r->norm, r->ffn);
}

/* ---- examples -------------------------------------------------------------------------------- */

static const sentence sentences[] = {
    { { 3, 7, 2, 9 }, { 4, 10, 5 }, 4, 3 },
    { { 8, 3 }, { 6, 2, 9, 4, 7 }, 2, 5 },
};

/* The example as the loss wants it: nothing given to those that give nothing. */
static inline td_example example_of(const subject *s, const sentence *text, int64_t row)
{
    const td_loss *loss = (const void *)s->model.loss.plugin;
    td_example     e = { .given = text->given,
                         .n_given = text->n_given,
                         .predicted = text->predicted,
                         .n_predicted = text->n_predicted,
                         .row = row };
    if (loss->flags & TD_LOSS_NOTHING_GIVEN)
        e.n_given = 0;
    return e;
}

/* A batch of one row that holds all of the sentences, with `spare` tokens of padding. */
static inline td_batch *batch_of(const subject *s, const sentence *texts, int count, int64_t spare)
{
    const td_architecture *a = (const void *)s->model.architecture.plugin;
    td_example             examples[2];
    td_arrange_in          in = { examples,
                                  count,
                                  1,
                                  { spare, spare },
                                  { .pad = 0, .bos = -1, .eos = 1, .unk = -1, .vocab_size = VOCAB } };
    td_error               error = { 0, "" };
    td_batch              *batch = td_batch_new();

    for (int k = 0; k < count; k++) {
        td_extent extent;
        td_bounds bounds;
        examples[k] = example_of(s, &texts[k], 0);
        bounds.given = examples[k].n_given, bounds.predicted = examples[k].n_predicted;
        bounds.raw = bounds.total = bounds.given + bounds.predicted;
        extent = a->extent(s->model.architecture.config, &bounds);
        in.extent.first += extent.first, in.extent.second += extent.second;
    }
    cr_assert_eq(a->arrange(s->model.architecture.config, &in, batch, &error), 0, "%s", error.text);
    return batch;
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Norm scales of 1 and biases of 0 would hide mistakes: every parameter becomes a random number. */
static inline void scramble(subject *s)
{
    for (size_t i = 0; i < td_variables_count(s->variables); i++) {
        td_variable *v = td_variables_at(s->variables, i);
        for (int64_t n = 0; v->kind == TD_VARIABLE_PARAM && n < v->count; n++)
            ((double *)v->memory)[n] = td_random_uniform(3, td_random_stream(v->name),
                                                         (uint64_t)n) *
                                           1.6 -
                                       0.7;
    }
}

static inline void run(const subject *s, trial *t)
{
    td_error error = { 0, "" };
    cr_assert_eq(td_plan_set_batch(t->plan, t->batch, &error), 0, "%s", error.text);
    cr_assert_eq(td_plan_set_scalar(t->plan, "loss_divisor", 4, &error), 0, "%s", error.text);
    cr_assert_eq(td_plan_run(t->plan, &error), 0, "%s: %s", label(s), error.text);
}

static inline trial trial_new(subject *s, const sentence *texts, int count, int64_t spare)
{
    td_error error = { 0, "" };
    trial    t = { .batch = batch_of(s, texts, count, spare) };

    cr_assert_eq(td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, t.batch, false, &t.built,
                                  &error),
                 0, "%s: %s", label(s), error.text);
    for (size_t k = 0; s->bare && k < t.built.n_aux; k++)
        t.built.loss = td_sub(t.built.loss, t.built.aux[k].loss);
    cr_assert_eq(td_model_backward(&s->model, s->variables, &t.built, false, &error), 0, "%s: %s",
                 label(s), error.text);
    t.plan = td_plan_new(t.built.graph, (td_tensor *[]){ t.built.loss, t.built.nll }, 2,
                         &s->lab->device, &error);
    cr_assert(t.plan, "%s: %s", label(s), error.text);
    cr_assert_eq(td_variables_allocate(s->variables, &s->lab->device, TD_F64, &error), 0, "%s",
                 error.text);
    t.memory = s->lab->device.backend->allocate(s->lab->device.state, td_plan_arena(t.plan) + 64);
    cr_assert_eq(td_plan_bind(t.plan, t.memory, &error), 0, "%s", error.text);
    scramble(s);
    run(s, &t);
    return t;
}

static inline void trial_free(subject *s, trial *t)
{
    s->lab->device.backend->release(s->lab->device.state, t->memory, td_plan_arena(t->plan) + 64);
    td_plan_free(t->plan);
    td_graph_free(t->built.graph);
    td_batch_free(t->batch);
}

/* Cross-entropies of the tokens that weigh, in order; their number. */
static inline int losses(trial *t, double *out)
{
    const float *weights = td_batch_find(t->batch, "loss_weights")->data;
    int64_t      count = td_count(t->built.nll);
    double       all[TOKENS];
    td_error     error = { 0, "" };
    int          n = 0;

    cr_assert_leq(count, TOKENS);
    cr_assert_eq(td_plan_get(t->plan, t->built.nll, all, count, &error), 0, "%s", error.text);
    for (int64_t i = 0; i < count; i++)
        if (weights[i] != 0)
            out[n++] = all[i];
    return n;
}

/* ---- which models ---------------------------------------------------------------------------- */

static const recipe plain = { "decoder-only", "prefix-lm", "softmax", "rope", "rms", "swiglu" };

/* Whether the architecture can be trained by the loss. */
static inline bool fits(lab *l, const char *architecture, const char *loss)
{
    const td_architecture *a = (const void *)td_registry_find(l->registry, TD_ARCHITECTURE_KIND,
                                                              architecture, NULL);
    const td_loss *b = (const void *)td_registry_find(l->registry, TD_LOSS_KIND, loss, NULL);
    return !(a->flags & TD_ARCHITECTURE_HAS_ENCODER && b->flags & TD_LOSS_NOTHING_GIVEN);
}

/* Call f with every architecture under every loss, and with every other plugin that a model can
 * have in every architecture. */
static inline int each_model(lab *l, void (*f)(subject *))
{
    int count = 0;
    cr_assert_geq(td_registry_scan(l->registry), 0);
    for (size_t i = 0; i < td_registry_count(l->registry); i++) {
        const char *architecture = td_registry_plugin(l->registry, i)->name;
        if (strcmp(td_registry_plugin(l->registry, i)->kind, TD_ARCHITECTURE_KIND))
            continue;
        for (size_t k = 0; k < td_registry_count(l->registry); k++) {
            const td_plugin *p = td_registry_plugin(l->registry, k);
            recipe           r = plain;
            subject          s;
            const char     **slot = !strcmp(p->kind, TD_LOSS_KIND)        ? &r.loss
                                    : !strcmp(p->kind, TD_ATTENTION_KIND) ? &r.attention
                                    : !strcmp(p->kind, TD_POSITION_KIND)  ? &r.position
                                    : !strcmp(p->kind, TD_NORM_KIND)      ? &r.norm
                                    : !strcmp(p->kind, TD_FFN_KIND)       ? &r.ffn
                                                                          : NULL;
            if (!slot || (slot == &r.loss && !fits(l, architecture, p->name)))
                continue;
            r.architecture = architecture, *slot = p->name;
            s = subject_new(l, r);
            f(&s);
            subject_free(&s);
            count++;
        }
    }
    return count;
}

#endif
