/* child.h - runs of the real command from tests: its exit code, its output, and the memory it
 * used. */
#ifndef TESTS_TOOLS_CHILD_H
#define TESTS_TOOLS_CHILD_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

extern char **environ;

typedef struct child {
    int    code;      /* exit code, or minus the signal */
    char  *out, *err; /* its output; free it with child_free */
    double seconds;
    long   kilobytes; /* largest resident size */
} child;

/* Instrumented code keeps shadow memory, so its size means nothing. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { CHILD_MEASURES_MEMORY = 0 };
#else
enum { CHILD_MEASURES_MEMORY = 1 };
#endif

static inline char *child_text(const char *path)
{
    td_error e = { 0 };
    char    *text = td_file_read(path, NULL, &e);
    cr_assert(text, "%s", e.text);
    unlink(path);
    return text;
}

static inline double child_clock(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return (double)now.tv_sec + 1e-6 * (double)now.tv_usec;
}

/* argv[0] is the program; the last element is NULL. */
static inline child child_run(const char *const *argv)
{
    char                       out[] = "/tmp/tandem-out-XXXXXX", err[] = "/tmp/tandem-err-XXXXXX";
    child                      c = { .seconds = child_clock() };
    int                        status, fd[2] = { mkstemp(out), mkstemp(err) };
    pid_t                      pid;
    struct rusage              usage;
    posix_spawn_file_actions_t actions;

    cr_assert(fd[0] >= 0 && fd[1] >= 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd[0], 1);
    posix_spawn_file_actions_adddup2(&actions, fd[1], 2);
    cr_assert(
        !posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ));
    posix_spawn_file_actions_destroy(&actions);
    cr_assert_eq(wait4(pid, &status, 0, &usage), pid);
    close(fd[0]);
    close(fd[1]);
    c.seconds = child_clock() - c.seconds;
    c.kilobytes = usage.ru_maxrss;
    c.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    c.out = child_text(out);
    c.err = child_text(err);
    return c;
}

static inline void child_free(child *c)
{
    free(c->out);
    free(c->err);
}

static inline json_t *child_json(const child *c)
{
    json_error_t e;
    json_t      *j = json_loads(c->out, 0, &e);
    cr_assert(j, "%s in:\n%s\n%s", e.text, c->out, c->err);
    return j;
}

#endif
