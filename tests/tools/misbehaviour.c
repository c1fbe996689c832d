/* misbehaviour.c - a plugin that exits, crashes, hangs or changes the process is named by every
 * command, does not cut a listing short, and is never taken for success. */
#include "child.h"

#define BAD TANDEM_FIXTURES "/bad"

/* ---- runs ------------------------------------------------------------------------------------ */

/* Runs with a plugin that misbehaves at `at` in the way `how`. */
static child run_patiently(const char *const *argv, const char *at, const char *how,
                           const char *patience)
{
    setenv("TANDEM_BAD_AT", at, 1);
    setenv("TANDEM_BAD_DO", how, 1);
    setenv("TANDEM_PATIENCE", patience, 1);
    return child_run(argv);
}

static child run_bad(const char *const *argv, const char *at, const char *how)
{
    return run_patiently(argv, at, how, "1");
}

/* `command` with the fixture's model, data and other plugins, for a new run. */
static child run_model(const char *command, const char *directory, const char *at, const char *how)
{
    char        where[300], run[300];
    const char *argv[] = { TANDEM_BINARY,
                           command,
                           "--quiet",
                           "-c",
                           "quickstart/decllm.cfg",
                           "model.d_model=16",
                           "model.layers=1",
                           "model.attention.plugin=bad",
                           "model.ffn.plugin=bad",
                           "model.norm.plugin=bad",
                           "tokenizer.plugin=bad",
                           "data.plugin=bad",
                           "optimizer.plugin=bad",
                           "schedule.plugin=bad",
                           "loss.plugin=bad",
                           "run.loggers=[\"bad\"]",
                           "train.steps=4",
                           "train.checkpoint_every=2",
                           "train.evaluate_every=2",
                           "train.batch=2",
                           "train.micro_batch=2",
                           "run.name=bad",
                           where,
                           "--threads",
                           "2",
                           "--plugin-path",
                           BAD,
                           NULL };
    snprintf(where, sizeof where, "run.dir=%s", directory);
    snprintf(run, sizeof run, "%s/bad", directory);
    td_remove_tree(run, NULL);
    return run_bad(argv, at, how);
}

static void expect_said(const child *c, const char *what, const char *at, const char *how)
{
    cr_expect(strstr(c->err, what) || strstr(c->out, what), "%s at %s: '%s' is missing in: %s%s",
              how, at, what, c->out, c->err);
    cr_expect(c->seconds < 15, "%s at %s: %g s", how, at, c->seconds);
}

/* A rate that is no rate ends a run with the name of the schedule, and not as a divergence. */
Test(misbehaviour, rates_that_cannot_be)
{
    static const char *const bad[][2] = { { "negative", "of -0.001 for step 101" },
                                          { "divides", "of inf for step 0" } };
    char                     scratch[] = "/tmp/tandem-rates-XXXXXX", command[1200];
    cr_assert(mkdtemp(scratch));
    for (size_t k = 0; k < 2; k++) {
        child c;
        snprintf(command, sizeof command,
                 "cd %s && cp " TANDEM_FIXTURES "/broken/opened.so . && " TANDEM_BINARY
                 " train -c quickstart/decllm.cfg --plugin-path . -q run.dir=. model.d_model=16 "
                 "model.layers=1 train.length=16 train.batch=2 train.micro_batch=2 train.steps=103 "
                 "train.evaluate_every=-1 schedule.plugin=%s run.name=%s",
                 scratch, bad[k][0], bad[k][0]);
        c = child_run((const char *[]){ "sh", "-c", command, NULL });
        cr_expect_eq(c.code, 2, "exit code %d: %s", c.code, c.err);
        expect_said(&c, bad[k][0], "rate", bad[k][0]);
        expect_said(&c, bad[k][1], "rate", bad[k][0]);
        child_free(&c);
    }
    td_remove_tree(scratch, NULL);
}

/* ---- constructors, in listings --------------------------------------------------------------- */

typedef struct way {
    const char *how, *says;
    int         signal; /* that ends a command using the plugin; 0: it exits */
} way;

