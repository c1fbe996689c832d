/* rows.c - a cache in use: rows that move, and steps of whole models: one plan for all of them,
 * nothing copied, nothing allocated. */
#include <malloc.h>

#include "model/lab.h"

#include "plan/internal.h"
#include "plan/rows.h"
#include "tandem/layers.h"

/* ---- moving rows ----------------------------------------------------------------------------- */

enum { CAPACITY = 5, WIDTH = 2 };

static lab open_lab(const char *config)
{
    return lab_open(config, (const char *[]){ "train.bucket=1", NULL }, NULL);
}

/* Builds the contents of every cache here: reals, integers, and a carried state. */
static td_graph *keeping(lab *l, td_cache *c)
{
    td_graph_options o = { .phase = TD_PHASE_STEP, .real = TD_F32, .cache = c };
    td_graph        *g = td_graph_new(l->registry, td_engine_variables(l->engine), &o);
    int64_t          heads[] = { c->rows, 3, 1, WIDTH }, tokens[] = { c->rows, 1 };
    td_tensor       *s;
    td_remember_axis("k", td_full(g, TD_REAL, heads, 4, 0), 2, 0, TD_REMEMBER_APPEND);
    td_remember_axis("i", td_full(g, TD_I32, tokens, 2, 0), 1, 0, TD_REMEMBER_APPEND);
    s = td_carry(g, "s", (int64_t[]){ c->rows, WIDTH }, 2);
    td_carry_on(s, s);
    cr_assert(!td_graph_error(g, &l->error), "%s", l->error.text);
    return g;
}

/* Element k of row r holds 10 (r + first) + k, in every state. */
static td_cache *filled(lab *l, int64_t rows, int first)
{
    td_cache        *c = td_cache_new(rows, CAPACITY, 1, 0, &l->error);
    const td_device *device = td_engine_device(l->engine);
    td_graph_free(keeping(l, c));
    cr_assert(!td_cache_allocate(c, device, &l->error), "%s", l->error.text);
    for (size_t i = 0; i < td_variables_count(c->variables); i++) {
        td_variable *v = td_variables_at(c->variables, i);
        int64_t      width = v->count / rows;
        float       *x = malloc((size_t)v->count * sizeof *x);
        for (int64_t n = 0; n < v->count; n++)
            x[n] = (float)(100 * (n / width + first) + n % width);
        cr_assert(!td_variable_set(v, device, TD_F32, x, &l->error));
        free(x);
    }
    return c;
}

/* Row r of every state must equal the former row want[r]. */
static void expect_rows(lab *l, td_cache *c, const int *want)
{
    cr_expect_eq(td_variables_count(c->variables), 3);
    for (size_t i = 0; i < td_variables_count(c->variables); i++) {
        const td_variable *v = td_variables_at(c->variables, i);
        int64_t            width = v->count / c->rows;
        float             *x = malloc((size_t)v->count * sizeof *x);
        cr_assert(!td_variable_get(v, td_engine_device(l->engine), TD_F32, x, &l->error));
        for (int64_t n = 0; n < v->count; n++)
            cr_expect_eq(x[n], (float)(100 * want[n / width] + n % width), "'%s', row %d: %g",
                         v->name, (int)(n / width), x[n]);
        free(x);
    }
}

static void free_cache(lab *l, td_cache *c)
{
    td_cache_release(c, td_engine_device(l->engine));
    td_cache_free(c);
}

Test(rows, move_within_a_cache)
{
    lab            l = open_lab("nano/decllm");
    td_cache      *c = filled(&l, 4, 0);
    td_row_gather *g = td_row_gather_new(c, c, td_engine_device(l.engine), &l.error);
    cr_assert(g, "%s", l.error.text);
    cr_expect(!td_row_gather_run(g, (int32_t[]){ 1, 2, 3, 0 }, &l.error), "%s", l.error.text);
    expect_rows(&l, c, (int[]){ 1, 2, 3, 0 });
    cr_expect(!td_row_gather_run(g, (int32_t[]){ 2, -1, 2, 2 }, &l.error), "%s", l.error.text);
    expect_rows(&l, c, (int[]){ 3, 2, 3, 3 });
    cr_expect(!td_row_gather_run(g, (int32_t[]){ -1, -1, -1, -1 }, &l.error));
    expect_rows(&l, c, (int[]){ 3, 2, 3, 3 });
    td_row_gather_free(g);
    free_cache(&l, c);
    lab_close(&l);
}

