/* locate.h - finds the parameter file that a path stands for. */
#ifndef TD_RUN_LOCATE_H
#define TD_RUN_LOCATE_H

#include <stdint.h>

#include "tandem/embed.h"

/* The parameter file for `path`: the file itself, or the model.safetensors of a checkpoint's
 * directory, or of a run's checkpoint `step` (TD_STEP_.. or a number). A checkpoint is checked for
 * damage. free() it; NULL with `error`. */
char *td_weights_locate(const char *path, int64_t step, td_error *error);

/* The same for a directory that is known to be a run's. */
char *td_run_locate(const char *run, int64_t step, td_error *error);

#endif
