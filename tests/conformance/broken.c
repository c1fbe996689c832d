/* broken.c - modules with one defect each: the suite must report every one, in the test and with
 * the words below, and report nothing where there is none. */
#include "conformance/check.h"

typedef struct defect {
    const char *file, *plugin, *test, *outcome, *says;
} defect;

static const defect defects[] = {
    /* what the file is */
    { "modules/other-major", NULL, "load", "failed", "built for plugin ABI" },
    { "modules/newer-minor", NULL, "load", "failed", "newer plugin ABI" },
    { "modules/option-twice", NULL, "load", "failed", "twice" },
    { "modules/option-outside", NULL, "load", "failed", "outside" },
    { "modules/flush-to-zero", NULL, "load", "failed", "-ffast-math" },
    { "modules/no-symbol", NULL, "load", "failed", "exports no symbol" },
    { "broken/attention-exports", NULL, "load", "failed", "'helper'" },
    { "broken/position-bad-name", NULL, "load", "failed", "not valid UTF-8" },
    /* its option table */
    { "broken/attention-config-size", NULL, "offsets", "crashed", "Segmentation" },
    { "broken/attention-wrong-offset", NULL, "offsets", "failed", "no option sets" },
    { "broken/attention-overlap", NULL, "table", "failed", "overlap" },
    { "broken/attention-no-doc", NULL, "table", "failed", "has no doc" },
    /* what it computes */
    { "broken/attention-sees-future", NULL, "causality", "failed", "predicted after it" },
    { "broken/attention-peeks-if", NULL, "causality", "failed", "peeks = true" },
    { "broken/attention-no-bias", NULL, "positions", "failed", "biases the scores" },
    { "broken/attention-no-rotate", NULL, "positions", "failed", "td_rotate" },
    { "broken/attention-mixes-rows", NULL, "permutation", "failed", "rows must not mix" },
    { "broken/attention-sees-neighbours", NULL, "masked", "failed", "masked key" },
    { "broken/attention-forgets", NULL, "steps", "failed", "td_remember" },
    { "broken/attention-ignores-length", NULL, "steps", "failed", "td_key_length" },
    { "broken/attention-carries-padding", NULL, "steps", "failed", "td_new_tokens" },
    { "broken/attention-remembers-by-pass", NULL, "steps", "failed", "under the same names" },
    { "broken/attention-blocks-gradient", NULL, "gradients", "failed", "central differences" },
    { "broken/attention-widthless", NULL, "shapes", "failed", "hook head_dim" },
    { "broken/attention-random", NULL, "determinism", "failed", "differ between two" },
    { "broken/position-peeks", NULL, "causality", "failed", "its own label" },
    { "broken/attention-no-utf8", NULL, "shapes", "failed", "?? in it" },
    { "broken/op-gradient", NULL, "gradients", "failed", "central differences" },
    { "broken/op-kernel", NULL, "values", "failed", "against double" },
    { "broken/op-unused", "kernels/op-unused", "values", "failed", "none of its kernels was used" },
    { "broken/op-threads", NULL, "determinism", "failed", "3 threads" },
    { "broken/op-fast-math", NULL, "nan", "failed", "-ffast-math" },
    /* what it does to the process */
    { "broken/attention-crashes", NULL, "shapes", "crashed", "Segmentation" },
    { "broken/attention-exits", NULL, "shapes", "crashed", "ended the process" },
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
    { "broken/stateful", "logger/broken", "resumed", "failed", "remove repeated lines" },
    { "broken/stateful", "logger/silent", "nowhere", "failed", "lost silently" },
    { "broken/stateful", "data/broken", "records", "failed", "overwritten" },
    { "broken/stateful", "loss/shared", "split", "failed", "overwritten" },
    { "broken/stateful", "loss/marked", "sums", "failed", "its sum is" },
    { "broken/stateful", "loss/marked", "bad-records", "failed", "is -1" },
    { "broken/stateful", "schedule/broken", "order", "failed", "another order" },
    { "broken/stateful", "loss/broken", "split", "failed", "td_random_uniform" },
};

/* With sanitizers leaks are the sanitizer's business, and its shadow memory hides how much is
 * allocated. */
static bool is_measured(const defect *m)
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

/* A sanitizer's report on a broken module is expected, and must not fail the run. */
static void no_reports(void) { setenv("ASAN_OPTIONS", "detect_leaks=0:handle_segv=0", 1); }

static void expect_named(const defect *m)
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

#define EVERY(part, of)                                                          \
    Test(broken, every_defect_is_named_##part)                                   \
    {                                                                            \
        for (size_t k = part - 1; k < sizeof defects / sizeof *defects; k += of) \
            if (is_measured(&defects[k]))                                        \
                expect_named(&defects[k]);                                       \
    }
EVERY(1, 2)
EVERY(2, 2)

Test(broken, nothing_is_reported_where_nothing_is_wrong)
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

/* For several modules: one line per plugin, and rows for findings only. */
Test(broken, several_modules_are_reported_briefly)
{
    child run = child_run((const char *[]){
        TANDEM_BINARY, "plugins", "check", TANDEM_FIXTURES "/broken/op-none.so",
        TANDEM_FIXTURES "/broken/optimizer-climbs.so", "--only", "converges", NULL });
    cr_expect_eq(run.code, 1);
    cr_expect(strstr(run.out, "broken/op-none.so\n"), "%s", run.out);
    cr_expect(strstr(run.out, "  optimizer/optimizer-climbs"), "%s", run.out);
    cr_expect(strstr(run.out, " 0 ok, but:\n  converges      failed     400 updates"), "%s",
              run.out);
    cr_expect(strstr(run.out, "3 tests: 2 ok, 1 with findings"), "%s", run.out);
    child_free(&run);
}

/* A plugin or module that is missing when its test runs must fail, or a crash of the loader would
 * pass. */
Test(broken, a_missing_plugin_is_no_success)
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

/* Interrupted while a test hangs, it removes its temporary files. */
Test(broken, an_interrupt_leaves_nothing_behind)
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
