/* child.c - runs this program in a separate process, so that the suite continues whatever a plugin
 * does to it. */
#include "plugins/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

/* ---- in the child ---------------------------------------------------------------------------- */

/* Between fork and exec only async-signal-safe calls are allowed: another thread of the parent may
 * have held any lock, malloc's included. */

static void limit(int what, size_t value)
{
    struct rlimit l = { value, value };
    setrlimit(what, &l);
}

static void redirect(const char *path, int to)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || dup2(fd, to) < 0)
        _exit(127);
    if (fd != to)
        close(fd);
}

_Noreturn static void become(char *const argv[], const td_child *c, const td_child_limits *l,
                             pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* the parent may have blocked signals */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* the parent died before prctl, which then sends no signal */
        _exit(127);
    setpgid(0, 0); /* so that its descendants can be killed with it */
    redirect("/dev/null", 0);
    redirect(c->out, 1);
    redirect(c->error, 2);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, l->bytes / TD_CHILD_FILE_SHARE);
#ifndef TANDEM_SANITIZED /* a sanitizer's shadow memory reserves terabytes of addresses */
    if (!c->reserves)
        limit(RLIMIT_AS, l->bytes);
#endif
    execv(*argv[0] == '/' ? argv[0] : "/proc/self/exe", argv);
    _exit(127);
}

#ifdef TANDEM_SANITIZED
void td_child_watch(void) {} /* the sanitizer handles crashes itself */
#else
/* Copies /proc/self/status to stderr, then dies of the signal as if nothing had caught it. The
 * parent cannot read the file any more by then. Async-signal-safe. */
static void record_memory(int signal_number)
{
    char    text[4096];
    int     fd = open("/proc/self/status", O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : 0;
    if (n > 0 && write(2, text, (size_t)n) < 0)
        _exit(126);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void td_child_watch(void)
{
    static const int crashes[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL };
    static char      stack[16384]; /* after a stack overflow there is no other */
    struct sigaction a = { .sa_handler = record_memory,
                           .sa_flags = SA_ONSTACK | (int)SA_RESETHAND };
    stack_t          s = { .ss_sp = stack, .ss_size = sizeof stack };
    sigaltstack(&s, NULL);
    for (size_t k = 0; k < sizeof crashes / sizeof *crashes; k++)
        sigaction(crashes[k], &a, NULL);
}
#endif

/* ---- in the parent --------------------------------------------------------------------------- */

int td_child_start(td_child *c, char *const argv[], const char *directory, size_t number,
                   const td_child_limits *l, td_error *error)
{
    char  name[64];
    pid_t parent = getpid();
    *c = (td_child){ .started = td_now(), .reserves = l->reserves };
    snprintf(name, sizeof name, "%zu.out", number);
    c->out = td_path_join(directory, name);
    snprintf(name, sizeof name, "%zu.err", number);
    c->error = td_path_join(directory, name);
    if (!c->out || !c->error)
        return td_fail(error, TD_ENOMEM, "out of memory while starting a test");
    fflush(NULL); /* or the child would print what is still buffered again */
    c->pid = fork();
    if (!c->pid)
        become(argv, c, l, parent);
    if (c->pid > 0)
        return 0;
    c->pid = 0;
    return td_fail(error, TD_EIO, "cannot start a process for a test: %s", strerror(errno));
}

char *td_child_record(char *text) { return text ? strstr(text, "Name:\t") : NULL; }

/* "VmPeak:  123 kB" in a text of /proc, in bytes; 0 if it is not there. */
static size_t field_of(const char *text, const char *name)
{
    const char *at = text ? strstr(text, name) : NULL;
    return at ? (size_t)strtoull(at + strlen(name), NULL, 10) << 10 : 0;
}

static size_t peak_in(const char *path)
{
#ifdef TANDEM_SANITIZED /* VmPeak has the shadow memory in it */
    static const char name[] = "VmRSS:";
#else
    static const char name[] = "VmPeak:";
#endif
    char  *text = td_file_read(path, NULL, NULL);
    size_t peak = field_of(text, name);
    free(text);
    return peak;
}

/* `status`: waitpid's. */
static void finish(td_child *c, int status, const td_child_limits *l)
{
    size_t recorded = peak_in(c->error);
    c->peak = recorded > c->peak ? recorded : c->peak;
    c->seconds = td_now() - c->started;
    c->pid = 0;
    if (c->end == TD_CHILD_LATE || c->end == TD_CHILD_MEMORY)
        return; /* we stopped it: its status only says that we did */
    c->end = WIFSIGNALED(status) ? TD_CHILD_CRASHED : TD_CHILD_EXITED;
    c->code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    /* Code that does not check malloc crashes on NULL; the last request may have been a large one,
     * so the peak is somewhat below the limit. */
    if (c->end == TD_CHILD_CRASHED && c->peak > l->bytes / 10 * 8 && !l->reserves)
        c->end = TD_CHILD_MEMORY;
}

/* Kills the child and its descendants. Until it has been waited for, no other process can get
 * its process group. Killed by its own id as well, in case it had no time to make the group. */
static int end_group(const td_child *c)
{
    int status = 0;
    kill(-c->pid, SIGKILL);
    kill(c->pid, SIGKILL);
    waitpid(c->pid, &status, 0);
    return status;
}

bool td_child_poll(td_child *c, const td_child_limits *l)
{
    char      path[64];
    size_t    now;
    siginfo_t ended = { 0 };
    if (!c->pid)
        return true;
    snprintf(path, sizeof path, "/proc/%d/status", (int)c->pid);
    now = peak_in(path);
    c->peak = now > c->peak ? now : c->peak;
    /* WNOWAIT leaves it a zombie, whose process group end_group may still kill. */
    if (!waitid(P_PID, (id_t)c->pid, &ended, WEXITED | WNOHANG | WNOWAIT) && ended.si_pid) {
        finish(c, end_group(c), l);
        return true;
    }
    /* Below the hard limit: code that does check malloc would spend its time failing. */
    if (c->peak > l->bytes / 10 * 9 && !c->reserves)
        c->end = TD_CHILD_MEMORY;
    else if (td_now() - c->started > l->seconds)
        c->end = TD_CHILD_LATE;
    else
        return false;
    finish(c, end_group(c), l);
    return true;
}

void td_child_free(td_child *c)
{
    if (c->pid > 0)
        end_group(c);
    free(c->out);
    free(c->error);
}
