/* progress.c - the progress of `tandem train` on a terminal of 80 columns: loss, gradient norm,
 * learning rate, tokens/s, share of peak and time left, in one line that does not wrap. */
#include "child.h"

#include <sys/ioctl.h>

static char directory[64];

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-progress-XXXXXX");
    cr_assert(mkdtemp(directory));
    setenv("TERM", "xterm", 1); /* tests may run in a dumb terminal */
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(progress, .init = setup, .fini = teardown);

/* Everything that a terminal of 80 columns receives from a short run. */
static void run_on_terminal(char *out, size_t room)
{
    char                       run[100];
    const char                *argv[] = { TANDEM_BINARY,
                                          "train",
                                          "-c",
                                          TANDEM_SOURCE "/configs/quickstart/redllm.cfg",
                                          run,
                                          "run.name=a",
                                          "model.d_model=32",
                                          "model.attention.heads=2",
                                          "model.attention.head_dim=16",
                                          "model.ffn.d_ff=41",
                                          "train.steps=9",
                                          "train.length=33",
                                          "train.batch=2",
                                          "train.micro_batch=2",
                                          "train.evaluate_every=-1",
                                          NULL };
    struct winsize             w = { .ws_row = 24, .ws_col = 80 };
    int                        master = posix_openpt(O_RDWR | O_NOCTTY), slave, status;
    size_t                     n = 0;
    ssize_t                    got;
    pid_t                      pid;
    posix_spawn_file_actions_t actions;

    snprintf(run, sizeof run, "run.dir=%s", directory);
    cr_assert(master >= 0 && !grantpt(master) && !unlockpt(master));
    slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(slave >= 0 && !ioctl(slave, TIOCSWINSZ, &w));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, slave, 2);
    cr_assert(!posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ));
    posix_spawn_file_actions_destroy(&actions);
    close(slave);
    /* reading fails once the terminal is closed */
    while (n + 1 < room && (got = read(master, out + n, room - 1 - n)) > 0)
        n += (size_t)got;
    out[n] = 0;
    close(master);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", out);
}

Test(progress, one_line_of_80_columns)
{
    static const char *const wanted[] = { "9/9 ",    " nll ",   " norm ", " lr ",
                                          " tok/s ", " tgt/s ", " took " };
    static char              text[1 << 16];
    char                    *line = NULL, *rest = NULL;
    run_on_terminal(text, sizeof text);
    for (char *p = strtok_r(text, "\r\n", &rest); p; p = strtok_r(NULL, "\r\n", &rest))
        line = strstr(p, " tok/s") ? p : line;
    cr_assert(line);
    cr_expect_leq(strlen(line) - strlen("\033[K"), 80, "%s", line);
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        cr_expect(strstr(line, wanted[k]), "no '%s' in '%s'", wanted[k], line);
}
