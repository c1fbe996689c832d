/* directory.c - enters the directory of a run: takes its lock, opens its log, and compares configs.
 *
 * A resumed run must equal an uninterrupted one. So a config that would compute something different
 * is refused, with the keys that differ, unless the user allows them by name.
 */
#include "run/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "run/weights.h"

/* ---- one process at a time ------------------------------------------------------------------- */

/* Open .lock, with `flags` in addition to the usual ones. A link there is not followed. */
static int open_lock(const td_run_directory *r, int flags)
{
    char *name = td_path_join(r->path, ".lock");
    int   fd = -1;
    errno = ENOMEM;
    if (name)
        fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0666);
    free(name);
    return fd;
}

static int lock(td_run_directory *r, const td_session *s, td_error *error)
{
    int reason;
    r->lock = open_lock(r, 0);
    if (r->lock < 0)
        return td_fail(error, TD_EIO, "cannot create '%s/.lock': %s", r->path, strerror(errno));
    reason = flock(r->lock, LOCK_EX | LOCK_NB) ? errno : 0;
    if (reason == EWOULDBLOCK)
        return td_fail(error, TD_ECONFIG,
                       "another process is training in '%s': wait for it, or choose another "
                       "run.name",
                       r->path);
    /* some network file systems have no locks: then only the user can make sure */
    if (reason)
        td_log_line(s->log, TD_LOG_WARN,
                    "cannot lock '%s' (%s): make sure that no other process trains there", r->path,
                    strerror(reason));
    return 0;
}

/* ---- still ours ------------------------------------------------------------------------------ */

/* Does `path` still name the file that is open as `fd`? */
static bool is_open_as(const char *path, int fd)
{
    struct stat named, opened;
    return !lstat(path, &named) && !fstat(fd, &opened) && named.st_ino == opened.st_ino &&
           named.st_dev == opened.st_dev;
}

/* A run may be reached through a link, so the directory itself is compared. */
static bool is_directory(const td_run_directory *r)
{
    int         fd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat named, opened;
    bool        same = fd >= 0 && !fstat(fd, &named) && !fstat(r->directory, &opened) &&
                named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
    if (fd >= 0)
        close(fd);
    return same;
}

/* The lock was removed. If no new one exists, no other process has entered, and it is made
 * again. */
static int lock_again(td_run_directory *r, td_error *error)
{
    int fd = open_lock(r, O_EXCL);
    if (fd < 0 && errno != EEXIST)
        return td_fail(error, TD_EIO, "cannot create '%s/.lock' again: %s", r->path,
                       strerror(errno));
    /* it exists, or is held: another process created it after it was removed */
    if (fd < 0 || (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)) {
        if (fd >= 0)
            close(fd);
        return td_fail(error, TD_EIO,
                       "'%s/.lock' was removed and another process uses the directory now: this "
                       "run can no longer save there",
                       r->path);
    }
    td_log_line(r->session->log, TD_LOG_WARN,
                "'%s/.lock' was removed while the run was training, and has been created again, "
                "since it keeps other processes out",
                r->path);
    close(r->lock);
    r->lock = fd;
    return 0;
}

int td_run_check(void *directory, td_error *error)
{
    td_run_directory *r = directory;
    char             *name = td_path_join(r->path, ".lock");
    int               code = 0;
    if (!name)
        code = td_fail(error, TD_ENOMEM, "out of memory");
    /* a save would fail, or go into whatever has that name now */
    else if (!is_directory(r))
        code = td_fail(error, TD_EIO,
                       "the directory of the run, '%s', was removed, renamed or replaced while it "
                       "was training",
                       r->path);
    else if (!is_open_as(name, r->lock))
        code = lock_again(r, error);
    free(name);
    return code;
}

/* ---- the config of the run ------------------------------------------------------------------- */

/* The keys that may change from one part of a run to the next (docs/config.md): its duration,
 * its reports and its checkpoints. None of them changes the result of a step. */
bool td_run_may_change(const char *key)
{
    static const char *const free_keys[] = {
        "train.steps",   "train.target_tokens", "train.flops",
        "train.*_every", "train.keep_*",        "train.guard",
        "train.spike",   "train.patience",      "train.early_stopping_patience",
        "train.allow",   "train.best",          "train.shard",
        "schedule.*",    "evaluate.*",          "tasks.*",
        "run.*",         "backend.threads",     "comm.*",
        "plugin_path"
    };
    /* patterns, so that new options of these kinds need no entry */
    for (size_t k = 0; k < sizeof free_keys / sizeof *free_keys; k++)
        if (td_match(free_keys[k], key))
            return true;
    return false;
}

typedef struct resumption {
    td_run_directory *directory;
    td_session       *session;
} resumption;

/* Whether scores from before and after a change of the key cannot be compared. */
static bool changes_best(const td_session *s, const char *key)
{
    const char *judge = *s->x->train.best ? "tasks.*" : "evaluate.*";
    /* with another batch the scores are the same, except for rounding */
    return !strcmp(key, "train.best") ||
           (td_match(judge, key) && strcmp(key, "evaluate.batch") != 0);
}

/* Whether a checkpoint tells if the files of an option have changed. */
static bool has_fingerprint(const td_session *s, const char *key)
{
    const td_data *d = (const void *)s->x->data.plugin;
    return !strncmp(key, "tokenizer.", 10) || (!strncmp(key, "data.", 5) && d->fingerprint);
}

