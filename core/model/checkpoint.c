/* checkpoint.c - saving, loading, checking and pruning checkpoints.
 *
 * A crash, a full disk or a kill at any moment must leave a checkpoint that is whole. So it is
 * written under a temporary name, synced, and renamed over the old one; hashes.txt, written last,
 * detects any other damage to the files.
 */
#include "model/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/state.h"
#include "plugin/hook.h"

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct source {
    const td_variable *variable;
    const td_device   *device;
} source;

/* The hook of td_stored: a tensor is read from the device piece by piece, so saving takes no memory
 * of its size. */
static int stream(void *arg, size_t offset, size_t size, void *out, td_error *error)
{
    const source *s = arg;
    return td_variable_read_bytes(s->variable, s->device, offset, size, out, error);
}

static void describe(td_stored *t, source *s, const td_variable *x, const td_device *device)
{
    *s = (source){ x, device };
    *t = (td_stored){ .name = x->name,
                      .rank = x->rank,
                      .stream = stream,
                      .arg = s,
                      /* in the backend's own precision: a resumed run must not be rounded */
                      .type = td_device_real(device) == TD_F64 ? TD_STORED_F64 : TD_STORED_F32 };
    memcpy(t->dim, x->dim, sizeof x->dim);
}

/* All variables of a kind, as tensors to write. */
typedef struct listed {
    td_stored *at; /* [count] */
    source    *sources;
    size_t     count;
} listed;

static void free_list(listed *l)
{
    free(l->at);
    free(l->sources);
}

/* Free the list after a failure, too. */
static int list_kind(td_variables *v, const td_device *device, int kind, listed *out,
                     td_error *error)
{
    size_t all = td_variables_count(v);
    *out = (listed){ .at = calloc(all + 1, sizeof *out->at),
                     .sources = calloc(all + 1, sizeof *out->sources) };
    if (!out->at || !out->sources)
        return td_fail(error, TD_ENOMEM, "out of memory while saving %zu variables", all);
    for (size_t i = 0; i < all; i++)
        if (td_variables_at(v, i)->kind == kind) {
            describe(&out->at[out->count], &out->sources[out->count], td_variables_at(v, i),
                     device);
            out->count++;
        }
    return 0;
}

static int save_tensors(const char *path, const td_stored *list, size_t n, td_error *error)
{
    /* transformers refuses files without this */
    static const char *const metadata[] = { "format", "pt", NULL };
    return td_safetensors_write(path, list, n, metadata, error);
}

static int check_tensor(const td_variable *x, const td_stored *t, const char *path, td_error *error)
{
    char found[200], expected[200];
    if (!td_stored_has_shape(t, x->rank, x->dim))
        return td_fail(error, TD_ECONFIG,
                       "'%s': tensor '%s' has shape %s; in this config's model it is %s", path,
                       x->name, td_shape_text(found, t->rank, t->dim),
                       td_shape_text(expected, x->rank, x->dim));
    if (!td_stored_is_real(t))
        return td_fail(error, TD_EFORMAT,
                       "'%s': tensor '%s' is of type %s; parameters are F32, F64, F16 or BF16",
                       path, x->name, t->dtype);
    return 0;
}

/* Doubles that a backend computes in: passing through floats would round them. */
static int load_doubles(td_variable *x, const td_stored *t, const char *path,
                        const td_device *device, td_error *error)
{
    double *values = malloc((size_t)x->count * sizeof *values + 1);
    int     code;
    if (!values)
        return td_fail(error, TD_ENOMEM, "out of memory while reading '%s' from '%s'", x->name,
                       path);
    code = td_stored_doubles(t, values, x->count, error);
    if (!code)
        code = td_variable_write(x, device, TD_F64, 0, x->count, values, error);
    free(values);
    return code;
}

