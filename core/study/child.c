/* child.c - starts and watches the processes of a study. */
#include "study/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

extern char **environ;

/* The path of the running program. readlink() writes no 0, and cuts what does not fit. */
static int find_self(char *out, size_t room, td_error *error)
{
    ssize_t n = readlink("/proc/self/exe", out, room);
    if (n < 0)
        return td_io_error(error, "read", "/proc/self/exe");
    if ((size_t)n == room)
        return td_fail(error, TD_EIO,
                       "the path of this program is longer than %zu bytes, so it cannot be started "
                       "again under mpirun: install it in another directory",
                       room - 1);
    out[n] = 0;
    return 0;
}

static bool is_one(const char *variable)
{
    const char *value = getenv(variable);
    return value && !strcmp(value, "1");
}

/* Checked here, because Open MPI itself would refuse every single cell. It asks for two
 * variables so that nobody runs as root by accident; a program that set them for the user would
 * defeat that. */
int td_launcher_check(int64_t processes, td_error *error)
{
    char *path = td_program_find("mpirun");
    bool  found = path != NULL;
    free(path);
    if (!found)
        return td_fail(error, TD_ECONFIG,
                       "there is no mpirun in PATH, which starts the %" PRId64
                       " processes of a cell (study.processes): install Open MPI, or set "
                       "study.processes = 1",
                       processes);
    if (!geteuid() &&
        !(is_one("OMPI_ALLOW_RUN_AS_ROOT") && is_one("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")))
        return td_fail(error, TD_ECONFIG,
                       "Open MPI does not start the %" PRId64
                       " processes of a cell (study.processes) as root unless the environment "
                       "has OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1: set "
                       "both, work as another user, or set study.processes = 1",
                       processes);
    return 0;
}

/* Unbound: otherwise every cell of a study would be bound to the same first processors. */
static int launch(const char *processes, char **argv, td_error *error)
{
    char  self[4096];
    char *first[] = { "mpirun", "-np", (char *)(uintptr_t)processes, "--oversubscribe", "--bind-to",
                      "none",   self };
    size_t n = 0, fixed = sizeof first / sizeof *first;
    char **list;
    if (find_self(self, sizeof self, error))
        return td_failed(error, TD_EIO);
    /* the arguments alone, without the program's name, which may be missing */
    while (argv[0] && argv[n + 1])
        n++;
    list = calloc(fixed + n + 1, sizeof *list);
    if (!list)
        return td_fail(error, TD_ENOMEM, "out of memory while starting %s processes", processes);
    memcpy(list, first, sizeof first);
    for (size_t k = 0; k < n; k++)
        list[fixed + k] = argv[k + 1];
    execvp(*list, list);
    free(list);
    return td_fail(error, TD_EIO,
                   "cannot start mpirun, for the %s processes of this cell (study.processes): %s; "
                   "install Open MPI, or set study.processes = 1",
                   processes, strerror(errno));
}

/* The parent may already have ended: then this process has another parent by now. */
int td_follow_parent(char **argv, td_error *error)
{
    const char *parent = getenv(TD_PARENT_VARIABLE), *wanted = getenv(TD_PROCESSES_VARIABLE);
    char        processes[32];
    int         number = wanted ? TD_LAUNCHER_STOP : SIGTERM;
    if (!parent)
        return 0;
    prctl(PR_SET_PDEATHSIG, number);
    if (strtol(parent, NULL, 10) != (long)getppid())
        raise(number);
    snprintf(processes, sizeof processes, "%s", wanted ? wanted : "");
    /* they concern this process, not those that it starts */
    unsetenv(TD_PARENT_VARIABLE);
    unsetenv(TD_PROCESSES_VARIABLE);
    return wanted ? launch(processes, argv, error) : 0;
}

/* ---- starting -------------------------------------------------------------------------------- */

static int note_command(const td_arguments *a, int64_t processes, const char *log, td_error *error)
{
    FILE   *f = td_file_append(log, error);
    td_text line = { 0 };
    if (!f)
        return td_failed(error, TD_EIO);
    td_text_print(&line, "$ ");
    if (processes > 1)
        td_text_print(&line, "mpirun -np %" PRId64 " ", processes);
    td_text_print(&line, "tandem ");
    td_arguments_quote(a, &line);
    fprintf(f, "%s\n", td_text_get(&line));
    td_text_free(&line);
    return fclose(f) ? td_io_error(error, "write", log) : 0;
}