static bool accept(void *arg, const char *key, const char *line)
{
    const resumption *r = arg;
    td_journal       *log = r->session->log;
    if (changes_best(r->session, key))
        r->directory->other_evaluation = true;
    /* the checkpoint's fingerprints tell whether the files say the same, wherever they lie now */
    if (td_config_names_file(r->session->x->config, key) && has_fingerprint(r->session, key))
        return true;
    if (td_run_may_change(key)) {
        td_log_line(log, TD_LOG_INFO, "resuming with a different %s", line);
        return true;
    }
    if (!td_session_allows(r->session, key))
        return false;
    td_log_line(log, TD_LOG_WARN, "resuming with a different %s: allowed", line);
    return true;
}

static int judge(td_run_directory *r, td_session *s, td_text *differences, td_error *error)
{
    td_text refused = td_refused_differences(differences, accept, &(resumption){ r, s });
    int     code = 0;
    if (refused.size)
        code = td_fail(error, TD_ECONFIG,
                       "cannot resume: this config computes something different from the run's "
                       "own:%.1500s\nundo the change, allow it if it is intended (--allow KEY), or "
                       "start another run.name with train.weights",
                       td_text_get(&refused));
    td_text_free(&refused);
    return code;
}

/* As text: what a directory contains may be a stranger's, and must not choose what is loaded. */
static td_config *read_config(const char *path, td_errors *errors)
{
    td_config_sources sources = { .files = &path, .n_files = 1, .n_kept = 1 };
    td_config        *c = td_config_read(&sources, errors);
    if (c)
        td_config_take_text(c);
    return c;
}

static int compare_configs(td_run_directory *r, td_session *s, td_error *error)
{
    td_errors  errors = { 0 };
    char      *path = td_path_join(r->path, "config.cfg");
    td_text    differences = { 0 };
    td_config *before = path ? read_config(path, &errors) : NULL;
    int        code = 0;

    if (!before)
        code = td_fail(error, TD_ECONFIG,
                       "cannot resume: '%s/config.cfg', the config that the run was started with, "
                       "cannot be read: %.1500s",
                       r->path, td_text_get(&errors.text));
    else if (td_config_diff(before, s->x->config, &differences))
        code = judge(r, s, &differences, error);
    td_errors_free(&errors);
    td_text_free(&differences);
    td_config_free(before);
    free(path);
    return code;
}

/* ---- a run that does not start --------------------------------------------------------------- */

/* The directory that this process has made for a run that has not started: a handler of signals can
 * only reach what is static. */
static struct {
    volatile sig_atomic_t is;
    int                   directory;
    char                  path[4096];
} unstarted;

static void note_unstarted(const td_run_directory *r)
{
    unstarted.is = false;
    if (!r->made || strlen(r->path) >= sizeof unstarted.path)
        return;
    strcpy(unstarted.path, r->path);
    unstarted.directory = r->directory;
    unstarted.is = true;
}

/* Only calls that a handler may make. */
void td_run_withdraw(void)
{
    if (!unstarted.is || !faccessat(unstarted.directory, "config.cfg", F_OK, 0))
        return;
    unlinkat(unstarted.directory, "log.txt", 0);
    unlinkat(unstarted.directory, ".lock", 0);
    rmdir(unstarted.path); /* fails if it has anything else */
}

/* ---- opening --------------------------------------------------------------------------------- */

static int latest_in(const char *run, char **latest, td_error *error)
{
    char *checkpoints = td_path_join(run, "checkpoints");
    int   code = checkpoints ? td_checkpoint_latest(checkpoints, latest, error)
                             : td_fail(error, TD_ENOMEM, "out of memory");
    free(checkpoints);
    return code;
}

/* Opened before the configs are compared, so that the log says why a run was not resumed. */
static int open_log(const td_run_directory *r, const td_session *s, td_error *error)
{
    char *path = td_path_join(r->path, "log.txt");
    int   code = path ? td_log_open_file(s->log, path, error)
                      : td_fail(error, TD_ENOMEM, "out of memory");
    free(path);
    return code;
}

int td_run_open(td_run_directory *r, td_session *s, bool resume, td_error *error)
{
    int code;
    *r = (td_run_directory){
        .lock = -1, .directory = -1, .session = s, .path = strdup(td_session_directory(s))
    };
    r->made = r->path && !td_file_exists(r->path);
    code = r->path ? td_make_directories(r->path, error)
                   : td_fail(error, TD_ENOMEM, "out of memory");
    if (!code && (r->directory = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        code = td_io_error(error, "open the directory", r->path);
    if (!code)
        note_unstarted(r);
    /* locked before anything is read: another process may be writing it */
    if (!code)
        code = lock(r, s, error);
    if (!code)
        code = latest_in(r->path, &r->latest, error);
    if (!code && r->latest && !resume)
        return td_fail(error, TD_ECONFIG,
                       "'%s' already contains a run: resume it (--resume), or choose another "
                       "run.name",
                       r->path);
    if (!code)
        code = open_log(r, s, error);
    if (!code && r->latest)
        code = compare_configs(r, s, error);
    else if (!code && resume)
        td_log_line(s->log, TD_LOG_INFO,
                    "'%s' has no checkpoint yet: starting from the "
                    "beginning",
                    r->path);
    return code;
}

void td_run_abandon(td_run_directory *r)
{
    /* the error is on the terminal; a directory without a run would be mistaken for a run */
    if (r->made && r->lock >= 0 && !r->latest)
        td_remove_tree(r->path, NULL);
}

void td_run_close(td_run_directory *r)
{
    unstarted.is = false;
    if (r->lock >= 0)
        close(r->lock);
    if (r->directory >= 0)
        close(r->directory);
    free(r->path);
    free(r->latest);
}
