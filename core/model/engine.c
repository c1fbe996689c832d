/* engine.c - plans by shape and purpose over one arena. */
#include "model/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/clock.h"
#include "tandem/kind/kernels.h"

typedef enum purpose { FIRST, ADD, EVALUATE, PROBE, UPDATE, NORMS } purpose;

typedef struct entry {
    char       key[1024];
    purpose    purpose;
    td_built   built;
    td_update  update;
    td_norms   norms;
    td_cost    cost; /* of gradients */
    td_plan   *plan;
    td_tensor *roots[3 + TD_AUX];
    size_t     n_roots;
} entry;

struct td_engine {
    td_model      model;
    td_device     device;
    td_journal   *log;
    td_variables *variables;
    entry       **entries;
    size_t        n_entries;
    entry        *update, *norms; /* no batch has a part in them */
    void         *arena;
    size_t        arena_size;
    double        planning;
    bool          allocated, profile;
    int32_t      *examples; /* 0, 1, .. */
    int64_t       n_examples;
};

const td_device *td_engine_device(const td_engine *e) { return &e->device; }
td_variables    *td_engine_variables(td_engine *e) { return e->variables; }
const td_model  *td_engine_model(const td_engine *e) { return &e->model; }

/* Kernels that other modules bring go before the backend's own, and may change bits: say so. */
static void find_kernels(const td_engine *e)
{
    td_registry *r = e->device.registry;
    const char  *backend = e->device.backend->plugin.name;
    td_registry_scan_kind(r, TD_KERNELS_KIND);
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin  *p = td_registry_plugin(r, i);
        const td_kernels *k = (const void *)p;
        if (!strcmp(p->kind, TD_KERNELS_KIND) && !strcmp(k->backend, backend) &&
            strcmp(p->name, backend))
            td_log_line(e->log, TD_LOG_INFO,
                        "kernels '%s' from '%s' are tried before those of backend '%s'", p->name,
                        td_registry_module(r, p)->path, backend);
    }
}

td_engine *td_engine_open(const td_engine_options *o, td_error *error)
{
    td_engine        *e = calloc(1, sizeof *e);
    const td_backend *b = (const void *)o->backend.plugin;

    if (!e || !(e->variables = td_variables_new())) {
        free(e);
        td_fail(error, TD_ENOMEM, "out of memory while opening the engine");
        return NULL;
    }
    e->model = o->model;
    e->model.real = b->real;
    e->log = o->log;
    e->device = (td_device){ b, NULL, o->services, o->model.registry, o->lowered };
    find_kernels(e);
    if (!b->open(o->backend.config, o->services, &e->device.state, error))
        return e;
    td_variables_free(e->variables);
    free(e);
    return NULL;
}

static void free_entry(entry *x)
{
    if (!x)
        return;
    td_plan_free(x->plan);
    td_cost_free(&x->cost);
    td_graph_free(x->built.graph);
    td_graph_free(x->update.graph);
    td_norms_free(&x->norms);
    free(x);
}

