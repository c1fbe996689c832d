/* clock.h - the clock for measuring durations. */
#ifndef TD_BASE_CLOCK_H
#define TD_BASE_CLOCK_H

/* Seconds on a monotonic clock. Only differences are meaningful: the origin is arbitrary, and the
 * clock does not jump when the system's time is set. [any] */
double td_now(void);

#endif
