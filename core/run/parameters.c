/* parameters.c - the parameters that a session holds, by name and as files.
 *
 * Values are read and written as floats, whatever the backend's dtype, because files and other
 * programs use floats.
 */
#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"
#include "run/locate.h"
#include "run/provenance.h"
#include "run/weights.h"

/* The k-th variable that is a parameter; NULL if there are fewer. */
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
    /* gradients and optimizer states are variables as well */
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
               "the public header has the same maximum rank");

/* NULL with `error`; names of gradients and optimizer states are not parameters. */
static td_variable *find(td_session *s, const char *name, int64_t count, td_error *error)
{
    td_variable *x;
    if (td_session_hold(s, error))
        return NULL;
    x = td_variables_find(td_engine_variables(s->engine), name);
    /* overwriting an optimizer state would make the next update meaningless */
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
    return x ? td_variable_get(x, d, td_device_real(d), values, error)
             : td_failed(error, TD_ECONFIG);
}

int td_session_write(td_session *s, const char *name, const float *values, int64_t count,
                     td_error *error)
{
    td_variable     *x = find(s, name, count, error);
    const td_device *d = x ? td_engine_device(s->engine) : NULL;
    td_session_forget_layouts(s);
    return x ? td_variable_set(x, d, td_device_real(d), values, error)
             : td_failed(error, TD_ECONFIG);
}

int td_session_view(td_session *s, const char *name, const float **values, int64_t *count,
                    td_error *error)
{
    td_variables      *v;
    const td_variable *x;
    const td_device   *d;
    *values = NULL;
    *count = 0;
    if (td_session_hold(s, error))
        return td_failed(error, TD_ENOMEM);
    v = td_engine_variables(s->engine);
    x = td_variables_find(v, name);
    x = find(s, name, x ? x->count : 0, error);
    if (!x)
        return td_failed(error, TD_ECONFIG);
    d = td_engine_device(s->engine);
    *count = x->count;
    /* a device's memory cannot be followed; `reference` computes in double */
    if (!d->backend->upload && td_device_real(d) == TD_F32 && !x->narrow)
        *values = x->memory;
    return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Parameters trained with another tokenizer must be refused, so the tokenizer is opened first if
 * texts will be read: with the data, or alone for generation. */
static int load(td_session *s, const char *path, td_error *error)
{
    int code = 0;
    if (s->needs & TD_NEED_DATA)
        code = td_session_open_data(s, error);
    else if (!(s->needs & TD_NEED_LOSS))
        code = td_session_open_special(s, error);
    /* compared before the model is built: "a different model" is a clearer message than a
     * missing tensor */
    if (!code)
        code = td_session_check_weights(s, path, error);
    if (!code && (s->needs & TD_NEED_HELD_OUT) == TD_NEED_HELD_OUT)
        code = td_run_check_held_out(s, path, error);
    td_session_warn_of_idle_allows(s);
    if (!code)
        code = td_session_hold(s, error);
    if (code)
        return code;
    code = td_session_take(s, path, error);
    if (code)
        td_session_drop(s);
    return code;
}

int td_session_load_step(td_session *s, const char *path, int64_t step, td_error *error)
{
    char *chosen = path ? td_weights_locate(path, step, error)
                        : td_run_locate(td_session_directory(s), step, error);
    int   code;
    if (!chosen)
        return td_failed(error, TD_EIO);
    code = td_session_result(load(s, chosen, error), error);
    free(chosen);
    return code;
}

int td_session_load(td_session *s, const char *path, td_error *error)
{
    return td_session_load_step(s, path, TD_STEP_NEWEST, error);
}

int td_session_save(td_session *s, const char *path, td_error *error)
{
    int code = td_session_hold(s, error);
    return code ? code
                : td_weights_save(path, td_engine_variables(s->engine), td_engine_device(s->engine),
                                  error);
}

const char *td_session_loaded(const td_session *s) { return s->loaded; }
