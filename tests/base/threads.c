/* threads.c - the thread pool, with 1, 2 and 3 threads. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "base/pool.h"

Test(threads, each_number_of_rows)
{
    for (int threads = 1; threads <= POOL_THREADS; threads++) {
        const char *wrong = pool_works(threads, 3001);
        cr_expect(!wrong, "%d threads: %s", threads, wrong ? wrong : "");
    }
}

Test(threads, pools_open_and_close_repeatedly)
{
    for (int k = 0; k < 101; k++) {
        td_pool *pool = td_pool_new(1 + k % POOL_THREADS, NULL, NULL);
        cr_assert(pool);
        if (k % 2)
            cr_assert(!pool_runs_each_item_once(td_pool_services(pool), 17));
        td_pool_free(pool);
    }
    td_pool_free(NULL);
}

Test(threads, impossible_numbers)
{
    td_error e = { 0 };
    cr_expect_null(td_pool_new(-1, NULL, &e));
    cr_expect(e.code == TD_ECONFIG && strstr(e.text, "cannot use -1 threads"), "%s", e.text);
    e.code = 0;
    cr_expect_null(td_pool_new(1 << 20, NULL, &e));
    cr_expect_eq(e.code, TD_ECONFIG);
    cr_expect(td_processors() >= 1);
}

Test(threads, none_named_means_all_processors)
{
    td_pool *pool = td_pool_new(0, NULL, NULL);
    cr_assert(pool);
    cr_expect_eq(td_pool_services(pool)->threads, td_processors());
    td_pool_free(pool);
}

/* A plugin may pass any level: an unknown one is treated as the most serious. */
Test(threads, unknown_log_levels)
{
    td_journal        *log = td_log_new(TD_LOG_WARN);
    td_pool           *pool = td_pool_new(1, log, NULL);
    const td_services *s = td_pool_services(pool);
    s->log(s, -1, "below %d", 0);
    s->log(s, 99, "above %d", 0);
    td_pool_free(pool);
    td_log_free(log);
}

static void inner(void *argument, int64_t i, int thread) {}

static void outer(void *argument, int64_t i, int thread) { td_parallel(argument, 3, inner, NULL); }

#ifndef NDEBUG /* a bug of ours, so an assert */
Test(threads, nested_regions_are_an_assertion, .signal = SIGABRT)
{
    td_pool *pool = td_pool_new(1, NULL, NULL);
    td_parallel(td_pool_services(pool), 3, outer, (void *)(uintptr_t)td_pool_services(pool));
}
#endif
