/* engine.c - a model's steps on a backend. Plans and memory are in plans.c.
 *
 * Every computation has the same three parts: find the plan for its purpose and shape, set its
 * inputs, run it. Decisions that change from step to step (clip? skip? which rate?) are inside
 * the graph, so that a step is one uninterrupted sequence of kernels.
 */
#include "model/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/internal.h"
#include "model/shard.h"
#include "plugin/hook.h"
#include "tandem/kind/kernels.h"

const td_device *td_engine_device(const td_engine *e) { return &e->device; }
td_variables    *td_engine_variables(td_engine *e) { return e->variables; }
const td_model  *td_engine_model(const td_engine *e) { return &e->model; }

/* Kernels from other modules go before the backend's own. They may change bits, so the log names
 * them. */
static void find_kernels(const td_engine *e)
{
    td_registry *r = e->device.registry;
    const char  *backend = e->device.backend->plugin.name;
    td_registry_scan_kind(r, TD_KERNELS_KIND);
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin  *p = td_registry_plugin(r, i);
        const td_kernels *k = (const void *)p;
        /* a backend's own kernels are a plugin with the same name */
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
    e->log = o->log;
    e->device = (td_device){ .backend = b,
                             .services = o->services,
                             .registry = o->model.registry,
                             .exchange = &e->exchange };
    find_kernels(e);
    /* the model has the precision that the backend has kernels for, so these are found first */
    e->model.real = td_device_real(&e->device);
    if (e->model.narrow && !td_device_has(&e->device, e->model.narrow))
        td_fail(error, TD_ECONFIG,
                "train.precision = \"bf16\": backend '%s' has no kernels 'cast' and 'copy' for "
                "bf16; use \"f32\", or another backend",
                b->plugin.name);
    else if (td_shard_parameters(&e->model) && b->upload)
        td_fail(
            error, TD_ECONFIG,
            "train.shard = \"parameters\": backend '%s' has memory of its own, where parameters "
            "cannot be gathered yet; use \"optimizer\"",
            b->plugin.name);
    else if (!TD_HOOK(b, open, o->backend.config, o->services, &e->device.state, error))
        return e;
    td_variables_free(e->variables);
    free(e);
    return NULL;
}

void td_engine_close(td_engine *e)
{
    if (!e)
        return;
    /* memory is released before its device is closed */
    td_engine_free_plans(e);
    if (e->arena)
        TD_HOOK_QUICK(e->device.backend, release, e->device.state, e->arena, e->arena_size);
    td_variables_release(e->variables, &e->device);
    td_variables_free(e->variables);
    TD_HOOK(e->device.backend, close, e->device.state);
    free(e->squares);
    free(e->examples);
    free(e);
}

/* ---- running --------------------------------------------------------------------------------- */

/* 0, 1, 2 .. for at least `rows` rows; NULL without memory. Kept, so that a step allocates
 * nothing. */
static const int32_t *counting(td_engine *e, int64_t rows)
{
    int32_t *larger;
    if (rows <= e->n_examples)
        return e->examples;
    larger = realloc(e->examples, (size_t)rows * sizeof *larger);
    if (!larger)
        return NULL;
    for (int64_t i = e->n_examples; i < rows; i++)
        larger[i] = (int32_t)i;
    e->examples = larger;
    e->n_examples = rows;
    return larger;
}

static int set_inputs(td_engine *e, planned *x, const td_micro *m, td_error *error)
{
    const td_array *labels = td_batch_find(m->batch, "labels");
    int64_t         rows = labels ? labels->dim[0] : 0;
    const int32_t  *examples = m->examples ? m->examples : counting(e, rows);
    if (!labels)
        return td_fail(error, TD_EFORMAT, "the batch has no array 'labels'");
    if (!examples)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld examples", (long long)rows);
    /* a graph without dropout lacks the dropout inputs; the plan ignores unknown names */
    if (td_plan_set_batch(x->plan, m->batch, error) ||
        td_plan_set_scalar(x->plan, "loss_divisor", m->divisor, error) ||
        td_plan_set_scalar(x->plan, "dropout_step", m->step, error))
        return TD_EGRAPH;
    return td_plan_set_ints(x->plan, "dropout_example", examples, rows, error);
}

