/* probe.c - `tandem probe`: one batch through a model, to compare with another framework. It runs
 * what `train` runs. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/safetensors.h"
#include "weights.h"

/* ---- the batch ------------------------------------------------------------------------------- */

static int add_array(td_batch *b, const td_stored *t, td_error *error)
{
    bool  real = td_stored_is_real(t);
    void *data = b->add(b, t->name, real ? TD_F32 : TD_I32, t->rank, t->dim);
    if (!data)
        return td_fail(
            error, TD_EFORMAT,
            "batch: cannot take tensor '%s': too many tensors, too long a name, or no memory",
            t->name);
    return real ? td_stored_floats(t, data, td_stored_count(t), error)
                : td_stored_ints(t, data, td_stored_count(t), error);
}

/* A misspelt name would leave an array out in silence. */
static int check_name(const td_architecture *a, const char *name, td_error *error)
{
    size_t      n = 0;
    const char *nearest;
    while (a->arrays && a->arrays[n] && strcmp(a->arrays[n], name))
        n++;
    if (!a->arrays || a->arrays[n])
        return 0;
    nearest = td_nearest(name, a->arrays, n);
    return td_fail(error, TD_EFORMAT,
                   "architecture '%s' reads no array '%s'%s%s%s: rename it, or leave it out",
                   a->plugin.name, name, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                   nearest ? "'?" : "");
}

static td_batch *read_batch(const td_work *w, const char *path, td_error *error)
{
    const td_architecture *a = (const void *)w->x->model.plugin;
    td_safetensors        *file = td_safetensors_open(path, error);
    td_batch              *b = file ? td_batch_new() : NULL;
    int                    code = b ? 0 : td_fail(error, TD_ENOMEM, "out of memory for the batch");
    const td_array        *labels;

    for (size_t i = 0; file && !code && i < td_safetensors_count(file); i++)
        if (!(code = check_name(a, td_safetensors_at(file, i)->name, error)))
            code = add_array(b, td_safetensors_at(file, i), error);
    labels = b ? td_batch_find(b, "labels") : NULL;
    if (!code) {
        b->rows = labels && labels->rank == 2 ? labels->dim[0] : 0;
        code = a->complete ? a->complete(w->x->model.config, b, error) : 0;
    }
    if (!code)
        code = td_batch_check(b, a->vocab_size(w->x->model.config), error);
    td_safetensors_close(file);
    if (!code)
        return b;
    td_batch_free(b);
    return NULL;
}

/* ---- results --------------------------------------------------------------------------------- */

typedef struct result {
    const td_variable *gradient;
    const td_device   *device;
    const double      *values;
    int64_t            count;
} result;

static int give(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    const result *r = arg;
    int64_t       first = (int64_t)(offset / 4), count = (int64_t)(size / 4);
    if (r->gradient)
        return td_variable_slice(r->gradient, r->device, r->device->backend->real, first, count,
                                 out, error);
    for (int64_t i = 0; i < count; i++)
        ((float *)out)[i] = (float)r->values[first + i];
    return 0;
}

static int write_results(td_work *w, const char *path, const td_array *labels, const double *logits,
                         int64_t vocab, const double scalars[2], td_error *error)
{
    td_variables *v = td_engine_variables(w->engine);
    size_t        count = td_variables_count(v), n = 0;
    td_stored    *list = calloc(count + 4, sizeof *list);
    result       *results = calloc(count + 4, sizeof *results);
    char(*names)[600] = calloc(count + 4, sizeof *names);
    int code = list && results && names
                   ? 0
                   : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);

    if (!code) {
        results[0] = (result){ .values = logits };
        results[1] = (result){ .values = &scalars[0] };
        results[2] = (result){ .values = &scalars[1] };
        list[0] = (td_stored){ .name = "logits",
                               .rank = 3,
                               .dim = { labels->dim[0], labels->dim[1], vocab } };
        list[1] = (td_stored){ .name = "loss" };
        list[2] = (td_stored){ .name = "cross_entropy" };
        n = 3;
        for (size_t i = 0; i < count; i++) {
            const td_variable *x = td_variables_at(v, i);
            if (x->kind != TD_VARIABLE_GRAD)
                continue;
            snprintf(names[n], sizeof *names, "grad.%.*s", (int)(strlen(x->name) - 5),
                     x->name); /* without ".grad" */
            results[n] = (result){ .gradient = x, .device = td_engine_device(w->engine) };
            list[n] = (td_stored){ .name = names[n], .rank = x->rank };
            memcpy(list[n].dim, x->dim, sizeof x->dim);
            n++;
        }
        for (size_t i = 0; i < n; i++) {
            list[i].type = TD_STORED_F32;
            list[i].stream = give;
            list[i].arg = &results[i];
        }
        code = td_safetensors_write(path, list, n, NULL, error);
    }
    free(list);
    free(results);
    free(names);
    return code;
}

