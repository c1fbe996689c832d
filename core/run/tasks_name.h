/* tasks_name.h - requested tasks as names of files. */
#ifndef TD_RUN_TASKS_NAME_H
#define TD_RUN_TASKS_NAME_H

#include "run/tasks.h"

/* Whether a requested task is the path of a file, and not the name of a shipped one. */
bool td_tasks_is_file(const char *name);
/* The name without what file names should not contain. */
void td_tasks_append(td_text *out, const char *name);

#endif
