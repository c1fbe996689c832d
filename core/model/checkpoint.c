/* checkpoint.c - saving, loading, checking and pruning checkpoints.
 *
 * A crash, a full disk or a kill at any moment must leave a checkpoint that is whole. So one is
 * written under a name of its own, synced, and renamed over the old one; hashes.txt, written last,
 * detects everything else that can happen to files.
 */
#include "model/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct source {
    const td_variable *variable;
    const td_device   *device;
} source;

/* The hook of td_stored: a tensor is read from the device piece by piece, so saving takes no memory
 * of its size. */
static int stream(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    const source     *s = arg;
    const td_backend *b = s->device->backend;
    const char       *from = (const char *)s->variable->memory + offset;
    if (!b->download) {
        memcpy(out, from, size);
        return 0;
    }
    if (b->download(s->device->state, out, from, size))
        return td_fail(error, TD_EIO, "backend '%s' cannot read '%s' from its memory",
                       b->plugin.name, s->variable->name);
    return 0;
}

static void describe(td_stored *t, source *s, const td_variable *x, const td_device *device)
{
    *s = (source){ x, device };
    *t = (td_stored){ .name = x->name,
                      .rank = x->rank,
                      .stream = stream,
                      .arg = s,
                      /* as exact as the backend computes: a resumed run must not be rounded */
                      .type = device->backend->real == TD_F64 ? TD_STORED_F64 : TD_STORED_F32 };
    memcpy(t->dim, x->dim, sizeof x->dim);
}

static int save_kind(const char *path, td_variables *v, const td_device *device, int kind,
                     td_error *error)
{
    /* transformers refuses files without this */
    static const char *const metadata[] = { "format", "pt", NULL };
    size_t                   count = td_variables_count(v), n = 0;
    td_stored               *list = calloc(count + 1, sizeof *list);
    source                  *sources = calloc(count + 1, sizeof *sources);
    int                      code;

    for (size_t i = 0; list && sources && i < count; i++)
        if (td_variables_at(v, i)->kind == kind) {
            describe(&list[n], &sources[n], td_variables_at(v, i), device);
            n++;
        }
    code = list && sources ? td_safetensors_write(path, list, n, metadata, error)
                           : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", path);
    free(list);
    free(sources);
    return code;
}

/* "[2, 3]" */
static void print_dims(char out[200], int rank, const int64_t *dim)
{
    size_t n = (size_t)snprintf(out, 200, "[");
    for (int k = 0; k < rank && n < 180; k++)
        n += (size_t)snprintf(out + n, 200 - n, "%s%" PRId64, k ? ", " : "", dim[k]);
    snprintf(out + n, 200 - n, "]");
}

static int check_tensor(const td_variable *x, const td_stored *t, const char *path, td_error *error)
{
    char found[200], expected[200];
    bool same = t->rank == x->rank;
    /* the count alone would let a transposed matrix through */
    for (int k = 0; same && k < x->rank; k++)
        same = t->dim[k] == x->dim[k];
    print_dims(found, t->rank, t->dim);
    print_dims(expected, x->rank, x->dim);
    if (!same)
        return td_fail(error, TD_ECONFIG,
                       "'%s': tensor '%s' has shape %s; in this config's model it is %s", path,
                       x->name, found, expected);
    if (!td_stored_is_real(t))
        return td_fail(error, TD_EFORMAT,
                       "'%s': tensor '%s' contains integers; parameters are F32, F64, F16 or BF16",
                       path, x->name);
    return 0;
}

static int load_one(td_variable *x, const td_stored *t, const char *path, const td_device *device,
                    td_error *error)
{
    float *values;
    int    code = check_tensor(x, t, path, error);
    if (code)
        return code;
    /* doubles go straight into memory that we can write: by way of floats they would be rounded */
    if (device->backend->real == TD_F64 && t->type == TD_STORED_F64 && !device->backend->upload)
        return td_stored_doubles(t, x->memory, x->count, error);
    values = malloc((size_t)x->count * sizeof *values + 1);
    if (!values)
        return td_fail(error, TD_ENOMEM, "out of memory while reading '%s' from '%s'", x->name,
                       path);
    code = td_stored_floats(t, values, x->count, error);
    if (!code)
        code = td_variable_set(x, device, device->backend->real, values, error);
    free(values);
    return code;
}

