/* checkpoint.h - all that a run needs to go on, in one directory that appears whole or not at all.
 *
 * A checkpoint is written beside its final place, synced, and renamed; a crash at any moment leaves
 * the old one or the new one.
 *
 *     checkpoints/step-00000200/model.safetensors      parameters, under the names of Hugging Face
 *                               optimizer.safetensors  optimizer state
 *                               state.json             step, data position, counters, config, plugins
 *                               hashes.txt             XXH3-128 of the three, to detect corruption
 *                                                      (`xxhsum -H2 -c`)
 */
#ifndef TD_MODEL_CHECKPOINT_H
#define TD_MODEL_CHECKPOINT_H

#include "plan/plan.h"

/* Where a run stands: the part of a checkpoint that is not tensors. Sums are doubles, exact up to
 * 2^53 tokens. */
typedef struct td_progress {
    int64_t  step;   /* updates made, fewer than 10^8: names sort by it */
    uint64_t record; /* next record of the data source */
    double   tokens, targets, flops;
    double   best;                 /* lowest held-out NLL so far, if best_step >= 0 */
    int64_t  best_step, evaluated; /* steps of the best evaluation and of the last; -1: none yet */
    double   cross_entropy;        /* of the last step */
    double   norm_average;         /* running average of the gradient norm, for the spike guard */
    int64_t  skipped, refused;     /* updates that the guard refused: in all; in a row until now */
} td_progress;

/* Save as `directory`/step-N. `about`: text of a JSON object to keep with it (config, plugins,
 * machine). */
int td_checkpoint_save(const char *directory, td_variables *, const td_device *,
                       const td_progress *, const char *about, td_error *error);

/* Load into allocated variables: every parameter and state must be in the files with its dims,
 * nothing else may be, and every file must be as it was written. */
int td_checkpoint_load(const char *path, td_variables *, const td_device *, td_progress *,
                       td_error   *error);

/* Check that every file of a checkpoint is as it was written. */
int td_checkpoint_check(const char *path, td_error *error);

/* The `about` that a checkpoint was saved with, as JSON text; free() it. NULL with `error`. */
char *td_checkpoint_about(const char *path, td_error *error);

/* The path of the newest checkpoint under `directory`; free() it. NULL: there is none; the
 * directory need not exist. */
int td_checkpoint_latest(const char *directory, char **latest, td_error *error);

/* Remove all but the last `keep` (0: keep all) and that of step `best`, and whatever a crash left
 * half written. */
int td_checkpoint_prune(const char *directory, int64_t keep, int64_t best, td_error *error);

/* Parameters alone, from or to one safetensors file (a checkpoint's model.safetensors, or another
 * framework's). */
int td_weights_load(const char *path, td_variables *, const td_device *, td_error *error);
int td_weights_save(const char *path, td_variables *, const td_device *, td_error *error);

#endif