/* Misbehaviour that ends the process or does not return. A sanitizer reports crashes in its own
 * words. */
static const way deaths[] = {
    { "exit", "exit(0) was called in ", 0 },
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    { "_exit", "_exit(0) was called in ", 0 },
    { "quick_exit", "quick_exit(0) was called in ", 0 },
    { "abort", "ended by SIGABRT in ", SIGABRT },
    { "segv", "ended by SIGSEGV in ", SIGSEGV },
    { "fpe", "ended by SIGFPE in ", SIGFPE },
    { "overflow", "ended by SIGSEGV in ", SIGSEGV },
    { "alarm", "ended by SIGALRM in ", SIGALRM },
#endif
    { "loop", "has not returned after ", 0 },
    { "sleep", "has not returned after ", 0 },
    { "thread-exit", "exit(0) was called in ", 0 },
};

/* Misbehaviour that leaves the process changed. */
static const way changes[] = {
    { "close", "changes standard output", 0 },
    { "locale", "changes the locale from 'C' to 'C.UTF-8'", 0 },
    { "rounding", "changes the rounding", 0 },
#if defined(__SSE__)
    { "denormals", "changes the flushing of denormal numbers", 0 },
#endif
    { "umask", "changes the umask", 0 },
    { "cwd", "changes the working directory", 0 },
    { "handler", "changes the handler of SIGTERM", 0 },
    { "mask", "changes which signals are blocked", 0 },
    { "fork", "called fork and also returned in the child", 0 },
};

enum { DEATHS = sizeof deaths / sizeof *deaths, CHANGES = sizeof changes / sizeof *changes };

/* `good`: what the command prints if it comes to its end. */
static void expect_listing(const char *const *argv, const way *w, bool dies, int code,
                           const char *good)
{
    child c = run_bad(argv, "constructor", w->how);
    cr_expect_eq(c.code, dies ? code : 0, "%s in %s %s: exit code %d: %s", w->how, argv[1], argv[2],
                 c.code, c.err);
    cr_expect(strstr(c.out, good), "%s in %s %s: %s%s", w->how, argv[1], argv[2], c.out, c.err);
    expect_said(&c, w->says, "constructor", w->how);
    expect_said(&c, BAD "/bad.so", "constructor", w->how);
    child_free(&c);
}

static const char *const list[] = { TANDEM_BINARY,   "plugins", "list", "schedule",
                                    "--plugin-path", BAD,       NULL };

Test(listings, survive_constructors_that_end_the_process)
{
    for (size_t k = 0; k < DEATHS; k++)
        expect_listing(list, &deaths[k], true, 0, "cosine");
}

Test(listings, name_what_constructors_change)
{
    for (size_t k = 0; k < CHANGES; k++)
        expect_listing(list, &changes[k], false, 0, "cosine");
}

/* One death and one hang each: the rest of their code is shared with the commands above, which
 * are tested in all ways. */
Test(listings, all_commands)
{
    static const struct {
        const char *argv[7];
        int         code; /* if a module is refused */
        const char *good;
    } commands[] = {
        { { TANDEM_BINARY, "doctor", "--quiet", "--plugin-path", BAD, NULL }, 1, "processors" },
        { { TANDEM_BINARY, "plugins", "show", "schedule", "cosine", "--plugin-path", BAD },
          0,
          "cosine" },
        { { TANDEM_BINARY, "plugins", "matrix", "--plugin-path", BAD, NULL }, 0, "matmul" },
    };
    static const way ways[] = { { "_exit", "", 0 }, { "loop", "", 0 } };
    for (size_t k = 0; k < sizeof commands / sizeof *commands; k++)
        for (size_t i = 0; i < 2; i++) {
            const char *argv[8] = { NULL };
            child       c;
            memcpy(argv, commands[k].argv, sizeof commands[k].argv);
            /* doctor measures matrix products in a hook, which takes a second on a busy machine */
            c = run_patiently(argv, "constructor", ways[i].how, "5");
            cr_expect_eq(c.code, commands[k].code, "%s in %s: %d: %s", ways[i].how, argv[1], c.code,
                         c.err);
            cr_expect(strstr(c.out, commands[k].good), "%s in %s: %s%s", ways[i].how, argv[1],
                      c.out, c.err);
            cr_expect_lt(c.seconds, 30);
            child_free(&c);
        }
}

