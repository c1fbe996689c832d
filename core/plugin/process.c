/* process.c - recording and restoring the state of the whole process. */
#include "plugin/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Those that a program catches or ignores, and those that report its mistakes. */
static const int signals[TD_PROCESS_SIGNALS] = { SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGABRT,
                                                 SIGBUS,  SIGFPE,  SIGUSR1, SIGSEGV, SIGUSR2,
                                                 SIGPIPE, SIGALRM, SIGTERM, SIGCHLD };

const char *td_signal_name(int number)
{
    static const char *const names[TD_PROCESS_SIGNALS] = {
        "SIGHUP",  "SIGINT",  "SIGQUIT", "SIGILL",  "SIGABRT", "SIGBUS",  "SIGFPE",
        "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGCHLD"
    };
    for (int k = 0; k < TD_PROCESS_SIGNALS; k++)
        if (signals[k] == number)
            return names[k];
    return number == SIGTRAP ? "SIGTRAP" : number == SIGSYS ? "SIGSYS" : "signal";
}

/* ---- umask and working directory ------------------------------------------------------------- */

/* The umask can only be read by setting it. Setting an equal value changes nothing, so other
 * threads that create files meanwhile are not disturbed. */
static mode_t read_umask(void)
{
    static _Atomic mode_t likely = 022;
    mode_t                guess = atomic_load(&likely), found = umask(guess);
    if (found != guess) {
        umask(found);
        atomic_store(&likely, found);
    }
    return found;
}

/* A descriptor for returning to the working directory: one is kept, for the directory recorded
 * last. */
static int keep_directory(dev_t device, ino_t inode)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int             kept = -1;
    static dev_t           kept_device;
    static ino_t           kept_inode;
    int                    result;
    pthread_mutex_lock(&lock);
    if (kept < 0 || kept_device != device || kept_inode != inode) {
        int opened = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        /* in its place, so that one recorded before on another thread stays valid */
        if (opened >= 0 && kept >= 0) {
            dup3(opened, kept, O_CLOEXEC);
            close(opened);
        } else if (opened >= 0)
            kept = opened;
        kept_device = device;
        kept_inode = inode;
    }
    result = kept;
    pthread_mutex_unlock(&lock);
    return result;
}

/* ---- output ---------------------------------------------------------------------------------- */

static atomic_int kept_output[2] = { -1, -1 };

void td_process_keep_output(int out, int error)
{
    atomic_store(&kept_output[0], out);
    atomic_store(&kept_output[1], error);
}

static void record_output(td_process *p)
{
    struct stat s;
    for (int k = 0; k < 2; k++) {
        p->output[k].inode = 0;
        if (atomic_load(&kept_output[k]) < 0 || fstat(k + 1, &s))
            continue;
        p->output[k].device = s.st_dev;
        p->output[k].inode = s.st_ino;
    }
}

/* Whether descriptor k + 1 is another file than it was. */
static bool is_replaced(const td_process *p, int k)
{
    struct stat s;
    if (!p->output[k].inode)
        return false;
    return fstat(k + 1, &s) || s.st_dev != p->output[k].device || s.st_ino != p->output[k].inode;
}

static void restore_output(const td_process *p, td_process_complain *complain, void *argument)
{
    static const char *const names[] = { "standard output", "standard error" };
    bool                     changed[2];
    /* both before either is reported, as the report is written to one of them */
    for (int k = 0; k < 2; k++)
        changed[k] = is_replaced(p, k) && dup2(atomic_load(&kept_output[k]), k + 1) >= 0;
    for (int k = 0; k < 2; k++)
        if (changed[k])
            complain(argument, names[k], "");
}

/* ---- recording ------------------------------------------------------------------------------- */

void td_process_record(td_process *p)
{
    struct stat here = { 0 };
    /* a copy: the next setlocale may overwrite the string */
    snprintf(p->locale, sizeof p->locale, "%s", setlocale(LC_ALL, NULL));
    p->float_mode = td_float_mode();
    p->thread_locale = uselocale((locale_t)0);
    for (int k = 0; k < TD_PROCESS_SIGNALS; k++)
        sigaction(signals[k], NULL, &p->action[k]);
    pthread_sigmask(SIG_SETMASK, NULL, &p->blocked);
    p->umask = read_umask();
    p->directory = -1;
    if (!stat(".", &here))
        p->directory = keep_directory(here.st_dev, here.st_ino);
    p->device = here.st_dev;
    p->inode = here.st_ino;
    record_output(p);
}

/* ---- restoring ------------------------------------------------------------------------------- */

static void restore_thread(const td_process *p, td_process_complain *complain, void *argument)
{
    uint32_t    mode = td_float_mode();
    const char *locale = setlocale(LC_ALL, NULL);
    char        detail[300];
    if (mode != p->float_mode) {
        td_float_mode_set(p->float_mode);
        complain(argument, td_float_mode_change(p->float_mode, mode),
                 (p->float_mode ^ mode) & 0x8040 ? " (-ffast-math and -Ofast do that)" : "");
    }
    if (uselocale((locale_t)0) != p->thread_locale) {
        uselocale(p->thread_locale);
        complain(argument, "the thread's locale", "");
    }
    /* a name that did not fit cannot be restored; it is longer than any that a user would set */
    if (strncmp(locale, p->locale, sizeof p->locale - 1)) {
        snprintf(detail, sizeof detail, " from '%.100s' to '%.100s'", p->locale, locale);
        setlocale(LC_ALL, p->locale);
        complain(argument, "the locale", detail);
    }
}

static bool same_action(const struct sigaction *a, const struct sigaction *b)
{
    /* the union holds whichever of the two handlers it is */
    return a->sa_sigaction == b->sa_sigaction && a->sa_flags == b->sa_flags;
}

static void restore_signals(const td_process *p, td_process_complain *complain, void *argument)
{
    struct sigaction now;
    sigset_t         blocked;
    char             detail[64];
    for (int k = 0; k < TD_PROCESS_SIGNALS; k++) {
        if (sigaction(signals[k], NULL, &now) || same_action(&now, &p->action[k]))
            continue;
        sigaction(signals[k], &p->action[k], NULL);
        snprintf(detail, sizeof detail, " of %s", td_signal_name(signals[k]));
        complain(argument, "the handler", detail);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int k = 0; k < TD_PROCESS_SIGNALS; k++)
        if (sigismember(&blocked, signals[k]) != sigismember(&p->blocked, signals[k])) {
            /* the whole mask at once, so it is reported once */
            pthread_sigmask(SIG_SETMASK, &p->blocked, NULL);
            complain(argument, "which signals are blocked", "");
            return;
        }
}

static void restore_files(const td_process *p, td_process_complain *complain, void *argument)
{
    /* a umask can only be read by setting it */
    mode_t      mask = umask(p->umask);
    struct stat here;
    char        detail[64];
    if (mask != p->umask) {
        snprintf(detail, sizeof detail, " from %03o to %03o", (unsigned)p->umask, (unsigned)mask);
        complain(argument, "the umask", detail);
    }
    /* compared by inode, since a directory may be renamed without anybody's leaving it */
    if (p->directory < 0 ||
        (!stat(".", &here) && here.st_dev == p->device && here.st_ino == p->inode))
        return;
    if (!fchdir(p->directory))
        complain(argument, "the working directory", "");
}

void td_process_restore(const td_process *p, td_process_complain *complain, void *argument)
{
    int saved = errno; /* the hook's caller may want to know why it failed */
    restore_output(p, complain, argument);
    restore_thread(p, complain, argument);
    restore_signals(p, complain, argument);
    restore_files(p, complain, argument);
    errno = saved;
}
