/* broken.c - modules with one mistake each: the suite names every one, and has nothing to say where
 * there is none. */
#include "conformance/check.h"

typedef struct mistake {
    const char *file, *plugin, *test, *outcome, *says;
} mistake;

static const mistake mistakes[] = {
    /* what the file is */
    { "modules/other-major", NULL, "load", "failed", "built for plugin ABI" },
    { "modules/newer-minor", NULL, "load", "failed", "newer plugin ABI" },
    { "modules/option-twice", NULL, "load", "failed", "twice" },
    { "modules/option-outside", NULL, "load", "failed", "outside" },
    { "modules/flush-to-zero", NULL, "load", "failed", "-ffast-math" },
    { "modules/no-symbol", NULL, "load", "failed", "exports no symbol" },
    { "broken/attention-exports", NULL, "load", "failed", "'helper'" },
    { "broken/position-bad-name", NULL, "load", "failed", "not valid UTF-8" },
    /* what it says of its options */
    { "broken/attention-config-size", NULL, "offsets", "crashed", "Segmentation" },
    { "broken/attention-wrong-offset", NULL, "offsets", "failed", "no option sets" },
    { "broken/attention-overlap", NULL, "table", "failed", "lie on each other" },
    { "broken/attention-no-doc", NULL, "table", "failed", "has no doc" },
    /* what it computes */
    { "broken/attention-sees-future", NULL, "causality", "failed", "predicted after it" },
    { "broken/attention-peeks-if", NULL, "causality", "failed", "peeks = true" },
    { "broken/attention-no-bias", NULL, "positions", "failed", "biases the scores" },
    { "broken/attention-no-rotate", NULL, "positions", "failed", "td_rotate" },
    { "broken/attention-mixes-rows", NULL, "permutation", "failed", "rows may not mix" },
    { "broken/attention-sees-neighbours", NULL, "masked", "failed", "masked key" },
    { "broken/attention-forgets", NULL, "steps", "failed", "td_remember" },
    { "broken/attention-blocks-gradient", NULL, "gradients", "failed", "central differences" },
    { "broken/attention-widthless", NULL, "shapes", "failed", "hook head_dim" },
    { "broken/attention-random", NULL, "determinism", "failed", "do not come twice" },
    { "broken/position-peeks", NULL, "causality", "failed", "its own label" },
    { "broken/attention-no-utf8", NULL, "shapes", "failed", "?? in it" },
    { "broken/op-gradient", NULL, "gradients", "failed", "central differences" },
    { "broken/op-kernel", NULL, "values", "failed", "against double" },
    { "broken/op-unused", "kernels/op-unused", "values", "failed", "no kernel of it was used" },
    { "broken/op-threads", NULL, "determinism", "failed", "3 threads" },
    { "broken/op-fast-math", NULL, "nan", "failed", "-ffast-math" },
    /* what it does to the process */
    { "broken/attention-crashes", NULL, "shapes", "crashed", "Segmentation" },
    { "broken/attention-exits", NULL, "shapes", "crashed", "ends the process" },
    { "broken/attention-hangs", NULL, "shapes", "timed out", "--time-limit" },
    { "broken/attention-allocates", NULL, "shapes", "memory", "--memory-limit" },
    { "broken/attention-leaks", NULL, "leaks", "failed", "leaks" },
    /* optimizers */
    { "broken/optimizer-no-rate", NULL, "rest", "failed", "in->rate" },
    { "broken/optimizer-climbs", NULL, "converges", "failed", "convex" },
    { "broken/optimizer-no-gate", NULL, "gate", "failed", "td_assign" },
    { "broken/optimizer-no-clip", NULL, "clip", "failed", "in->clip" },
    { "broken/optimizer-always-moves", NULL, "rest", "failed", "move" },
    /* what is opened, and what is a function of its arguments */
    { "broken/stateful", "tokenizer/broken", "round-trip", "failed", "come back" },
    { "broken/stateful", "loss/broken", "sums", "failed", "in->divisor" },
    { "broken/stateful", "data/broken", "leaks", "failed", "fetching records leaks" },
    { "broken/stateful", "data/broken", "resumed", "failed", "cursor" },
    { "broken/stateful", "logger/broken", "resumed", "failed", "cut what comes again" },
    { "broken/stateful", "logger/silent", "nowhere", "failed", "nobody told" },
    { "broken/stateful", "data/broken", "records", "failed", "overwritten" },
    { "broken/stateful", "loss/shared", "split", "failed", "overwritten" },
    { "broken/stateful", "loss/marked", "sums", "failed", "its sum is" },
    { "broken/stateful", "loss/marked", "bad-records", "failed", "is -1" },
    { "broken/stateful", "schedule/broken", "order", "failed", "another order" },
    { "broken/stateful", "loss/broken", "split", "failed", "td_random_uniform" },
};

/* The sanitizer sees to leaks, and its shadow hides how much is allocated. */
static bool is_measured(const mistake *m)
{
    return CHILD_MEASURES_MEMORY || (strcmp(m->test, "leaks") && strcmp(m->outcome, "memory"));
}

