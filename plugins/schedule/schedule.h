/* schedule.h - what the schedules of this folder share: the warm-up. */
#ifndef TANDEM_PLUGINS_SCHEDULE_H
#define TANDEM_PLUGINS_SCHEDULE_H

#include <math.h>

#include "tandem/kind/schedule.h"

/* peak step / warmup: 0 at step 0, the peak at step `warmup`. Only for step < warmup. */
static inline double warm_up(double peak, int64_t step, int64_t warmup)
{
    return peak * (double)step / (double)warmup;
}

/* How much of the way from `first` to `last` is done at `step`, in [0, 1]. */
static inline double progress(int64_t step, int64_t first, int64_t last)
{
    return step >= last ? 1 : (double)(step - first) / (double)(last - first);
}

#define SCHEDULE_PEAK(S, value) TD_OPTION_FLOAT(S, peak, value, 0, 1e6, "largest learning rate")
#define SCHEDULE_WARMUP(S, value) \
    TD_OPTION_INT(S, warmup, value, 0, 1LL << 40, "steps of linear warm-up from 0")
#define SCHEDULE_STEPS(S) \
    TD_OPTION_INT(S, steps, 400000, 1, 1LL << 40, "the step at which the floor is reached")
#define SCHEDULE_FLOOR(S, value) \
    TD_OPTION_FLOAT(S, floor, value, 0, 1, "last learning rate, as a share of the peak")

static inline int check_warmup(int64_t warmup, int64_t steps, td_error *error)
{
    return warmup < steps
               ? 0
               : td_fail(error, TD_ECONFIG, "warmup = %lld leaves no step before steps = %lld",
                         (long long)warmup, (long long)steps);
}

#endif
