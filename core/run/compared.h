/* compared.h - what is known about a run without running it: how far it was trained, its scores,
 * its config. For comparing runs, and for curves through them. */
#ifndef TD_RUN_COMPARED_H
#define TD_RUN_COMPARED_H

#include "run/experiment.h"
#include "run/series.h"

/* Read the run, or checkpoint, that a user names. Strings and items are in the arena; the caller
 * free()s `series->at` and td_config_free()s the config, which is NULL, with a note, if it cannot
 * be read. `notes` gets a line for whatever else may mislead; with `unscored` also for a run
 * without results, which is an error otherwise. */
int td_compared_read(const char *name, td_arena *, td_compared_run *out, td_series_list *series,
                     td_config **config, td_text *notes, bool unscored, td_error *error);

#endif
