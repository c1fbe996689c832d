/* locate.c - finds the parameter file of a run's or a checkpoint's directory. */
#include "run/locate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "model/checkpoint.h"

enum { ATTEMPTS = 3 }; /* to read a checkpoint before it is removed */

static char *no_memory(td_error *error)
{
    td_fail(error, TD_ENOMEM, "out of memory while looking for parameters");
    return NULL;
}

static bool is_directory(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool has(const char *directory, const char *name)
{
    char *path = td_path_join(directory, name);
    bool  found = path && td_file_exists(path);
    free(path);
    return found;
}

/* A damaged checkpoint is an error, because the one before it is a different model. */
static char *in_checkpoint(const char *checkpoint, td_error *error)
{
    char *path;
    if (td_checkpoint_check(checkpoint, error))
        return NULL;
    path = td_path_join(checkpoint, "model.safetensors");
    return path ? path : no_memory(error);
}

/* The newest checkpoint records the best evaluation so far. A new best is saved at once, so no
 * later one can be better. */
static char *best_of(const char *checkpoints, const char *newest, td_error *error)
{
    td_progress p;
    td_error    why = { 0 };
    char       *best;
    if (td_checkpoint_progress(newest, &p, error))
        return NULL;
    if (p.best_step < 0) {
        td_fail(error, TD_ECONFIG,
                "'%s' has no best checkpoint, because the run has not been evaluated "
                "(train.evaluate_every, or train.score_every with train.best): choose a step",
                checkpoints);
        return NULL;
    }
    /* `why` is only used for its code: the message has to say why this checkpoint should exist */
    best = td_checkpoint_of_step(checkpoints, p.best_step, &why);
    if (!best)
        td_fail(error, why.code,
                "the best score, %.4f, is from step %" PRId64
                ", whose checkpoint is not in '%s': was train.keep_best = false?",
                p.best, p.best_step, checkpoints);
    return best;
}

/* free() it; NULL with `error`. */
static char *checkpoint_of(const char *run, const char *checkpoints, int64_t step, td_error *error)
{
    char *newest = NULL, *chosen = NULL;
    if (step >= 0)
        return td_checkpoint_of_step(checkpoints, step, error);
    if (td_checkpoint_latest(checkpoints, &newest, error))
        return NULL;
    if (!newest) {
        td_fail(error, TD_ECONFIG,
                "there is no checkpoint in '%s/checkpoints': train first, or name a file of "
                "parameters (--weights FILE)",
                run);
        return NULL;
    }
    if (step == TD_STEP_NEWEST)
        return newest;
    chosen = best_of(checkpoints, newest, error);
    free(newest);
    return chosen;
}

static char *locate_once(const char *run, const char *checkpoints, int64_t step, bool *gone,
                         td_error *error)
{
    char *chosen = checkpoint_of(run, checkpoints, step, error);
    char *path = chosen ? in_checkpoint(chosen, error) : NULL;
    *gone = chosen && !path && !td_file_exists(chosen);
    free(chosen);
    return path;
}

/* A run that is training may remove a checkpoint (train.keep_last) while it is checked. Then there
 * is a newer one, unless it was asked for by its step. */
char *td_run_locate(const char *run, int64_t step, td_error *error)
{
    char    *checkpoints = td_path_join(run, "checkpoints"), *path = NULL;
    td_error why = { 0 };
    bool     gone = true;
    if (!checkpoints)
        return no_memory(error);
    for (int k = 0; k < ATTEMPTS && !path && gone; k++) {
        why = (td_error){ 0 };
        path = locate_once(run, checkpoints, step, &gone, &why);
    }
    if (!path)
        td_fail(error, why.code, "%s", why.text);
    free(checkpoints);
    return path;
}

/* A directory that is not a run's. */
static char *in_directory(const char *path, td_error *error)
{
    if (has(path, "hashes.txt"))
        return in_checkpoint(path, error);
    td_fail(
        error, TD_ECONFIG,
        "'%s' is neither the directory of a run, which has checkpoints/, nor a checkpoint, which "
        "has hashes.txt: name a file of parameters",
        path);
    return NULL;
}

char *td_weights_locate(const char *path, int64_t step, td_error *error)
{
    char *copy;
    if (is_directory(path) && has(path, "checkpoints"))
        return td_run_locate(path, step, error);
    if (step != TD_STEP_NEWEST) {
        td_fail(
            error, TD_ECONFIG,
            "'%s' is not the directory of a run, so there is no step to choose: name the run, or "
            "leave out --best and --step",
            path);
        return NULL;
    }
    if (is_directory(path))
        return in_directory(path, error);
    /* a checkpoint's file must match the checkpoint, by whatever name it is reached */
    if (td_file_exists(path) && td_checkpoint_check_file(path, error))
        return NULL;
    copy = strdup(path);
    return copy ? copy : no_memory(error);
}
