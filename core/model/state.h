/* state.h - state.json of a checkpoint: the progress of its run, and facts about the run. It is read
 * with td_checkpoint_progress and td_checkpoint_about. [main] */
#ifndef TD_MODEL_STATE_H
#define TD_MODEL_STATE_H

#include "model/checkpoint.h"

/* Write the file at `path`; `about` is the text of a JSON object. */
int td_state_save(const char *path, const td_progress *, const char *about, td_error *error);

#endif
