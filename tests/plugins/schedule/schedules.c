/* schedules.c - learning rates at chosen steps, against the formulas worked out by hand. */
#include <math.h>

#include "plugins/part.h"
#include "tandem/kind/schedule.h"

static double rate(const td_part *p, int64_t step)
{
    return ((const td_schedule *)(const void *)p->plugin)->rate(p->config, step);
}

static void expect(const td_part *p, int64_t step, double value)
{
    cr_expect(fabs(rate(p, step) - value) <= 1e-15 + 1e-12 * fabs(value),
              "%s at step %lld is %.17g, not %.17g", p->plugin->name, (long long)step,
              rate(p, step), value);
}

Test(schedule, cosine_is_the_papers)
{
    td_part p = load_part("schedule-cosine", "cosine");
    expect(&p, 0, 0);
    expect(&p, 1, 0.01 / 2000);
    expect(&p, 2000, 0.01);
    expect(&p, 201000, 0.001 + 0.009 * 0.5); /* half-way */
    expect(&p, 101500, 0.001 + 0.009 * 0.5 * (1 + sqrt(0.5)));
    expect(&p, 400000, 0.001);
    expect(&p, 1000003, 0.001);
    free_part(&p);
}

Test(schedule, constant_with_and_without_warmup)
{
    td_part p = load_part("schedule-constant", "constant");
    expect(&p, 0, 0.001);
    set_option(&p, "warmup", 7);
    expect(&p, 0, 0);
    expect(&p, 3, 0.001 * 3 / 7);
    expect(&p, 7, 0.001);
    free_part(&p);
}

Test(schedule, rsqrt)
{
    td_part p = load_part("schedule-rsqrt", "rsqrt");
    set_option(&p, "warmup", 25);
    expect(&p, 5, 0.002);
    expect(&p, 25, 0.01);
    expect(&p, 100, 0.005);
    set_option(&p, "warmup", 0);
    expect(&p, 0, 0.01);
    expect(&p, 49, 0.01 / 7);
    free_part(&p);
}

Test(schedule, linear)
{
    td_part p = load_part("schedule-linear", "linear");
    set_option(&p, "peak", 1);
    set_option(&p, "warmup", 10);
    set_option(&p, "steps", 110);
    expect(&p, 5, 0.5);
    expect(&p, 35, 0.75);
    expect(&p, 110, 0);
    set_option(&p, "floor", 0.2);
    expect(&p, 60, 0.6);
    expect(&p, 500, 0.2);
    free_part(&p);
}

Test(schedule, wsd)
{
    td_part p = load_part("schedule-wsd", "wsd");
    set_option(&p, "peak", 2);
    set_option(&p, "warmup", 4);
    set_option(&p, "steps", 100);
    set_option(&p, "decay_steps", 20);
    set_option(&p, "floor", 0);
    expect(&p, 1, 0.5);
    expect(&p, 4, 2);
    expect(&p, 80, 2);
    expect(&p, 85, 1.5);
    expect(&p, 100, 0);
    free_part(&p);
}

Test(schedule, warmup_must_end)
{
    td_part  p = load_part("schedule-cosine", "cosine");
    td_error error = { 0 };
    cr_expect(p.plugin->check(p.config, &error) == 0);
    set_option(&p, "steps", 2000);
    cr_expect(p.plugin->check(p.config, &error) == TD_ECONFIG);
    cr_expect(strstr(error.text, "warmup = 2000"), "%s", error.text);
    free_part(&p);
}
