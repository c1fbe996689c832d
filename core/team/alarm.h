/* alarm.h - reports a call that does not return, because the other processes hang or cannot be
 * reached.
 *
 *     td_alarm *a = td_alarm_new(600, ring, arg, &error);
 *     td_alarm_begin(a, "all_reduce");
 *     .. the call ..
 *     td_alarm_end(a);
 *
 * A thread counts the seconds of the call in progress, rather than reading the clock, so time
 * during which this process itself is stopped does not count.
 */
#ifndef TD_TEAM_ALARM_H
#define TD_TEAM_ALARM_H

#include "tandem/error.h"

typedef struct td_alarm td_alarm;

/* After `seconds` of one call, `ring` is called once, on a thread of the alarm's own, while the call
 * is still in progress. NULL with `error`. */
td_alarm *td_alarm_new(double seconds, void (*ring)(void *arg, const char *call), void *arg,
                       td_error *error);
/* No call may be in progress. */
void      td_alarm_free(td_alarm *);

/* One call at a time, from any thread; `call` must live as long as the alarm. For a NULL alarm they
 * do nothing. */
void td_alarm_begin(td_alarm *, const char *call);
void td_alarm_end(td_alarm *);

#endif
