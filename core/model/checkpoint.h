/* checkpoint.h - everything that a run needs to continue, in one directory that either appears
 * complete or does not appear.
 *
 * A checkpoint is written next to its final place, synced, and renamed; a crash at any moment
 * leaves either the old one or the new one.
 *
 *     checkpoints/step-00000200/model.safetensors      parameters, under the names of Hugging Face
 *                               optimizer.safetensors  optimizer state
 *                               state.json             step, data position, counters, config, plugins
 *                               hashes.txt             XXH3-128 of the three, to detect corruption
 *                                                      (`xxhsum -H2 -c`)
 */
#ifndef TD_MODEL_CHECKPOINT_H
#define TD_MODEL_CHECKPOINT_H

#include "base/text.h"
#include "io/safetensors.h"
#include "plan/plan.h"

/* The state of a run: the part of a checkpoint that is not tensors. Sums are doubles, exact up to
 * 2^53 tokens. */
typedef struct td_progress {
    int64_t  step;   /* updates made, fewer than 10^8: names sort by it */
    uint64_t record; /* next record of the data source */
    double   tokens, targets, flops;
    double   best;                /* the best score so far, if best_step >= 0 */
    int64_t best_step, evaluated; /* steps of the best score and of the last evaluation; -1: none */
    int64_t scored;               /* step of the last scoring of tasks; -1: none yet */
    int64_t since_best;           /* scores after the best one */
    double  cross_entropy;        /* of the last step */
    double  norm_average;         /* running average of the gradient norm, for the spike guard */
    int64_t logged;               /* step of the last line of metrics; 0: none yet, or unknown */
    /* of the steps since that line, which has their means */
    int64_t window_steps;
    double  window_loss, window_cross_entropy;
    int64_t skipped, refused; /* updates that the guard refused: in total, and in a row up
                                    * to now */
} td_progress;

/* Save as `directory`/step-N. `about`: text of a JSON object to keep with it (config, plugins,
 * machine). */
int td_checkpoint_save(const char *directory, td_variables *, const td_device *,
                       const td_progress *, const char *about, td_error *error);

/* The same for tensors that are not in variables, but in another program's files. */
typedef struct td_saved {
    const td_stored   *parameters, *states;
    size_t             n_parameters, n_states;
    const td_progress *progress;
    const char        *about;
} td_saved;
int td_checkpoint_write(const char *directory, const td_saved *, td_error *error);

/* Load into allocated variables: every parameter and state must be in the files with its dims,
 * and nothing else; the hash of every file must match. */
int td_checkpoint_load(const char *path, td_variables *, const td_device *, td_progress *,
                       td_error   *error);

/* Check that no file of a checkpoint has changed since it was written. */
int td_checkpoint_check(const char *path, td_error *error);

/* The run's position when it was saved. */
int td_checkpoint_progress(const char *path, td_progress *, td_error *error);

/* The `about` that was saved with a checkpoint, as JSON text; free() it. NULL with `error`. */
char *td_checkpoint_about(const char *path, td_error *error);

/* The path of the newest checkpoint under `directory`; free() it. NULL: there is none; the
 * directory need not exist. */
int td_checkpoint_latest(const char *directory, char **latest, td_error *error);

/* The path of the checkpoint of a step under `directory`; free() it. NULL with `error` if there is
 * none, or no memory. */
char *td_checkpoint_of_step(const char *directory, int64_t step, td_error *error);

/* Remove all but the last `keep` (0: keep all) and the one of step `best`, and whatever a crash
 * left half written. If one cannot be removed, the others still are; the first error is returned. */
int td_checkpoint_prune(const char *directory, int64_t keep, int64_t best, td_error *error);

/* If `file` is in a checkpoint (a link is followed), check that it has not changed since it was
 * written. */
int td_checkpoint_check_file(const char *file, td_error *error);

/* Parameters alone, from or to one safetensors file (a checkpoint's model.safetensors, or
 * another framework's). Other tensors that frameworks store along with the parameters are
 * skipped, and `notes` gets a line for each: copies of tied parameters, empty tensors, integers,
 * tables of rotary frequencies. Any other tensor that the model does not have is refused. */
int td_weights_load(const char *path, td_variables *, const td_device *, td_text *notes,
                    td_error *error);
/* Whether td_weights_load would accept the file, by its names and shapes; the variables need no
 * memory. */
int td_weights_check(const char *path, td_variables *, td_error *error);
int td_weights_save(const char *path, td_variables *, const td_device *, td_error *error);

#endif
