/* kind/schedule.h - the learning rate as a function of the update's number. Stateless.
 *
 * The trainer asks for the rate of each update and feeds it to the optimizer's graph as a scalar,
 * so a schedule costs nothing and may be any function. It must depend only on its options and the
 * number, whatever the order of the calls: this makes a resumed run equal an uninterrupted one. The
 * factor of a parameter group (optimizer.groups) is applied on top.
 *
 * Example:
 *
 *     // Linear warm-up over 1000 updates, then constant.
 *     static double rate(const void *config, int64_t step)
 *     {
 *         (void)config;
 *         return step < 1000 ? 0.01 * (double)step / 1000 : 0.01;
 *     }
 *
 *     static const td_schedule warm = {
 *         .plugin = TD_PLUGIN(td_schedule, TD_SCHEDULE_KIND, "warm", NULL, char,
 *                             .brief = "linear warm-up, then constant"),
 *         .rate = rate,
 *     };
 */
#ifndef TANDEM_KIND_SCHEDULE_H
#define TANDEM_KIND_SCHEDULE_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_SCHEDULE_KIND "schedule/1"

typedef struct td_schedule {
    td_plugin plugin;
    /* The learning rate of update `step`, counted from 0: finite and not negative for any step,
     * even beyond the end of the run. [any] */
    double (*rate)(const void *config, int64_t step);
} td_schedule;

#ifdef __cplusplus
}
#endif
#endif
