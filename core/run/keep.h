/* keep.h - copies of the files that a run is made with, so that its directory can be read from
 * anywhere, and after those files have changed.
 *
 *     tokenizer/HASH-NAME    the files that the tokenizer's options name
 *     modules/NAME.so        modules from outside the installation
 *     modules/modules.txt    the hash of each, and where it was
 */
#ifndef TD_RUN_KEEP_H
#define TD_RUN_KEEP_H

#include "run/session.h"

/* Copy them to the run's directory. The config that is printed from now on names the copies. */
int   td_run_keep(td_session *, const char *directory, td_error *error);
/* Copy only the modules that the session's config needs, if this installation lacks them. */
int   td_run_keep_modules(td_session *, const char *directory, td_error *error);
/* The directory of a run's modules; free() it. NULL: it has none. */
char *td_run_modules(const char *directory);

#endif
