/* ticker.c - a ticker calls its function again and again, and not after it was freed. */
#include "base/ticker.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"

static void count(void *arg) { ++*(atomic_int *)arg; }

Test(ticker, ticks_until_it_is_freed)
{
    atomic_int n = 0;
    int        last;
    td_ticker *t = td_ticker_new(0.002, count, &n);
    cr_assert(t);
    for (int k = 0; k < 10000 && n < 5; k++)
        usleep(1000);
    td_ticker_free(t);
    last = n;
    cr_expect_geq(last, 5);
    usleep(20000);
    cr_expect_eq(n, last);
}

/* To free it does not wait for the next tick. */
Test(ticker, ends_at_once)
{
    atomic_int n = 0;
    double     begun = td_now();
    td_ticker *t = td_ticker_new(1000, count, &n);
    cr_assert(t);
    td_ticker_free(t);
    cr_expect_lt(td_now() - begun, 100);
    cr_expect_eq(n, 0);
}
