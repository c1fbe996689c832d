/* guard.c - handles ends of the process other than a return from main: signals, exits, hooks that
 * do not return.
 *
 * Code that runs in signal handlers and after a plugin's exit builds its message by hand and writes
 * it to a copy of stderr: the heap, stdio's locks and descriptor 2 may be in any state after a
 * plugin.
 */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "command.h"
#include "plugin/hook.h"
#include "plugin/module.h"

static int         errors = 2; /* a copy of stderr that a plugin does not close by mistake */
static pid_t       host;       /* not a process that a plugin forked */
static atomic_bool ended, hurried;
static atomic_int  final_code;

/* ---- messages -------------------------------------------------------------------------------- */

typedef struct words {
    char   text[2400];
    size_t n;
} words;

static void add(words *w, const char *text)
{
    for (; *text && w->n + 2 < sizeof w->text; text++)
        w->text[w->n++] = *text;
    w->text[w->n] = 0;
}

static void add_number(words *w, long number)
{
    char          digits[24], *at = digits + sizeof digits - 1;
    unsigned long rest = number < 0 ? 0UL - (unsigned long)number : (unsigned long)number;
    *at = 0;
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    add(w, at);
}

static void say(words *w)
{
    w->text[w->n++] = '\n';
    for (size_t at = 0; at < w->n;) {
        ssize_t n = write(errors, w->text + at, w->n - at);
        if (n < 0 && errno != EINTR)
            return;
        at += n > 0 ? (size_t)n : 0;
    }
}

/* "hook 'build' of attention 'mine' ('PATH')", or where else this thread is. */
static bool add_place(words *w, const void *code)
{
    td_hook_running r;
    char            text[1200];
    const char     *path = code ? td_module_at(code) : NULL;
    bool            inside = td_hook_current(&r);
    if (inside) {
        td_hook_describe(&r, text, sizeof text);
        add(w, text);
    }
    /* One plugin calls another through a table of the host's, or without it. */
    if (path && (!inside || !r.path || strcmp(path, r.path))) {
        add(w, inside ? ", in code of '" : "code of '");
        add(w, path);
        add(w, "'");
    }
    return inside || path;
}

static void add_saved(words *w)
{
    const char *saved = td_hook_what_is_saved();
    if (*saved) {
        add(w, "; saved: ");
        add(w, saved);
    }
}

/* ---- signals --------------------------------------------------------------------------------- */

#ifndef TANDEM_SANITIZED /* a sanitizer reports crashes itself, with more detail */
static const void *code_of(const void *context)
{
#if defined(__x86_64__)
    const ucontext_t *u = context;
    return (const void *)u->uc_mcontext.gregs[REG_RIP];
#else
    (void)context;
    return NULL;
#endif
}

/* A signal caused by a bug is always reported; others only if a plugin may have caused them. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    bool  crash = number != SIGALRM && number != SIGVTALRM && number != SIGPROF && number != SIGIO;
    words w = { .n = 0 };
    (void)info;
    add(&w, "tandem: ended by ");
    add(&w, td_signal_name(number));
    add(&w, " in ");
    if (!add_place(&w, code_of(context)))
        add(&w, "tandem itself: please report it, with the command and its config");
    add_saved(&w);
    if (crash || td_hook_inside())
        say(&w);
    /* as if nothing had caught it: the exit status, and a core file, are the signal's */
    signal(number, SIG_DFL);
    raise(number);
}

static void catch_signals(void)
{
    static const int caught[] = { SIGSEGV, SIGBUS,    SIGFPE,  SIGILL,  SIGABRT, SIGTRAP,
                                  SIGSYS,  SIGVTALRM, SIGALRM, SIGPROF, SIGIO };
    static char      stack[1 << 16]; /* after an overflow of the stack there is no other */
    struct sigaction a = { .sa_sigaction = on_signal,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    stack_t          s = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&s, NULL);
    for (size_t k = 0; k < sizeof caught / sizeof *caught; k++)
        sigaction(caught[k], &a, NULL);
}
#else
static void catch_signals(void) {}
#endif

/* ---- exits ----------------------------------------------------------------------------------- */

_Noreturn static void leave(int code)
{
    for (;;)
        syscall(SYS_exit_group, code);
}

/* Some code calls exit(code) or a similar function. Returns the code to leave with. */
static int judge_exit(const char *call, int code)
{
    words w = { .n = 0 };
    if (getpid() != host) /* a plugin's forked child that ends properly */
        return code;
    if (ended)
        return final_code;
    add(&w, "tandem: ");
    add(&w, call);
    add(&w, "(");
    add_number(&w, code);
    add(&w, ") was called in ");
    if (!add_place(&w, NULL))
        add(&w, "a thread that is not tandem's");
    add(&w, ": a plugin must report failure through its td_error, and never end the process");
    add_saved(&w);
    say(&w);
    return TD_EXIT_FAILED;
}

static void on_leaving(int code, void *unused)
{
    (void)unused;
    if (!ended && getpid() == host)
        leave(judge_exit("exit", code));
}

#ifndef TANDEM_SANITIZED
/* These take the place of the C library's in every module: the program's symbols come first. The
 * library calls its own from exit, which is dealt with above. */
