/* diff.c - where two runs first differ: in their configs, by their metrics, by their checkpoints.
 */
#include "report/diff.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"
#include "config/config.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "run/place.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while comparing two runs");
}

/* ---- configs --------------------------------------------------------------------------------- */

static td_config *read_config(const char *file, td_error *error)
{
    td_errors         errors = { 0 };
    td_config_sources sources = { .files = &file, .n_files = 1, .n_kept = 1 };
    td_config        *c = td_config_read(&sources, &errors);
    if (c)
        td_config_take_text(c);
    else
        td_fail(error, TD_ECONFIG, "%s", td_text_get(&errors.text));
    td_errors_free(&errors);
    return c;
}

static int compare_configs(const char *a, const char *b, td_parting *out, td_error *error)
{
    td_config *x = read_config(a, error), *y = x ? read_config(b, error) : NULL;
    if (y)
        td_config_diff(x, y, &out->differences);
    td_config_free(x);
    td_config_free(y);
    return y ? 0 : td_failed(error, TD_ECONFIG);
}

/* ---- metrics --------------------------------------------------------------------------------- */

/* The lines of a metrics.jsonl, indexed by step and kind. */
typedef struct lines {
    json_t *all; /* a list of objects, in order */
    td_map *by_key;
} lines;

/* "20 train": a step may have a line of training, one of norms and one of an evaluation. */
static void key_of(const json_t *line, char key[100])
{
    const char *metric = "";
    void       *at = json_object_iter((json_t *)(uintptr_t)line);
    for (; at && !strchr(metric, '/'); at = json_object_iter_next((json_t *)(uintptr_t)line, at))
        metric = json_object_iter_key(at);
    snprintf(key, 100, "%" JSON_INTEGER_FORMAT " %.*s",
             json_integer_value(json_object_get(line, "step")), (int)strcspn(metric, "/") % 60,
             metric);
}

/* If a resumed run repeated a step, the later line replaces the earlier one. */
static int take_line(lines *l, json_t *line)
{
    char key[100];
    key_of(line, key);
    return json_array_append_new(l->all, line) || td_map_set(l->by_key, key, line) ? TD_ENOMEM : 0;
}

static int parse(lines *l, char *rest, int64_t *damaged)
{
    int code = 0;
    for (char *line; !code && (line = strsep(&rest, "\n")) != NULL;) {
        json_t *j = *line ? json_loads(line, 0, NULL) : NULL;
        if (json_is_object(j) && json_is_integer(json_object_get(j, "step")))
            code = take_line(l, j);
        else {
            *damaged += *line != 0;
            json_decref(j);
        }
    }
    return code;
}

static int read_lines(lines *l, const char *run, int64_t *damaged, td_error *error)
{
    char *path = td_path_join(run, "metrics.jsonl"), *text = NULL;
    int   code = 0;
    *l = (lines){ json_array(), td_map_new() };
    if (!path || !l->all || !l->by_key)
        code = out_of_memory(error);
    /* a run without metrics has checkpoints that can be compared */
    else if (td_file_exists(path)) {
        text = td_file_read(path, NULL, error);
        code = text ? parse(l, text, damaged) : td_failed(error, TD_EIO);
    }
    free(text);
    free(path);
    return code;
}

static void free_lines(lines *l)
{
    json_decref(l->all);
    td_map_free(l->by_key);
}

static bool is_same(const json_t *x, const json_t *y)
{
    if (json_is_number(x) && json_is_number(y))
        return json_number_value(x) == json_number_value(y);
    return json_equal(x, y);
}

