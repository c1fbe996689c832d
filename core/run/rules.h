/* rules.h - rules that involve two groups of a config.
 *
 * A plugin checks its own options. These rules are checked right after binding, so that violations
 * are reported with file and line, together with all other errors, before anything runs.
 */
#ifndef TD_RUN_RULES_H
#define TD_RUN_RULES_H

#include "run/experiment.h"

void td_rules_check_parts(const td_experiment *, td_errors *errors);
/* Only after train and evaluate were bound without an error. `lengths`: train.length was set on
 * purpose. */
void td_rules_check_sizes(const td_experiment *, bool lengths, td_errors *errors);

#endif
