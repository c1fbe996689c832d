/* folder.h - folders of other programs among the arguments. */
#ifndef TD_TOOLS_FOLDER_H
#define TD_TOOLS_FOLDER_H

#include "command.h"

/* Put a run in place of each folder among the first arguments (td_usage.folders), in --weights and
 * in train.weights. False after a message, with the exit code. */
bool td_folder_resolve(td_tool *, int *code);

#endif
