/* signals.c - whatever ends a run in order saves it first, and the exit code says what it was. */
#include "tools/small_run.h"

TestSuite(signals, .init = small_setup, .fini = small_teardown);

/* No checkpoint is due, so the one that there is was made because of the signal. */
static void expect_saved(const char *run)
{
    small_expect(run,
                 "test $(ls %1$s/%3$s/checkpoints | wc -l) = 1 && "
                 "grep -q 'stopped at step' %1$s/%3$s/log.txt && "
                 "%2$s -q train.steps=1000000 train.evaluate_every=-1 train.checkpoint_every=0 "
                 "schedule.peak=0.003 & "
                 "sleep 2; kill -TERM $!; wait $!; test $? = 75",
                 0, "");
}

static void ends(int number, int code)
{
    char  run[32];
    pid_t pid;
    snprintf(run, sizeof run, "by%d", number);
    pid = small_start(run, "train.checkpoint_every=0");
    cr_assert(!kill(pid, number));
    cr_expect_eq(small_end(pid), code, "signal %d", number);
    small_expect(run, "ls %1$s/%3$s/checkpoints", 0, "step-");
    small_said(run, "the run can be resumed: tandem train /tmp/tandem-small-");
}

Test(signals, each_saves_and_has_its_code)
{
    ends(SIGTERM, 75);
    ends(SIGINT, 130);
    ends(SIGUSR1, 75);
    ends(SIGUSR2, 75);
    ends(SIGXCPU, 75);
    ends(SIGHUP, 129);
}

/* So many layers take a while to plan. */
Test(signals, a_run_without_a_step_leaves_nothing)
{
    small_expect("none",
                 "%2$s model.layers=1000 2>%1$s/said & "
                 "until test -e %1$s/%3$s/log.txt; do sleep 0.02; done; "
                 "kill -TERM $!; wait $!; echo code $? >>%1$s/said; cat %1$s/said; "
                 "test ! -e %1$s/%3$s",
                 0, "tandem train: stopped before its first step: nothing to save\ncode 75");
}

/* Batch systems repeat some of them, and closing a terminal may send several. */
Test(signals, repeated_ones_do_not_cut_the_saving_short)
{
    pid_t pid = small_start("often", "train.checkpoint_every=0");
    int   status, sent = 0;
    while (sent < 2000 && waitpid(pid, &status, WNOHANG) == 0) {
        kill(pid, sent++ % 2 ? SIGHUP : SIGXCPU);
        usleep(500);
    }
    cr_assert_gt(sent, 1);
    if (sent == 2000)
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    small_expect("often", "ls %1$s/%3$s/checkpoints", 0, "step-");
    expect_saved("often");
}

/* `nohup` ignores SIGHUP, and it stays so. */
Test(signals, what_is_ignored_stays_ignored)
{
    small_expect("hup",
                 "(trap '' HUP; exec %2$s train.steps=1000000 train.evaluate_every=-1 "
                 "train.checkpoint_every=0 -q) & sleep 2; kill -HUP $!; sleep 1; kill -TERM $!; "
                 "wait $!; echo code $?",
                 0, "code 75");
}

/* `tandem train 2>&1 | head -3`: the reader has ended by the time steps are shown. */
Test(signals, a_closed_pipe_saves)
{
    small_expect("pipe",
                 "{ %2$s train.steps=1000000 train.evaluate_every=-1 train.checkpoint_every=0; "
                 "echo code $? >%1$s/code; } 2>&1 | sed '/1000000 nll/q' >%1$s/seen; "
                 "cat %1$s/code; ls %1$s/%3$s/checkpoints",
                 0, "step-");
    small_expect("pipe", "cat %1$s/code", 0, "code 141");
}

/* The limit on the size of files is a full disk, not the end of the program. */
Test(signals, the_limit_on_files_is_an_error)
{
    small_expect("large", "ulimit -f 16; exec %2$s -q", 1, "File too large");
    small_expect("large", "exec %2$s -q", 0, "");
    small_expect("print", "ulimit -f 0; %2$s --help >%1$s/help 2>&1", 1, "");
}
