/* child.h - the processes of a study: starts them with their output in a file, watches and ends
 * them. */
#ifndef TD_STUDY_CHILD_H
#define TD_STUDY_CHILD_H

#include <sys/types.h>

#include "study/commands.h"

/* Set for children: the number of the process that they must not outlive. The command calls
 * td_follow_parent first of all: if that process ends, however it ends, the child gets SIGTERM. */
#define TD_PARENT_VARIABLE "TANDEM_PARENT"
/* Set for a child that stands for several: td_follow_parent replaces it by mpirun, which starts that
 * many. When its parent ends, or to stop it, it then gets TD_LAUNCHER_STOP: at SIGTERM
 * mpirun would kill its processes before they save. Returns only without that variable, or with
 * `error`. */
#define TD_PROCESSES_VARIABLE "TANDEM_PROCESSES"
#define TD_LAUNCHER_STOP SIGUSR1
int td_follow_parent(char **argv, td_error *error);

/* An error if mpirun cannot start the processes of a cell here: it is missing, or refuses to run as this
 * user. */
int td_launcher_check(int64_t processes, td_error *error);

/* Start this program with the arguments, `processes` times. Its output is appended to the file
 * `log`, after a line with the command. The process has its own process group: Ctrl-C reaches it only
 * through the parent. 0, or an error. */
int td_cell_process_start(const td_arguments *, int64_t processes, const char *log, pid_t *pid,
                          td_error *error);

/* Whether it has ended, and how: an exit code, or 128 plus the signal. */
bool td_cell_process_ended(pid_t, int *code);

#endif
