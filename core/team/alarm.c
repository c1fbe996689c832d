/* alarm.c - a thread that counts how long a call has been in progress. */
#include "team/alarm.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/ticker.h"

struct td_alarm {
    int64_t limit; /* ticks */
    void (*ring)(void *arg, const char *call);
    void           *arg;
    td_ticker      *ticker;
    uint64_t        counted; /* the call whose ticks are counted */
    int64_t         ticks;
    pthread_mutex_t lock;   /* guards the rest */
    const char     *call;   /* in progress; NULL: none */
    uint64_t        number; /* of calls so far */
};

static void count(void *arg)
{
    td_alarm   *a = arg;
    const char *call;
    pthread_mutex_lock(&a->lock);
    call = a->call;
    a->ticks = call && a->number == a->counted ? a->ticks + 1 : 0;
    a->counted = a->number;
    pthread_mutex_unlock(&a->lock);
    /* without the lock: the call may still return */
    if (a->ticks == a->limit)
        a->ring(a->arg, call);
}

td_alarm *td_alarm_new(double seconds, void (*ring)(void *arg, const char *call), void *arg,
                       td_error *error)
{
    td_alarm *a = calloc(1, sizeof *a);
    /* at most a second, so that a process that was stopped has lost at most that much */
    double    tick = fmax(1e-3, fmin(1, seconds / 20));
    if (a) {
        a->limit = (int64_t)ceil(seconds / tick);
        a->ring = ring;
        a->arg = arg;
        pthread_mutex_init(&a->lock, NULL);
        a->ticker = td_ticker_new(tick, count, a);
        if (a->ticker)
            return a;
        pthread_mutex_destroy(&a->lock);
        free(a);
    }
    td_fail(error, TD_ENOMEM, "cannot start a thread that limits the wait for other processes");
    return NULL;
}

void td_alarm_free(td_alarm *a)
{
    if (!a)
        return;
    td_ticker_free(a->ticker);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static void set(td_alarm *a, const char *call)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->call = call;
    a->number++;
    pthread_mutex_unlock(&a->lock);
}

void td_alarm_begin(td_alarm *a, const char *call) { set(a, call); }

void td_alarm_end(td_alarm *a) { set(a, NULL); }
