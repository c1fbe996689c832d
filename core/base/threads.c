/* threads.c - the thread pool: workers spin a little, then sleep.
 *
 * Each thread has a contiguous share of the items. It claims those of its own share, in order, and then
 * those that are left in the others'. So in one region after another a thread mostly works on the same
 * part of the batch, which is still in its cache: fetching it from another processor's can take longer
 * than from memory.
 *
 * A training step runs hundreds of short regions. Waking a sleeping thread takes longer than many
 * of them, so workers spin between regions; they sleep when none comes, so that an idle process
 * leaves the processors alone.
 */
#include "base/threads.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/float_mode.h"
#include "base/ranks.h"

enum { SPINS = 4000 /* tens of microseconds */, MAX_THREADS = 1024 };

/* The items of one thread. Others count in it only once they are through with their own, so it is kept
 * in a cache line of its own. */
typedef struct share {
    _Alignas(64) atomic_long next; /* item to claim */
    long end;
} share;

typedef struct worker {
    td_pool  *pool;
    pthread_t thread;
    int       index; /* the thread number that items see; 0 is the caller */
} worker;

struct td_pool {
    td_services     services;
    td_journal     *log;
    worker         *workers; /* [threads - 1] */
    int             started;
    pthread_mutex_t lock; /* only for sleeping: see next_round */
    pthread_cond_t  wake;
    atomic_uint     round;   /* counts regions; a change is the signal to start */
    atomic_int      working; /* workers that have not finished this round */
    atomic_bool     stop, busy;
    /* This round's work: written before `round` is raised, and only once all workers are done with
     * the last one. */
    share          *shares; /* [started + 1], by thread */
    void (*run)(void *, int64_t, int);
    void *argument;
};

/* ---- a thread -------------------------------------------------------------------------------- */

enum { SIGNAL_STACK = 1 << 16 };

/* Passed by td_thread_start to the thread. */
typedef struct entry {
    void *(*run)(void *);
    void *argument;
} entry;

static void *enter(void *argument)
{
    entry   e = *(entry *)argument;
    char    space[SIGNAL_STACK];
    stack_t stack = { .ss_sp = space, .ss_size = sizeof space }, none = { .ss_flags = SS_DISABLE };
    void   *result;
    free(argument);
    sigaltstack(&stack, NULL);
    result = e.run(e.argument);
    sigaltstack(&none, NULL);
    return result;
}

int td_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    static const int mistakes[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
    sigset_t         blocked, before;
    entry           *e = malloc(sizeof *e);
    int              code;
    if (!e)
        return ENOMEM;
    *e = (entry){ run, argument };
    /* a blocked SIGSEGV would end the process before a handler can say where it came from */
    sigfillset(&blocked);
    for (size_t k = 0; k < sizeof mistakes / sizeof *mistakes; k++)
        sigdelset(&blocked, mistakes[k]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    code = pthread_create(thread, NULL, enter, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code)
        free(e);
    return code;
}

/* ---- the pool -------------------------------------------------------------------------------- */

/* The processor time that control groups allow, in processors, rounded up; 0: no limit. */
static int quota(void)
{
    return (int)fmin(ceil(td_cgroup_processors(TD_CGROUP_ROOT, TD_CGROUP_MEMBERSHIP)), MAX_THREADS);
}

int td_processors(void)
{
    cpu_set_t set;
    /* fails on machines with more than CPU_SETSIZE (1024) processors */
    int       n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN)
                                                         : CPU_COUNT(&set);
    int       limit = quota();
    if (limit && limit < n)
        n = limit;
    return n < 1 ? 1 : n;
}

/* Tell the processor that this is a spin loop: it saves power, and leaves the core to its other
 * hyperthread. */
static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Work until no item is left. Relaxed is enough: the counters only deal out numbers, and `round`
 * and `working` order the memory. */
