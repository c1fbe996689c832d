/* place.c - what others do to the directory of a run while it trains, or between two parts of it: it
 * is noticed, said, and costs nothing that was computed. */
#include "tools/small_run.h"

TestSuite(place, .init = small_setup, .fini = small_teardown);

#define SOON "train.checkpoint_every=50 train.keep_last=2"

/* A shell command while the run trains. */
static void meanwhile(const char *run, const char *format) { small_expect(run, format, 0, ""); }

Test(place, a_lock_that_was_removed_is_made_again)
{
    pid_t pid = small_start("run", SOON);
    meanwhile("run", "rm %1$s/run/.lock; for k in $(seq 200); do test -e %1$s/run/.lock && exit; "
                     "sleep 0.05; done; exit 1");
    small_expect("run", "%2$s -q", 2, "another process is training");
    cr_assert(!kill(pid, SIGTERM));
    cr_expect_eq(small_end(pid), 75);
    small_said("run", ".lock' was removed while the run was training, and has been created again");
}

/* Somebody else has it now: nothing of theirs is touched. */
Test(place, a_second_process_is_not_written_over)
{
    pid_t pid = small_start("run", SOON);
    meanwhile("run",
              "cd %1$s/run && flock .lock2 sh -c 'mv .lock2 .lock; rm -r checkpoints; sleep 4; "
              "test ! -e checkpoints'");
    cr_expect_eq(small_end(pid), 1);
    small_said("run", "another process uses the directory now");
    meanwhile("run", "ls %1$s/run.rescued-*/checkpoints | grep step-");
}

static void takes_away(const char *how)
{
    pid_t pid = small_start("run", SOON);
    meanwhile("run", how);
    cr_expect_eq(small_end(pid), 1, "%s", how);
    small_said("run", "was removed, renamed or replaced while it was training; step");
    /* what was saved is a checkpoint like any other */
    meanwhile("run", "%2$s -q run.name=next train.steps=3 train.weights=$(ls -d "
                     "%1$s/run.rescued-*/checkpoints/step-*)");
    meanwhile("run", "rm -r %1$s/next %1$s/run*");
}

Test(place, a_directory_that_is_gone)
{
    takes_away("mv %1$s/run %1$s/other");
    takes_away("mv %1$s/run %1$s/other2 && mkdir %1$s/run");
    takes_away("mv %1$s/run %1$s/run3 && rm -r %1$s/run3");
}

Test(place, metrics_that_were_emptied_are_missed)
{
    small_expect("run", "%2$s -q", 0, "");
    small_expect("run", ": >%1$s/run/metrics.jsonl; %2$s train.steps=15", 0,
                 "lacks the metrics of steps 1 to 12");
    small_expect("run", "wc -l <%1$s/run/metrics.jsonl", 0, "4"); /* and an evaluation */
    small_expect("run", "sed -i '3,$d' %1$s/run/metrics.jsonl; %2$s train.steps=16", 0,
                 "lacks the metrics of steps 15 to 15");
    small_expect("run", "rm %1$s/run/metrics.jsonl; %2$s train.steps=17", 0,
                 "lacks the metrics of steps 1 to 16");
    small_expect("run", "%2$s train.steps=18 2>&1 | grep -c lacks", 1, "0");
}

static void takes_metrics(const char *how)
{
    pid_t pid = small_start("run", SOON);
    meanwhile("run", how);
    meanwhile("run",
              "for k in $(seq 600); do test $(wc -l <%1$s/run/metrics.jsonl) -gt 3 && exit 0; "
              "sleep 0.1; done; exit 1");
    cr_assert(!kill(pid, SIGTERM));
    cr_expect_eq(small_end(pid), 75);
    small_said("run", "metrics.jsonl' was ");
    meanwhile("run",
              "! grep -qv '^{\"step\": .*}$' %1$s/run/metrics.jsonl; code=$?; rm -r %1$s/run; "
              "exit $code");
}

Test(place, metrics_that_are_taken_away_go_on)
{
    takes_metrics(": >%1$s/run/metrics.jsonl");
    takes_metrics("rm %1$s/run/metrics.jsonl");
    takes_metrics("echo x >%1$s/x; mv %1$s/x %1$s/run/metrics.jsonl; "
                  "sleep 0.2; sed -i /^x/d %1$s/run/metrics.jsonl");
}

/* Neither a link nor a pipe is written through, and neither waited for. */
Test(place, links_and_pipes_are_refused)
{
    static const char *const names[] = { "log.txt", "metrics.jsonl", ".lock" };
    char                     command[400];
    for (int k = 0; k < 3; k++) {
        snprintf(
            command, sizeof command,
            "mkdir %%1$s/run; echo precious >%%1$s/x; ln -s ../x %%1$s/run/%s; timeout 20 %%2$s "
            "-q; code=$?; rm -r %%1$s/run; grep -q precious %%1$s/x || exit 9; exit $code",
            names[k]);
        small_expect("run", command, 1, names[k]);
        snprintf(command, sizeof command,
                 "mkdir %%1$s/run; mkfifo %%1$s/run/%s; timeout 20 %%2$s -q; code=$?; rm -r "
                 "%%1$s/run; exit $code",
                 names[k]);
        if (k < 2)
            small_expect("run", command, 1, names[k]);
    }
}

/* A config from elsewhere must not reach files outside of the run. */
Test(place, loggers_write_within_the_run)
{
    static const char *const bad[] = {
        "../../x", "a/b", "..", "", "log.txt", "config.cfg", "\\x1b"
    };
    for (int k = 0; k < 7; k++) {
        char command[400];
        snprintf(command, sizeof command,
                 "echo precious >%%1$s/x; %%2$s -q 'run.loggers=({plugin=\"%s\"; %s=\"%s\";})' && "
                 "exit 9; code=$?; grep -q precious %%1$s/x || exit 8; exit $code",
                 k % 2 ? "tensorboard" : "jsonl", k % 2 ? "folder" : "file", bad[k]);
        small_expect("run", command, 2, k % 2 ? "folder" : "file");
    }
}
