/* schedule-@NAME@.c - linear warm-up, then a power of the step.
 * Paper: Vaswani et al., Attention Is All You Need, 2017; their power of -1/2 is an option here.
 *
 * The contract: tandem/kind/schedule.h. */
#include <math.h>

#include "tandem/kind/schedule.h"

struct @IDENT@_config {
    double  peak, power;
    int64_t warmup;
};

static const td_option options[] = {
    TD_OPTION_FLOAT(struct @IDENT@_config, peak, 0.002, 0, 1e6, "peak learning rate"),
    TD_OPTION_STEPS(struct @IDENT@_config, warmup, 100, 1, 1LL << 40, "steps of linear warm-up"),
    TD_OPTION_FLOAT(struct @IDENT@_config, power, 0.5, 0, 4,
                    "after warm-up the rate falls as step^-power"),
    TD_OPTION_END
};

/* [any]: called from any thread, for any step from 0 on, in any order, so it keeps no state. The
 * result must be finite and not negative.
 *
 *     peak min(t / warmup, (t / warmup)^-power),  t = step + 1
 *
 * t counts from 1, so that the first update has a rate above 0. */
static double rate(const void *config, int64_t step)
{
    const struct @IDENT@_config *c = config;
    double                    t = (double)(step + 1) / (double)c->warmup;
    return c->peak * (t < 1 ? t : pow(t, -c->power));
}

static const td_schedule @IDENT@_plugin = {
    .plugin = TD_PLUGIN(td_schedule, TD_SCHEDULE_KIND, "@NAME@", options, struct @IDENT@_config,
                        .brief = "linear warm-up, then a power of the step",
                        .paper = "Vaswani et al., Attention Is All You Need, 2017"),
    .rate = rate,
};

TD_MODULE("@NAME@", "0.1.0", "@AUTHOR@", "@LICENCE@", &@IDENT@_plugin.plugin)