/* A tensor that the model does not have is refused: a file of another model with the same names
 * must not load in part. */
static int check_surplus(const td_safetensors *file, td_variables *v, int kind, const char *path,
                         td_error *error)
{
    for (size_t i = 0; i < td_safetensors_count(file); i++) {
        const td_stored   *t = td_safetensors_at(file, i);
        const td_variable *x = td_variables_find(v, t->name);
        if (!x || x->kind != kind)
            return td_fail(error, TD_ECONFIG,
                           "'%s' has a tensor '%s', which this config's model does not have", path,
                           t->name);
    }
    return 0;
}

/* All variables of a kind, and only these. */
static int load_kind(const char *path, td_variables *v, const td_device *device, int kind,
                     td_error *error)
{
    td_safetensors *file = td_safetensors_open(path, error);
    int             code = 0;
    if (!file)
        return td_failed(error, TD_EIO);
    for (size_t i = 0; i < td_variables_count(v) && !code; i++) {
        td_variable     *x = td_variables_at(v, i);
        const td_stored *t = x->kind == kind ? td_safetensors_find(file, x->name) : NULL;
        if (x->kind == kind && !t)
            code = td_fail(error, TD_ECONFIG,
                           "'%s' has no tensor '%s', which this config's model has", path, x->name);
        else if (t)
            code = load_one(x, t, path, device, error);
    }
    if (!code)
        code = check_surplus(file, v, kind, path, error);
    td_safetensors_close(file);
    return code;
}

int td_weights_load(const char *path, td_variables *v, const td_device *device, td_error *error)
{
    return load_kind(path, v, device, TD_VARIABLE_PARAM, error);
}

int td_weights_save(const char *path, td_variables *v, const td_device *device, td_error *error)
{
    return save_kind(path, v, device, TD_VARIABLE_PARAM, error);
}

/* ---- state.json ------------------------------------------------------------------------------ */

enum { STATE_VERSION = 2 };

/* `about` is kept as the JSON that it is, so that people can read the file. */
static int save_state(const char *path, const td_progress *p, const char *about, td_error *error)
{
    json_t *rest = about ? json_loads(about, 0, NULL) : NULL;
    json_t *j = json_pack("{s:i, s:I, s:I, s:f, s:f, s:f, s:o, s:f, s:I, s:I, s:f, s:I, s:I, s:o}",
                          "version", STATE_VERSION, "step", (json_int_t)p->step, "record",
                          (json_int_t)p->record, "tokens", p->tokens, "targets", p->targets,
                          "flops", p->flops, "cross_entropy",
                          isfinite(p->cross_entropy) ? json_real(p->cross_entropy) : json_null(),
                          "best", p->best, "best_step", (json_int_t)p->best_step, "evaluated",
                          (json_int_t)p->evaluated, "norm_average", p->norm_average, "skipped",
                          (json_int_t)p->skipped, "refused", (json_int_t)p->refused, "about",
                          rest ? rest : json_object());
    /* 17 digits bring every double back bit by bit */
    char   *text = j ? json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    int     code = text ? td_file_write(path, text, strlen(text), error)
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
    /* another version may mean other things by the same fields */
    if (json_is_object(j) && json_integer_value(json_object_get(j, "version")) == STATE_VERSION)
        return j;
    td_fail(error, TD_EFORMAT, "'%s' is damaged or was written by another version: %s", file,
            j ? "its \"version\" is not the one that this tandem reads" : e.text);
    json_decref(j);
    return NULL;
}

