/* cosine.c - warm-up, then half a cosine down to a floor. Paper: Loshchilov and Hutter 2017. */
#include "schedule.h"

struct cosine {
    double  peak, floor;
    int64_t warmup, steps;
};

static const td_option options[] = { SCHEDULE_PEAK(struct cosine, 0.01),
                                     SCHEDULE_WARMUP(struct cosine, 0.005),
                                     SCHEDULE_STEPS(struct cosine),
                                     SCHEDULE_FLOOR(struct cosine, 0.1), TD_OPTION_END };

/* low + (peak - low) (1 + cos(pi progress)) / 2, without the paper's restarts */
static double rate(const void *config, int64_t step)
{
    const struct cosine *c = config;
    double               low = c->floor * c->peak;
    if (step < c->warmup)
        return warm_up(c->peak, step, c->warmup);
    return low + (c->peak - low) * 0.5 *
                     (1 + cos(3.14159265358979323846 * progress(step, c->warmup, c->steps)));
}

static int check(const void *config, td_error *error)
{
    const struct cosine *c = config;
    return check_warmup(c->warmup, c->steps, error);
}

static const td_schedule cosine = {
    .plugin = TD_PLUGIN(
        td_schedule, TD_SCHEDULE_KIND, "cosine", options, struct cosine,
        .brief = "warm-up, then half a cosine down to a floor", .check = check,
        .paper =
            "Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017"),
    .rate = rate,
};

TD_MODULE("cosine", "1.0", "tandem", "MIT", &cosine.plugin)