enum { OWN = 2 }; /* most variables that are set for children, which come first */

/* Frees the list and its own items; the others are this process's. */
static void free_environment(char **list, int64_t processes)
{
    if (list)
        free(list[0]);
    if (list && processes > 1)
        free(list[1]);
    free(list);
}

static bool is_own(const char *setting)
{
    return !strncmp(setting, TD_PARENT_VARIABLE "=", sizeof TD_PARENT_VARIABLE) ||
           !strncmp(setting, TD_PROCESSES_VARIABLE "=", sizeof TD_PROCESSES_VARIABLE);
}

/* The environment with the parent's process id and, if several, the number of processes. Those of
 * an outer study are left out: the cell would mistake them for ours. */
static char **environment(int64_t processes)
{
    size_t  n = 0, kept = 0;
    char  **list;
    td_text parent = { 0 }, number = { 0 };
    while (environ[n])
        n++;
    list = calloc(n + OWN + 1, sizeof *list);
    td_text_print(&parent, TD_PARENT_VARIABLE "=%ld", (long)getpid());
    if (processes > 1)
        td_text_print(&number, TD_PROCESSES_VARIABLE "=%" PRId64, processes);
    if (!list || parent.failed || number.failed) {
        free(list);
        td_text_free(&parent);
        td_text_free(&number);
        return NULL;
    }
    /* ours come first: free_environment recognizes them by that */
    list[kept++] = parent.data;
    if (processes > 1)
        list[kept++] = number.data;
    for (size_t k = 0; k < n; k++)
        if (!is_own(environ[k]))
            list[kept++] = environ[k];
    return list;
}

/* Standard input is empty; both outputs go to the log. */
static int prepare_files(posix_spawn_file_actions_t *files, const char *log)
{
    int failed = posix_spawn_file_actions_init(files);
    if (!failed)
        failed = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    if (!failed)
        failed = posix_spawn_file_actions_addopen(files, 1, log, O_WRONLY | O_CREAT | O_APPEND,
                                                  0666);
    return failed ? failed : posix_spawn_file_actions_adddup2(files, 1, 2);
}

/* No signal is blocked, and those that the parent handles or ignores get their default action,
 * except SIGHUP: nohup is meant for all processes. */
static int prepare_attributes(posix_spawnattr_t *a)
{
    static const int reset[] = { SIGTERM, SIGINT, SIGPIPE, SIGUSR1, SIGUSR2 };
    sigset_t         none, defaults;
    int              failed = posix_spawnattr_init(a);
    sigemptyset(&none);
    sigemptyset(&defaults);
    for (size_t k = 0; k < sizeof reset / sizeof *reset; k++)
        sigaddset(&defaults, reset[k]);
    if (!failed)
        failed = posix_spawnattr_setsigmask(a, &none);
    if (!failed)
        failed = posix_spawnattr_setsigdefault(a, &defaults);
    if (!failed)
        failed = posix_spawnattr_setpgroup(a, 0);
    return failed ? failed
                  : posix_spawnattr_setflags(a, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETPGROUP);
}

/* The running program, even if its file has been replaced meanwhile: one build runs all cells. */
static int spawn(char **list, char **env, const char *log, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t          attributes;
    int                        failed = prepare_files(&files, log);
    if (failed)
        return failed;
    failed = prepare_attributes(&attributes);
    if (!failed)
        failed = posix_spawn(pid, "/proc/self/exe", &files, &attributes, list, env);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

int td_cell_process_start(const td_arguments *a, int64_t processes, const char *log, pid_t *pid,
                          td_error *error)
{
    char **list = td_arguments_list(a, "tandem"), **env = environment(processes);
    int    failed = list && env ? 0 : ENOMEM, code = 0;
    if (!failed)
        code = note_command(a, processes, log, error);
    if (!failed && !code)
        failed = spawn(list, env, log, pid);
    free_environment(env, processes);
    free(list);
    return failed ? td_fail(error, TD_EIO, "cannot start a process for '%s': %s", log,
                            strerror(failed))
                  : code;
}

/* ---- watching -------------------------------------------------------------------------------- */

bool td_cell_process_ended(pid_t pid, int *code)
{
    int   status;
    pid_t got = waitpid(pid, &status, WNOHANG);
    if (!got || (got < 0 && errno == EINTR))
        return false;
    *code = got < 0 ? 1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}