static int load_one(td_variable *x, const td_stored *t, const char *path, const td_device *device,
                    td_error *error)
{
    float *values;
    int    code = check_tensor(x, t, path, error);
    if (code)
        return code;
    /* doubles into doubles: passing through float would lose digits */
    if (td_device_real(device) == TD_F64 && t->type == TD_STORED_F64)
        return load_doubles(x, t, path, device, error);
    values = malloc((size_t)x->count * sizeof *values + 1);
    if (!values)
        return td_fail(error, TD_ENOMEM, "out of memory while reading '%s' from '%s'", x->name,
                       path);
    code = td_stored_floats(t, values, x->count, error);
    if (!code)
        code = td_variable_set(x, device, td_device_real(device), values, error);
    free(values);
    return code;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* A parameter of the model with the same bytes: tied parameters are often stored under both names.
 * NULL: there is none. */
static const char *copy_of(const td_stored *t, const td_safetensors *file, td_variables *v)
{
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        const td_stored   *other = x->kind == TD_VARIABLE_PARAM ? td_safetensors_find(file, x->name)
                                                                : NULL;
        if (other && other->type == t->type && other->size == t->size &&
            !memcmp(other->data, t->data, t->size))
            return x->name;
    }
    return NULL;
}

/* Why a tensor that the model does not have can be left out; false: it may matter. */
static bool is_idle(const td_stored *t, const td_safetensors *file, td_variables *v, char why[200])
{
    const char *copy;
    if (!t->size)
        snprintf(why, 200, "it is empty");
    else if (t->type != TD_STORED_OTHER && !td_stored_is_real(t))
        snprintf(why, 200, "its type, %s, is not one that parameters have", t->dtype);
    else if (ends_with(t->name, ".inv_freq"))
        snprintf(why, 200, "rotary frequencies follow from the config");
    else if ((copy = copy_of(t, file, v)) != NULL)
        snprintf(why, 200, "it is a copy of '%.150s'", copy);
    else
        return false;
    return true;
}

/* A tensor that the model does not have is refused: a file of another model with the same names
 * must not load in part. `notes` lists tensors that are skipped instead; NULL: none are. */
static int check_surplus(const td_safetensors *file, td_variables *v, int kind, const char *path,
                         td_text *notes, td_error *error)
{
    for (size_t i = 0; i < td_safetensors_count(file); i++) {
        const td_stored   *t = td_safetensors_at(file, i);
        const td_variable *x = td_variables_find(v, t->name);
        char               why[200];
        if (x && x->kind == kind)
            continue;
        if (!notes || !is_idle(t, file, v, why))
            return td_fail(error, TD_ECONFIG,
                           "'%s' has a tensor '%s', which this config's model does not have", path,
                           t->name);
        td_text_print(notes, "%s'%s' (%s)", notes->size ? ", " : "", t->name, why);
    }
    return 0;
}

/* All variables of a kind, and only these. `device` NULL: only check that they could be loaded. */
static int load_kind(const char *path, td_variables *v, const td_device *device, int kind,
                     td_text *notes, td_error *error)
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
            code = device ? load_one(x, t, path, device, error) : check_tensor(x, t, path, error);
    }
    if (!code)
        /* a tensor that this model lacks means that the file is of another model */
        code = check_surplus(file, v, kind, path, notes, error);
    td_safetensors_close(file);
    return code;
}

int td_weights_load(const char *path, td_variables *v, const td_device *device, td_text *notes,
                    td_error *error)
{
    return load_kind(path, v, device, TD_VARIABLE_PARAM, notes, error);
}

int td_weights_check(const char *path, td_variables *v, td_error *error)
{
    td_text left_out = { 0 }; /* is reported when the file is loaded */
    int     code = load_kind(path, v, NULL, TD_VARIABLE_PARAM, &left_out, error);
    td_text_free(&left_out);
    return code;
}

int td_weights_save(const char *path, td_variables *v, const td_device *device, td_error *error)
{
    listed parameters;
    int    code = list_kind(v, device, TD_VARIABLE_PARAM, &parameters, error);
    if (!code)
        code = save_tensors(path, parameters.at, parameters.count, error);
    free_list(&parameters);
    return code;
}

/* ---- hashes ---------------------------------------------------------------------------------- */

static const char *const parts[] = { "model.safetensors", "optimizer.safetensors", "state.json" };
enum { PARTS = sizeof parts / sizeof *parts };

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

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

/* Finds corruption that the formats cannot detect: a parameter with a flipped bit is still a
 * number. */
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

/* `found`: hashes.txt. */
static int check_part(const char *path, const char *part, const char *found, td_error *error)
{
    char        hex[33], line[80];
    const char *at;
    if (hash_of(path, part, hex, error))
        return TD_EIO;
    snprintf(line, sizeof line, "%s  %s\n", hex, part);
    at = strstr(found, line);
    return at && (at == found || at[-1] == '\n')
               ? 0
               : td_fail(error, TD_EFORMAT,
                         "'%s/%s' is damaged, or hashes.txt beside it is: its hash is %s, which is "
                         "not the one saved",
                         path, part, hex);
}

