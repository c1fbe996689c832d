/* ticker.c - a thread that sleeps until it is time, or until it is to end. */
#include "base/ticker.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct td_ticker {
    double seconds;
    void (*tick)(void *arg);
    void           *arg;
    pthread_t       thread;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t  change;
    bool            over;
};

/* Under the lock. */
static void wait_for_tick(td_ticker *t)
{
    struct timespec until;
    double          whole = (double)(time_t)t->seconds;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)whole;
    until.tv_nsec += (long)((t->seconds - whole) * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    /* 0 before it is time: to end, or for no reason */
    while (!t->over && !pthread_cond_timedwait(&t->change, &t->lock, &until))
        continue;
}

static void *run(void *arg)
{
    td_ticker *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        wait_for_tick(t);
        if (t->over)
            break;
        /* no lock around the caller's code, which may take its time, or other locks */
        pthread_mutex_unlock(&t->lock);
        t->tick(t->arg);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* Signals are for the program's own threads. */
static int start(td_ticker *t)
{
    sigset_t all, before;
    int      code;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void destroy(td_ticker *t)
{
    pthread_cond_destroy(&t->change);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

td_ticker *td_ticker_new(double seconds, void (*tick)(void *arg), void *arg)
{
    td_ticker         *t = calloc(1, sizeof *t);
    pthread_condattr_t monotonic;
    if (!t)
        return NULL;
    t->seconds = seconds;
    t->tick = tick;
    t->arg = arg;
    /* the wall clock may be set, which would delay ticks or bring them all at once */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&t->lock, NULL);
    if (!start(t))
        return t;
    destroy(t);
    return NULL;
}

void td_ticker_free(td_ticker *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_signal(&t->change);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    destroy(t);
}