Test(listings, completion_is_whole)
{
    child good = run_bad((const char *[]){ TANDEM_BINARY, "completion", "bash", NULL }, "", "");
    child bad = run_bad((const char *[]){ TANDEM_BINARY, "completion", "bash", "--plugin-path", BAD,
                                          NULL },
                        "constructor", "abort");
    cr_expect_eq(bad.code, 0);
    cr_expect_str_eq(bad.out, good.out, "the module that dies is not involved");
    child_free(&good);
    child_free(&bad);
}

/* ---- hooks, in runs -------------------------------------------------------------------------- */

static const char *const places[] = {
    "check",           "attention.build", "ffn.build",          "norm.build",
    "loss.split",      "loss.bounds",     "loss.build",         "optimizer.build",
    "schedule.rate",   "logger.open",     "logger.write",       "logger.flush",
    "logger.close",    "tokenizer.open",  "data.open",          "tokenizer.special",
    "tokenizer.close", "data.close",      "data.sources",       "data.source_name",
    "data.fetch",      "data.held_out",   "data.fetch_held_out"
};
enum { PLACES = sizeof places / sizeof *places };

/* "hook 'build' of attention 'bad'": the words expected for "attention.build". */
static void expect_named(const child *c, const char *at, const char *how)
{
    char        text[100];
    const char *hook = strchr(at, '.');
    snprintf(text, sizeof text, "hook '%s' of %.*s%s", hook ? hook + 1 : at,
             hook ? (int)(hook - at) : 0, at, hook ? " 'bad'" : "");
    expect_said(c, text, at, how);
}

static void expect_death(const char *command, const char *directory, const char *at, const way *w)
{
    child c = run_model(command, directory, at, w->how);
    cr_expect_eq(c.code, w->signal ? -w->signal : 1, "%s at %s in %s: exit code %d: %s", w->how, at,
                 command, c.code, c.err);
    expect_said(&c, w->says, at, w->how);
    expect_named(&c, at, w->how);
    child_free(&c);
}

/* Every hook, in turn with each way that needs neither a signal nor a wait. */
Test(training, names_the_hook_that_ends_it)
{
    char directory[] = "/tmp/tandem-bad-XXXXXX";
    cr_assert(mkdtemp(directory));
    for (size_t k = 0; k < PLACES; k++)
        expect_death("train", directory, places[k], &deaths[k % (DEATHS > 4 ? 3 : 1)]);
    td_remove_tree(directory, NULL);
}

/* On the main thread while a graph is built, while training, and on the thread that reads ahead. */
Test(training, names_every_way)
{
    static const char *const some[] = { "norm.build", "schedule.rate", "data.fetch" };
    char                     directory[] = "/tmp/tandem-bad-XXXXXX";
    cr_assert(mkdtemp(directory));
    for (size_t k = 0; k < DEATHS; k++) {
        const char *at = some[k % 3];
        /* reading data may take long, and is waited for */
        if (!strcmp(at, "data.fetch") && strstr(deaths[k].says, "returned"))
            at = "norm.build";
        expect_death("train", directory, at, &deaths[k]);
    }
    td_remove_tree(directory, NULL);
}

Test(training, says_what_is_saved)
{
    char  directory[] = "/tmp/tandem-bad-XXXXXX";
    child c;
    cr_assert(mkdtemp(directory));
    c = run_model("train", directory, "schedule.rate", "exit");
    expect_said(&c, "; saved: nothing yet", "schedule.rate", "exit");
    child_free(&c);
    c = run_model("train", directory, "logger.close", "exit");
    expect_said(&c, "; saved: step 4 in '", "logger.close", "exit");
    child_free(&c);
    td_remove_tree(directory, NULL);
}

