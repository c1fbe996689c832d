/* directory.h - the directory of a run, run.dir/run.name: one process at a time, and resumed only
 * with a config that computes the same thing.
 *
 *     config.cfg        the resolved config
 *     environment.txt   one paragraph per start of the run: command, machine, plugins
 *     model-info.txt    parameters and memory
 *     log.txt, metrics.jsonl, tensorboard/, checkpoints/
 */
#ifndef TD_RUN_DIRECTORY_H
#define TD_RUN_DIRECTORY_H

#include "run/session.h"

typedef struct td_run_directory {
    char             *path;
    char             *latest; /* the checkpoint to continue from; NULL: start from the beginning */
    int               lock;   /* the system releases it when the process ends, even by a crash */
    int               directory; /* identity of `path` when it was entered */
    const td_session *session;
    bool              other_evaluation; /* what decides the best score has changed since `latest` */
    bool              made;             /* by this call, so nothing in it belongs to anyone else */
} td_run_directory;

/* Create the run's directory, or enter one to resume it. From then on the session also logs to
 * log.txt. No existing file of a run is changed before its config has been compared with the
 * session's. Close it even after a failure. */
int  td_run_open(td_run_directory *, td_session *, bool resume, td_error *error);
void td_run_close(td_run_directory *);
/* The run cannot begin: remove what td_run_open created. */
void td_run_abandon(td_run_directory *);
/* The same for a handler of signals, before the first step: removes a directory that was made for a run
 * and has no config yet. */
void td_run_withdraw(void);

/* Whether a resumed run may have another value of the key without --allow: it does not change the
 * result of a step. */
bool td_run_may_change(const char *key);

/* Whether the directory is still the one that was entered, and locked by this process. A lock that
 * was only removed is made again. `directory` is a td_run_directory: a hook of the trainer. */
int td_run_check(void *directory, td_error *error);

#endif
