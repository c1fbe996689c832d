/* check.c - `tandem plugins check`: the conformance suite on modules.
 *
 * The tests are in core/check and run in one process on one plugin; they may crash with it. Around
 * them:
 *
 *     check.c    the command and its limits
 *     suite.c    choosing the tests, and running several at a time
 *     child.c    .. each in a separate process
 *     ranks.c    .. or in several, which a communicator connects
 *     here.c     what such a process does: run one test, print the result as JSON
 *     report.c   all results as a table or as JSON */
#include "plugins/check.h"

#include <math.h>
#include <signal.h>
#include <string.h>

#include "check/check.h"
#include "plugins/here.h"
#include "plugins/suite.h"

enum { MOST_TOGETHER = 64 };

static const td_flag flags[] = {
    { "--only", "TEST", "run only this test; --tests lists them" },
    { "--plugin", "KIND/NAME", "test only this plugin of the module" },
    { "--time-limit", "SECONDS", "time limit for one test (default 60)" },
    { "--memory-limit", "MIB", "memory limit for one test (default 4096)" },
    { "--jobs", "N", "number of tests to run at the same time (default: one per processor)" },
    { "--here", 0, "run in this process, for a debugger; a crash ends it" },
    { "--tests", 0, "list all tests and the requirement of each" },
    { 0, 0, 0 },
};

const td_usage td_usage_plugins_check = {
    .name = "plugins check",
    .arguments = "FILE.so ..",
    .brief = "Run the conformance suite on modules: it tests what the host, other plugins and a "
             "careful user rely on. Each test runs in a separate process, so a crash is only a "
             "finding.",
    .example = "tandem plugins check build/attention-mine.so",
    .notes =
        "NAME=VALUE (gate=false) sets an option of the plugin itself. A config sets anything else "
        "that is needed, such as a data source's files, or values that you want tested. Everything "
        "else keeps its default.\n\n"
        "Exit codes: 0 every test passed or does not apply, 1 there are findings, 2 usage error.",
    .flags = flags,
    .config = true,
    .optional = true,
    .json = true,
    .plain = TD_ARGUMENTS - 2,
};

/* ---- tests ----------------------------------------------------------------------------------- */

static const char load_brief[] =
    "the file is a module of this ABI, exports one symbol, and can be loaded";

static int list_tests(void)
{
    static const char every[] = "every plugin";
    const char       *last = every;
    printf("%s\n  %-14s %s\n", every, TD_CHECK_LOAD, load_brief);
    for (const td_check_case *t = td_check_cases(); t->name; t++) {
        const char *kind = t->kind ? t->kind : every;
        if (strcmp(kind, last))
            printf("\n%s\n", kind);
        printf("  %-14s %s\n", t->name, t->brief);
        last = kind;
    }
    return TD_EXIT_OK;
}

static bool is_test(const char *name)
{
    bool is = !strcmp(name, TD_CHECK_LOAD);
    for (const td_check_case *t = td_check_cases(); t->name; t++)
        is = is || !strcmp(t->name, name);
    return is;
}

/* ---- the suite ------------------------------------------------------------------------------- */

/* Ctrl-C must not leave children or their files behind: signals that would end us are held back,
 * and td_suite_run waits for them. Children have process groups of their own, so a signal from the
 * terminal is for us alone. */
static void hold_signals(sigset_t *held, sigset_t *before)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction a;
    sigemptyset(held);
    for (size_t k = 0; k < sizeof signals / sizeof *signals; k++)
        if (!sigaction(signals[k], NULL, &a) && a.sa_handler != SIG_IGN) /* as under nohup */
            sigaddset(held, signals[k]);
    sigprocmask(SIG_BLOCK, held, before);
}

static bool read_limits(td_tool *t, td_suite *s)
{
    double mebibytes, jobs;
    if (!td_tool_positive(t, "--time-limit", 60, &s->limits.seconds) ||
        !td_tool_positive(t, "--memory-limit", 4096, &mebibytes) ||
        !td_tool_positive(t, "--jobs", td_processors(), &jobs))
        return false;
    s->limits.bytes = (size_t)ceil(mebibytes) << 20;
    s->together = (size_t)fmin(MOST_TOGETHER, ceil(jobs));
    s->report.limits = s->limits;
    return true;
}

/* The exit code says whether there were findings; an error of ours is reported like any other. */
static int check_all(td_tool *t, const char *only, const char *plugin)
{
    td_error e = { 0 };
    sigset_t before;
    int      stopped, code;
    td_suite s = { .tool = t,
                   .only = only,
                   .plugin = plugin,
                   .report = { .json = t->json, .several = t->n_plain > 1 } };
    if (!read_limits(t, &s))
        return TD_EXIT_USAGE;
    hold_signals(&s.ends, &before);
    td_suite_run(&s, &e);
    td_report_end_plugin(&s.report);
    if (!e.code)
        td_report_sum(&s.report);
    code = s.report.n_failed ? TD_EXIT_FAILED : TD_EXIT_OK;
    stopped = s.stopped;
    td_suite_free(&s);
    if (stopped > 0)
        raise(stopped); /* delivered below, after everything is cleaned up */
    sigprocmask(SIG_SETMASK, &before, NULL);
    return e.code ? td_tool_fail(t, &e) : code;
}

/* ---- the command ----------------------------------------------------------------------------- */

int td_plugins_check(td_tool *t, int argc, char **argv)
{
    const char *only, *plugin;
    int         code;
    if (!td_tool_parse(t, &td_usage_plugins_check, argc, argv, &code))
        return code;
    if (td_tool_option(t, "--tests"))
        return list_tests();
    only = td_tool_option(t, "--only");
    plugin = td_tool_option(t, "--plugin");
    if (!t->n_plain)
        return td_tool_usage_error(t, "no module given: tandem plugins check FILE.so");
    if (only && !is_test(only))
        return td_tool_usage_error(t, "unknown test '%s'; --tests lists them", only);
    if (!td_tool_option(t, "--here"))
        return check_all(t, only, plugin);
    /* A process can crash only once, so it runs a single test. */
    if (!only || !plugin || t->n_plain != 1)
        return td_tool_usage_error(t, "--here needs exactly one file, --plugin and --only");
    return td_plugins_check_here(t, t->plain[0], plugin, only);
}
