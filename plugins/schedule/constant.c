/* constant.c - one learning rate, after an optional warm-up. */
#include "schedule.h"

struct constant {
    double  peak;
    int64_t warmup;
};

static const td_option options[] = { SCHEDULE_PEAK(struct constant, 0.001),
                                     SCHEDULE_WARMUP(struct constant, 0), TD_OPTION_END };

static double rate(const void *config, int64_t step)
{
    const struct constant *c = config;
    return step < c->warmup ? warm_up(c->peak, step, c->warmup) : c->peak;
}

static const td_schedule constant = {
    .plugin = TD_PLUGIN(td_schedule, TD_SCHEDULE_KIND, "constant", options, struct constant,
                        .brief = "one learning rate, after an optional warm-up"),
    .rate = rate,
};

TD_MODULE("constant", "1.0", "tandem", "MIT", &constant.plugin)
