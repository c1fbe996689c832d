/* clock.h - the clock that durations are measured with. */
#ifndef TD_BASE_CLOCK_H
#define TD_BASE_CLOCK_H

/* Seconds of a monotonic clock: only differences mean something. [any] */
double td_now(void);

#endif
