/* hook.c - which plugin's code runs on which thread, and the changes it left behind. */
#include "plugin/hook.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "plugin/module.h"

/* ---- threads --------------------------------------------------------------------------------- */

/* The innermost hook of a thread, for other threads to read. Fields are read one by one while they
 * change: a reader compares `number` before and after. */
typedef struct slot {
    atomic_bool                taken;
    _Atomic(const td_plugin *) plugin;
    _Atomic(const char *)      name, path, what;
    _Atomic(const void *)      where;
    _Atomic double             since;
    atomic_uint_fast64_t       number; /* 0: no hook runs */
} slot;

static slot                     slots[TD_HOOK_THREADS];
static atomic_uint_fast64_t     calls;
static _Thread_local td_hook   *current;
static _Thread_local int        mine = -1; /* this thread's slot; -1: none, or none was free */
/* before the outermost hook of this thread */
static _Thread_local td_process before;

static void take_slot(void)
{
    for (int k = 0; k < TD_HOOK_THREADS && mine < 0; k++)
        if (!atomic_exchange(&slots[k].taken, true))
            mine = k;
}

static void release_slot(void)
{
    if (mine < 0)
        return;
    atomic_store(&slots[mine].number, 0);
    atomic_store(&slots[mine].taken, false);
    mine = -1;
}

/* `h` is the hook that this thread runs now. */
static void show(const td_hook *h)
{
    slot *s = mine < 0 ? NULL : &slots[mine];
    if (!s)
        return;
    atomic_store_explicit(&s->number, 0, memory_order_release);
    atomic_store_explicit(&s->plugin, h->plugin, memory_order_relaxed);
    atomic_store_explicit(&s->name, h->name, memory_order_relaxed);
    atomic_store_explicit(&s->path, h->path, memory_order_relaxed);
    atomic_store_explicit(&s->what, h->what, memory_order_relaxed);
    atomic_store_explicit(&s->where, h->where, memory_order_relaxed);
    atomic_store_explicit(&s->since, td_now(), memory_order_relaxed);
    atomic_store_explicit(&s->number, atomic_fetch_add(&calls, 1) + 1, memory_order_release);
}

/* The host's copy of a plugin points to its module's strings, so their address finds the module. */
static const char *path_of(const td_hook *h)
{
    if (h->path)
        return h->path;
    return h->where || h->plugin ? td_module_at(h->where ? h->where : h->plugin->name) : NULL;
}

/* An op of our own works on what a module's hook passed to it: that hook is the one to name. */
static const td_hook *answerable(const td_hook *innermost)
{
    for (const td_hook *h = innermost; h; h = h->outer)
        if (path_of(h))
            return h;
    return innermost;
}

static td_hook_running running_of(const td_hook *innermost)
{
    const td_hook   *h = answerable(innermost);
    const td_plugin *p = h->plugin;
    td_hook_running  out = { .kind = p ? p->kind : NULL,
                             .plugin = p ? p->name : NULL,
                             .hook = h->name,
                             .path = path_of(h),
                             .what = h->what ? h->what : "hook" };
    return out;
}

bool td_hook_of_thread(int k, td_hook_running *out)
{
    slot    *s = &slots[k];
    uint64_t number = atomic_load_explicit(&s->number, memory_order_acquire);
    td_hook  h = { .plugin = atomic_load(&s->plugin),
                   .name = atomic_load(&s->name),
                   .path = atomic_load(&s->path),
                   .where = atomic_load(&s->where),
                   .what = atomic_load(&s->what) };
    double   since = atomic_load(&s->since);
    /* while a hook is replaced by another, its number is 0 */
    if (!number || atomic_load_explicit(&s->number, memory_order_acquire) != number)
        return false;
    *out = running_of(&h);
    out->since = since;
    out->number = number;
    return true;
}

bool td_hook_inside(void) { return current != NULL; }

bool td_hook_current(td_hook_running *out)
{
    if (current) {
        *out = running_of(current);
        return true;
    }
    for (int k = 0; k < TD_HOOK_THREADS; k++)
        if (td_hook_of_thread(k, out))
            return true;
    return false;
}

/* ---- a bounded text, without the library's printf, which signal handlers may not call --------- */

static size_t put(char *out, size_t size, size_t at, const char *text, size_t length)
{
    for (size_t k = 0; k < length && text[k] && at + 1 < size; k++)
        out[at++] = text[k];
    out[at] = 0;
    return at;
}

