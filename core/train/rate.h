/* rate.h - the learning rate of an update. */
#ifndef TANDEM_TRAIN_RATE_H
#define TANDEM_TRAIN_RATE_H

#include "tandem/plugin.h"

/* Asks the schedule; TD_EPLUGIN if what it returns is negative or not a number. */
int td_rate_of_step(const td_part *schedule, int64_t step, double *rate, td_error *error);

#endif
