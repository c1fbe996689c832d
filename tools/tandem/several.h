/* several.h - `tandem evaluate RUN RUN ..`. */
#ifndef TD_TOOLS_SEVERAL_H
#define TD_TOOLS_SEVERAL_H

#include "command.h"

/* Call `one` for each run of the plain arguments, with a td_tool that names only that one; then show
 * the means over seeds of what they wrote. Returns the first exit code that is not 0, at once. */
int td_tool_evaluate_runs(td_tool *, int (*one)(td_tool *));

#endif