void td_hook_describe(const td_hook_running *r, char *out, size_t size)
{
    size_t n = 0;
    if (!size)
        return;
    /* put, not snprintf: a handler of SIGSEGV describes the hook that crashed */
    if (r->plugin) {
        n = put(out, size, n, r->what, SIZE_MAX);
        n = put(out, size, n, " '", 2);
        n = put(out, size, n, r->hook, SIZE_MAX);
        n = put(out, size, n, "' of ", 5);
        n = put(out, size, n, r->kind, strcspn(r->kind, "/"));
        n = put(out, size, n, " '", 2);
        n = put(out, size, n, r->plugin, SIZE_MAX);
        n = put(out, size, n, "'", 1);
    } else
        n = put(out, size, n, "the constructor of", 18);
    if (r->path) {
        n = put(out, size, n, r->plugin ? " ('" : " '", 3);
        n = put(out, size, n, r->path, SIZE_MAX);
        put(out, size, n, r->plugin ? "')" : "'", 2);
    }
}

/* ---- complaints ------------------------------------------------------------------------------ */

static pthread_mutex_t   telling = PTHREAD_MUTEX_INITIALIZER; /* guards the rest of this part */
static td_hook_listener *listener;
static void             *listener_argument;
static uint64_t          told[64]; /* hashes of earlier reports */
static size_t            n_told;

void td_hook_listen(td_hook_listener *l, void *argument)
{
    pthread_mutex_lock(&telling);
    listener = l;
    listener_argument = argument;
    n_told = 0;
    pthread_mutex_unlock(&telling);
}

void td_hook_listen_no_more(const void *argument)
{
    pthread_mutex_lock(&telling);
    if (listener_argument == argument)
        listener = NULL;
    pthread_mutex_unlock(&telling);
}

/* Under the lock. Whether it was said before; a hook that changes something does so each time. */
static bool is_news(const char *text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    for (size_t k = 0; k < n_told; k++)
        if (told[k] == hash)
            return false;
    if (n_told == sizeof told / sizeof *told)
        return false; /* enough: nobody reads more reports */
    told[n_told++] = hash;
    return true;
}

static void complain(void *argument, const char *what, const char *detail)
{
    const td_hook  *h = argument;
    td_hook_running r = running_of(h);
    char            who[600], text[1200];
    td_hook_describe(&r, who, sizeof who);
    snprintf(text, sizeof text,
             "%s changes %s%s, which belongs to the whole process; tandem has restored it: a "
             "plugin must not change it",
             who, what, detail);
    /* hooks run on several threads, and may all find the same change */
    pthread_mutex_lock(&telling);
    if (listener && is_news(text))
        listener(listener_argument, text);
    pthread_mutex_unlock(&telling);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static _Thread_local int  full;   /* hooks that this thread is in, quick ones left out */
static _Thread_local bool forked; /* this process was made by the hook that runs */
static void (*on_stray)(const td_hook_running *);

static void after_fork(void) { forked = current != NULL; }

void td_hook_watch_forks(void (*stray)(const td_hook_running *))
{
    on_stray = stray;
    pthread_atfork(NULL, NULL, after_fork);
}

void td_hook_enter(td_hook *h)
{
    h->outer = current;
    if (!h->outer)
        take_slot();
    /* Once for all that are nested: a hook's changes are undone before it calls another, or
     * returns. */
    if (!h->quick && full++)
        td_process_restore(&before, complain, h->outer);
    else if (!h->quick)
        td_process_record(&before);
    h->mode = td_float_mode();
    current = h;
    show(h);
}

static void restore(td_hook *h)
{
    uint32_t mode = td_float_mode();
    if (!h->quick) {
        td_process_restore(&before, complain, h);
        full--;
    } else if (mode != h->mode) {
        td_float_mode_set(h->mode);
        complain(h, td_float_mode_change(h->mode, mode), "");
    }
}

void td_hook_leave(td_hook *h)
{
    if (forked && on_stray) {
        td_hook_running r = running_of(h);
        on_stray(&r);
    }
    restore(h);
    current = h->outer;
    if (current)
        show(current);
    else
        release_slot();
}

enum {
    DEEPEST = 16
}; /* an architecture's attention's norm, ..; deeper ones are not
                        * distinguished */
static _Thread_local td_hook stack[DEEPEST];
static _Thread_local int     depth;

void td_hook_push(const td_plugin *p, const char *hook)
{
    if (depth++ >= DEEPEST)
        return;
    stack[depth - 1] = (td_hook){ .plugin = p, .name = hook };
    td_hook_enter(&stack[depth - 1]);
}

void td_hook_pop(void)
{
    /* one too many is a mistake of the plugin's */
    if (depth && --depth < DEEPEST)
        td_hook_leave(&stack[depth]);
}

void td_hook_unwind(td_hook *h)
{
    depth = 0;
    full = !h->quick;
    current = h;
    td_hook_leave(h);
}

/* ---- what is safe ---------------------------------------------------------------------------- */

/* Two, so that one is whole at any moment: a crash may come while the other is being written. */
static char       saved[2][1024];
static atomic_int newest;

void td_hook_saved(const char *what)
{
    int other = !atomic_load(&newest);
    snprintf(saved[other], sizeof saved[other], "%s", what ? what : "");
    atomic_store(&newest, other);
}

const char *td_hook_what_is_saved(void) { return saved[atomic_load(&newest)]; }
