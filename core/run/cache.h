/* cache.h - where prepared data is kept. */
#ifndef TD_RUN_CACHE_H
#define TD_RUN_CACHE_H

#include "run/session.h"

/* run.dir/cache, created if necessary: the runs of run.dir share it, as models that are compared
 * read the same text. If it cannot be written, as for another user's run, this is the user's own
 * cache directory (XDG_CACHE_HOME), and a note is logged. free() it; NULL with `error`. */
char *td_session_cache(td_session *, td_error *error);

/* The user's own, which is writable: `tandem` in XDG_CACHE_HOME, or else in HOME/.cache, or else
 * tandem-UID in TMPDIR or /tmp, closed to others. NULL: there is none. free() it. */
char *td_user_cache(void);

#endif
