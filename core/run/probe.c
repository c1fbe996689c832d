/* probe.c - runs one batch through a model, and writes the results as safetensors.
 *
 * The batch comes from another program, so everything in it is checked before it reaches a kernel.
 */
#include "run/probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "run/locate.h"
#include "run/weights.h"
#include "train/rate.h"

static const td_architecture *architecture_of(const td_session *s)
{
    return (const void *)s->x->model.plugin;
}

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

/* An array with a misspelt name would be silently ignored. */
static int check_name(const td_architecture *a, const char *name, td_error *error)
{
    size_t      n = 0;
    const char *nearest;
    while (a->arrays && a->arrays[n] && strcmp(a->arrays[n], name))
        n++;
    if (!a->arrays || a->arrays[n])
        return 0;
    /* an architecture that lists no arrays accepts any */
    nearest = td_nearest(name, a->arrays, n);
    return td_fail(error, TD_EFORMAT,
                   "architecture '%s' reads no array '%s'%s%s%s: rename it, or leave it out",
                   a->plugin.name, name, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                   nearest ? "'?" : "");
}

/* Converts numbers: files of other frameworks have ids as I64, weights as F64. */
static int read_arrays(const td_architecture *a, td_batch *b, const char *path, td_error *error)
{
    td_safetensors *file = td_safetensors_open(path, error);
    int             code = file ? 0 : td_failed(error, TD_EIO);
    for (size_t i = 0; file && !code && i < td_safetensors_count(file); i++) {
        code = check_name(a, td_safetensors_at(file, i)->name, error);
        if (!code)
            code = add_array(b, td_safetensors_at(file, i), error);
    }
    td_safetensors_close(file);
    return code;
}