void td_engine_close(td_engine *e)
{
    if (!e)
        return;
    for (size_t k = 0; k < e->n_entries; k++)
        free_entry(e->entries[k]);
    free_entry(e->update);
    free_entry(e->norms);
    if (e->arena)
        e->device.backend->release(e->device.state, e->arena, e->arena_size);
    td_variables_release(e->variables, &e->device);
    td_variables_free(e->variables);
    e->device.backend->close(e->device.state);
    free(e->entries);
    free(e->examples);
    free(e);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static int build(td_engine *e, entry *x, const td_batch *batch, td_error *error)
{
    int phase = x->purpose == EVALUATE ? TD_PHASE_EVALUATE : TD_PHASE_TRAIN, code;
    if (x->purpose == UPDATE) {
        code = td_model_update(&e->model, e->variables, &x->update, error);
        x->roots[0] = x->update.norm;
        x->roots[1] = x->update.gate;
        x->n_roots = 2;
        return code;
    }
    if (x->purpose == NORMS)
        return td_model_norms(&e->model, e->variables, &x->norms, error);
    code = td_model_forward(&e->model, e->variables, phase, batch, x->purpose == PROBE, &x->built,
                            error);
    if (!code && x->purpose != EVALUATE)
        code = td_model_backward(&e->model, e->variables, &x->built, x->purpose == ADD, error);
    x->roots[0] = x->built.sum;
    x->roots[1] = x->purpose == EVALUATE ? x->built.nll : x->built.loss;
    x->n_roots = 2;
    if (x->purpose == PROBE)
        x->roots[x->n_roots++] = x->built.logits;
    for (size_t k = 0; k < x->built.n_aux && x->purpose != EVALUATE; k++)
        x->roots[x->n_roots++] = x->built.aux[k].loss;
    if (!code && (x->purpose == FIRST || x->purpose == ADD))
        code = td_graph_cost(x->built.graph, x->roots, x->n_roots, &x->cost, error);
    return code;
}

static entry *make(td_engine *e, purpose purpose, const td_batch *batch, const char *key,
                   td_error *error)
{
    double start = td_now();
    entry *x = calloc(1, sizeof *x);

    if (!x) {
        td_fail(error, TD_ENOMEM, "out of memory while planning a step");
        return NULL;
    }
    x->purpose = purpose;
    snprintf(x->key, sizeof x->key, "%s", key);
    if (!build(e, x, batch, error)) {
        if (purpose == NORMS)
            x->plan = td_plan_new(x->norms.graph, x->norms.at, 2 * x->norms.count, &e->device,
                                  error);
        else
            x->plan = td_plan_new(purpose == UPDATE ? x->update.graph : x->built.graph, x->roots,
                                  x->n_roots, &e->device, error);
    }
    e->planning += td_now() - start;
    if (x->plan) {
        td_plan_profile(x->plan, e->profile);
        return x;
    }
    free_entry(x);
    return NULL;
}

/* One arena serves all plans: when a plan needs more, all move to a larger one. */
static int bind(td_engine *e, entry *x, td_error *error)
{
    const td_backend *b = e->device.backend;
    size_t            need = td_plan_arena(x->plan);

    if (need <= e->arena_size)
        return td_plan_bind(x->plan, e->arena, error);
    if (e->arena)
        b->release(e->device.state, e->arena, e->arena_size);
    e->arena = b->allocate(e->device.state, need);
    e->arena_size = e->arena ? need : 0;
    if (!e->arena)
        return td_fail(
            error, TD_ENOMEM,
            "cannot allocate %zu bytes for activations: make train.micro_batch smaller, or set "
            "train.recompute = \"layer\"",
            need);
    for (size_t k = 0; k < e->n_entries; k++)
        if (e->entries[k] != x && td_plan_bind(e->entries[k]->plan, e->arena, error))
            return TD_ENOMEM;
    if (e->update && e->update != x && td_plan_bind(e->update->plan, e->arena, error))
        return TD_ENOMEM;
    if (e->norms && e->norms != x && td_plan_bind(e->norms->plan, e->arena, error))
        return TD_ENOMEM;
    return td_plan_bind(x->plan, e->arena, error);
}

static entry *find(td_engine *e, purpose purpose, const td_batch *batch, td_error *error)
{
    char   key[1024];
    entry *x, **larger;

    td_batch_key(batch, key, sizeof key);
    if (strlen(key) + 1 == sizeof key) { /* cut off, so perhaps not one shape's own */
        td_fail(error, TD_EFORMAT,
                "the batch has more arrays than a step can be planned for: %.100s ..", key);
        return NULL;
    }
    for (size_t k = 0; k < e->n_entries; k++)
        if (e->entries[k]->purpose == purpose && !strcmp(e->entries[k]->key, key))
            return e->entries[k];
    x = make(e, purpose, batch, key, error);
    larger = x ? realloc(e->entries, (e->n_entries + 1) * sizeof *larger) : NULL;
    if (x && !larger) {
        free_entry(x);
        td_fail(error, TD_ENOMEM, "out of memory while planning a step");
    }
    if (!larger)
        return NULL;
    e->entries = larger;
    e->entries[e->n_entries++] = x;
    if (!e->allocated)
        return x;
    if (td_variables_allocate(e->variables, &e->device, e->model.real, error) || bind(e, x, error))
        return NULL;
    return x;
}

static size_t bytes_of_kind(const td_engine *e, int kind)
{
    size_t n = 0;
    for (size_t i = 0; i < td_variables_count(e->variables); i++)
        if (td_variables_at(e->variables, i)->kind == kind)
            n += (size_t)td_variables_at(e->variables, i)->count;
    return n * (e->model.real == TD_F64 ? 8 : 4);
}

/* Plans share the arena and have inputs of their own. */
static int grow(td_memory *memory, const entry *x, const td_error *error)
{
    size_t arena = x ? td_plan_arena(x->plan) : 0;
    if (!x)
        return td_failed(error, TD_EGRAPH);
    if (!memory)
        return 0;
    memory->activations = arena > memory->activations ? arena : memory->activations;
    memory->inputs += td_plan_inputs(x->plan);
    return 0;
}

int td_engine_plan(td_engine *e, const td_batch *shape, td_memory *memory, td_error *error)
{
    entry *x = find(e, FIRST, shape, error);
    int    code;

    if (x && e->model.optimizer.plugin && !e->update &&
        !(e->update = make(e, UPDATE, shape, "update", error)))
        return td_failed(error, TD_EGRAPH);
    if (memory)
        *memory = (td_memory){ .parameters = bytes_of_kind(e, TD_VARIABLE_PARAM),
                               .gradients = bytes_of_kind(e, TD_VARIABLE_GRAD),
                               .states = bytes_of_kind(e, TD_VARIABLE_STATE) };
    code = grow(memory, x, error);
    return code || !e->update ? code : grow(memory, e->update, error);
}

int td_engine_plan_adding(td_engine *e, const td_batch *shape, td_memory *memory, td_error *error)
{
    return grow(memory, find(e, ADD, shape, error), error);
}

int td_engine_plan_evaluation(td_engine *e, const td_batch *shape, td_memory *memory,
                              td_error *error)
{
    return grow(memory, find(e, EVALUATE, shape, error), error);
}

int td_engine_plan_norms(td_engine *e, td_memory *memory, td_error *error)
{
    if (!e->norms)
        e->norms = make(e, NORMS, NULL, "norms", error);
    return grow(memory, e->norms, error);
}

td_graph *td_engine_graph(td_engine *e, td_tensor *const **roots, size_t *n_roots)
{
    entry *x = e->n_entries ? e->entries[0] : NULL;
    *roots = x ? x->roots : NULL;
    *n_roots = x ? x->n_roots : 0;
    return x ? x->built.graph : NULL;
}

int td_memory_check(const td_memory *m, const td_device *device, td_error *error)
{
    double all = (double)m->parameters + (double)m->gradients + (double)m->states +
                 (double)m->activations + (double)m->inputs;
    char b[7][32];
    if (device->backend->download || all <= td_memory_limit())
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "this needs %s of memory (parameters %s, gradients %s, optimizer %s, "
                   "activations %s, inputs %s), and there is %s: make the model, "
                   "train.micro_batch or evaluate.batch smaller, or set train.recompute = "
                   "\"layer\"",
                   td_human_bytes(b[0], all), td_human_bytes(b[1], (double)m->parameters),
                   td_human_bytes(b[2], (double)m->gradients),
                   td_human_bytes(b[3], (double)m->states),
                   td_human_bytes(b[4], (double)m->activations),
                   td_human_bytes(b[5], (double)m->inputs),
                   td_human_bytes(b[6], td_memory_limit()));
}

