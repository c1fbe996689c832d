/* rate.c - the learning rate of an update. */
#include "train/rate.h"

#include <math.h>

#include "plugin/hook.h"
#include "tandem/kind/schedule.h"

int td_rate_of_step(const td_part *schedule, int64_t step, double *rate, td_error *error)
{
    const td_schedule *s = (const void *)schedule->plugin;
    *rate = TD_HOOK(s, rate, schedule->config, step);
    /* a negative rate climbs, and nothing after it would tell */
    if (isfinite(*rate) && *rate >= 0)
        return 0;
    return td_fail(error, TD_EPLUGIN,
                   "schedule '%s' returned a learning rate of %g for step %lld: it must be finite "
                   "and not negative; correct the plugin, or choose another schedule.plugin",
                   s->plugin.name, *rate, (long long)step);
}
