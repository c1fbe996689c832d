/* run_directory.h - the directory of a run, run.dir/run.name: one process at a time, the config and
 * the checkpoint that it goes on from, and what it is run on.
 *
 *     config.cfg        the resolved config; a resumed run must compute the same
 *     environment.txt   a paragraph each time the run was started: command, machine, plugins
 *     model-info.txt    parameters, memory
 *     log.txt, metrics.jsonl, tensorboard/, checkpoints/
 */
#ifndef TD_TOOLS_RUN_DIRECTORY_H
#define TD_TOOLS_RUN_DIRECTORY_H

#include "work.h"

typedef struct td_run_directory {
    char *path;
    char *latest;           /* the checkpoint to go on from; NULL: the run begins */
    int   lock;             /* falls with the process */
    bool  other_evaluation; /* the config evaluates otherwise than it did */
} td_run_directory;

/* Make the directory, or take it up: what is there is only touched to resume it, and only with a
 * config that computes the same. The log goes there from now on. */
int  td_run_open(td_run_directory *, const td_work *, bool resume, td_error *error);
void td_run_close(td_run_directory *);

/* What each checkpoint keeps, as JSON: config, text, tokenizer, arithmetic, plugins; free() it.
 * Data and engine are open. */
char *td_run_about(const td_work *, td_error *error);
/* The same now as when `latest` was saved? Other text or another tokenizer is refused; what may
 * change bits only (other builds of plugins, another instruction set) is told. */
int   td_run_compare(const td_run_directory *, const td_work *, const char *about, td_error *error);
/* Write config.cfg, environment.txt and model-info.txt. */
int td_run_describe(const td_run_directory *, const td_work *, const td_memory *, td_error *error);

/* The newest checkpoint of the config's run; free() it. NULL: there is none. */
int td_run_latest(const td_work *, char **latest, td_error *error);

#endif