int td_checkpoint_check_file(const char *file, td_error *error)
{
    char  *target = realpath(file, NULL), *directory = td_path_directory(target ? target : file);
    char  *hashes = directory ? td_path_join(directory, "hashes.txt") : NULL, *found = NULL;
    size_t part = 0;
    int    code = hashes ? 0 : td_fail(error, TD_ENOMEM, "out of memory while checking '%s'", file);
    while (!code && part < PARTS && strcmp(name_of(target ? target : file), parts[part]))
        part++;
    /* a file of its own, or under a name that nothing was written under */
    if (!code && part < PARTS && td_file_exists(hashes)) {
        found = td_file_read(hashes, NULL, error);
        code = found ? check_part(directory, parts[part], found, error) : TD_EIO;
    }
    free(found);
    free(hashes);
    free(directory);
    free(target);
    return code;
}

/* ---- directories ----------------------------------------------------------------------------- */

/* The hashes come last: a directory with hashes.txt has everything. */
static int write_all(const char *path, const td_saved *x, td_error *error)
{
    char file[4096];
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (save_tensors(file, x->parameters, x->n_parameters, error))
        return TD_EIO;
    snprintf(file, sizeof file, "%s/optimizer.safetensors", path);
    if (save_tensors(file, x->states, x->n_states, error))
        return TD_EIO;
    snprintf(file, sizeof file, "%s/state.json", path);
    return td_state_save(file, x->progress, x->about, error) ? TD_EIO : save_hashes(path, error);
}

int td_checkpoint_write(const char *directory, const td_saved *x, td_error *error)
{
    char temporary[4000], path[4000]; /* names in them take 96 bytes more: see `file` above */
    int  length = snprintf(temporary, sizeof temporary, "%s/.step-%08" PRId64 ".tmp", directory,
                           x->progress->step);
    if (length < 0 || (size_t)length >= sizeof temporary - 24) /* room for a process number */
        return td_fail(error, TD_ECONFIG,
                       "cannot save under '%.200s..': the path is longer than %zu bytes", directory,
                       sizeof path);
    snprintf(path, sizeof path, "%s/step-%08" PRId64, directory, x->progress->step);
    /* One may be left from a crash. If something still has a file of it open, NFS keeps the directory
     * until then: another name does as well. */
    if (td_remove_tree(temporary, NULL))
        snprintf(temporary, sizeof temporary, "%s/.step-%08" PRId64 ".%ld.tmp", directory,
                 x->progress->step, (long)getpid());
    if (td_remove_tree(temporary, error) || td_make_directories(temporary, error))
        return TD_EIO;
    if (write_all(temporary, x, error) || td_sync_directory(temporary, error)) {
        td_remove_tree(temporary, NULL);
        return td_failed(error, TD_EIO);
    }
    return td_replace_directory(temporary, path, error) ? TD_EIO
                                                        : td_sync_directory(directory, error);
}

int td_checkpoint_save(const char *directory, td_variables *v, const td_device *device,
                       const td_progress *p, const char *about, td_error *error)
{
    listed parameters, states = { 0 };
    int    code = list_kind(v, device, TD_VARIABLE_PARAM, &parameters, error);
    if (!code)
        code = list_kind(v, device, TD_VARIABLE_STATE, &states, error);
    if (!code) {
        td_saved x = { parameters.at, states.at, parameters.count, states.count, p, about };
        code = td_checkpoint_write(directory, &x, error);
    }
    free_list(&parameters);
    free_list(&states);
    return code;
}

/* -1: not the name of a checkpoint, "step-00000200.old", say. */
static int64_t step_of(const char *name)
{
    int64_t step;
    int     used = 0;
    return sscanf(name, "step-%" SCNd64 "%n", &step, &used) == 1 && !name[used] ? step : -1;
}

