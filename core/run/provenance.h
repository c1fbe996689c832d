/* provenance.h - records a run's inputs and environment: config, text, tokenizer, plugins,
 * machine. Stored in each checkpoint, compared when a run is resumed, and written to the run's
 * directory for people. */
#ifndef TD_RUN_PROVENANCE_H
#define TD_RUN_PROVENANCE_H

#include <time.h>

#include "run/directory.h"

/* The JSON text that is stored in each checkpoint; free() it. Data and engine must be open. NULL
 * with `error`. */
char *td_run_about(td_session *, td_error *error);
/* Refuse to score held-out text that is not the run's own, as its checkpoint records it: the run
 * may have been trained on it. Only for `weights` of the session's own run. `--allow data` makes it
 * a warning. */
int   td_run_check_held_out(td_session *, const char *weights, td_error *error);
/* Compare the record in `latest` with the present one (`about`). Different text or another
 * tokenizer is refused; differences that may change only the last bits (other builds of plugins,
 * another instruction set) are a warning. */
int   td_run_compare(const td_run_directory *, const td_session *, const char *about,
                     td_error *error);
/* What can be known, without reading them, about the files that the data names. */
typedef struct td_text_stamp {
    char   of[17]; /* a hash of names, sizes and times */
    time_t newest; /* the last change of any of them */
} td_text_stamp;

td_text_stamp td_run_stamp_text(const td_session *);
/* Open the data, and compare it with the text that a checkpoint was trained on. 0 with *other, or a
 * code. */
int td_run_is_other_text(td_session *, const char *checkpoint, bool *other, td_error *error);

/* Write config.cfg, environment.txt and model-info.txt, and copy what the run needs. */
int td_run_describe(const td_run_directory *, td_session *, const td_footprint *, td_error *error);
/* Write environment.txt for a run that begins with another model's parameters: no backend or plugin
 * has computed anything yet. It also marks the directory as a run's. */
int td_run_describe_converted(const char *directory, td_error *);

#endif
