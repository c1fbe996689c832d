/* pool.h - tests of the pool as plain functions: for Criterion, and for the thread sanitizer,
 * which needs a program without it. Each returns NULL, or a description of the failure. */
#ifndef TEST_BASE_POOL_H
#define TEST_BASE_POOL_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/threads.h"

enum { POOL_ITEMS = 1009, POOL_THREADS = 3 };

typedef struct pool_job {
    const td_services *services;
    /* not atomic: the pool promises that no other thread writes them */
    int                seen[POOL_ITEMS];
    long               sums[POOL_THREADS];
    atomic_int         wrong_thread;
} pool_job;

static inline void pool_item(void *argument, int64_t i, int thread)
{
    pool_job *job = argument;
    if (thread < 0 || thread >= job->services->threads)
        atomic_fetch_add(&job->wrong_thread, 1);
    else
        job->sums[thread] += (long)i; /* each thread has its own */
    job->seen[i]++;
}

/* Every item runs once, and the workers' writes are visible when the call returns. */
static inline const char *pool_runs_each_item_once(const td_services *s, int64_t n)
{
    pool_job job = { .services = s };
    long     sum = 0;
    td_parallel(s, n, pool_item, &job);
    for (int64_t i = 0; i < POOL_ITEMS; i++)
        if (job.seen[i] != (i < n))
            return "an item was left out, or done twice";
    for (int k = 0; k < POOL_THREADS; k++)
        sum += job.sums[k];
    if (sum != n * (n - 1) / 2)
        return "two threads used one thread number at once";
    return job.wrong_thread ? "a thread number is out of range" : NULL;
}

static inline void pool_double(void *argument, int64_t i, int thread)
{
    ((long *)argument)[i] = 2 * ((long *)argument)[i] + 1;
}

/* Many tiny regions in a row, each reading the results of the one before it. */
static inline const char *pool_orders_regions(const td_services *s, int rounds)
{
    long values[7] = { 0 };
    for (int k = 0; k < rounds; k++) {
        td_parallel(s, 7, pool_double, values);
        if (k % 31 == 30)
            for (int i = 0; i < 7; i++) {
                if (values[i] != (1L << 31) - 1)
                    return "a region began before the last one ended";
                values[i] = 0;
            }
    }
    return NULL;
}

/* All of it with `threads` threads. */
static inline const char *pool_works(int threads, int rounds)
{
    static const int64_t counts[] = { 0, 1, 2, 3, 7, 31, POOL_ITEMS };
    td_error             e = { 0 };
    td_pool             *pool = td_pool_new(threads, NULL, &e);
    const char          *wrong = pool ? NULL : "no pool";
    for (size_t k = 0; !wrong && k < sizeof counts / sizeof *counts; k++)
        wrong = pool_runs_each_item_once(td_pool_services(pool), counts[k]);
    if (!wrong)
        wrong = pool_orders_regions(td_pool_services(pool), rounds);
    td_pool_free(pool);
    return wrong;
}

#endif
