/* cache.c - the directory of prepared data. */
#include "run/cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* BASE/tandem; NULL: it is not writable. */
static char *cache_in(const char *base)
{
    td_error why = { 0 };
    char    *path = td_path_join(base, "tandem");
    if (path && !td_make_writable(path, &why))
        return path;
    free(path);
    return NULL;
}

/* HOME/.cache/tandem; NULL: there is none. */
static char *cache_at_home(const char *home)
{
    char *base = home && *home == '/' ? td_path_join(home, ".cache") : NULL;
    char *path = base ? cache_in(base) : NULL;
    free(base);
    return path;
}

/* TMPDIR/tandem-UID, or /tmp/tandem-UID. Others can create files there too, so only a directory
 * that is ours and closed to them is used. */
static char *temporary_cache(void)
{
    const char *base = getenv("TMPDIR");
    td_error    why = { 0 };
    struct stat st;
    char       *path = NULL, name[32];
    snprintf(name, sizeof name, "tandem-%lu", (unsigned long)geteuid());
    path = td_path_join(base && *base == '/' ? base : "/tmp", name);
    if (path && (!mkdir(path, 0700) || errno == EEXIST) && !lstat(path, &st) &&
        S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) &&
        !td_make_writable(path, &why))
        return path;
    free(path);
    return NULL;
}

char *td_user_cache(void)
{
    const char *base = getenv("XDG_CACHE_HOME");
    char       *path;
    /* a relative one is to be ignored, as its specification says */
    if (base && *base == '/')
        return cache_in(base);
    path = cache_at_home(getenv("HOME"));
    return path ? path : temporary_cache();
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
    if (own) {
        td_log_line(s->log, TD_LOG_INFO,
                    "cannot write to '%s': prepared text is kept in '%s' instead", cache, own);
        free(cache);
        return own;
    }
    td_fail(error, td_failed(&why, TD_EIO),
            s->entered ? "%.1900s; to keep prepared text in a cache of your own, set "
                         "XDG_CACHE_HOME to a directory that can be written"
                       : "%.1900s",
            why.text);
    free(cache);
    return NULL;
}
