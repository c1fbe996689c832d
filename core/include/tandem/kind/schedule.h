/* kind/schedule.h - the learning rate as a function of the step. Stateless. */
#ifndef TANDEM_KIND_SCHEDULE_H
#define TANDEM_KIND_SCHEDULE_H

#include "../plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TD_SCHEDULE_KIND "schedule/1"

typedef struct td_schedule {
    td_plugin plugin;
    /* The rate of update number `step`, counting from 0. [any] */
    double (*rate)(const void *config, int64_t step);
} td_schedule;

#ifdef __cplusplus
}
#endif
#endif