static int read_batch(const td_session *s, td_batch *b, const char *path, td_error *error)
{
    const td_architecture *a = architecture_of(s);
    const td_array        *labels;
    int                    code = read_arrays(a, b, path, error);

    labels = td_batch_find(b, "labels");
    b->rows = labels && labels->rank == 2 ? labels->dim[0] : 0;
    /* derive the usual positions and segments if the file leaves them out */
    if (!code && a->complete)
        code = a->complete(s->x->model.config, b, error);
    if (!code)
        code = td_batch_check(b, td_session_vocabulary(s), error);
    if (!code && !(td_batch_weight(b) > 0))
        code = td_fail(error, TD_EFORMAT,
                       "the sum of loss_weights is %g: there is nothing to score",
                       td_batch_weight(b));
    return code;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int prepare(td_probe *p, const char *weights, bool updates, td_error *error)
{
    td_session *s = p->session;
    /* compared before the model is built: "a different model" is a clearer message than a
     * missing tensor */
    int         code = weights ? td_session_check_weights(s, weights, error) : 0;
    /* without updates the optimizer's states need no memory */
    if (!code)
        code = td_session_replace(s, updates, error);
    if (!code)
        code = td_engine_plan(s->engine, p->batch, NULL, error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    if (!code && weights)
        code = td_session_take(s, weights, error);
    if (code)
        td_session_drop(s);
    return code;
}

int td_probe_open(td_probe *p, td_session *s, const char *batch, const char *weights, bool updates,
                  td_error *error)
{
    td_error why = { 0 };
    char    *file;
    int      code;
    *p = (td_probe){ .session = s, .batch = td_batch_new() };
    code = p->batch ? read_batch(s, p->batch, batch, &why)
                    : td_fail(&why, TD_ENOMEM, "out of memory for the batch");
    /* messages of read_batch do not name the file */
    if (code)
        return td_fail(error, code, "batch file '%s': %.1900s", batch, why.text);
    file = weights ? td_weights_locate(weights, TD_STEP_NEWEST, error) : NULL;
    if (weights && !file)
        return td_failed(error, TD_EIO);
    code = prepare(p, file, updates, error);
    free(file);
    return code;
}

void td_probe_close(td_probe *p)
{
    td_batch_free(p->batch);
    free(p->logits);
    *p = (td_probe){ 0 };
}

/* ---- running --------------------------------------------------------------------------------- */

int td_probe_run(td_probe *p, td_error *error)
{
    const td_array *labels = td_batch_find(p->batch, "labels");
    int64_t         count = labels->dim[0] * labels->dim[1] * td_session_vocabulary(p->session);
    double          weight = td_batch_weight(p->batch);
    td_micro        micro = { .batch = p->batch, .divisor = weight };
    td_micro_out    out;
    int             code;

    /* as doubles, so that the results of a backend in double are not rounded */
    free(p->logits);
    p->logits = calloc((size_t)count + 1, sizeof *p->logits);
    code = p->logits ? td_engine_probe(p->session->engine, &micro, &out, p->logits, error)
                     : td_fail(error, TD_ENOMEM, "out of memory for the logits");
    if (code)
        return code;
    p->loss = out.loss;
    p->cross_entropy = out.sum / weight;
    return 0;
}

int td_probe_step(td_probe *p, int64_t step, td_error *error)
{
    td_session   *s = p->session;
    double        weight = td_batch_weight(p->batch);
    td_micro      micro = { .batch = p->batch, .divisor = weight, .step = (int32_t)step };
    td_micro_out  out;
    td_update_out u;
    int           code = td_engine_gradient(s->engine, &micro, &out, error);
    if (!code)
        code = td_rate_of_step(&s->x->schedule, step, &p->rate, error);
    /* no limit on the norm: a guard would skip updates that another framework makes */
    if (!code)
        code = td_engine_update(s->engine, p->rate, step + 1, (double)INFINITY, &u, error);
    if (code)
        return code;
    p->loss = out.loss;
    p->cross_entropy = out.sum / weight;
    p->norm = u.norm;
    return 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

enum { FIXED = 3 }; /* logits, loss, cross_entropy */

/* Where the values of one tensor are: in a gradient's variable, or here. */
typedef struct result {
    const td_variable *gradient; /* NULL: in `values` */
    const td_device   *device;
    const double      *values;
    char               name[600];
} result;

/* The hook of td_stored. It copies piece by piece, so that writing needs no buffer of a tensor's
 * size. */
static int stream(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    const result *r = arg;
    int64_t       first = (int64_t)(offset / sizeof(float));
    int64_t       count = (int64_t)(size / sizeof(float));
    if (r->gradient)
        return td_variable_slice(r->gradient, r->device, td_device_real(r->device), first, count,
                                 out, error);
    for (int64_t i = 0; i < count; i++)
        ((float *)out)[i] = (float)r->values[first + i];
    return 0;
}

static void add_values(td_stored *t, result *r, const char *name, const double *values)
{
    *r = (result){ .values = values };
    *t = (td_stored){ .name = name, .type = TD_STORED_F32, .stream = stream, .arg = r };
}

static void add_gradient(td_stored *t, result *r, const td_variable *x, const td_device *device)
{
    *r = (result){ .gradient = x, .device = device };
    snprintf(r->name, sizeof r->name, "grad.%.*s", (int)(strlen(x->name) - strlen(".grad")),
             x->name);
    *t = (td_stored){
        .name = r->name, .type = TD_STORED_F32, .rank = x->rank, .stream = stream, .arg = r
    };
    memcpy(t->dim, x->dim, sizeof x->dim);
}

/* Returns the number of tensors. */
static size_t list_results(const td_probe *p, td_stored *list, result *results)
{
    const td_array *labels = td_batch_find(p->batch, "labels");
    td_variables   *v = td_engine_variables(p->session->engine);
    size_t          n = FIXED;

    /* the names are part of the interface: docs/conformance.md, tests/golden */
    add_values(&list[0], &results[0], "logits", p->logits);
    list[0].rank = 3;
    list[0].dim[0] = labels->dim[0];
    list[0].dim[1] = labels->dim[1];
    list[0].dim[2] = td_session_vocabulary(p->session);
    add_values(&list[1], &results[1], "loss", &p->loss);
    add_values(&list[2], &results[2], "cross_entropy", &p->cross_entropy);
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_GRAD) {
            add_gradient(&list[n], &results[n], td_variables_at(v, i),
                         td_engine_device(p->session->engine));
            n++;
        }
    return n;
}

int td_probe_write(const td_probe *p, const char *path, td_error *error)
{
    size_t     room = td_variables_count(td_engine_variables(p->session->engine)) + FIXED;
    td_stored *list = calloc(room, sizeof *list);
    result    *results = calloc(room, sizeof *results);
    int        code;
    if (list && results)
        code = td_safetensors_write(path, list, list_results(p, list, results), NULL, error);
    else
        code = td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    free(list);
    free(results);
    return code;
}