Test(rows, move_between_caches)
{
    lab            l = open_lab("nano/decllm");
    td_cache      *large = filled(&l, 4, 0), *small = filled(&l, 2, 7), *none;
    td_row_gather *g = td_row_gather_new(large, small, td_engine_device(l.engine), &l.error), *h;
    cr_assert(g, "%s", l.error.text);
    cr_expect(!td_row_gather_run(g, (int32_t[]){ -1, 1, -1, 0 }, &l.error), "%s", l.error.text);
    expect_rows(&l, large, (int[]){ 0, 8, 2, 7 });
    expect_rows(&l, small, (int[]){ 7, 8 });

    /* a cache that keeps nothing yet gets its first rows from another */
    none = td_cache_new(3, CAPACITY, 1, 0, &l.error);
    h = td_row_gather_new(none, large, td_engine_device(l.engine), &l.error);
    cr_assert(h, "%s", l.error.text);
    cr_expect(!td_row_gather_run(h, (int32_t[]){ 3, 2, 1 }, &l.error));
    expect_rows(&l, none, (int[]){ 7, 2, 8 });
    td_row_gather_free(h);
    td_row_gather_free(g);
    free_cache(&l, none);
    free_cache(&l, small);
    free_cache(&l, large);
    lab_close(&l);
}

Test(rows, that_are_not_there_are_refused)
{
    lab            l = open_lab("nano/decllm");
    td_cache      *c = filled(&l, 4, 0), *other = td_cache_new(4, CAPACITY + 1, 1, 0, &l.error);
    td_row_gather *g = td_row_gather_new(c, c, td_engine_device(l.engine), &l.error);
    td_error       e = { 0 }, f = { 0 };
    cr_expect_eq(td_row_gather_run(g, (int32_t[]){ 0, 1, 2, 4 }, &e), TD_ERANGE);
    cr_expect(strstr(e.text, "row 3 cannot become row 4 of a cache of 4"), "%s", e.text);
    td_graph_free(keeping(&l, other));
    cr_expect(!td_row_gather_new(c, other, td_engine_device(l.engine), &f));
    cr_expect(strstr(f.text, "the same capacity"), "%s", f.text);
    td_row_gather_free(g);
    free_cache(&l, c);
    free_cache(&l, other);
    lab_close(&l);
}

/* ---- steps of whole models ------------------------------------------------------------------- */

enum { ROWS = 2, SOURCE = 6, CHUNK = 32 };

typedef struct model {
    lab        l;
    td_cache  *cache;
    td_batch  *batch;
    td_graph  *graph;
    td_tensor *hidden;
    td_plan   *plan;
    void      *arena;
} model;

/* Arrays of a pass of `tokens`, all real. */
static td_batch *batch_of(lab *l, int64_t tokens)
{
    td_arrange_spec feed = lab_feed(l);
    td_batch       *like = td_batch_new(), *out = td_batch_new();
    int64_t         length;
    feed.length = 64;
    cr_assert(!td_arrange_shape_of(&feed, ROWS, SOURCE, 17, like, &l->error), "%s", l->error.text);
    length = td_batch_find(like, "labels")->dim[1];
    for (int32_t k = 0; k < like->count; k++) {
        const td_array *a = &like->at[k];
        int64_t         dims[] = { a->dim[0], a->dim[1] == length ? tokens : a->dim[1] };
        int32_t        *to = out->add(out, a->name, a->dtype, 2, dims);
        for (int64_t n = 0; strstr(a->name, "segments") && n < dims[0] * dims[1]; n++)
            to[n] = 1;
    }
    out->rows = ROWS;
    td_batch_free(like);
    return out;
}

static model model_open(const char *config, int phase, int64_t tokens, int64_t capacity)
{
    model                  m = { .l = open_lab(config) };
    const td_model        *parts = td_engine_model(m.l.engine);
    const td_architecture *a = (const void *)parts->architecture.plugin;
    const td_device       *device = td_engine_device(m.l.engine);
    td_variables          *v = td_engine_variables(m.l.engine);
    td_dropout             none = { 0 };
    td_architecture_out    out = { 0 };

    m.cache = td_cache_new(ROWS, capacity, CHUNK, SOURCE, &m.l.error);
    m.graph = td_graph_new(m.l.registry, v,
                           &(td_graph_options){ .phase = phase, .real = TD_F32, .cache = m.cache });
    m.batch = batch_of(&m.l, tokens);
    a->build(parts->architecture.config, &(td_architecture_in){ m.graph, m.batch, &none }, &out);
    m.hidden = out.hidden;
    m.plan = td_plan_new(m.graph, &m.hidden, 1, device, &m.l.error);
    cr_assert(m.plan, "%s: %s", config, m.l.error.text);
    cr_assert(!td_variables_allocate(v, device, TD_F32, &m.l.error) &&
              !td_cache_allocate(m.cache, device, &m.l.error));
    m.arena = device->backend->allocate(device->state, td_plan_arena(m.plan) + 64);
    cr_assert(!td_plan_bind(m.plan, m.arena, &m.l.error));
    return m;
}

static void model_close(model *m)
{
    const td_device *device = td_engine_device(m->l.engine);
    device->backend->release(device->state, m->arena, td_plan_arena(m->plan) + 64);
    td_plan_free(m->plan);
    td_graph_free(m->graph);
    td_batch_free(m->batch);
    free_cache(&m->l, m->cache);
    lab_close(&m->l);
}

