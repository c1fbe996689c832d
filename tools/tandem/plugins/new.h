/* new.h - `tandem plugins new`. */
#ifndef TD_TOOLS_PLUGINS_NEW_H
#define TD_TOOLS_PLUGINS_NEW_H

#include "command.h"

extern const td_usage td_usage_plugins_new;
/* Takes the arguments after "new"; returns the exit code. */
int                   td_plugins_new(td_tool *, int argc, char **argv);

#endif