static void get_losses(const planned *x, td_micro_out *out)
{
    out->sum = td_plan_get_scalar(x->plan, x->built.sum);
    out->loss = 0;
    out->n_aux = 0;
    if (x->purpose == SCORE) /* its graph has neither */
        return;
    out->loss = td_plan_get_scalar(x->plan, x->built.loss);
    out->n_aux = x->built.n_aux;
    for (size_t k = 0; k < out->n_aux; k++)
        out->aux[k] = (td_auxiliary){ x->built.aux[k].name,
                                      td_plan_get_scalar(x->plan, x->built.aux[k].loss) };
}

/* `*used`: the plan that ran, whose other results the caller may read; NULL if there was none. */
static int run(td_engine *e, purpose purpose, const td_micro *m, td_micro_out *out, planned **used,
               td_error *error)
{
    planned *x;
    *used = x = td_engine_find(e, purpose, m->batch, error);
    if (!x)
        return td_failed(error, TD_EGRAPH);
    if (set_inputs(e, x, m, error)) {
        td_plan_serve(x->plan, error); /* the others wait for this one's transfers */
        return td_failed(error, TD_EGRAPH);
    }
    if (td_plan_run(x->plan, error))
        return td_failed(error, TD_EGRAPH);
    get_losses(x, out);
    return 0;
}

int td_engine_gradient(td_engine *e, const td_micro *m, td_micro_out *out, td_error *error)
{
    planned *x;
    int      code = run(e, m->add ? GRADIENT_ADD : GRADIENT, m, out, &x, error);
    out->flops = code ? 0 : td_cost_of(&x->cost, m->batch);
    return code;
}

int td_engine_flops(td_engine *e, const td_batch *batch, double *flops, td_error *error)
{
    const planned *x = td_engine_find(e, GRADIENT, batch, error);
    if (!x)
        return td_failed(error, TD_EGRAPH);
    *flops = td_cost_of(&x->cost, batch);
    return 0;
}

int td_engine_probe(td_engine *e, const td_micro *m, td_micro_out *out, double *logits,
                    td_error *error)
{
    planned *x;
    int      code = run(e, PROBE, m, out, &x, error);
    return code ? code
                : td_plan_get(x->plan, x->built.logits, logits, td_count(x->built.logits), error);
}

int td_engine_evaluate(td_engine *e, const td_batch *batch, double *sum, double *nll,
                       td_error *error)
{
    td_micro     m = { .batch = batch, .divisor = 1 };
    td_micro_out out;
    planned     *x;
    int          code = run(e, SCORE, &m, &out, &x, error);
    if (code)
        return code;
    *sum = out.sum;
    return nll ? td_plan_get(x->plan, x->built.nll, nll, td_count(x->built.nll), error) : 0;
}

int td_engine_tokens(td_engine *e, const td_batch *batch, double *nll, double *best,
                     td_error *error)
{
    td_micro m = { .batch = batch, .divisor = 1 };
    planned *x = td_engine_find(e, TOKENS, batch, error);
    if (!x || set_inputs(e, x, &m, error) || td_plan_run(x->plan, error) ||
        td_plan_get(x->plan, x->tokens.nll, nll, td_count(x->tokens.nll), error))
        return td_failed(error, TD_EGRAPH);
    return td_plan_get(x->plan, x->tokens.best, best, td_count(x->tokens.best), error);
}

int td_engine_square(td_engine *e, double **squares, int64_t *count, td_error *error)
{
    const planned    *x = td_engine_known(e, SQUARES, "");
    const td_squares *s = &x->squares;
    *squares = e->squares;
    *count = s->all;
    memset(e->squares, 0, (size_t)s->all * sizeof *e->squares);
    if (td_plan_run(x->plan, error))
        return td_failed(error, TD_EGRAPH);
    for (size_t k = 0; k < s->count; k++)
        e->squares[s->index[k]] = td_plan_get_scalar(x->plan, s->at[k]);
    return 0;
}

/* A plan that does not need them does not have this input. */
static int set_squares(const td_engine *e, const planned *x, td_error *error)
{
    const planned *s = td_engine_known(e, SQUARES, "");
    return s ? td_plan_set_doubles(x->plan, "squares", e->squares, s->squares.all, error) : 0;
}

