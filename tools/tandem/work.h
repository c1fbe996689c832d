/* work.h - a session (tandem/embed.h) for the commands that compute, and what several of them
 * print. */
#ifndef TD_TOOLS_WORK_H
#define TD_TOOLS_WORK_H

#include "command.h"
#include "run/session.h"

/* Open the config of the arguments. `needs`: TD_NEED_ bits, the groups that it must have. NULL
 * after a message, with the exit code in `*code`. */
td_session *td_work_open(td_tool *, unsigned needs, int *code);

/* {"nll", "perplexity", "bits_per_byte", "sources": [..]} of an evaluation; unknown numbers are
 * null. */
json_t *td_work_scores(const td_evaluation *);

/* Print `j`, which is released, to stdout with a newline; `flags`: of json_dumpf. */
void td_work_print_json(json_t *j, size_t flags);

#endif
