/* footprint.h - the memory used by a model, in bytes (td_footprint, tandem/embed.h). */
#ifndef TD_MODEL_FOOTPRINT_H
#define TD_MODEL_FOOTPRINT_H

#include "base/text.h"
#include "plan/plan.h"
#include "tandem/embed.h"

/* "parameters 1.2 MiB, gradients 1.2 MiB, ..": without a full stop or a newline. */
void td_footprint_print(const td_footprint *, td_text *out);

/* Check that there is enough memory, before any is allocated: 0, or TD_ECONFIG. A device that has
 * its own memory but cannot report how much refuses allocations by itself. */
int td_footprint_check(const td_footprint *, const td_device *, td_error *error);

#endif
