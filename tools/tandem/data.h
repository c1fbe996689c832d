/* data.h - what the files of `tandem data` share. */
#ifndef TD_TOOLS_DATA_H
#define TD_TOOLS_DATA_H

#include <stdint.h>

#include "command.h"

/* An option's whole number in low .. high, or `otherwise` if it was not given; false: it is none,
 * which was said. */
bool td_data_number(td_tool *, const char *option, const char *otherwise, int64_t low, int64_t high,
                    int64_t *out);

extern const td_usage td_usage_data_train_tokenizer;
int                   td_data_train_tokenizer(td_tool *, int argc, char **argv);

#endif
