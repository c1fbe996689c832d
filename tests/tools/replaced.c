/* replaced.c - a module whose file is overwritten in place while a run uses it: the run goes on with the
 * code that it began with; and one that was not replaced when its source changed. */
#include "tools/small_run.h"

TestSuite(replaced, .init = small_setup, .fini = small_teardown);

/* What becomes of the file that the run has loaded: nothing is left of it, or every byte is another. */
static void expect_unharmed(const char *run, const char *overwrite)
{
    char  more[300], command[600];
    pid_t pid;
    snprintf(command, sizeof command,
             "mkdir -p %%1$s/%s-modules && cp " TANDEM_FIXTURES "/bad/bad.so %%1$s/%s-modules", run,
             run);
    small_expect(run, command, 0, "");
    /* loggers run in every step */
    snprintf(
        more, sizeof more,
        "--plugin-path %s/%s-modules 'run.loggers=[\"jsonl\", \"bad\"]' train.checkpoint_every=0",
        small_directory, run);
    pid = small_start(run, more);
    snprintf(command, sizeof command,
             "cd %%1$s/%s-modules && ls -i bad.so >before && %s && ls -i bad.so >after && "
             "cmp before after && wc -l <../%s/metrics.jsonl >lines",
             run, overwrite, run);
    small_expect(run, command, 0, "");
    usleep(300000);
    cr_assert(!kill(pid, SIGTERM));
    cr_expect_eq(small_end(pid), 75, "'%s'", overwrite);
    small_said(run, "can be resumed");
    snprintf(command, sizeof command,
             "test $(wc -l <%%1$s/%s/metrics.jsonl) -gt $(cat %%1$s/%s-modules/lines)", run, run);
    small_expect(run, command, 0, "");
}

Test(replaced, goes_on_with_its_own_code)
{
    unsetenv("TANDEM_BAD_AT");
    expect_unharmed("short", ": >bad.so");
    expect_unharmed("other", "head -c $(stat -c %%s bad.so) /dev/zero | tr '\\0' '\\314' | "
                             "dd of=bad.so conv=notrunc status=none");
}

Test(replaced, not_by_a_build_that_failed)
{
    small_expect(
        "older",
        "mkdir %1$s/own && cd %1$s/own && cp " TANDEM_FIXTURES
        "/parts/ffn-auxiliary.so . && touch ffn-auxiliary.c -d '1 hour ago' && " TANDEM_BINARY
        " plugins check ffn-auxiliary.so --only load 2>&1 | grep -c 'older than' || true",
        0, "0");
    small_expect("older",
                 "cd %1$s/own && touch ffn-auxiliary.so -d '2 hours ago' && " TANDEM_BINARY
                 " plugins check ffn-auxiliary.so --only load",
                 0, "module 'ffn-auxiliary.so' is older than its source 'ffn-auxiliary.c'");
}
