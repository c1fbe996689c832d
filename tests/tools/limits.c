/* limits.c - little memory, few processes, names that are not for terminals, inputs without an end:
 * a command ends in time and says why. */
#include "tools/small_run.h"

TestSuite(limits, .init = small_setup, .fini = small_teardown);

/* The library of matrix products starts no threads of its own: here are the main thread, the one that
 * reads ahead, and the one that watches for hooks that hang. */
Test(limits, threads_are_those_that_were_asked_for)
{
    pid_t pid = small_start("run", "train.checkpoint_every=0");
    char  path[64], **names = NULL;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    int64_t count = td_list_directory(path, &names, NULL);
    cr_expect(count > 0 && count <= 3, "%lld threads", (long long)count);
    td_free_names(names, count);
    cr_assert(!kill(pid, SIGTERM));
    cr_expect_eq(small_end(pid), 75);
}

#if !defined __SANITIZE_ADDRESS__ /* whose shadow needs terabytes of addresses */
/* Whether it can be done with so little or not, the end is an end, and soon. */
Test(limits, little_memory)
{
    small_expect(
        "many",
        "ulimit -v 3000000; timeout 60 %2$s backend.threads=32 -q; code=$?; test $code = 0 -o "
        "$code = 1 && echo ended",
        0, "ended");
    for (int mib = 20; mib <= 320; mib += 60) {
        char command[300];
        snprintf(command, sizeof command,
                 "rm -rf %%1$s/few; ulimit -v %d; timeout 20 %%2$s -q; code=$?; test $code = 0 -o "
                 "$code = 1 -o $code = 2 -o $code = 127 && echo ended",
                 mib << 10);
        small_expect("few", command, 0, "ended");
    }
}
#endif

Test(limits, what_has_no_end_is_no_config)
{
    small_expect("run",
                 "printf 'extends = \"/dev/stdin\";' >%1$s/a.cfg; timeout 20 %2$s -c %1$s/a.cfg -q",
                 2, "'/dev/stdin' is not a regular file");
    small_expect("run",
                 "printf 'extends = \"/dev/zero\";' >%1$s/a.cfg; timeout 20 %2$s -c %1$s/a.cfg -q",
                 2, "'/dev/zero' is not a regular file");
    small_expect("run", "timeout 20 %2$s -c /dev/zero -q", 2, "name a regular file");
}

/* A name is printed, saved in files, and part of their names. */
Test(limits, names_with_control_characters)
{
    small_expect("run", "%2$s -q 'run.name=\"a\\x1b[31m\"'", 2, "run.name has a control character");
    small_expect("run",
                 "cp %1$s/model.cfg \"$(printf '%1$s/a\\nb.cfg')\"; "
                 "%2$s -q -c \"$(printf '%1$s/a\\nb.cfg')\"",
                 2, "has control characters: rename it");
    /* whatever gets into a message, the terminal does not obey it */
    small_expect("run",
                 "%2$s \"$(printf 'train.\\033[31mx=1')\" >%1$s/out 2>&1; "
                 "! grep -q \"$(printf '\\033')\" %1$s/out && cat %1$s/out",
                 0, "?[31mx");
}

/* A checkpoint may go while it is read, when a newer one has come. */
Test(limits, evaluation_of_a_run_that_trains)
{
    pid_t pid = small_start("run", "train.checkpoint_every=1 train.keep_last=1");
    small_expect("run",
                 "for k in 1 2 3 4 5 6; do " TANDEM_BINARY
                 " evaluate %1$s/run -q evaluate.sequences=1 "
                 "--threads 1 >%1$s/out || exit 1; done",
                 0, "");
    cr_assert(!kill(pid, SIGTERM));
    cr_expect_eq(small_end(pid), 75);
}
