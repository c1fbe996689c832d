/* faults.c - every write, fsync, open, mmap, .. of a small run fails once, and then every one from
 * there on: the run ends with an error that says something, or is complete; and resumed without
 * faults it is, bit for bit, the run that met none. */
#include "tools/small_run.h"

#if defined __SANITIZE_ADDRESS__ || !defined __x86_64__
Test(faults, are_not_injected_here)
{
    cr_skip_test("the shim and the sanitizer exclude each other");
}
#else

#define SHIM TANDEM_FIXTURES "/faults/shim.so"
#define OPTIONS " -q train.checkpoint_every=4 train.keep_last=2 "
#define TRAIN "%%2$s" OPTIONS /* in a format of a format */

static bool usable;

static void setup(void)
{
    small_setup();
    child c = small_shell("shim", "FAULT='fsync 1 EIO' LD_PRELOAD=" SHIM " true");
    usable = c.code == 0;
    child_free(&c);
    small_expect("whole", "%2$s" OPTIONS, 0, "");
}

TestSuite(faults, .init = setup, .fini = small_teardown);

/* How many calls of that name a run makes. */
static long count(const char *name)
{
    char  command[600];
    child c;
    snprintf(command, sizeof command,
             "FAULT='%s 999999999 EIO' FAULT_COUNT=%%1$s/count LD_PRELOAD=" SHIM " " TRAIN
             ">%%1$s/out && cat %%1$s/count && rm -r %%1$s/counted",
             name);
    c = small_shell("counted", command);
    cr_assert_eq(c.code, 0, "%s: exit code %d: %s", name, c.code, c.err);
    long n = atol(c.out);
    child_free(&c);
    cr_assert_gt(n, 0);
    return n;
}

/* One fault. The loader's own code for what it cannot load is 127. The run fails with words, or it does not fail; then it is made whole and compared. */
static void meet(const char *name, long n, const char *later, const char *why)
{
    char  fault[64], command[2000];
    child c;
    /* what cannot be written cannot be said, nor be said without memory */
    bool  mute = *later == '+' && (!strcmp(name, "write") || !strcmp(name, "malloc"));
    snprintf(fault, sizeof fault, "%s %ld%s %s", name, n, later, why);
    snprintf(
        command, sizeof command,
        "timeout 60 env FAULT='%s' LD_PRELOAD=" SHIM " " TRAIN ">%%1$s/out 2>%%1$s/err; code=$?; "
        "test $code -le 2 -o $code = 127 || { echo \"code $code\"; exit 9; }; "
        "test $code = 0 -o -s %%1$s/err -o %s = mute || { echo silent; exit 8; }; "
        "timeout 60 " TRAIN ">%%1$s/out || exit 7; "
        "for f in model.safetensors optimizer.safetensors; do cmp "
        "%%1$s/whole/checkpoints/step-00000012/$f %%1$s/met/checkpoints/step-00000012/$f || exit "
        "6; done; "
        "for r in whole met; do sed 's/, \"time.*//' %%1$s/$r/metrics.jsonl >%%1$s/$r.m; done; "
        "cmp %%1$s/whole.m %%1$s/met.m || exit 5; rm -r %%1$s/met",
        fault, mute ? "mute" : "loud");
    c = small_shell("met", command);
    cr_expect_eq(c.code, 0, "%s: %d: %s%s", fault, c.code, c.out, c.err);
    if (c.code)
        small_expect("met", "cat %1$s/err; rm -rf %1$s/met", 0, "");
    child_free(&c);
}

/* About `many` of the calls, spread evenly: TANDEM_FAULTS=0 has them all. */
static void meet_all(const char *name, const char *why, long many)
{
    const char *wanted = getenv("TANDEM_FAULTS");
    if (!usable)
        cr_skip_test("this machine has no seccomp filters");
    many = wanted ? atol(wanted) : many;
    long all = count(name), step = many > 0 && all > many ? all / many : 1;
    for (long n = 1; n <= all; n += step) {
        meet(name, n, " ", why);
        meet(name, n, "+", why);
    }
}

Test(faults, writes, .timeout = 280) { meet_all("write", "ENOSPC", 5); }
Test(faults, syncs, .timeout = 280) { meet_all("fsync", "EIO", 4); }
Test(faults, opens, .timeout = 280) { meet_all("open", "EMFILE", 5); }
Test(faults, maps, .timeout = 280) { meet_all("mmap", "ENOMEM", 4); }
Test(faults, renames, .timeout = 280) { meet_all("rename", "EIO", 4); }
Test(faults, truncations, .timeout = 280) { meet_all("truncate", "EIO", 2); }
Test(faults, allocations, .timeout = 280) { meet_all("malloc", "ENOMEM", 6); }

/* What is in the way only of order, or of speed, is a warning. */
static void goes_on(const char *fault, const char *says)
{
    char command[1000];
    if (!usable)
        cr_skip_test("this machine has no seccomp filters");
    snprintf(command, sizeof command,
             "rm -rf %%1$s/on %%1$s/cache; FAULT='%s' LD_PRELOAD=" SHIM
             " %%2$s train.keep_last=1 2>&1",
             fault);
    small_expect("on", command, 0, says);
}

Test(faults, that_cost_nothing)
{
    goes_on("rmdir 1+ ENOTEMPTY", "could not be removed and still takes up space");
    goes_on("unlink 1+ EACCES", "could not be removed and still takes up space");
    goes_on("fsync 1+ EINVAL", "step 12");
    goes_on("flock 1+ ENOLCK", "make sure that no other process trains there");
    goes_on("flock 1+ ENOSYS", "will repeat the work");
}

#endif
