/* work.h - a session (tandem/embed.h) for the commands that compute, and output shared by several
 * of them. */
#ifndef TD_TOOLS_WORK_H
#define TD_TOOLS_WORK_H

#include "command.h"
#include "run/place.h"

/* Open the config of the arguments. `needs`: the groups that it must have, as TD_NEED_ bits. NULL
 * after a message, with the exit code in `*code`. */
td_session *td_work_open(td_tool *, unsigned needs, int *code);

/* Whether this is not the first of several processes, which alone prints: from now on it logs only
 * errors, unless --every-rank is given. */
bool           td_work_follows(td_tool *);
/* The other processes cannot be reached, for the reason `why`: end this one, with TD_EXIT_REQUEUE. `tool`
 * is the td_tool. [any] */
_Noreturn void td_work_lost(void *tool, const char *why);
/* Join them, if a launcher started several: 0, or a code with `error`. */
int            td_work_join(td_tool *, td_session *, td_error *error);
/* End this process, too, if a call has found the others lost. */
void           td_work_end_if_lost(td_tool *, const td_session *, const td_error *);
/* The exit code of a call that ended with `code` on all ranks; the first one prints the error. */
int            td_work_end(td_tool *, const td_session *, int code, const td_error *);

/* The checkpoint chosen by --best or --step N, a TD_STEP_ or a number. False after a message. */
bool        td_work_step(td_tool *, int64_t *step);
/* The place that the first plain argument names, if it is a run or a checkpoint, whose config is
 * read before those of -c. Always free the place, after the session. */
bool        td_work_take_run(td_tool *, td_run_place *);
/* Report that `name` is not a run, and suggest the config or the run that may be meant.
 * TD_EXIT_USAGE. */
int         td_work_no_run(td_tool *, const char *name);
/* Whether there is a model: a run, or a config. False after a usage error. */
bool        td_work_has_model(td_tool *, const td_run_place *, int *code);
/* With --trust, load a run's copies of its modules; `modules` must outlive the tool. NULL: none. */
void        td_work_trust(td_tool *, const char *modules);
/* Call it after a failure without --trust: it says that such copies may be what was missing. */
void        td_work_advise(const td_tool *, const char *modules);
/* Like td_work_open, for a place, which may be empty. The modules that the run keeps are loaded if they
 * are trusted; otherwise only what is on the search path. */
td_session *td_work_open_run(td_tool *, const td_run_place *, unsigned needs, int *code);
/* The parameter file that --weights names, or the one of the place's checkpoint; for a run, of its
 * checkpoint `step`. free() it. NULL with `error`. */
char *td_work_weights(td_tool *, const td_run_place *, td_session *, int64_t step, td_error *error);
/* Load the parameters that --weights names, or that the place's checkpoint has; for a run, its
 * checkpoint `step`. Returns their file; free() it. NULL with `error`. */
char *td_work_load(td_tool *, const td_run_place *, td_session *, int64_t step, td_error *error);

/* `tandem evaluate --extrapolate`, with the parameters that the session holds. Files are
 * DIRECTORY/NAME plus suffixes; if directory is NULL, none is written. Returns the exit code. */
int td_work_extrapolate(td_tool *, td_session *, const char *directory, const char *name);

/* "256,512,1024", the value of an option; n is 0 if it was not given. */
typedef struct td_numbers {
    int64_t at[256];
    size_t  n;
} td_numbers;
/* Parse the numbers of an option, each `lowest` or more. False after a usage error. */
bool td_work_numbers(td_tool *, const char *option, int64_t lowest, td_numbers *);

/* Draw the pictures of DIRECTORY/NAME.gnuplot. Without gnuplot, `*drawn` is false and a warning
 * says what to do; this is not a failure. */
int td_work_draw(td_tool *, const char *directory, const char *name, bool *drawn, td_error *error);

/* Of runs that several arguments name, such as RUN in `RUN RUNS/..`, keep the first, and warn of the
 * others. */
void td_work_leave_out_repeated(td_tool *);

/* The result of a command as JSON: printed, or appended to the tool's list of results. Releases it. */
void td_work_result(td_tool *, json_t *j);
/* Print `j` to stdout with a newline, and release it; `flags` are json_dumpf's. */
void td_work_print_json(json_t *j, size_t flags);

#endif
