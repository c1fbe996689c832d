/* check.h - `tandem plugins check`: the conformance suite on modules. */
#ifndef TD_TOOLS_PLUGINS_CHECK_H
#define TD_TOOLS_PLUGINS_CHECK_H

#include "command.h"

extern const td_usage td_usage_plugins_check;
/* Takes the arguments after "check"; returns the exit code. */
int                   td_plugins_check(td_tool *, int argc, char **argv);

#endif
