/* checkpoint.h - all that a run needs to go on, in one directory that appears whole or not at all.
 *
 *     checkpoints/step-00000200/model.safetensors      parameters, under the names of Hugging Face
 *                               optimizer.safetensors  optimizer state
 *                               state.json             step, data position, counters, config, plugins, text
 *                               hashes.txt             XXH3-128 of the three: damage is told (`xxhsum -H2 -c`)
 */
#ifndef TD_MODEL_CHECKPOINT_H
#define TD_MODEL_CHECKPOINT_H

#include "plan/plan.h"

typedef struct td_progress {
    int64_t  step;   /* updates done, fewer than 10^8: names sort by it */
    uint64_t record; /* next record of the data source */
    double   tokens, targets, flops;
    double   best;                 /* lowest held-out NLL so far; 0: none yet */
    int64_t  best_step, evaluated; /* of the best evaluation; of the last; -1: none yet */
    double   cross_entropy;        /* of the last step */
    double   norm_average;         /* of the gradient norm: the spike guard's yardstick */
    int64_t  skipped, refused;     /* updates that were refused: in all, and in a row until now */
} td_progress;

/* Save under `directory`/step-N. `about`: JSON object text of what else is worth keeping (config,
 * plugins, machine). */
int td_checkpoint_save(const char *directory, td_variables *, const td_device *,
                       const td_progress *, const char *about, td_error *error);

/* Into variables that are allocated: every parameter and state must be there with its dims, and
 * every file whole. */
int td_checkpoint_load(const char *path, td_variables *, const td_device *, td_progress *,
                       td_error   *error);

/* Whether every file of a checkpoint is as it was written. */
int td_checkpoint_check(const char *path, td_error *error);

/* "about" of a checkpoint, as JSON text; free() it. NULL with `error`. */
char *td_checkpoint_about(const char *path, td_error *error);

/* The newest checkpoint under `directory`; free() it. NULL: there is none, nor a directory. */
int td_checkpoint_latest(const char *directory, char **latest, td_error *error);

/* Remove all but the last `keep` (0: all stay) and step `best`, and what a crash left half
 * written. */
int td_checkpoint_prune(const char *directory, int64_t keep, int64_t best, td_error *error);

/* Only parameters, from one safetensors file (a checkpoint's model.safetensors, or another
 * framework's). */
int td_weights_load(const char *path, td_variables *, const td_device *, td_error *error);

#endif