static void print_scalars(const double scalars[2])
{
    json_t *j = json_pack("{s:o, s:o}", "loss", td_tool_number(scalars[0]), "cross_entropy",
                          td_tool_number(scalars[1]));
    json_dumpf(j, stdout, JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static int probe(td_work *w, const td_batch *b, const char *out, td_error *error)
{
    const td_array *labels = td_batch_find(b, "labels");
    int64_t         vocab = ((const td_architecture *)(const void *)w->x->model.plugin)
                        ->vocab_size(w->x->model.config);
    double *logits = calloc((size_t)(labels->dim[0] * labels->dim[1] * vocab) + 1, sizeof *logits),
           scalars[2];
    double       weight = td_batch_weight(b);
    td_micro     micro = { .batch = b, .divisor = weight };
    td_micro_out result;
    int          code = logits ? td_engine_probe(w->engine, &micro, &result, logits, error)
                               : td_fail(error, TD_ENOMEM, "out of memory for the logits");
    if (!code) {
        scalars[0] = result.loss;
        scalars[1] = result.sum / weight;
        if (w->tool->json)
            print_scalars(scalars);
        else
            printf("loss %.9g\ncross-entropy %.9g\n", scalars[0], scalars[1]);
        code = out ? write_results(w, out, labels, logits, vocab, scalars, error) : 0;
    }
    free(logits);
    return code;
}

/* ---- updates --------------------------------------------------------------------------------- */

static int updates(td_work *w, const td_batch *b, int64_t steps, td_error *error)
{
    const td_schedule *schedule = (const void *)w->x->schedule.plugin;
    json_t            *list = json_array(), *root;
    double             weight = td_batch_weight(b);
    int                code = 0;

    for (int64_t k = 0; k < steps && !code; k++) {
        td_micro      micro = { .batch = b, .divisor = weight, .step = (int32_t)k };
        td_micro_out  out;
        td_update_out u;
        double        rate = schedule->rate(w->x->schedule.config, k);
        code = td_engine_gradient(w->engine, &micro, &out, error);
        if (!code)
            code = td_engine_update(w->engine, rate, k + 1, (double)INFINITY, &u, error);
        if (code)
            break;
        json_array_append_new(list,
                              json_pack("{s:o, s:o, s:o, s:f}", "loss", td_tool_number(out.loss),
                                        "cross_entropy", td_tool_number(out.sum / weight),
                                        "grad_norm", td_tool_number(u.norm), "lr", rate));
        if (!w->tool->json)
            printf("step %lld  loss %.7g  cross-entropy %.7g  norm %.6g  lr %.6g\n",
                   (long long)k + 1, out.loss, out.sum / weight, u.norm, rate);
    }
    root = json_pack("{s:o}", "steps", list);
    if (!code && w->tool->json) {
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        putchar('\n');
    }
    json_decref(root);
    return code;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int run(td_work *w, const char *weights, const char *batch, const char *out, int64_t steps,
               td_error *error)
{
    td_error  why = { 0 };
    td_batch *b = read_batch(w, batch, &why);
    int       code = b ? td_work_engine(w, error)
                       : td_fail(error, why.code, "--batch '%s': %.1900s", batch, why.text);
    if (!code && !(td_batch_weight(b) > 0))
        code = td_fail(error, TD_EFORMAT,
                       "'%s': the sum of loss_weights is %g: there is nothing to score", batch,
                       td_batch_weight(b));
    if (!code)
        code = td_engine_plan(w->engine, b, NULL, error);
    if (!code)
        code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code && weights)
        code = td_work_check_weights(w, weights, error);
    if (!code && weights)
        code = td_weights_load(weights, td_engine_variables(w->engine), td_engine_device(w->engine),
                               error);
    if (!code)
        code = steps ? updates(w, b, steps, error) : probe(w, b, out, error);
    td_batch_free(b);
    return code;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static const td_flag flags[] = {
    { "--weights", "FILE", "parameters (safetensors); else the initial ones" },
    { "--allow", "KEY ..", "a key in which the parameters' model may differ: model.position.*" },
    { "--batch", "FILE",
      "the batch (safetensors): ids, lengths or segments, labels, loss_weights" },
    { "--out", "FILE", "where logits, loss, cross_entropy and grad.* go (safetensors)" },
    { "--optimizer-steps", "N", "make N updates on the batch, and print their losses" },
    { 0, 0, 0 },
};

const td_usage td_usage_probe = {
    .name = "probe",
    .arguments =
        "--batch B.safetensors [--weights W.safetensors] [--allow KEY ..] [--out O.safetensors]",
    .brief =
        "One batch through a model: logits, loss and gradients, to compare with another framework.",
    .example = "tandem probe -c model.cfg --weights w.safetensors --batch b.safetensors --out "
               "o.safetensors",
    .flags = flags,
    .config = true,
    .json = true,
};

int td_command_probe(td_tool *t, int argc, char **argv)
{
    const char *weights, *batch, *out, *steps;
    td_work     w;
    td_error    e = { 0 };
    char       *end = NULL;
    long        n;
    int         code;

    if (!td_tool_parse(t, &td_usage_probe, argc, argv, &code))
        return code;
    weights = td_tool_option(t, "--weights");
    batch = td_tool_option(t, "--batch");
    out = td_tool_option(t, "--out");
    steps = td_tool_option(t, "--optimizer-steps");
    n = steps ? strtol(steps, &end, 10) : 0;
    if (!batch)
        return td_tool_usage_error(t, "no batch: say --batch FILE");
    if (steps && out)
        return td_tool_usage_error(
            t, "--out writes the results of one batch; it does not go with --optimizer-steps");
    if (out && (same_file(out, batch) || (weights && same_file(out, weights))))
        return td_tool_usage_error(t, "--out '%s' is a file that is read", out);
    if (steps && (*end || n < 1 || n > 1000000))
        return td_tool_usage_error(t, "--optimizer-steps takes a number from 1, not '%s'", steps);
    if (!td_work_open(&w, t,
                      TD_NEED_MODEL | TD_NEED_LOSS |
                          (n ? TD_NEED_OPTIMIZER | TD_NEED_SCHEDULE : 0u),
                      &code))
        return code;
    if (!n)
        w.x->optimizer.plugin = NULL;
    code = run(&w, weights, batch, out, n, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    td_work_close(&w);
    return code;
}