static void claim(td_pool *p, int thread)
{
    int threads = p->started + 1;
    for (int k = 0; k < threads; k++) {
        share *s = &p->shares[(thread + k) % threads];
        long   i;
        /* a look first: with many threads, claiming where nothing is left would keep them busy */
        if (atomic_load_explicit(&s->next, memory_order_relaxed) >= s->end)
            continue;
        while ((i = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < s->end)
            p->run(p->argument, i, thread);
    }
}

static void set_shares(td_pool *p, int64_t n)
{
    int     threads = p->started + 1;
    int64_t each = n / threads, more = n % threads, end = 0;
    for (int k = 0; k < threads; k++) {
        atomic_store_explicit(&p->shares[k].next, (long)end, memory_order_relaxed);
        end += each + (k < more);
        p->shares[k].end = (long)end;
    }
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
    /* The caller raises `round` under the lock: without it, the raise and its broadcast could fall
     * between the test and the wait, and this thread would sleep through the round. */
    pthread_mutex_lock(&p->lock);
    while ((round = atomic_load_explicit(&p->round, memory_order_acquire)) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return round;
}

/* A worker's life: round after round, until `stop`. */
static void *work(void *argument)
{
    worker  *w = argument;
    td_pool *p = w->pool;
    unsigned round = 0;
    uint32_t mode = td_float_mode();
    for (;;) {
        round = next_round(p, round); /* a worker that is late never skips one: the caller waits */
        if (atomic_load_explicit(&p->stop, memory_order_relaxed))
            return NULL;
        claim(p, w->index);
        /* a plugin's code must not change how the next plugin's code computes */
        if (td_float_mode() != mode)
            td_float_mode_set(mode);
        /* release: whoever sees 0 here also sees what the items wrote */
        atomic_fetch_sub_explicit(&p->working, 1, memory_order_release);
    }
}

/* Raise `round`, and wake whoever sleeps. */
static void begin_round(td_pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

/* Wait until every worker has left the round: the next one may then overwrite `run` and `shares`. */
static void wait_for_workers(td_pool *p)
{
    for (int spins = 0; atomic_load_explicit(&p->working, memory_order_acquire); spins++)
        if (spins < SPINS)
            pause_briefly();
        else
            sched_yield(); /* the last worker may be waiting for this processor */
}

/* With one thread there is nobody to hand items to. */
static void run_alone(void (*fn)(void *, int64_t, int), int64_t n, void *argument)
{
    for (int64_t i = 0; i < n; i++)
        fn(argument, i, 0);
}

/* td_services.parallel. One region at a time: `busy` catches nested and concurrent ones. */
static void parallel(const td_services *services, int64_t n, void (*fn)(void *, int64_t, int),
                     void *argument)
{
    td_pool *p = services->host;
    /* another region would overwrite the round in progress */
    bool     nested = atomic_exchange_explicit(&p->busy, true, memory_order_acquire);
    assert(!nested && "td_parallel may not be nested");
    if (!p->started) {
        run_alone(fn, n, argument);
    } else {
        assert(!atomic_load(&p->working));
        /* Set up the round, begin it, take part in it, and leave when the last worker has. */
        p->run = fn;
        p->argument = argument;
        set_shares(p, n);
        atomic_store_explicit(&p->working, p->started, memory_order_relaxed);
        begin_round(p);
        claim(p, 0);
        wait_for_workers(p);
    }
    atomic_store_explicit(&p->busy, false, memory_order_release);
}

/* td_services.log. */
static void say(const td_services *services, int level, const char *format, ...)
{
    td_pool *p = services->host;
    va_list  args;
    /* a plugin's level is input, not an invariant */
    if (level < TD_LOG_DEBUG || level > TD_LOG_ERROR)
        level = TD_LOG_ERROR;
    va_start(args, format);
    td_log_lines(p->log, level, format, args);
    va_end(args);
}

/* Start the workers. An error number if one cannot be started: `started` counts those that were. */
static int start(td_pool *p)
{
    int code = 0;
    for (int i = 0; i < p->services.threads - 1 && !code; i++) {
        p->workers[i] = (worker){ .pool = p, .index = i + 1 };
        code = td_thread_start(&p->workers[i].thread, work, &p->workers[i]);
        p->started += !code;
    }
    return code;
}

/* The pool before its threads; NULL when out of memory. */
static td_pool *make(int threads, td_journal *log)
{
    td_pool *p = calloc(1, sizeof *p);
    td_ranks started = td_ranks_of_environment();
    /* the caller needs no entry, but calloc may return NULL for a count of 0 */
    worker  *workers = calloc((size_t)threads, sizeof *workers);
    share   *shares = aligned_alloc(sizeof *shares, (size_t)threads * sizeof *shares);
    if (!p || !workers || !shares) {
        free(p);
        free(workers);
        free(shares);
        return NULL;
    }
    p->services = (td_services){ .size = sizeof p->services,
                                 .threads = threads,
                                 .parallel = parallel,
                                 .log = say,
                                 .host = p,
                                 .processes = started.local,
                                 .process = started.place };
    p->workers = workers;
    p->shares = shares;
    p->log = log;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    return p;
}

td_pool *td_pool_new(int threads, td_journal *log, td_error *error)
{
    td_pool *p;
    int      code;

    if (threads < 0 || threads > MAX_THREADS) {
        td_fail(error, TD_ECONFIG, "cannot use %d threads: choose 1 to %d, or 0 for all processors",
                threads, MAX_THREADS);
        return NULL;
    }
    if (!threads)
        threads = td_processors();
    p = make(threads, log);
    code = p ? start(p) : ENOMEM;
    if (!code)
        return p;
    td_fail(error, TD_ENOMEM, "cannot start %d threads: %s", threads, strerror(code));
    td_pool_free(p); /* joins those that did start */
    return NULL;
}

void td_pool_free(td_pool *p)
{
    if (!p)
        return;
    assert(!atomic_load(&p->busy));
    /* a round without work: workers look at `stop` before they claim */
    atomic_store(&p->stop, true);
    begin_round(p);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p->shares);
    free(p);
}

const td_services *td_pool_services(td_pool *p) { return &p->services; }

void td_pool_set_shipped(td_pool *p, const char *directory) { p->services.shipped = directory; }
