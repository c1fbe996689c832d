/* place.h - finds a run from the directory that a user names, the run's own or one of its
 * checkpoints'. */
#ifndef TD_RUN_PLACE_H
#define TD_RUN_PLACE_H

#include "run/session.h"

typedef struct td_run_place {
    char *run;        /* its directory */
    char *config;     /* its config.cfg */
    char *checkpoint; /* the named checkpoint; NULL: use the newest */
} td_run_place;

/* Returns false, with an empty place, if `name` is neither. Free it in either case. */
bool td_run_place_find(td_run_place *, const char *name);
void td_run_place_free(td_run_place *);

/* The config that the run kept, as text (td_config_take_text): nothing is loaded. td_config_free it.
 * NULL with `errors`. */
td_config *td_run_place_config(const td_run_place *, td_errors *errors);

/* Use the directory where the run was found, not the one in its config: the run may have been
 * moved. */
int   td_run_place_enter(const td_run_place *, td_session *, td_error *error);
/* The parameter file of the named checkpoint, or of checkpoint `step` of the session's run, a
 * number or a TD_STEP_; free() it. NULL with `error`. */
char *td_run_place_weights(const td_run_place *, td_session *, int64_t step, td_error *error);

#endif