static int load_state(const char *path, td_progress *p, td_error *error)
{
    json_t    *j = read_state(path, error);
    json_int_t step, record, best_step, evaluated, skipped, refused;
    json_t    *loss;
    int        bad;
    if (!j)
        return td_failed(error, TD_EFORMAT);
    bad = json_unpack(j, "{s:I, s:I, s:F, s:F, s:F, s:o, s:F, s:I, s:I, s:F, s:I, s:I}", "step",
                      &step, "record", &record, "tokens", &p->tokens, "targets", &p->targets,
                      "flops", &p->flops, "cross_entropy", &loss, "best", &p->best, "best_step",
                      &best_step, "evaluated", &evaluated, "norm_average", &p->norm_average,
                      "skipped", &skipped, "refused", &refused);
    if (!bad) /* null: JSON has no NaN, which a diverged run may be saved with */
        p->cross_entropy = json_is_number(loss) ? json_number_value(loss) : (double)NAN;
    json_decref(j);
    if (bad || step < 0 || record < 0)
        return td_fail(error, TD_EFORMAT,
                       "'%s/state.json' is damaged: a field is missing or negative", path);
    p->step = step;
    p->record = (uint64_t)record;
    p->best_step = best_step;
    p->evaluated = evaluated;
    p->skipped = skipped;
    p->refused = refused;
    return 0;
}

char *td_checkpoint_about(const char *path, td_error *error)
{
    json_t *j = read_state(path, error);
    char   *text = j ? json_dumps(json_object_get(j, "about"), JSON_INDENT(2)) : NULL;
    json_decref(j);
    return text;
}

/* ---- hashes ---------------------------------------------------------------------------------- */

static const char *const parts[] = { "model.safetensors", "optimizer.safetensors", "state.json" };
enum { PARTS = sizeof parts / sizeof *parts };

static int hash_of(const char *path, const char *part, char hex[33], td_error *error)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/%s", path, part);
    return td_file_hash(file, hex, error);
}

static int save_hashes(const char *path, td_error *error)
{
    char file[4096], hex[33], text[PARTS * 80] = "";
    for (size_t k = 0, used = 0; k < PARTS; k++) {
        if (hash_of(path, parts[k], hex, error))
            return TD_EIO;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s  %s\n", hex, parts[k]);
    }
    snprintf(file, sizeof file, "%s/hashes.txt", path);
    return td_file_write(file, text, strlen(text), error);
}

/* `found`: hashes.txt. */
static int compare_hashes(const char *path, const char *found, size_t size, td_error *error)
{
    char   hex[33], expected[PARTS * 80] = "";
    size_t used = 0;
    for (size_t k = 0; k < PARTS; k++) {
        if (hash_of(path, parts[k], hex, error))
            return TD_EIO;
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s  %s\n", hex,
                                 parts[k]);
        /* after each, so that the message names the file */
        if (size < used || memcmp(found, expected, used))
            return td_fail(
                error, TD_EFORMAT,
                "'%s/%s' is damaged, or hashes.txt beside it is: its hash is %s, which is "
                "not the one saved",
                path, parts[k], hex);
    }
    return size == used ? 0
                        : td_fail(error, TD_EFORMAT,
                                  "'%s/hashes.txt' is damaged: it has surplus lines", path);
}

/* Finds corruption that the formats cannot show: a parameter with a flipped bit is a number like
 * any other. */
int td_checkpoint_check(const char *path, td_error *error)
{
    char   file[4096], *found;
    size_t size;
    int    code;
    snprintf(file, sizeof file, "%s/hashes.txt", path);
    if (!td_file_exists(file))
        return td_fail(error, TD_EFORMAT,
                       "'%s' is missing: the checkpoint is damaged, or an older tandem wrote it",
                       file);
    found = td_file_read(file, &size, error);
    if (!found)
        return TD_EIO;
    code = compare_hashes(path, found, size, error);
    free(found);
    return code;
}

/* ---- directories ----------------------------------------------------------------------------- */

/* The hashes come last: a directory with hashes.txt has everything. */
static int write_all(const char *path, td_variables *v, const td_device *device,
                     const td_progress *p, const char *about, td_error *error)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (save_kind(file, v, device, TD_VARIABLE_PARAM, error))
        return TD_EIO;
    snprintf(file, sizeof file, "%s/optimizer.safetensors", path);
    if (save_kind(file, v, device, TD_VARIABLE_STATE, error))
        return TD_EIO;
    snprintf(file, sizeof file, "%s/state.json", path);
    return save_state(file, p, about, error) ? TD_EIO : save_hashes(path, error);
}