_Noreturn void td_guard_leave(int code) { leave(judge_exit("_exit", code)); }
__attribute__((visibility("default"), alias("td_guard_leave"))) _Noreturn void _exit(int code);
__attribute__((visibility("default"), alias("td_guard_leave"))) _Noreturn void _Exit(int code);
__attribute__((visibility("default"))) _Noreturn void                          quick_exit(int code)
{
    leave(judge_exit("quick_exit", code));
}
#endif

/* A hook forked the process and returned in the child as well. */
static void on_stray(const td_hook_running *r)
{
    char  text[1200];
    words w = { .n = 0 };
    td_hook_describe(r, text, sizeof text);
    add(&w, "tandem: ");
    add(&w, text);
    add(&w, " called fork and also returned in the child, which ends here; the parent continues: a "
            "child must end with _exit or exec");
    say(&w);
    leave(TD_EXIT_FAILED);
}

/* ---- hooks that do not return ---------------------------------------------------------------- */

enum { PATIENCE = 60 }; /* seconds */

long td_guard_patience(void)
{
    const char *given = getenv("TANDEM_PATIENCE");
    return given && *given ? strtol(given, NULL, 10) : PATIENCE;
}

void td_guard_hurry(void) { hurried = true; }

/* Hooks that may legitimately take long. All others only compute a value, or build a graph. */
static bool may_take_long(const td_hook_running *r)
{
    static const char *const slow[] = { "open",        "close",          "prepare",    "train",
                                        "fetch",       "fetch_held_out", "encode",     "decode",
                                        "write",       "flush",          "peak",       "diagnose",
                                        "fingerprint", "each_document",  "all_reduce", "all_to_all",
                                        "all_gather",  "broadcast" };
    if (!r->plugin || hurried)
        return false;
    for (size_t k = 0; k < sizeof slow / sizeof *slow; k++)
        if (!strcmp(slow[k], r->hook))
            return true;
    return strcmp(r->what, "hook") != 0; /* kernels, tests */
}

/* `tandem data train-tokenizer` itself prints how long this takes; a warning would look like a
 * fault. */
static bool is_watched_already(const td_hook_running *r)
{
    return r->plugin && !strcmp(r->hook, "train");
}

/* The process is being debugged: do not interfere. The hanging code may hold the heap's lock. */
static bool is_traced(void)
{
    char        text[4096];
    int         fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t     n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    const char *at;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    at = strstr(text, "TracerPid:");
    return at && atoi(at + strlen("TracerPid:"));
}

/* A hook has been running for `seconds`. */
static void complain(const td_hook_running *r, long seconds, bool end)
{
    char  text[1200];
    words w = { .n = 0 };
    /* without printf, whose locks the hook that hangs may hold */
    td_hook_describe(r, text, sizeof text);
    add(&w, "tandem: ");
    add(&w, text);
    add(&w, " has not returned after ");
    add_number(&w, seconds);
    add(&w, end ? " s, although it should be quick: the process was ended (TANDEM_PATIENCE=SECONDS "
                  "changes the limit)"
                : " s; waiting on");
    if (end)
        add_saved(&w);
    say(&w);
    if (end)
        leave(TD_EXIT_FAILED);
}

/* Counts seconds rather than reading the clock: they stop while the process is stopped. */
static void *watch(void *argument)
{
    static const struct timespec second = { .tv_sec = 1 };
    long     patience = *(const long *)argument, seconds[TD_HOOK_THREADS] = { 0 };
    long     next[TD_HOOK_THREADS] = { 0 };
    uint64_t number[TD_HOOK_THREADS] = { 0 };
    while (!ended) {
        nanosleep(&second, NULL);
        for (int k = 0; k < TD_HOOK_THREADS; k++) {
            td_hook_running r;
            if (!td_hook_of_thread(k, &r) || r.number != number[k]) {
                number[k] = td_hook_of_thread(k, &r) ? r.number : 0;
                seconds[k] = 0;
                next[k] = patience;
            } else if (++seconds[k] >= next[k] && !is_watched_already(&r) && !is_traced()) {
                complain(&r, seconds[k], !may_take_long(&r));
                next[k] *= 2; /* a long wait must not fill the screen */
            }
        }
    }
    return NULL;
}

static void start_watch(void)
{
    static long    patience;
    pthread_t      thread;
    pthread_attr_t attributes;
    sigset_t       all, before;
    patience = td_guard_patience();
    if (patience <= 0)
        return;
    /* signals are for the main thread; the watch needs a small stack, and is never joined */
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 17);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, &attributes, watch, &patience);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* ---- the whole ------------------------------------------------------------------------------- */

void td_guard_output(void)
{
    enum {
        HIGH = 100
    }; /* a number that code which opens or closes descriptors by number will
                          * not use */
    static int out = -1;
    int new_out = fcntl(1, F_DUPFD_CLOEXEC, HIGH), new_errors = fcntl(2, F_DUPFD_CLOEXEC, HIGH);
    if (out >= 0)
        close(out);
    if (errors != 2)
        close(errors);
    out = new_out;
    errors = new_errors >= 0 ? new_errors : 2;
    td_process_keep_output(new_out, new_errors);
}

void td_guard_start(void)
{
    host = getpid();
    td_guard_output();
    catch_signals();
    td_hook_watch_forks(on_stray);
    start_watch();
    /* registered first, so it is called last */
    on_exit(on_leaving, NULL);
}

int td_guard_end(int code)
{
    final_code = code;
    ended = true;
    return code;
}
