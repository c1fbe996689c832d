/* picture.c - runs gnuplot. */
#include "run/picture.h"

#include <errno.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Its output is written to `said`, because a library prints nothing. Returns 0 or an errno. */
static int start(const char *directory, const char *script, FILE *said, pid_t *pid)
{
    const char                *argv[] = { "gnuplot", script, NULL };
    posix_spawn_file_actions_t actions;
    int                        code = posix_spawn_file_actions_init(&actions);
    if (code)
        return code;
    /* names in the script are relative, so that the directory can be moved */
    code = posix_spawn_file_actions_addchdir_np(&actions, directory);
    if (!code)
        code = posix_spawn_file_actions_adddup2(&actions, fileno(said), 1);
    if (!code)
        code = posix_spawn_file_actions_adddup2(&actions, fileno(said), 2);
    if (!code)
        code = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static int report(FILE *said, const char *directory, const char *script, td_error *error)
{
    char   text[500];
    size_t n;
    rewind(said);
    n = fread(text, 1, sizeof text - 1, said);
    while (n && text[n - 1] == '\n')
        n--;
    text[n] = 0;
    return td_fail(error, TD_EIO, "gnuplot failed on '%s/%s': %s", directory, script,
                   n ? text : "it printed no message");
}

static int wait_for(pid_t pid, int *status)
{
    while (waitpid(pid, status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return 0;
}

int td_picture_draw(const char *directory, const char *script, td_error *error)
{
    FILE *said = tmpfile();
    pid_t pid;
    int   status = 0, code = said ? start(directory, script, said, &pid) : errno;

    /* a code of its own: the data are written, and a caller may do without the picture */
    if (code == ENOENT)
        code = td_fail(error, TD_EUNSUPPORTED,
                       "gnuplot is not installed: install it (on Debian and Ubuntu, apt install "
                       "gnuplot-nox), then run 'cd %s && gnuplot %s'",
                       directory, script);
    else if (code)
        code = td_fail(error, TD_EIO, "cannot run gnuplot: %s", strerror(code));
    else if (wait_for(pid, &status) || !WIFEXITED(status) || WEXITSTATUS(status))
        code = report(said, directory, script, error);
    if (said)
        fclose(said);
    return code;
}