int td_engine_allocate(td_engine *e, uint64_t seed, td_error *error)
{
    td_memory memory = { bytes_of_kind(e, TD_VARIABLE_PARAM), bytes_of_kind(e, TD_VARIABLE_GRAD),
                         bytes_of_kind(e, TD_VARIABLE_STATE),
                         e->update ? td_plan_arena(e->update->plan) : 0, 0 };
    for (size_t k = 0; k < e->n_entries; k++)
        if (td_plan_arena(e->entries[k]->plan) > memory.activations)
            memory.activations = td_plan_arena(e->entries[k]->plan);
    if (td_memory_check(&memory, &e->device, error))
        return TD_ECONFIG;
    if (td_variables_allocate(e->variables, &e->device, e->model.real, error) ||
        td_variables_initialize(e->variables, &e->device, e->model.real, seed, error))
        return TD_ENOMEM;
    e->allocated = true;
    for (size_t k = 0; k < e->n_entries; k++)
        if (bind(e, e->entries[k], error))
            return TD_ENOMEM;
    if (e->update && bind(e, e->update, error))
        return TD_ENOMEM;
    return e->norms ? bind(e, e->norms, error) : 0;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static const int32_t *counting(td_engine *e, int64_t rows)
{
    if (rows > e->n_examples) {
        int32_t *larger = realloc(e->examples, (size_t)rows * sizeof *larger);
        if (!larger)
            return NULL;
        for (int64_t i = e->n_examples; i < rows; i++)
            larger[i] = (int32_t)i;
        e->examples = larger;
        e->n_examples = rows;
    }
    return e->examples;
}

static int set_inputs(td_engine *e, entry *x, const td_micro *m, td_error *error)
{
    int64_t        rows = td_batch_find(m->batch, "labels")->dim[0];
    const int32_t *examples = m->examples ? m->examples : counting(e, rows);
    if (!examples)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld examples", (long long)rows);
    if (td_plan_set_batch(x->plan, m->batch, error) ||
        td_plan_set_scalar(x->plan, "loss_divisor", m->divisor, error) ||
        td_plan_set_scalar(x->plan, "dropout_step", m->step, error))
        return TD_EGRAPH;
    return td_plan_set_ints(x->plan, "dropout_example", examples, rows, error);
}

static int run(td_engine *e, purpose purpose, const td_micro *m, td_micro_out *out, entry **used,
               td_error *error)
{
    entry *x = td_batch_find(m->batch, "labels") ? find(e, purpose, m->batch, error) : NULL;
    *used = x;
    if (!x)
        return td_failed(error, td_fail(error, TD_EFORMAT, "the batch has no 'labels'"));
    if (set_inputs(e, x, m, error) || td_plan_run(x->plan, error))
        return td_failed(error, TD_EGRAPH);
    out->sum = td_plan_get_scalar(x->plan, x->built.sum);
    out->loss = purpose == EVALUATE ? 0 : td_plan_get_scalar(x->plan, x->built.loss);
    out->n_aux = purpose == EVALUATE ? 0 : x->built.n_aux;
    for (size_t k = 0; k < out->n_aux; k++)
        out->aux[k] = (td_auxiliary){ x->built.aux[k].name,
                                      td_plan_get_scalar(x->plan, x->built.aux[k].loss) };
    return 0;
}

int td_engine_gradient(td_engine *e, const td_micro *m, td_micro_out *out, td_error *error)
{
    entry *x;
    int    code = run(e, m->add ? ADD : FIRST, m, out, &x, error);
    out->flops = code ? 0 : td_cost_of(&x->cost, m->batch);
    return code;
}

int td_engine_probe(td_engine *e, const td_micro *m, td_micro_out *out, double *logits,
                    td_error *error)
{
    entry *x;
    int    code = run(e, PROBE, m, out, &x, error);
    return code ? code
                : td_plan_get(x->plan, x->built.logits, logits, td_count(x->built.logits), error);
}

int td_engine_evaluate(td_engine *e, const td_batch *batch, double *sum, double *nll,
                       td_error *error)
{
    td_micro     m = { .batch = batch, .divisor = 1 };
    td_micro_out out;
    entry       *x;
    int          code = run(e, EVALUATE, &m, &out, &x, error);
    if (code)
        return code;
    *sum = out.sum;
    return nll ? td_plan_get(x->plan, x->built.nll, nll, td_count(x->built.nll), error) : 0;
}

int td_engine_update(td_engine *e, double rate, int64_t step, double limit, td_update_out *out,
                     td_error *error)
{
    td_plan *p = e->update ? e->update->plan : NULL;
    if (!p)
        return td_fail(error, TD_ECONFIG,
                       "there is no optimizer to update with: the config names none");
    if (td_plan_set_scalar(p, "rate", rate, error) ||
        td_plan_set_scalar(p, "step", (double)step, error) ||
        td_plan_set_scalar(p, "norm_limit", limit, error) || td_plan_run(p, error))
        return td_failed(error, TD_EGRAPH);
    out->norm = td_plan_get_scalar(p, e->update->update.norm);
    out->applied = td_plan_get_scalar(p, e->update->update.gate) != 0;
    return 0;
}

int td_engine_norms(td_engine *e, td_parameter_norms **out, size_t *count, td_error *error)
{
    const td_norms *n;
    if (!e->norms && (td_engine_plan_norms(e, NULL, error) || bind(e, e->norms, error)))
        return td_failed(error, TD_EGRAPH);
    n = &e->norms->norms;
    if (td_plan_run(e->norms->plan, error))
        return td_failed(error, TD_EGRAPH);
    *out = calloc(n->count + 1, sizeof **out);
    *count = n->count;
    if (!*out)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu norms", n->count);
    for (size_t k = 0; k < n->count; k++)
        (*out)[k] = (td_parameter_norms){ n->parameters[k]->name,
                                          td_plan_get_scalar(e->norms->plan, n->at[2 * k]),
                                          td_plan_get_scalar(e->norms->plan, n->at[2 * k + 1]) };
    return 0;
}

/* ---- looking --------------------------------------------------------------------------------- */

void td_engine_profile(td_engine *e, bool on)
{
    e->profile = on;
    for (size_t k = 0; k < e->n_entries; k++)
        td_plan_profile(e->entries[k]->plan, on);
    if (e->update)
        td_plan_profile(e->update->plan, on);
}

static size_t add_rows(const td_plan *p, td_profile_row *rows, size_t n, size_t room)
{
    td_profile_row one[128];
    size_t         count = td_plan_profile_rows(p, one, sizeof one / sizeof *one);
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (k < n && strcmp(rows[k].op, one[i].op))
            k++;
        if (k == n && n == room)
            continue;
        if (k == n)
            rows[n++] = (td_profile_row){ .op = one[i].op };
        rows[k].seconds += one[i].seconds;
        rows[k].flops += one[i].flops;
        rows[k].bytes += one[i].bytes;
        rows[k].calls += one[i].calls;
    }
    return n;
}

size_t td_engine_profile_rows(td_engine *e, td_profile_row *rows, size_t room)
{
    size_t n = 0;
    for (size_t k = 0; k < e->n_entries; k++)
        n = add_rows(e->entries[k]->plan, rows, n, room);
    return e->update ? add_rows(e->update->plan, rows, n, room) : n;
}

double td_engine_planning(const td_engine *e, size_t *plans)
{
    *plans = e->n_entries + (e->update ? 1 : 0);
    return e->planning;
}
