/* parameters.c - the parameters that a session holds, by name and as files.
 *
 * Values go in and out as floats, whatever the backend computes in: that is what files and other
 * programs have.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "run/directory.h"
#include "run/weights.h"

/* The k-th variable that is a parameter; NULL: there are fewer. */
static td_variable *parameter(const td_session *s, int64_t k)
{
    td_variables *v = td_engine_variables(s->engine);
    for (size_t i = 0; i < td_variables_count(v); i++)
        if (td_variables_at(v, i)->kind == TD_VARIABLE_PARAM && k-- == 0)
            return td_variables_at(v, i);
    return NULL;
}

int64_t td_session_parameters(td_session *s, td_error *error)
{
    td_variables *v;
    int64_t       n = 0;
    if (td_session_hold(s, error))
        return td_failed(error, TD_ENOMEM);
    /* gradients and optimizer states are variables, too */
    v = td_engine_variables(s->engine);
    for (size_t i = 0; i < td_variables_count(v); i++)
        n += td_variables_at(v, i)->kind == TD_VARIABLE_PARAM;
    return n;
}

int td_session_parameter(td_session *s, int64_t index, td_parameter *out, td_error *error)
{
    const td_variable *x;
    if (td_session_hold(s, error))
        return td_failed(error, TD_ENOMEM);
    x = index < 0 ? NULL : parameter(s, index);
    if (!x)
        return td_fail(error, TD_ECONFIG, "there is no parameter number %lld: the model has %lld",
                       (long long)index, (long long)td_session_parameters(s, error));
    *out = (td_parameter){ .name = x->name, .rank = x->rank, .count = x->count };
    memcpy(out->shape, x->dim, sizeof out->shape);
    return 0;
}

_Static_assert(sizeof((td_parameter *)0)->shape == sizeof((td_variable *)0)->dim,
               "the public header has the same largest rank");

/* NULL with `error`; names of gradients and optimizer states are not parameters. */
static td_variable *find(td_session *s, const char *name, int64_t count, td_error *error)
{
    td_variable *x;
    if (td_session_hold(s, error))
        return NULL;
    x = td_variables_find(td_engine_variables(s->engine), name);
    /* written from outside, a state would make the next update mean nothing */
    if (!x || x->kind != TD_VARIABLE_PARAM) {
        td_fail(error, TD_ECONFIG, "the model has no parameter '%s'", name);
        return NULL;
    }
    if (count != x->count) {
        td_fail(error, TD_ECONFIG, "parameter '%s' has %lld elements, not %lld", name,
                (long long)x->count, (long long)count);
        return NULL;
    }
    return x;
}

int td_session_read(td_session *s, const char *name, float *values, int64_t count, td_error *error)
{
    const td_variable *x = find(s, name, count, error);
    const td_device   *d = x ? td_engine_device(s->engine) : NULL;
    return x ? td_variable_get(x, d, d->backend->real, values, error)
             : td_failed(error, TD_ECONFIG);
}

int td_session_write(td_session *s, const char *name, const float *values, int64_t count,
                     td_error *error)
{
    td_variable     *x = find(s, name, count, error);
    const td_device *d = x ? td_engine_device(s->engine) : NULL;
    return x ? td_variable_set(x, d, d->backend->real, values, error)
             : td_failed(error, TD_ECONFIG);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The parameters of the run's newest checkpoint; free() it. NULL with `error`. A damaged checkpoint
 * is an error: the one before it is another model. */
static char *newest(td_session *s, td_error *error)
{
    char *latest = NULL, *path = NULL;
    if (td_run_latest(s, &latest, error))
        return NULL;
    if (!latest)
        td_fail(error, TD_ECONFIG,
                "there is no checkpoint in '%s/checkpoints': train first, or name a file of "
                "parameters (--weights FILE)",
                td_session_directory(s));
    else if (!td_checkpoint_check(latest, error) &&
             !(path = td_path_join(latest, "model.safetensors")))
        td_fail(error, TD_ENOMEM, "out of memory while looking for parameters");
    free(latest);
    return path;
}

/* The data is opened for its tokenizer: parameters of another one must not be taken. */
static int load(td_session *s, const char *path, td_error *error)
{
    int code = s->needs & TD_NEED_DATA ? td_session_open_data(s, error) : 0;
    /* compared before the model is built: a different one is a better message than a missing
     * tensor */
    if (!code)
        code = td_session_check_weights(s, path, error);
    td_session_warn_of_idle_allows(s);
    if (!code)
        code = td_session_hold(s, error);
    return code ? code : td_session_take(s, path, error);
}

int td_session_load(td_session *s, const char *path, td_error *error)
{
    char *chosen = path ? strdup(path) : newest(s, error);
    int   code;
    if (!chosen)
        return td_failed(error, td_fail(error, TD_ENOMEM, "out of memory"));
    code = td_session_result(load(s, chosen, error), error);
    free(chosen);
    return code;
}

int td_session_save(td_session *s, const char *path, td_error *error)
{
    int code = td_session_hold(s, error);
    return code ? code
                : td_weights_save(path, td_engine_variables(s->engine), td_engine_device(s->engine),
                                  error);
}

const char *td_session_loaded(const td_session *s) { return s->loaded; }
