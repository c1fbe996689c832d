/* tasks.h - `tandem evaluate --tasks`, and the list of tasks. */
#ifndef TD_TOOLS_TASKS_H
#define TD_TOOLS_TASKS_H

#include "work.h"

/* Print a line per shipped task; returns the exit code. */
int td_tool_list_tasks(td_tool *);

/* Run the tasks of --tasks on the session's model, print a table (or JSON) and write the results;
 * returns the exit code. The session has a model and a tokenizer; `step` as in td_work_load. */
int td_tool_run_tasks(td_tool *, td_session *, const td_run_place *, int64_t step);

#endif
