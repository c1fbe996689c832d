/* wsd.c - warm-up, stable, decay: constant until the last steps, then a straight line. Paper: Hu et
 * al. 2024 (MiniCPM). A checkpoint of the stable phase can be continued, or decayed at any
 * length. */
#include "schedule.h"

struct wsd {
    double  peak, floor;
    int64_t warmup, steps, decay_steps;
};

static const td_option options[] = { SCHEDULE_PEAK(struct wsd, 0.01),
                                     SCHEDULE_WARMUP(struct wsd, 0.005),
                                     SCHEDULE_STEPS(struct wsd),
                                     TD_OPTION_STEPS(struct wsd, decay_steps, 0.1, 1, 1LL << 40,
                                                     "steps of decay at the end, up to `steps`"),
                                     SCHEDULE_FLOOR(struct wsd, 0.1),
                                     TD_OPTION_END };

/* peak until `turn`, then peak (1 - (1 - floor) progress) */
static double rate(const void *config, int64_t step)
{
    const struct wsd *c = config;
    int64_t           turn = c->steps - c->decay_steps;
    if (step < c->warmup)
        return warm_up(c->peak, step, c->warmup);
    return step <= turn ? c->peak : c->peak * (1 - (1 - c->floor) * progress(step, turn, c->steps));
}

static int check(const void *config, td_error *error)
{
    const struct wsd *c = config;
    if (c->decay_steps > c->steps || c->warmup > c->steps - c->decay_steps)
        return td_fail(error, TD_ECONFIG,
                       "warmup = %lld and decay_steps = %lld together exceed steps = %lld",
                       (long long)c->warmup, (long long)c->decay_steps, (long long)c->steps);
    return 0;
}

static const td_schedule wsd = {
    .plugin = TD_PLUGIN(
        td_schedule, TD_SCHEDULE_KIND, "wsd", options, struct wsd,
        .brief = "warm-up, stable, decay", .check = check,
        .paper = "Hu et al., MiniCPM: Unveiling the Potential of Small Language Models, 2024"),
    .rate = rate,
};

TD_MODULE("wsd", "1.0", "tandem", "MIT", &wsd.plugin)
