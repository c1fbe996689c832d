/* directory.h - the directory of a run, run.dir/run.name: one process at a time, and resumed only
 * with a config that computes the same.
 *
 *     config.cfg        the resolved config
 *     environment.txt   a paragraph for each time the run was started: command, machine, plugins
 *     model-info.txt    parameters and memory
 *     log.txt, metrics.jsonl, tensorboard/, checkpoints/
 */
#ifndef TD_RUN_DIRECTORY_H
#define TD_RUN_DIRECTORY_H

#include "run/session.h"

typedef struct td_run_directory {
    char *path;
    char *latest;           /* the checkpoint to go on from; NULL: the run begins */
    int   lock;             /* the system drops it when the process ends, however that happens */
    bool  other_evaluation; /* evaluate.* has changed since `latest` */
} td_run_directory;

/* Create the run's directory, or enter one to resume it. From now on the session's log goes to
 * log.txt, too. Nothing that a run left is changed before its config was compared with the
 * session's. Close it after a failure, too. */
int  td_run_open(td_run_directory *, td_session *, bool resume, td_error *error);
void td_run_close(td_run_directory *);

/* The newest checkpoint of the config's run; free() it. NULL: there is none. */
int td_run_latest(td_session *, char **latest, td_error *error);

#endif