static const char *const configs[] = {
    "nano/decllm",
    "nano/redllm",
    "nano/decllm-biattn",
    "nano/decllm+ablations/mla",
    "nano/redllm+ablations/merged-attention",
    "nano/decllm+ablations/differential",
    "nano/decllm+ablations/sliding-window",
    "nano/decllm+ablations/linear-attention",
};

enum { CONFIGS = sizeof configs / sizeof *configs };

/* A buffer of the cache: one of its axes counts tokens. */
static bool is_buffer(const model *m, const td_storage *s)
{
    enum { RING = 64 + CHUNK - 1 }; /* of ablations/sliding-window */
    const td_variable *v = s->kind == TD_STORAGE_VARIABLE ? s->leaf->variable : NULL;
    if (!v || td_variables_find(m->cache->variables, v->name) != v)
        return false;
    for (int k = 1; k < v->rank; k++)
        if (v->dim[k] == m->cache->capacity || v->dim[k] == SOURCE || v->dim[k] == RING)
            return true;
    return false;
}

/* Buffers are read in place, and written one token at a time. */
static void expect_no_copies(const model *m, const char *config)
{
    for (int32_t i = 0; i < m->plan->n_calls; i++) {
        const td_kernel_call *c = m->plan->calls[i];
        bool                  touches = false;
        for (int k = 0; k < c->call.n_in; k++)
            touches |= c->in[k] >= 0 &&
                       is_buffer(m, &m->plan->storages[td_storage_root(m->plan, c->in[k])]);
        cr_expect(!touches || !strcmp(c->kernel->op, "append") || !strcmp(c->kernel->op, "attend"),
                  "%s: '%s' reads a buffer", config, c->kernel->op);
    }
}

Test(rows, a_step_copies_no_buffer)
{
    for (int k = 0; k < CONFIGS; k++) {
        model m = model_open(configs[k], TD_PHASE_STEP, 1, 512), larger;
        expect_no_copies(&m, configs[k]);
        larger = model_open(configs[k], TD_PHASE_STEP, 1, 4096);
        cr_expect_eq(td_plan_arena(m.plan), td_plan_arena(larger.plan),
                     "%s: a step works in %zu bytes with 512 slots, in %zu with 4096", configs[k],
                     td_plan_arena(m.plan), td_plan_arena(larger.plan));
        model_close(&larger);
        model_close(&m);
    }
}

/* A step does not run the encoder, whose output was kept. */
Test(rows, a_step_runs_no_encoder)
{
    static const char *const with[] = { "nano/redllm", "nano/redllm+ablations/merged-attention" };
    for (int k = 0; k < 2; k++) {
        model m = model_open(with[k], TD_PHASE_STEP, 1, 64);
        for (int32_t i = 0; i < m.plan->n_calls; i++) {
            const td_node *n = m.plan->calls[i]->node;
            cr_expect(!n || !strstr(n->path, "encoder.layers") || strstr(n->path, "decoder.layers"),
                      "%s: '%s' at %s", with[k], m.plan->calls[i]->kernel->op, n->path);
        }
        model_close(&m);
    }
}

static size_t heap(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void one_step(model *m, int32_t at)
{
    int32_t lengths[ROWS] = { at, at / 2 }, counts[ROWS] = { 1, at % 2 };
    for (int32_t k = 0; k < m->batch->count; k++)
        for (int64_t r = 0;
             strstr(m->batch->at[k].name, "positions") && m->batch->at[k].dim[1] == 1 && r < ROWS;
             r++)
            ((int32_t *)m->batch->at[k].data)[r] = lengths[r];
    cr_assert(!td_plan_set_batch(m->plan, m->batch, &m->l.error) &&
                  !td_cache_place(m->cache, m->plan, 1, lengths, counts, &m->l.error) &&
                  !td_plan_run(m->plan, &m->l.error),
              "%s", m->l.error.text);
}

Test(rows, a_thousand_steps_are_one_plan)
{
    for (int k = 0; k < 2; k++) {
        model    m = model_open(configs[k], TD_PHASE_STEP, 1, 1000);
        size_t   states = td_variables_count(m.cache->variables), before;
        int32_t  nodes = td_full_of(m.graph)->n_nodes;
        td_error e = { 0 };
        one_step(&m, 0);
        before = heap();
        for (int32_t at = 1; at < 1000; at++)
            one_step(&m, at);
        cr_expect_eq(heap(), before, "%s: %zu bytes more after 1000 steps", configs[k],
                     heap() - before);
        cr_expect_eq(td_variables_count(m.cache->variables), states);
        cr_expect_eq(td_full_of(m.graph)->n_nodes, nodes);
        cr_expect_eq(td_cache_place(m.cache, m.plan, 1, (int32_t[]){ 1000, 0 }, (int32_t[]){ 1, 1 },
                                    &e),
                     TD_ERANGE);
        model_close(&m);
    }
}
