/* cache.c - the directory of prepared data. */
#include "run/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* What run.dir is for a run that was found at `run`: the run may have been moved or renamed. */
static char *runs_of(const char *run, const char *name)
{
    char  *full = realpath(run, NULL);
    size_t n = full ? strlen(full) : 0, m = strlen(name);
    char  *directory;
    /* a name may have several parts */
    if (full && n > m + 1 && full[n - m - 1] == '/' && !strcmp(full + n - m, name)) {
        full[n - m - 1] = 0;
        return full;
    }
    directory = full ? td_path_directory(full) : NULL;
    free(full);
    return directory;
}

char *td_user_cache(void)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char       *under = NULL, *path;
    /* a relative one is to be ignored, as its specification says */
    if (!base || *base != '/')
        base = under = home && *home ? td_path_join(home, ".cache") : NULL;
    path = base ? td_path_join(base, "tandem") : NULL;
    free(under);
    return path;
}

char *td_session_cache(td_session *s, td_error *error)
{
    char    *runs = s->entered ? runs_of(s->directory, s->x->run.name) : strdup(s->x->run.dir);
    char    *cache = runs ? td_path_join(runs, "cache") : NULL, *own;
    td_error why = { 0 };

    free(runs);
    if (!cache) {
        td_fail(error, TD_ENOMEM, "out of memory while opening the data");
        return NULL;
    }
    /* text that was prepared before may lie in one that cannot be written */
    if (!(s->entered ? td_make_writable(cache, &why) : td_make_directories(cache, &why)))
        return cache;
    own = s->entered ? td_user_cache() : NULL;
    if (own && !td_make_writable(own, &why)) {
        td_log_line(s->log, TD_LOG_INFO,
                    "cannot write to '%s': prepared text is kept in '%s' instead", cache, own);
        free(cache);
        return own;
    }
    td_fail(error, td_failed(&why, TD_EIO), "%s", why.text);
    free(own);
    free(cache);
    return NULL;
}
