/* figures.c - binds, plans and times the config of a cell. */
#include "study/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/arrange.h"
#include "run/benchmark.h"
#include "run/keep.h"
#include "run/review.h"
#include "run/tasks.h"

double td_figures_steps(const td_figures *f)
{
    if (f->budget_targets > 0 && f->targets > 0)
        return f->budget_targets / f->targets;
    if (f->budget_flops > 0 && f->flops > 0)
        return f->budget_flops / f->flops;
    return (double)f->steps;
}

double td_figures_flops(const td_figures *f)
{
    return f->budget_flops > 0 ? f->budget_flops : td_figures_steps(f) * f->flops;
}

/* ---- the text -------------------------------------------------------------------------------- */

/* The label of a cell would be wrong. */
static void check_seed(const td_experiment *x, const td_point *p, td_errors *errors)
{
    const td_setting *v = td_config_get(x->config, "train.seed");
    if (x->train.seed != p->seed)
        td_errors_add(errors, "%s: train.seed = %lld, but the seeds of a study are study.seeds",
                      v ? td_setting_origin(v) : "train.seed", (long long)x->train.seed);
}

static void print(const td_experiment *x, td_text *plain, td_text *annotated)
{
    td_config_print(x->config, false, plain);
    if (annotated)
        td_config_print_cell(x->config, annotated);
}

/* One cell must not find the modules of another cell's plugin_path, so such a cell gets its own
 * registry. */
static td_registry *registry_for(const td_composer *c, const td_config *config, td_error *error)
{
    return td_config_get(config, "plugin_path") ? td_registry_new(c->plugin_paths, c->log, error)
                                                : c->registry;
}

char *td_cell_text(const td_composer *c, const td_point *p, const td_choices *choices,
                   td_text *annotated, td_text *notes, td_errors *errors)
{
    td_error       e = { 0 };
    size_t         before = errors->count;
    td_config     *config = td_compose(c, p, choices, NULL, errors);
    td_registry   *r = config ? registry_for(c, config, &e) : NULL;
    td_experiment *x = r ? td_experiment_bind(r, config, TD_NEED_TRAINING, errors) : NULL;
    td_text        text = { 0 };

    if (config && !r) {
        td_config_free(config);
        td_errors_add(errors, "%s", e.text);
    }
    if (x) {
        check_seed(x, p, errors);
        print(x, &text, annotated);
        if (notes)
            td_text_print(notes, "%s", td_config_notes(x->config));
        if (text.failed)
            td_errors_add(errors, "out of memory while composing a cell");
    }
    td_experiment_close(x);
    /* a config with a plugin_path of its own needs a registry of its own */
    if (r != c->registry)
        td_registry_free(r);
    if (errors->count == before)
        return text.data;
    td_text_free(&text);
    return NULL;
}

/* ---- sessions -------------------------------------------------------------------------------- */

/* Nothing is announced here: binding has done that. */
static td_session *open_text(const td_composer *c, const char *text, int64_t threads,
                             td_errors *errors)
{
    char               setting[64];
    const char        *texts[] = { text, NULL }, *settings[] = { setting, NULL };
    td_error           e = { 0 };
    td_session_options o = { .size = sizeof o,
                             .texts = texts,
                             .settings = settings,
                             .plugin_paths = c->plugin_paths,
                             .untrusted = c->untrusted };
    td_session        *s;
    snprintf(setting, sizeof setting, "backend.threads=%lld", (long long)threads);
    s = td_session_begin(&o, TD_NEED_TRAINING, NULL, errors, &e);
    if (!s && e.code)
        td_errors_add(errors, "%s", e.text);
    return s;
}

static double total(const td_footprint *f)
{
    return (double)f->parameters + (double)f->gradients + (double)f->states +
           (double)f->activations + (double)f->inputs;
}

/* The group's default is the host's own processor and memory. */
static bool is_default_backend(const td_experiment *x)
{
    const td_group *g = td_experiment_groups();
    while (strcmp(g->name, "backend"))
        g++;
    return !strcmp(x->backend.plugin->name, g->plugin);
}

static void count(td_session *s, const td_description *d, td_figures *out)
{
    const td_experiment *x = s->x;
    td_pair              pair = td_arrange_pair(&x->data);
    double               batch = (double)x->train.batch;
    td_budget            budget = td_experiment_budget(x);
    *out = (td_figures){
        .parameters = (double)d->parameters,
        .memory = total(&d->memory),
        .flops = batch * (d->forward.visible + d->backward.visible),
        .tokens = batch * (double)td_arrange_bounds(&x->loss, pair, x->train.length).raw,
        .targets = batch * (double)d->predicted,
        .device = !is_default_backend(x),
        .unavailable = d->unavailable != NULL,
        .pairs = pair.inputs > 0,
        .steps = budget == TD_BUDGET_STEPS ? x->train.steps : 0,
        .budget_targets = budget == TD_BUDGET_TARGETS ? x->train.target_tokens : 0,
        .budget_flops = budget == TD_BUDGET_FLOPS ? x->train.flops : 0,
    };
}

