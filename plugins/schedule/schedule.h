/* schedule.h - shared by the schedules in this folder: options, the warm-up, and progress.
 *
 * A schedule is a function of the step, the number of updates before this one, so it needs no
 * state, and a resumed run continues at the right rate. The macros take the plugin's config
 * struct, which has fields of these names. */
#ifndef TANDEM_PLUGINS_SCHEDULE_H
#define TANDEM_PLUGINS_SCHEDULE_H

#include <math.h>

#include "tandem/kind/schedule.h"

/* peak step / warmup: 0 at step 0, the peak at step `warmup`. Only for step < warmup. */
static inline double warm_up(double peak, int64_t step, int64_t warmup)
{
    return peak * (double)step / (double)warmup;
}

/* The progress of `step` from `first` to `last`, in [0, 1]: 1 from then on, so a run that
 * continues past the end of its decay stays at the floor. */
static inline double progress(int64_t step, int64_t first, int64_t last)
{
    return step >= last ? 1 : (double)(step - first) / (double)(last - first);
}

#define SCHEDULE_PEAK(S, value) TD_OPTION_FLOAT(S, peak, value, 0, 1e6, "largest learning rate")
#define SCHEDULE_WARMUP(S, value) \
    TD_OPTION_STEPS(S, warmup, value, 0, 1LL << 40, "steps of linear warm-up from 0")
#define SCHEDULE_STEPS(S) \
    TD_OPTION_LAST_STEP(S, steps, 400000, 1, 1LL << 40, "the step that reaches the floor")
#define SCHEDULE_FLOOR(S, value) \
    TD_OPTION_FLOAT(S, floor, value, 0, 1, "final learning rate, as a fraction of the peak")

/* The decay needs a step, and progress a divisor. */
static inline int check_warmup(int64_t warmup, int64_t steps, td_error *error)
{
    return warmup < steps ? 0
                          : td_fail(error, TD_ECONFIG,
                                    "warmup = %lld leaves no step before steps = %lld; a fraction "
                                    "of the run, such as 0.05, works for any length",
                                    (long long)warmup, (long long)steps);
}

#endif