static double value_of(const json_t *x)
{
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* Sets the metric that differs; the hash of the parameters is preferred, as it says most. Clock
 * readings, and metrics that only one run has, are ignored. */
static bool differ(const json_t *x, const json_t *y, td_parting *out)
{
    static const char hash[] = "train/parameters_hash";
    const char       *key;
    json_t           *value;
    bool              found = false;
    json_object_foreach((json_t *)(uintptr_t)x, key, value)
    {
        const json_t *other = json_object_get(y, key);
        out->hashed = out->hashed || (other && !strcmp(key, hash));
        if (!other || !strncmp(key, "time/", 5) || is_same(value, other) ||
            /* the first that differs is enough, unless the hash does too */
            (found && strcmp(key, hash)))
            continue;
        found = true;
        snprintf(out->metric, sizeof out->metric, "%s", key);
        out->a = value_of(value);
        out->b = value_of(other);
    }
    return found;
}

static void compare_lines(const lines *a, const lines *b, td_parting *out)
{
    const json_t *line;
    size_t        k;
    json_array_foreach(a->all, k, line)
    {
        char          key[100];
        const json_t *other;
        key_of(line, key);
        other = td_map_get(b->by_key, key);
        /* only the last line for a step counts */
        if (!other || td_map_get(a->by_key, key) != line)
            continue;
        out->lines++;
        if (out->first >= 0)
            continue;
        if (differ(line, other, out))
            out->first = json_integer_value(json_object_get(line, "step"));
        else
            out->last_same = json_integer_value(json_object_get(line, "step"));
    }
    /* another line of this same step may have been the same */
    if (out->first >= 0 && out->last_same >= out->first)
        out->last_same = out->first - 1;
}

static int compare_metrics(const char *a, const char *b, td_parting *out, td_error *error)
{
    lines x, y = { 0 };
    int   code = read_lines(&x, a, &out->damaged, error);
    if (!code)
        code = read_lines(&y, b, &out->damaged, error);
    if (!code)
        compare_lines(&x, &y, out);
    free_lines(&x);
    free_lines(&y);
    return code;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

static bool is_same_tensor(const td_stored *x, const td_stored *y)
{
    return x->type == y->type && x->size == y->size && !memcmp(x->data, y->data, x->size);
}

/* Parameters that only one run has are not counted: the diff of the configs shows them. */
static void compare_tensors(const td_safetensors *a, const td_safetensors *b, td_parting *out)
{
    out->tensors = out->differ = 0;
    for (size_t k = 0; k < td_safetensors_count(a); k++) {
        const td_stored *x = td_safetensors_at(a, k), *y = td_safetensors_find(b, x->name);
        if (!y)
            continue;
        out->tensors++;
        if (is_same_tensor(x, y))
            continue;
        if (!out->differ++)
            td_text_print(&out->tensor, "%s", x->name);
    }
}

static td_safetensors *open_parameters(const char *run, int64_t step, td_error *error)
{
    td_text         path = { 0 };
    td_safetensors *s;
    td_text_print(&path, "%s/checkpoints/step-%08" PRId64 "/model.safetensors", run, step);
    s = td_safetensors_open(td_text_get(&path), error);
    td_text_free(&path);
    return s;
}

static int compare_checkpoint(const char *a, const char *b, int64_t step, td_parting *out,
                              td_error *error)
{
    td_safetensors *x = open_parameters(a, step, error);
    td_safetensors *y = x ? open_parameters(b, step, error) : NULL;
    if (y) {
        compare_tensors(x, y, out);
        out->checkpoints++;
        if (out->differ)
            out->checkpoint = step;
        else
            out->checkpoint_same = step;
    }
    td_safetensors_close(x);
    td_safetensors_close(y);
    return y ? 0 : td_failed(error, TD_EIO);
}

/* The step of a name like "step-00000200"; -1 for other names. */
static int64_t step_of(const char *name)
{
    int64_t step;
    int     used = 0;
    return sscanf(name, "step-%" SCNd64 "%n", &step, &used) == 1 && !name[used] ? step : -1;
}

static bool has_step(char *const *names, int64_t n, int64_t step)
{
    for (int64_t k = 0; k < n; k++)
        if (step_of(names[k]) == step)
            return true;
    return false;
}

static int64_t list(const char *run, char ***names, td_error *error)
{
    char   *path = td_path_join(run, "checkpoints");
    int64_t n = path && td_file_exists(path) ? td_list_directory(path, names, error) : 0;
    free(path);
    return n;
}

/* In order of their steps, up to the first that differs: names sort by them. */
static int compare_checkpoints(const char *a, const char *b, td_parting *out, td_error *error)
{
    char  **x = NULL, **y = NULL;
    int64_t n = list(a, &x, error), m = n < 0 ? -1 : list(b, &y, error);
    int     code = m < 0 ? td_failed(error, TD_EIO) : 0;
    for (int64_t k = 0; k < n && !code && out->checkpoint < 0; k++) {
        int64_t step = step_of(x[k]);
        if (step >= 0 && has_step(y, m, step))
            code = compare_checkpoint(a, b, step, out, error);
    }
    if (n >= 0)
        td_free_names(x, n);
    if (m >= 0)
        td_free_names(y, m);
    return code;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int find_place(td_run_place *p, const char *name, td_error *error)
{
    return td_run_place_find(p, name)
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "'%s' is neither a run nor a checkpoint: it has no config.cfg", name);
}

int td_parting_find(const char *a, const char *b, td_parting *out, td_error *error)
{
    td_run_place x, y = { 0 };
    int          code = find_place(&x, a, error);
    *out = (td_parting){ .last_same = -1, .first = -1, .checkpoint = -1, .checkpoint_same = -1 };
    if (!code)
        code = find_place(&y, b, error);
    if (!code)
        code = compare_configs(x.config, y.config, out, error);
    if (!code)
        code = compare_metrics(x.run, y.run, out, error);
    if (!code)
        code = compare_checkpoints(x.run, y.run, out, error);
    td_run_place_free(&x);
    td_run_place_free(&y);
    return code;
}

void td_parting_free(td_parting *p)
{
    td_text_free(&p->differences);
    td_text_free(&p->tensor);
}
