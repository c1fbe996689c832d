/* ticker.h - a thread that calls a function at a fixed interval. */
#ifndef TD_BASE_TICKER_H
#define TD_BASE_TICKER_H

typedef struct td_ticker td_ticker;

/* The first call of `tick` comes after `seconds`; calls do not overlap. NULL: no memory, or no
 * thread. */
td_ticker *td_ticker_new(double seconds, void (*tick)(void *arg), void *arg);
/* Waits for the call in progress and ends the thread. NULL is allowed. */
void       td_ticker_free(td_ticker *);

#endif
