/* rate.h - the learning rate of an update. */
#ifndef TANDEM_TRAIN_RATE_H
#define TANDEM_TRAIN_RATE_H

#include "tandem/plugin.h"

/* The schedule's rate for a step; TD_EPLUGIN if it is negative, infinite or NaN. */
int td_rate_of_step(const td_part *schedule, int64_t step, double *rate, td_error *error);

#endif
