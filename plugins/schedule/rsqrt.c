/* rsqrt.c - warm-up, then the reciprocal square root of the step. Paper: Vaswani et al. 2017. It
 * needs no last step, so a run can be prolonged. */
#include "schedule.h"

struct rsqrt {
    double  peak;
    int64_t warmup;
};

static const td_option options[] = { SCHEDULE_PEAK(struct rsqrt, 0.01),
                                     SCHEDULE_WARMUP(struct rsqrt, 0.025), TD_OPTION_END };

/* peak sqrt(warmup / step), which meets the warm-up at its end; without one, at step 1 */
static double rate(const void *config, int64_t step)
{
    const struct rsqrt *c = config;
    double              first = c->warmup > 0 ? (double)c->warmup : 1;
    if (step < c->warmup)
        return warm_up(c->peak, step, c->warmup);
    return c->peak * sqrt(first / fmax((double)step, first));
}

static const td_schedule rsqrt_schedule = {
    .plugin = TD_PLUGIN(td_schedule, TD_SCHEDULE_KIND, "rsqrt", options, struct rsqrt,
                        .brief = "warm-up, then the reciprocal square root of the step",
                        .paper = "Vaswani et al., Attention Is All You Need, 2017"),
    .rate = rate,
};

TD_MODULE("rsqrt", "1.0", "tandem", "MIT", &rsqrt_schedule.plugin)
