/* reference.h - `tandem plugins reference`: the pages of docs/reference. */
#ifndef TD_TOOLS_MANUAL_REFERENCE_H
#define TD_TOOLS_MANUAL_REFERENCE_H

#include "command.h"

extern const td_usage td_usage_plugins_reference;
/* Takes the arguments after "reference"; returns the exit code. */
int                   td_plugins_reference(td_tool *, int argc, char **argv);

#endif