int td_checkpoint_save(const char *directory, td_variables *v, const td_device *device,
                       const td_progress *p, const char *about, td_error *error)
{
    char temporary[4000], path[4000]; /* names in them take 96 bytes more: see `file` above */
    int  length = snprintf(temporary, sizeof temporary, "%s/.step-%08" PRId64 ".tmp", directory,
                           p->step);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return td_fail(error, TD_ECONFIG,
                       "cannot save under '%.200s..': the path is longer than %zu bytes", directory,
                       sizeof path);
    snprintf(path, sizeof path, "%s/step-%08" PRId64, directory, p->step);
    /* one may be left from a crash */
    if (td_remove_tree(temporary, error) || td_make_directories(temporary, error))
        return TD_EIO;
    if (write_all(temporary, v, device, p, about, error) || td_sync_directory(temporary, error)) {
        td_remove_tree(temporary, NULL);
        return td_failed(error, TD_EIO);
    }
    return td_replace_directory(temporary, path, error) ? TD_EIO
                                                        : td_sync_directory(directory, error);
}

/* -1: not the name of a checkpoint, "step-00000200.old", say. */
static int64_t step_of(const char *name)
{
    int64_t step;
    int     used = 0;
    return sscanf(name, "step-%" SCNd64 "%n", &step, &used) == 1 && !name[used] ? step : -1;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int td_checkpoint_load(const char *path, td_variables *v, const td_device *device, td_progress *p,
                       td_error *error)
{
    char file[4096];
    /* all files are checked before the first variable changes */
    if (td_checkpoint_check(path, error) || load_state(path, p, error))
        return td_failed(error, TD_EFORMAT);
    if (step_of(name_of(path)) != p->step)
        return td_fail(error, TD_EFORMAT, "'%s' contains step %" PRId64 ": it was renamed", path,
                       p->step);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (load_kind(file, v, device, TD_VARIABLE_PARAM, error))
        return td_failed(error, TD_EFORMAT);
    snprintf(file, sizeof file, "%s/optimizer.safetensors", path);
    return load_kind(file, v, device, TD_VARIABLE_STATE, error);
}

int td_checkpoint_latest(const char *directory, char **latest, td_error *error)
{
    char  **names = NULL;
    int64_t count, newest = -1;
    int     code = 0;
    *latest = NULL;
    /* any other reason, such as a missing permission, must not look like a run that never saved */
    if (!td_file_exists(directory) && errno == ENOENT)
        return 0;
    count = td_list_directory(directory, &names, error);
    if (count < 0)
        return td_failed(error, TD_EIO);
    /* by the number, not by the name: one that was renamed may have another width */
    for (int64_t i = 0; i < count; i++)
        if (step_of(names[i]) >= 0 && (newest < 0 || step_of(names[i]) > step_of(names[newest])))
            newest = i;
    if (newest >= 0 && !(*latest = td_path_join(directory, names[newest])))
        code = td_fail(error, TD_ENOMEM, "out of memory while looking into '%s'", directory);
    td_free_names(names, count);
    return code;
}

int td_checkpoint_prune(const char *directory, int64_t keep, int64_t best, td_error *error)
{
    char  **names = NULL;
    int64_t count = td_list_directory(directory, &names, error), kept = 0;
    int     code = count < 0 ? TD_EIO : 0;
    /* names are sorted: from the newest back */
    for (int64_t i = count - 1; i >= 0 && !code; i--) {
        int64_t step = step_of(names[i]);
        bool    half = !strncmp(names[i], ".step-", 6);
        bool    surplus = step >= 0 && keep > 0 && ++kept > keep && step != best;
        char   *path;
        if (!half && !surplus)
            continue;
        path = td_path_join(directory, names[i]);
        code = path ? td_remove_tree(path, error)
                    : td_fail(error, TD_ENOMEM, "out of memory while removing old checkpoints");
        free(path);
    }
    if (count >= 0)
        td_free_names(names, count);
    return code;
}
