/* state.c - state.json of a checkpoint. */
#include "model/state.h"

#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { STATE_VERSION = 2 };

/* The fields of td_progress, each under its own name. */
static const struct field {
    const char *name;
    size_t      at; /* in td_progress: an int64_t, or a double if `real` */
    bool        real, optional;
    double      missing; /* value where older checkpoints lack an optional field */
} fields[] = {
#define COUNT(name)                                         \
    {                                                       \
#name, offsetof(td_progress, name), false, false, 0 \
    }
#define REAL(name)                                         \
    {                                                      \
#name, offsetof(td_progress, name), true, false, 0 \
    }
#define LATER(name, real, value)                              \
    {                                                         \
#name, offsetof(td_progress, name), real, true, value \
    }
    COUNT(step),
    COUNT(record),
    REAL(tokens),
    REAL(targets),
    REAL(flops),
    REAL(cross_entropy),
    REAL(best),
    COUNT(best_step),
    COUNT(evaluated),
    REAL(norm_average),
    COUNT(skipped),
    COUNT(refused),
    LATER(since_best, false, 0),
    LATER(scored, false, -1),
    LATER(logged, false, 0),
    LATER(window_steps, false, 0),
    LATER(window_loss, true, 0),
    LATER(window_cross_entropy, true, 0),
#undef COUNT
#undef REAL
#undef LATER
};

enum { FIELDS = sizeof fields / sizeof *fields };

/* JSON has no NaN, which the state of a diverged run may contain: it becomes null. */
static json_t *json_of(const td_progress *p, const struct field *f)
{
    const char *at = (const char *)p + f->at;
    double      real;
    int64_t     count;
    if (f->real) {
        memcpy(&real, at, sizeof real);
        return isfinite(real) ? json_real(real) : json_null();
    }
    memcpy(&count, at, sizeof count);
    return json_integer((json_int_t)count);
}

/* False if the field is missing or has another type. */
static bool take(td_progress *p, const struct field *f, const json_t *j)
{
    char   *at = (char *)p + f->at;
    bool    missing = !j && f->optional;
    double  real = missing ? f->missing : json_is_null(j) ? (double)NAN : json_number_value(j);
    int64_t count = missing ? (int64_t)f->missing : json_integer_value(j);
    memcpy(at, f->real ? (const void *)&real : &count, f->real ? sizeof real : sizeof count);
    return missing || (f->real ? json_is_number(j) || json_is_null(j) : json_is_integer(j));
}

/* `about` is stored as JSON, not as a string, so that people can read the file. */
int td_state_save(const char *path, const td_progress *p, const char *about, td_error *error)
{
    json_t *rest = about ? json_loads(about, 0, NULL) : NULL;
    json_t *j = json_pack("{s:i}", "version", STATE_VERSION);
    for (size_t k = 0; k < FIELDS; k++)
        json_object_set_new(j, fields[k].name, json_of(p, &fields[k]));
    json_object_set_new(j, "about", rest ? rest : json_object());
    /* 17 digits restore every double exactly */
    char *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    int   code = text ? td_file_write(path, text, strlen(text), error)
                      : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    free(text);
    json_decref(j);
    return code;
}

/* NULL with `error`. */
static json_t *read_state(const char *path, td_error *error)
{
    char         file[4096];
    size_t       size;
    json_error_t e;
    json_t      *j;
    char        *text;

    snprintf(file, sizeof file, "%s/state.json", path);
    text = td_file_read(file, &size, error);
    if (!text)
        return NULL;
    j = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    free(text);
    /* another version may give the same fields a different meaning */
    if (json_is_object(j) && json_integer_value(json_object_get(j, "version")) == STATE_VERSION)
        return j;
    td_fail(error, TD_EFORMAT, "'%s' is damaged or was written by another version: %s", file,
            j ? "its \"version\" is not the one that this tandem reads" : e.text);
    json_decref(j);
    return NULL;
}

int td_checkpoint_progress(const char *path, td_progress *p, td_error *error)
{
    json_t *j = read_state(path, error);
    bool    whole = true;
    if (!j)
        return td_failed(error, TD_EFORMAT);
    for (size_t k = 0; k < FIELDS; k++)
        whole &= take(p, &fields[k], json_object_get(j, fields[k].name));
    json_decref(j);
    if (!whole || p->step < 0 || (int64_t)p->record < 0)
        return td_fail(error, TD_EFORMAT,
                       "'%s/state.json' is damaged: a field is missing or negative", path);
    return 0;
}

char *td_checkpoint_about(const char *path, td_error *error)
{
    json_t *j = read_state(path, error), *about = json_object_get(j, "about");
    char   *text = json_is_object(about) ? json_dumps(about, JSON_INDENT(2)) : NULL;
    if (j && !json_is_object(about))
        td_fail(error, TD_EFORMAT, "'%s/state.json' is damaged: its \"about\" is not an object",
                path);
    else if (j && !text)
        td_fail(error, TD_ENOMEM, "out of memory while reading '%s/state.json'", path);
    json_decref(j);
    return text;
}
