/* directory.c - entering the directory of a run: lock, log, and a comparison of configs.
 *
 * A resumed run is the uninterrupted run. So a config that would compute something else is refused,
 * with the keys that differ, unless the user allows them by name.
 */
#include "run/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "run/weights.h"

/* ---- one process at a time ------------------------------------------------------------------- */

static int lock(td_run_directory *r, const td_session *s, td_error *error)
{
    char *name = td_path_join(r->path, ".lock");
    int   reason;
    r->lock = name ? open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0666) : -1;
    free(name);
    if (r->lock < 0)
        return td_fail(error, TD_EIO, "cannot create '%s/.lock': %s", r->path, strerror(errno));
    reason = flock(r->lock, LOCK_EX | LOCK_NB) ? errno : 0;
    if (reason == EWOULDBLOCK)
        return td_fail(error, TD_ECONFIG,
                       "another process is training in '%s': wait for it, or choose another "
                       "run.name",
                       r->path);
    /* some network file systems have no locks: then only the user can see to it */
    if (reason)
        td_log_line(s->log, TD_LOG_WARN,
                    "cannot lock '%s' (%s): make sure that no other process trains there", r->path,
                    strerror(reason));
    return 0;
}

/* ---- the config of the run ------------------------------------------------------------------- */

/* The keys that may change from one part of a run to the next (docs/config.md): how long it goes
 * on, and what it reports and keeps. None of them changes what a step computes. */
static bool may_change(const char *key)
{
    static const char *const free_keys[] = { "train.steps", "train.*_every",   "train.keep_*",
                                             "train.guard", "train.spike",     "train.patience",
                                             "train.allow", "schedule.*",      "evaluate.*",
                                             "run.*",       "backend.threads", "plugin_path" };
    for (size_t k = 0; k < sizeof free_keys / sizeof *free_keys; k++)
        if (td_match(free_keys[k], key))
            return true;
    return false;
}

/* `line`: "key: before -> now". A difference that may not be is appended to `refused`. */
static void judge(td_run_directory *r, td_session *s, const char *line, td_text *refused)
{
    char key[300];
    td_difference_key(line, key);
    /* with another batch the scores are the same but for rounding */
    r->other_evaluation |= td_match("evaluate.*", key) && strcmp(key, "evaluate.batch");
    if (may_change(key))
        td_log_line(s->log, TD_LOG_INFO, "resuming with a different %s", line);
    else if (td_session_allows(s, key))
        td_log_line(s->log, TD_LOG_WARN, "resuming with a different %s: allowed", line);
    else
        td_text_print(refused, "\n  %s", line);
}

static int judge_all(td_run_directory *r, td_session *s, td_text *differences, td_error *error)
{
    td_text refused = { 0 };
    char   *rest = NULL;
    int     code = 0;
    /* all of them before refusing, so that one message names every key */
    for (char *line = strtok_r(differences->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        judge(r, s, line, &refused);
    if (refused.size)
        code =
            td_fail(error, TD_ECONFIG,
                    "cannot resume: this config computes something else than the run's own:%.1500s"
                    "\nundo the change, allow it if it is intended (--allow KEY), or start another "
                    "run.name with train.weights",
                    td_text_get(&refused));
    td_text_free(&refused);
    return code;
}

static int compare_configs(td_run_directory *r, td_session *s, td_error *error)
{
    td_errors      errors = { 0 };
    char          *path = td_path_join(r->path, "config.cfg");
    td_text        differences = { 0 };
    td_experiment *before = path
                                ? td_experiment_open(s->registry, (const char *[]){ path }, 1, NULL,
                                                     0, s->configs, TD_NEED_TRAINING, &errors)
                                : NULL;
    int            code = 0;

    /* it must be read whole: a key that this tandem no longer knows may have meant something */
    if (!before)
        code = td_fail(error, TD_ECONFIG,
                       "cannot resume: '%s/config.cfg', the config that the run was started with, "
                       "cannot be read: %.1500s",
                       r->path, td_text_get(&errors.text));
    else if (td_config_diff(before->config, s->x->config, &differences))
        code = judge_all(r, s, &differences, error);
    td_errors_free(&errors);
    td_text_free(&differences);
    td_experiment_close(before);
    free(path);
    return code;
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

int td_run_latest(td_session *s, char **latest, td_error *error)
{
    return latest_in(td_session_directory(s), latest, error);
}

/* Before the configs are compared: why a run was not resumed belongs in its log. */
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
    *r = (td_run_directory){ .lock = -1, .path = strdup(td_session_directory(s)) };
    code = r->path ? td_make_directories(r->path, error)
                   : td_fail(error, TD_ENOMEM, "out of memory");
    /* locked before anything is looked at: the other process may be writing it */
    if (!code)
        code = lock(r, s, error);
    if (!code)
        code = latest_in(r->path, &r->latest, error);
    if (!code && r->latest && !resume)
        return td_fail(error, TD_ECONFIG,
                       "'%s' contains a run already: resume it (--resume), or choose another "
                       "run.name",
                       r->path);
    if (!code)
        code = open_log(r, s, error);
    if (!code && r->latest)
        code = compare_configs(r, s, error);
    else if (!code && resume)
        td_log_line(s->log, TD_LOG_INFO, "'%s' has no checkpoint yet: the run begins", r->path);
    return code;
}

void td_run_close(td_run_directory *r)
{
    if (r->lock >= 0)
        close(r->lock);
    free(r->path);
    free(r->latest);
}