static const char *text_of(json_t *t, const char *key)
{
    const char *text = json_string_value(json_object_get(t, key));
    return text ? text : "";
}

static bool says(json_t *t, const char *wanted)
{
    json_t *findings = json_object_get(t, "findings");
    for (size_t k = 0; k < json_array_size(findings); k++)
        if (strstr(json_string_value(json_array_get(findings, k)), wanted))
            return true;
    return false;
}

/* What a sanitizer says of a broken module is meant, and goes to no log. */
static void no_reports(void) { setenv("ASAN_OPTIONS", "detect_leaks=0:handle_segv=0", 1); }

static void expect_named(const mistake *m)
{
    char              path[4096];
    child             run;
    json_t           *all, *tests;
    bool              found = false;
    const char       *arguments[12] = { "--time-limit", "20", "--memory-limit", "700" };
    const char *const only[] = { "--only", m->test };

    snprintf(path, sizeof path, "%s/%s.so", TANDEM_FIXTURES, m->file);
    if (!strcmp(m->outcome, "timed out"))
        arguments[1] = "2";
    if (strcmp(m->test, "load")) {
        arguments[4] = only[0];
        arguments[5] = only[1];
    }
    all = check_module(path, arguments, &run);
    tests = json_object_get(all, "tests");
    for (size_t k = 0; k < json_array_size(tests); k++) {
        json_t *t = json_array_get(tests, k);
        if (strcmp(text_of(t, "test"), m->test) ||
            (m->plugin && *text_of(t, "plugin") && strcmp(text_of(t, "plugin"), m->plugin)))
            continue;
        found = found || (!strcmp(text_of(t, "outcome"), m->outcome) && says(t, m->says));
    }
    cr_expect(found, "%s: test '%s' should be '%s' and say '%s', but:\n%s", m->file, m->test,
              m->outcome, m->says, run.out);
    cr_expect_eq(run.code, 1, "%s", m->file);
    json_decref(all);
    child_free(&run);
}

TestSuite(broken, .init = no_reports);

#define EVERY(part, of)                                                            \
    Test(broken, every_mistake_is_named_##part)                                    \
    {                                                                              \
        for (size_t k = part - 1; k < sizeof mistakes / sizeof *mistakes; k += of) \
            if (is_measured(&mistakes[k]))                                         \
                expect_named(&mistakes[k]);                                        \
    }
EVERY(1, 2)
EVERY(2, 2)

Test(broken, nothing_is_said_where_nothing_is_wrong)
{
    static const char *const fine[] = { "broken/attention-none", "broken/attention-divides",
                                        "broken/op-none", "broken/optimizer-none" };
    for (size_t k = 0; k < sizeof fine / sizeof *fine; k++) {
        char    path[4096];
        child   run;
        json_t *all;
        snprintf(path, sizeof path, "%s/%s.so", TANDEM_FIXTURES, fine[k]);
        all = check_module(path, NULL, &run);
        cr_expect_eq(run.code, 0, "%s: %s", fine[k], run.out);
        json_decref(all);
        child_free(&run);
    }
}

/* Of several modules a line for each plugin, and rows for what was found. */
Test(broken, several_modules_are_told_shortly)
{
    child run = child_run((const char *[]){
        TANDEM_BINARY, "plugins", "check", TANDEM_FIXTURES "/broken/op-none.so",
        TANDEM_FIXTURES "/broken/optimizer-climbs.so", "--only", "converges", NULL });
    cr_expect_eq(run.code, 1);
    cr_expect(strstr(run.out, "broken/op-none.so\n"), "%s", run.out);
    cr_expect(strstr(run.out, "  optimizer/optimizer-climbs"), "%s", run.out);
    cr_expect(strstr(run.out, " 0 ok, but\n  converges      failed     400 updates"), "%s",
              run.out);
    cr_expect(strstr(run.out, "3 tests: 2 ok, 1 with findings"), "%s", run.out);
    child_free(&run);
}

/* A module that is another one by the time a test runs is no module without findings. */
Test(broken, what_is_not_there_is_no_success)
{
    static const char *const runs[][2] = { { "attention-none", "attention/other" },
                                           { "attention-nowhere", "attention/none" } };
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        char  path[4096];
        child run;
        snprintf(path, sizeof path, "%s/broken/%s.so", TANDEM_FIXTURES, runs[k][0]);
        run = child_run((const char *[]){ TANDEM_BINARY, "plugins", "check", "--here", "--only",
                                          "shapes", "--plugin", runs[k][1], path, NULL });
        cr_expect_eq(run.code, 1, "%s: %s", runs[k][0], run.out);
        child_free(&run);
    }
}

/* Stopped in the middle of a test that hangs, it removes what it made. */
Test(broken, stopped_it_leaves_nothing)
{
    child run = child_run((const char *[]){
        "sh", "-c",
        "d=$(mktemp -d) && TMPDIR=$d timeout -s INT 2 " TANDEM_BINARY
        " plugins check " TANDEM_FIXTURES "/broken/attention-hangs.so >&2; echo code $?; "
        "ls -A $d; rm -r $d",
        NULL });
    cr_expect_str_eq(run.out, "code 124\n", "%s", run.out);
    child_free(&run);
}
