/* provenance.h - records a run's inputs and environment: config, text, tokenizer, plugins,
 * machine. Stored in each checkpoint, compared when a run is resumed, and written to the run's
 * directory for people. */
#ifndef TD_RUN_PROVENANCE_H
#define TD_RUN_PROVENANCE_H

#include "run/directory.h"

/* The JSON text that is stored in each checkpoint; free() it. Data and engine must be open. NULL
 * with `error`. */
char *td_run_about(const td_session *, td_error *error);
/* Compare the record in `latest` with the present one (`about`). Different text or another
 * tokenizer is refused; differences that may change only the last bits (other builds of plugins,
 * another instruction set) are a warning. */
int   td_run_compare(const td_run_directory *, const td_session *, const char *about,
                     td_error *error);
/* Write config.cfg, environment.txt and model-info.txt, and copy what the run needs. */
int td_run_describe(const td_run_directory *, td_session *, const td_footprint *, td_error *error);

#endif