/* A file of the run, without clock readings. */
static char *parameters(const char *directory)
{
    char     path[400], hex[33];
    td_error e = { 0 };
    snprintf(path, sizeof path, "%s/bad/checkpoints/step-00000004/model.safetensors", directory);
    cr_assert(!td_file_hash(path, hex, &e), "%s", e.text);
    return strdup(hex);
}

/* A plugin's changes to the process change no bit of the model. */
Test(training, changes_do_not_reach_the_model)
{
    static const char *const some[] = { "attention.build", "schedule.rate", "logger.write" };
    char                     directory[] = "/tmp/tandem-bad-XXXXXX", *right;
    child                    c;
    cr_assert(mkdtemp(directory));
    c = run_model("train", directory, "", "");
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    right = parameters(directory);
    for (size_t k = 0; k < CHANGES; k++) {
        char *now;
        c = run_model("train", directory, some[k % 3], changes[k].how);
        cr_expect_eq(c.code, 0, "%s: %s", changes[k].how, c.err);
        expect_said(&c, changes[k].says, some[k % 3], changes[k].how);
        expect_named(&c, some[k % 3], changes[k].how);
        now = parameters(directory);
        cr_expect_str_eq(now, right, "%s at %s", changes[k].how, some[k % 3]);
        free(now);
        child_free(&c);
    }
    free(right);
    td_remove_tree(directory, NULL);
}

/* ---- other commands -------------------------------------------------------------------------- */

Test(commands, name_the_hook_that_ends_them)
{
    static const struct {
        const char *command, *at;
    } runs[] = { { "describe", "ffn.build" },
                 { "describe", "constructor" },
                 { "train", "constructor" },
                 { "bench", "norm.build" } };
    char directory[] = "/tmp/tandem-bad-XXXXXX";
    cr_assert(mkdtemp(directory));
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        child c = run_model(runs[k].command, directory, runs[k].at, "exit");
        cr_expect_eq(c.code, 1, "%s: %d: %s", runs[k].command, c.code, c.err);
        expect_said(&c, "exit(0) was called in ", runs[k].at, "exit");
        child_free(&c);
    }
    td_remove_tree(directory, NULL);
}

Test(commands, that_read_a_run)
{
    char               directory[] = "/tmp/tandem-bad-XXXXXX", run[64];
    const char *const  evaluate[] = { TANDEM_BINARY,   "evaluate", "--quiet", run,
                                      "--plugin-path", BAD,        NULL };
    const char *const  generate[] = { TANDEM_BINARY, "generate",      "--quiet", run,
                                      "ab",          "--plugin-path", BAD,       NULL };
    const char *const  check[] = { TANDEM_BINARY, "config",        "check", "-c",
                                   run,           "--plugin-path", BAD,     NULL };
    const char *const *commands[] = { evaluate, generate, check };
    child              c;
    cr_assert(mkdtemp(directory));
    c = run_model("train", directory, "", "");
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    for (size_t k = 0; k < 3; k++) {
        const char *at = k == 2 ? "check" : "attention.build";
        snprintf(run, sizeof run, k == 2 ? "%s/bad/config.cfg" : "%s/bad", directory);
        c = run_bad(commands[k], at, "exit");
        cr_expect_eq(c.code, 1, "%s: %d: %s%s", commands[k][1], c.code, c.out, c.err);
        expect_named(&c, at, "exit");
        child_free(&c);
    }
    td_remove_tree(directory, NULL);
}

/* The suite finds the same faults as the guard. */
Test(commands, plugins_check_finds_changes)
{
    static const char *const at[] = { "constructor", "norm.build" };
    const char *const argv[] = { TANDEM_BINARY, "plugins",  "check",    BAD "/bad.so", "--only",
                                 "leaks",       "--plugin", "norm/bad", NULL };
    for (size_t k = 0; k < 2; k++) {
        child c = run_bad(argv, at[k], "umask");
        cr_expect_eq(c.code, 1, "%s", c.out);
        expect_said(&c, "changes the umask from 022 to 000", at[k], "umask");
        child_free(&c);
    }
}
