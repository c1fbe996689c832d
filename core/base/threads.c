/* threads.c - the thread pool: workers spin a little, then sleep; items are claimed from one
 * counter. */
#include "base/threads.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPINS = 4000, MAX_THREADS = 1024 };

typedef struct worker {
    td_pool  *pool;
    pthread_t thread;
    int       index;
} worker;

struct td_pool {
    td_services     services;
    td_journal     *log;
    worker         *workers; /* [threads - 1]; the caller is thread 0 */
    int             started;
    pthread_mutex_t lock;
    pthread_cond_t  wake;
    atomic_uint     round;   /* a new one begins when the caller has work */
    atomic_int      working; /* workers that have not finished this round */
    atomic_long     next;
    atomic_bool     stop, busy;
    long            count;
    void (*run)(void *, int64_t, int);
    void *argument;
};

/* The share of processors that the control group grants, 0: all. */
static int quota(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    long  allowed = 0, period = 0;
    int   fields = file ? fscanf(file, "%ld %ld", &allowed, &period) : 0;
    if (file)
        fclose(file);
    return fields == 2 && allowed > 0 && period > 0 ? (int)((allowed + period - 1) / period) : 0;
}

int td_processors(void)
{
    cpu_set_t set;
    int       n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN)
                                                         : CPU_COUNT(&set);
    int       limit = quota();
    if (limit && limit < n)
        n = limit;
    return n < 1 ? 1 : n;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void claim(td_pool *p, int thread)
{
    long i;
    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->count)
        p->run(p->argument, i, thread);
}

/* Wait for a round other than `seen`. */
static unsigned next_round(td_pool *p, unsigned seen)
{
    unsigned round;
    for (int i = 0; i < SPINS; i++) {
        round = atomic_load_explicit(&p->round, memory_order_acquire);
        if (round != seen)
            return round;
        pause_briefly();
    }
    pthread_mutex_lock(&p->lock);
    while ((round = atomic_load_explicit(&p->round, memory_order_acquire)) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return round;
}

static void *work(void *argument)
{
    worker  *w = argument;
    td_pool *p = w->pool;
    unsigned round = 0;
    for (;;) {
        round = next_round(p, round);
        if (atomic_load_explicit(&p->stop, memory_order_relaxed))
            return NULL;
        claim(p, w->index);
        atomic_fetch_sub_explicit(&p->working, 1, memory_order_release);
    }
}

static void parallel(const td_services *services, int64_t n, void (*fn)(void *, int64_t, int),
                     void *argument)
{
    td_pool *p = services->host;
    bool     nested = atomic_exchange_explicit(&p->busy, true, memory_order_acquire);
    assert(!nested && "td_parallel may not be nested");
    if (!p->started) {
        for (int64_t i = 0; i < n; i++)
            fn(argument, i, 0);
        atomic_store_explicit(&p->busy, false, memory_order_release);
        return;
    }
    p->run = fn;
    p->argument = argument;
    p->count = (long)n;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->working, p->started, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    claim(p, 0);
    for (int spins = 0; atomic_load_explicit(&p->working, memory_order_acquire); spins++)
        if (spins < SPINS)
            pause_briefly();
        else
            sched_yield();
    atomic_store_explicit(&p->busy, false, memory_order_release);
}

static void say(const td_services *services, int level, const char *format, ...)
{
    td_pool *p = services->host;
    va_list  args;
    va_start(args, format);
    td_log_lines(p->log, level, format, args);
    va_end(args);
}

/* Signals go to the main thread. */
static int start(td_pool *p)
{
    sigset_t all, before;
    int      code = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < p->services.threads - 1 && !code; i++) {
        p->workers[i] = (worker){ .pool = p, .index = i + 1 };
        code = pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i]);
        p->started += !code;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

td_pool *td_pool_new(int threads, td_journal *log, td_error *error)
{
    td_pool *p;
    int      code;

    if (threads < 0 || threads > MAX_THREADS) {
        td_fail(error, TD_ECONFIG, "%d threads: choose 1 to %d, or 0 for all processors", threads,
                MAX_THREADS);
        return NULL;
    }
    p = calloc(1, sizeof *p);
    if (p) {
        p->services = (td_services){ .size = sizeof p->services,
                                     .threads = threads ? threads : td_processors(),
                                     .parallel = parallel,
                                     .log = say,
                                     .host = p };
        p->workers = calloc((size_t)p->services.threads, sizeof *p->workers);
        p->log = log;
        pthread_mutex_init(&p->lock, NULL);
        pthread_cond_init(&p->wake, NULL);
    }
    code = p && p->workers ? start(p) : ENOMEM;
    if (!code)
        return p;
    td_fail(error, TD_ENOMEM, "cannot start %d threads: %s", threads ? threads : td_processors(),
            strerror(code));
    td_pool_free(p);
    return NULL;
}

void td_pool_free(td_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->round, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

const td_services *td_pool_services(td_pool *p) { return &p->services; }

void td_pool_set_shipped(td_pool *p, const char *directory) { p->services.shipped = directory; }
