/* linear.c - warm-up, then a straight line down to a floor. */
#include "schedule.h"

struct linear {
    double  peak, floor;
    int64_t warmup, steps;
};

static const td_option options[] = { SCHEDULE_PEAK(struct linear, 0.01),
                                     SCHEDULE_WARMUP(struct linear, 0.005),
                                     SCHEDULE_STEPS(struct linear),
                                     SCHEDULE_FLOOR(struct linear, 0), TD_OPTION_END };

/* peak (1 - (1 - floor) progress): from the peak to floor times the peak */
static double rate(const void *config, int64_t step)
{
    const struct linear *c = config;
    if (step < c->warmup)
        return warm_up(c->peak, step, c->warmup);
    return c->peak * (1 - (1 - c->floor) * progress(step, c->warmup, c->steps));
}

static int check(const void *config, td_error *error)
{
    const struct linear *c = config;
    return check_warmup(c->warmup, c->steps, error);
}

static const td_schedule linear = {
    .plugin = TD_PLUGIN(td_schedule, TD_SCHEDULE_KIND, "linear", options, struct linear,
                        .brief = "warm-up, then a straight line down to a floor", .check = check),
    .rate = rate,
};

TD_MODULE("linear", "1.0", "tandem", "MIT", &linear.plugin)
