/* tokenizer.h - `tandem data train-tokenizer`. */
#ifndef TD_TOOLS_DATA_TOKENIZER_H
#define TD_TOOLS_DATA_TOKENIZER_H

#include "command.h"

extern const td_usage td_usage_data_train_tokenizer;
/* Takes the arguments after "train-tokenizer"; returns the exit code. */
int                   td_data_train_tokenizer(td_tool *, int argc, char **argv);

#endif