int td_engine_update(td_engine *e, double rate, int64_t step, double limit, td_update_out *out,
                     td_error *error)
{
    const planned *x = td_engine_known(e, UPDATE, "");
    assert(step >= 1); /* optimizers divide by 1 - beta^step */
    if (!x)
        return td_fail(error, TD_ECONFIG,
                       "the config has no optimizer to update the parameters with");
    if (td_plan_set_scalar(x->plan, "rate", rate, error) ||
        td_plan_set_scalar(x->plan, "step", (double)step, error) ||
        td_plan_set_scalar(x->plan, "norm_limit", limit, error) || set_squares(e, x, error) ||
        td_plan_run(x->plan, error))
        return td_failed(error, TD_EGRAPH);
    out->norm = td_plan_get_scalar(x->plan, x->update.norm);
    out->applied = td_plan_get_scalar(x->plan, x->update.gate) != 0;
    return 0;
}

int td_engine_norms(td_engine *e, td_parameter_norms **out, size_t *count, td_error *error)
{
    planned        *x = td_engine_find(e, NORMS, NULL, error);
    const td_norms *n;
    if (!x || set_squares(e, x, error) || td_plan_run(x->plan, error))
        return td_failed(error, TD_EGRAPH);
    n = &x->norms;
    *out = calloc(n->count + 1, sizeof **out); /* + 1, so that even an empty list is not NULL */
    *count = n->count;
    if (!*out)
        return td_fail(error, TD_ENOMEM, "out of memory for %zu norms", n->count);
    for (size_t k = 0; k < n->count; k++)
        (*out)[k] = (td_parameter_norms){ n->parameters[k]->name,
                                          td_plan_get_scalar(x->plan, n->at[2 * k]),
                                          td_plan_get_scalar(x->plan, n->at[2 * k + 1]) };
    return 0;
}

/* ---- sharded parameters ---------------------------------------------------------------------- */

bool td_engine_exchanges(const td_engine *e) { return td_shard_parameters(&e->model); }

void td_engine_connect(td_engine *e, const td_exchange *exchange)
{
    e->exchange = exchange ? *exchange : (td_exchange){ 0 };
}

/* The first plan made for a purpose stands for all: they have the same transfers. */
static planned *any_plan(const td_engine *e, purpose purpose, td_error *error)
{
    for (size_t k = 0; k < e->n_plans; k++)
        if (e->plans[k]->purpose == purpose)
            return e->plans[k];
    td_fail(error, TD_EGRAPH, "no step was planned in which other processes could be served");
    return NULL;
}

int td_engine_order(td_engine *e, const td_batch *batch, bool scores, uint64_t *order,
                    td_error *error)
{
    purpose        purpose = scores ? SCORE : GRADIENT;
    const planned *x = batch ? td_engine_find(e, purpose, batch, error)
                             : any_plan(e, purpose, error);
    if (!x)
        return td_failed(error, TD_EGRAPH);
    *order = td_plan_order(x->plan);
    return 0;
}

int td_engine_serve(td_engine *e, bool scores, td_error *error)
{
    planned *x = any_plan(e, scores ? SCORE : GRADIENT, error);
    return x ? td_plan_serve(x->plan, error) : td_failed(error, TD_EGRAPH);
}

/* ---- looking --------------------------------------------------------------------------------- */

void td_engine_profile(td_engine *e, bool on)
{
    e->profile = on; /* for plans to come */
    for (size_t k = 0; k < e->n_plans; k++)
        td_plan_profile(e->plans[k]->plan, on);
}

static void add_row(td_profile_row *rows, size_t *n, size_t room, const td_profile_row *more)
{
    size_t k = 0;
    while (k < *n && strcmp(rows[k].op, more->op))
        k++;
    if (k == room)
        return;
    if (k == *n)
        rows[(*n)++] = (td_profile_row){ .op = more->op };
    rows[k].seconds += more->seconds;
    rows[k].flops += more->flops;
    rows[k].bytes += more->bytes;
    rows[k].calls += more->calls;
}

size_t td_engine_profile_rows(td_engine *e, td_profile_row *rows, size_t room)
{
    size_t n = 0;
    /* an op may be in several plans: one row for it */
    for (size_t k = 0; k < e->n_plans; k++) {
        td_profile_row own[128];
        size_t count = td_plan_profile_rows(e->plans[k]->plan, own, sizeof own / sizeof *own);
        for (size_t i = 0; i < count; i++)
            add_row(rows, &n, room, &own[i]);
    }
    return n;
}

double td_engine_planning(const td_engine *e, size_t *plans)
{
    *plans = e->n_plans;
    return e->planning;
}