/* A misspelt task, or a missing file of one, is found before hours of training. */
static void review_tasks(td_session *s, const td_phase_design *d, td_errors *errors)
{
    td_tasks_request r = td_tasks_configured(s);
    td_error         e = { 0 };
    td_tasks        *tasks;
    size_t           before = errors->count;
    /* as the command of the cell will set them */
    r.names = d->tasks.at;
    r.count = d->tasks.count;
    r.data = d->data ? d->data : r.data;
    if (d->shots >= 0)
        r.shots = d->shots;
    if (d->limit >= 0)
        r.limit = d->limit;
    tasks = td_tasks_open(s, &r, errors, &e);
    if (!tasks && errors->count == before)
        td_errors_add(errors, "%s", e.text);
    td_tasks_close(tasks);
}

/* A cluster's login node has no GPU, but still shows and emits studies for nodes that have one. */
static void check_backend(const td_composer *c, const td_description *d, td_text *notes,
                          td_errors *errors)
{
    if (d->unavailable && c->here)
        td_errors_add(errors, "%s", d->unavailable);
    else if (d->unavailable)
        td_text_print(notes,
                      "planned for the default backend, as this machine lacks the study's: "
                      "%s\n",
                      d->unavailable);
}

static void review(td_session *s, const td_composer *c, const td_point *p, td_errors *errors)
{
    const td_phase_design *phase = &c->design->phases[p->reads];
    td_text                notes = { 0 };
    td_session_review(s, errors, &notes);
    td_text_free(&notes);
    /* the data of tasks must be here only if this cell scores them */
    if (p->reads == TD_STUDY_EVALUATE && phase->tasks.count)
        review_tasks(s, phase, errors);
}

int td_figures_of(const td_composer *c, const td_point *p, const char *text, td_text *notes,
                  td_figures *out, td_errors *errors)
{
    size_t                before = errors->count;
    td_session           *s = open_text(c, text, 1, errors);
    const td_description *d = NULL;
    td_error              e = { 0 };
    int64_t               processes = td_point_processes(c->design, p);
    if (!s)
        return TD_ECONFIG;
    if (processes == 1 || !td_session_imagine(s, processes, &e))
        d = td_session_describe(s, &e);
    if (d) {
        count(s, d, out);
        out->memory *= (double)processes;
    } else
        td_errors_add(errors, "%s", e.text);
    /* without notes it is a candidate in a search for sizes, and may never run */
    if (d && notes) {
        check_backend(c, d, notes, errors);
        review(s, c, p, errors);
    }
    td_session_close(s);
    return errors->count == before ? 0 : TD_ECONFIG;
}

int td_figures_modules(const td_composer *c, const char *text, const char *directory,
                       td_error *error)
{
    td_errors   errors = { 0 };
    td_session *s = open_text(c, text, 1, &errors);
    int         code = s ? td_run_keep_modules(s, directory, error)
                         : td_fail(error, TD_ECONFIG, "%s", td_text_get(&errors.text));
    td_session_close(s);
    td_errors_free(&errors);
    return code;
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* Processes compute their micro-batches at the same time; what they send is not measured. One measured
 * step is a micro-batch and an update: for the small models that are measured the update
 * is quick, so the whole step is a little overestimated. */
int td_figures_measure(const td_composer *c, const char *text, int64_t processes, double seconds,
                       int64_t threads, double *out, td_error *error)
{
    td_errors    errors = { 0 };
    td_session  *s = open_text(c, text, threads, &errors);
    td_benchmark b;
    int          code = s ? td_session_imagine(s, processes, error) : TD_ECONFIG;
    if (!s)
        td_fail(error, TD_ECONFIG, "%s", td_text_get(&errors.text));
    /* the micro-batches of several processes, but the work of one, since only this one is here */
    if (!code)
        code = td_session_imagine(s, 1, error);
    if (!code)
        code = td_session_benchmark(s, seconds, false, &b, error);
    if (!code)
        *out = b.seconds *
               ceil((double)(s->x->train.batch / s->x->train.micro_batch) / (double)processes);
    td_session_close(s);
    td_errors_free(&errors);
    return code;
}
