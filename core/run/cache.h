/* cache.h - where prepared data is kept. */
#ifndef TD_RUN_CACHE_H
#define TD_RUN_CACHE_H

#include "run/session.h"

/* run.dir/cache, created if necessary: the runs of run.dir share it, as models that are compared
 * read the same text. If it cannot be written, as for another user's run, this is the user's own
 * cache directory (XDG_CACHE_HOME), and a note is logged. free() it; NULL with `error`. */
char *td_session_cache(td_session *, td_error *error);

/* The user's own, which need not exist yet; NULL: neither XDG_CACHE_HOME nor HOME is set. free()
 * it. */
char *td_user_cache(void);

#endif
