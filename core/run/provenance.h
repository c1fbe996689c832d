/* provenance.h - what a run is made with: config, text, tokenizer, plugins, machine. Kept in each
 * checkpoint, compared when a run is resumed, and written to the run's directory for people. */
#ifndef TD_RUN_PROVENANCE_H
#define TD_RUN_PROVENANCE_H

#include "run/directory.h"

/* The text of the JSON object that each checkpoint keeps; free() it. Data and engine must be open.
 * NULL with `error`. */
char *td_run_about(const td_session *, td_error *error);
/* Compare what `latest` was saved with and what is used now (`about`). Different text or another
 * tokenizer is refused; what may change bits alone (other builds of plugins, another instruction
 * set) is a warning. */
int   td_run_compare(const td_run_directory *, const td_session *, const char *about,
                     td_error *error);
/* Write config.cfg, environment.txt and model-info.txt. */
int   td_run_describe(const td_run_directory *, const td_session *, const td_footprint *,
                      td_error *error);

#endif