int td_checkpoint_load(const char *path, td_variables *v, const td_device *device, td_progress *p,
                       td_error *error)
{
    char file[4096];
    /* all files are checked before the first variable changes */
    if (td_checkpoint_check(path, error) || td_checkpoint_progress(path, p, error))
        return td_failed(error, TD_EFORMAT);
    if (step_of(name_of(path)) != p->step)
        return td_fail(error, TD_EFORMAT, "'%s' contains step %" PRId64 ": it was renamed", path,
                       p->step);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    if (load_kind(file, v, device, TD_VARIABLE_PARAM, NULL, error))
        return td_failed(error, TD_EFORMAT);
    snprintf(file, sizeof file, "%s/optimizer.safetensors", path);
    return load_kind(file, v, device, TD_VARIABLE_STATE, NULL, error);
}

int td_checkpoint_latest(const char *directory, char **latest, td_error *error)
{
    char  **names = NULL;
    int64_t count, newest = -1;
    int     code = 0;
    *latest = NULL;
    /* any other failure, such as a missing permission, must not look like a run that never saved */
    if (!td_file_exists(directory) && errno == ENOENT)
        return 0;
    count = td_list_directory(directory, &names, error);
    if (count < 0)
        return td_failed(error, TD_EIO);
    /* by the number, not by the name: a renamed one may have more or fewer digits */
    for (int64_t i = 0; i < count; i++)
        if (step_of(names[i]) >= 0 && (newest < 0 || step_of(names[i]) > step_of(names[newest])))
            newest = i;
    if (newest >= 0 && !(*latest = td_path_join(directory, names[newest])))
        code = td_fail(error, TD_ENOMEM, "out of memory while looking into '%s'", directory);
    td_free_names(names, count);
    return code;
}

/* Lists the existing steps, up to the limit of the message, because older ones were removed
 * (train.keep_last). */
static void no_such_step(const char *directory, int64_t step, char *const *names, int64_t count,
                         td_error *error)
{
    char    steps[400] = "";
    size_t  n = 0;
    int64_t found = 0;
    for (int64_t i = 0; i < count && n + 24 < sizeof steps; i++)
        if (step_of(names[i]) >= 0)
            n += (size_t)snprintf(steps + n, sizeof steps - n, "%s%" PRId64, found++ ? ", " : "",
                                  step_of(names[i]));
    td_fail(error, TD_ECONFIG, "there is no checkpoint of step %" PRId64 " in '%s'; %s%s", step,
            directory,
            found > 1   ? "available steps: "
            : found > 0 ? "the only one is of step "
                        : "it has none",
            steps);
}

char *td_checkpoint_of_step(const char *directory, int64_t step, td_error *error)
{
    char  **names = NULL, *path = NULL;
    int64_t count = td_list_directory(directory, &names, error), i = 0;
    if (count < 0)
        return NULL;
    /* by number, not by name: names may have any number of leading zeros */
    while (i < count && step_of(names[i]) != step)
        i++;
    if (i == count)
        no_such_step(directory, step, names, count, error);
    else if (!(path = td_path_join(directory, names[i])))
        td_fail(error, TD_ENOMEM, "out of memory while looking into '%s'", directory);
    td_free_names(names, count);
    return path;
}

/* Hidden first: a reader finds the whole checkpoint or none. A hidden one that is left behind by a
 * crash is removed with the next surplus one. */
static int discard(const char *directory, const char *name, td_error *error)
{
    char  hidden[64];
    char *path = td_path_join(directory, name), *to = NULL;
    int   code = 0;
    snprintf(hidden, sizeof hidden, ".%.50s", name);
    if (path && *name != '.')
        to = td_path_join(directory, hidden);
    if (to && rename(path, to)) { /* remove it where it is */
        free(to);
        to = NULL;
    }
    if (path)
        code = td_remove_tree(to ? to : path, error);
    else
        code = td_fail(error, TD_ENOMEM, "out of memory while removing old checkpoints");
    free(path);
    free(to);
    return code;
}

int td_checkpoint_prune(const char *directory, int64_t keep, int64_t best, td_error *error)
{
    char  **names = NULL;
    int64_t count = td_list_directory(directory, &names, error), kept = 0;
    int     code = count < 0 ? TD_EIO : 0;
    /* names are sorted: from the newest back */
    for (int64_t i = count - 1; i >= 0; i--) {
        int64_t step = step_of(names[i]);
        bool    half = !strncmp(names[i], ".step-", 6);
        bool    surplus = step >= 0 && keep > 0 && ++kept > keep && step != best;
        if ((half || surplus) && discard(directory, names[i], error))
            code = TD_EIO;
    }
    if (count >= 0)
        td_free_names(names, count);
    return code;
}
