/* broken.c - modules with one defect each: the suite must report each of them, in the test and with
 * the words below, and report nothing else. */
#include "conformance/check.h"
#include "open_mpi.h"

#ifdef __SANITIZE_ADDRESS__ /* the sanitizer ends the process before the read */
#define NULL_READ "member access within null pointer"
#else
#define NULL_READ "Segmentation"
#endif

typedef struct defect {
    const char *file, *plugin, *test, *outcome, *says;
} defect;

static const defect defects[] = {
    /* mistakes in the file itself */
    { "modules/other-major", NULL, "load", "failed", "built for plugin ABI" },
    { "modules/newer-minor", NULL, "load", "failed", "newer plugin ABI" },
    { "modules/older-minor", NULL, "load", "failed", "no longer runs" },
    { "modules/option-twice", NULL, "load", "failed", "twice" },
    { "modules/option-outside", NULL, "load", "failed", "outside" },
    { "modules/flush-to-zero", NULL, "load", "failed", "-ffast-math" },
    { "modules/no-symbol", NULL, "load", "failed", "exports no symbol" },
    { "broken/attention-exports", NULL, "load", "failed", "'helper'" },
    { "broken/position-bad-name", NULL, "load", "failed", "not valid UTF-8" },
    /* in its option table */
    { "broken/attention-config-size", NULL, "offsets", "crashed", "Segmentation" },
    { "broken/attention-wrong-offset", NULL, "offsets", "failed", "no option sets" },
    { "broken/attention-overlap", NULL, "table", "failed", "overlap" },
    { "broken/attention-no-doc", NULL, "table", "failed", "has no doc" },
    /* in its computation */
    { "broken/attention-sees-future", NULL, "causality", "failed", "predicted after it" },
    { "broken/attention-peeks-if", NULL, "causality", "failed", "peeks = true" },
    { "broken/attention-ignores-window", NULL, "windows", "failed", "td_mask.window" },
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
    /* in its effects on the process */
    { "broken/attention-crashes", NULL, "shapes", "crashed", "Segmentation" },
    { "broken/attention-exits", NULL, "shapes", "crashed", "ended the process" },
    { "broken/attention-hangs", NULL, "shapes", "timed out", "--time-limit" },
    { "broken/attention-allocates", NULL, "shapes", "memory", "--memory-limit" },
    { "broken/attention-leaks", NULL, "leaks", "failed", "leaks" },
    /* optimizers */
    { "broken/optimizer-no-rate", NULL, "still", "failed", "in->rate" },
    { "broken/optimizer-climbs", NULL, "converges", "failed", "convex" },
    { "broken/optimizer-no-gate", NULL, "gate", "failed", "td_assign" },
    { "broken/optimizer-no-clip", NULL, "clip", "failed", "in->clip" },
    { "broken/optimizer-always-moves", NULL, "still", "failed", "move" },
    /* in plugins with state, and in pure functions */
    { "broken/stateful", "tokenizer/broken", "round-trip", "failed", "come back" },
    { "broken/stateful", "loss/broken", "sums", "failed", "in->divisor" },
    { "broken/stateful", "data/pairs", "records", "failed", "larger than the pair" },
    { "broken/stateful", "data/broken", "leaks", "failed", "fetching records leaks" },
    { "broken/stateful", "data/broken", "resumed", "failed", "cursor" },
    { "broken/stateful", "logger/broken", "resumed", "failed", "remove repeated lines" },
    { "broken/stateful", "logger/silent", "nowhere", "failed", "lost silently" },
    { "broken/stateful", "data/broken", "records", "failed", "overwritten" },
    { "broken/stateful", "loss/shared", "split", "failed", "overwritten" },
    { "broken/stateful", "loss/marked", "sums", "failed", "its sum is" },
    { "broken/stateful", "loss/marked", "bad-records", "failed", "is -1" },
    { "broken/stateful", "metric/broken", "order", "failed", "keep nothing between calls" },
    { "broken/stateful", "metric/silence", "right", "failed", "no answer (text = NULL)" },
    { "broken/stateful", "schedule/broken", "order", "failed", "a different order" },
    { "broken/stateful", "loss/broken", "split", "failed", "td_random_uniform" },
    { "broken/attention-detaches-bias", NULL, "gradients", "failed", "position 't5-relative'" },
    { "broken/attention-unread", NULL, "unread", "failed", "option 'unread' changes nothing" },
    { "broken/attention-first-row", NULL, "permutation", "failed", "rows of the batch swapped" },
    { "broken/attention-returns-null", NULL, "shapes", "failed", "returned NULL" },
    { "broken/attention-nan-scale", NULL, "shapes", "failed", "is nan" },
    { "broken/optimizer-two-moments", NULL, "moments", "failed", "two moments 'm'" },
    { "broken/optimizer-counts", NULL, "restored", "failed", "is all state a td_moment?" },
    { "broken/optimizer-counts", NULL, "determinism", "failed", "two identical runs" },
    { "broken/optimizer-first", NULL, "shared", "failed", "across 3 processes" },
    { "broken/optimizer-rank-two", NULL, "shapes", "crashed", NULL_READ },
    /* norms and feed-forward layers */
    { "broken/parts", "norm/peeks", "causality", "failed", "predicted after it" },
    { "broken/parts", "norm/mixes_tokens", "masked", "failed", "in " },
    { "broken/parts", "norm/mixes_rows", "permutation", "failed", "rows must not mix" },
    { "broken/parts", "norm/blocks", "gradients", "failed", "central differences" },
    { "broken/parts", "norm/counts", "determinism", "failed", "differ between two" },
    { "broken/parts", "norm/leaks", "leaks", "failed", "leaks" },
    { "broken/parts", "norm/narrows", "shapes", "failed", "in " },
    { "broken/parts", "norm/returns_null", "shapes", "failed", "returned NULL" },
    { "broken/parts", "norm/only_unread", "unread", "failed", "is it read?" },
    { "broken/parts", "ffn/peeks", "causality", "failed", "predicted after it" },
    { "broken/parts", "ffn/mixes_tokens", "packing", "failed", "without the other example" },
    { "broken/parts", "ffn/mixes_rows", "permutation", "failed", "rows must not mix" },
    { "broken/parts", "ffn/blocks", "gradients", "failed", "central differences" },
    { "broken/parts", "ffn/counts", "determinism", "failed", "differ between two" },
    { "broken/parts", "ffn/leaks", "leaks", "failed", "leaks" },
    { "broken/parts", "ffn/narrows", "shapes", "failed", "in " },
    { "broken/parts", "ffn/returns_null", "shapes", "failed", "returned NULL" },
    { "broken/parts", "ffn/cubes", "shapes", "failed", "in " },
    { "broken/parts", "ffn/only_unread", "unread", "failed", "is it read?" },
    /* positional schemes */
    { "broken/parts", "position/places", "packing", "failed", "without the other example" },
    { "broken/parts", "position/places", "steps", "failed", "row 0 of 1" },
    { "broken/parts", "position/future", "causality", "failed", "predicted after it" },
    { "broken/parts", "position/future", "padding", "failed", "sees padding" },
    { "broken/parts", "position/rotates_places", "packing", "failed", "without the other" },
    { "broken/parts", "position/silent", "shapes", "failed", "check fails without a message" },
    /* what is opened, once more */
    { "broken/opened", "schedule/negative", "rates", "failed", "finite and not negative" },
    { "broken/opened", "schedule/divides", "rates", "failed", "the rate of step 0 is inf" },
    { "broken/opened", "schedule/ends", "rates", "failed", "is nan" },
    { "broken/opened", "tokenizer/beyond", "ids", "failed", "outside the vocabulary" },
    { "broken/opened", "tokenizer/leaking", "leaks", "failed", "leaks" },
    { "broken/opened", "tokenizer/anything", "ids", "failed", "decode accepts id" },
    { "broken/opened", "tokenizer/shorter", "round-trip", "failed", "come back" },
    { "broken/opened", "data/beyond", "records", "failed", "outside the vocabulary" },
    { "broken/opened", "data/few", "records", "failed", "cannot be fetched" },
    { "broken/opened", "data/unseeded", "seed", "failed", "shuffle by in->seed" },
    { "broken/opened", "data/silent", "records", "failed", "no message" },
    { "broken/opened", "logger/unflushed", "flushed", "failed", "bytes after flush" },
    { "broken/opened", "logger/flushless", "flushed", "failed", "it has no flush" },
    { "broken/opened", "logger/finite", "write", "failed", "write fails" },
    { "broken/opened", "logger/printing", "write", "failed", "prints on standard output" },
    { "broken/opened", "logger/leaking", "leaks", "failed", "leaks" },
    /* architectures */
    { "broken/architecture", "architecture/one_segment", "masked", "failed", "previous example" },
    { "broken/architecture", "architecture/one_segment", "packing", "failed", "without the other" },
    { "broken/architecture", "architecture/runs_on", "packing", "failed", "position 'learned'" },
    { "broken/architecture", "architecture/own_label", "causality", "failed", "changing a label" },
    { "broken/architecture", "architecture/weighs_all", "shapes", "failed", "but 2 losses" },
    { "broken/architecture", "architecture/too_short", "shapes", "failed", "do not fit" },
    { "broken/architecture", "architecture/no_vocabulary", "shapes", "failed", "vocab_size is 3" },
    { "broken/architecture", "architecture/mixes", "permutation", "failed", "rows must not mix" },
    { "broken/architecture", "architecture/detaches", "gradients", "failed",
      "central differences" },
    { "broken/architecture", "architecture/only_unread", "unread", "failed", "is it read?" },
    /* losses, schedules, optimizers */
    { "broken/training", "loss/only_unread", "unread", "failed", "is it read?" },
    { "broken/training", "loss/detaches", "gradients", "failed", "central differences" },
    { "broken/training", "loss/mixes", "permutation", "failed", "rows must not mix" },
    { "broken/training", "loss/longer", "split", "failed", "but bounds promises" },
    { "broken/training", "loss/uncapped", "caps", "failed", "td_cross_entropy_capped" },
    { "broken/training", "loss/half_capped", "caps", "failed", "and without a cap" },
    { "broken/training", "schedule/only_unread", "unread", "failed", "is it read?" },
    { "broken/training", "optimizer/only_unread", "unread", "failed", "is it read?" },
    /* dropout */
    { "broken/dropout", "ffn/own_rate", "dropout", "failed", "a fraction of 0.225" },
    { "broken/dropout", "ffn/one_place", "dropout", "failed", "use the same place" },
    { "broken/dropout", "ffn/same_masks", "dropout", "failed", "in every step" },
    { "broken/dropout", "ffn/always", "dropout", "failed", "in evaluation, too" },
    { "broken/dropout", "ffn/unscaled", "dropout", "failed", "central differences" },
    /* communicators and backends */
    { "broken/machine", "comm/twice", "contract", "failed", "yields 2 in float" },
    { "broken/machine", "comm/narrow", "contract", "failed", "all_reduce fails" },
    { "broken/machine", "comm/spoils", "contract", "failed", "broadcast fails" },
    { "broken/machine", "comm/absent", "contract", "failed", "rank 1 of 1" },
    { "broken/machine", "comm/nobody", "contract", "failed", "rank 0 of 0" },
    { "broken/machine", "comm/misroutes", "contract", "failed", "all_to_all: part 0" },
    { "broken/machine", "comm/gathers_nothing", "contract", "failed", "all_gather: part 0" },
    { "broken/machine", "comm/silent", "contract", "failed", "no message" },
    { "broken/machine", "comm/leaks", "leaks", "failed", "leaks" },
    { "broken/ranks", "comm/wrong_at_one", "ranks", "failed", "rank 1: all_reduce: the sum of" },
    { "broken/ranks", "comm/own_order", "ranks", "failed", "must add in the same order" },
    { "broken/ranks", "comm/from_zero", "ranks", "failed",
      "differ from what the root, rank 1, sent" },
    { "broken/ranks", "comm/shifted", "ranks", "failed", "all_to_all: part 0" },
    { "broken/ranks", "comm/short_at_two", "ranks", "failed", "rank 2: all_gather: part 0" },
    { "broken/ranks", "comm/waits_at_two", "ranks", "timed out", "--time-limit" },
    { "broken/ranks", "comm/backwards", "ranks", "failed", "it claims rank 2 of 3, but mpirun" },
    { "broken/machine", "backend/dirty", "memory", "failed", "is not zeroed" },
    { "broken/machine", "backend/crooked", "memory", "failed", "not aligned" },
    { "broken/machine", "backend/hoards", "leaks", "failed", "leaks" },
    { "broken/machine", "backend/poor", "memory", "failed", "returns NULL" },
    { "broken/machine", "backend/one_way", "memory", "failed", "both or neither" },
    { "broken/machine", "backend/forgets", "memory", "failed", "differ from those stored" },
    { "broken/machine", "backend/fails", "memory", "failed", "sync fails" },
    { "broken/machine", "backend/stands", "memory", "failed", "0 FLOP/s" },
    /* ops and kernels */
    { "broken/op-no-gradient", NULL, "gradients", "failed", "no gradient flows" },
    { "broken/op-tail", "kernels/op-tail", "values", "failed", "against double" },
    { "broken/op-stale", "kernels/op-stale", "values", "failed", "against double" },
    { "broken/op-fails", "kernels/op-fails", "values", "failed", "failed with code" },
    /* formats */
    { "broken/formats", "format/forgets", "complete", "failed",
      "no tensor is made from the parameter 'model.norm.weight'" },
    { "broken/formats", "format/twice", "complete", "failed", "two tensors are named" },
    { "broken/formats", "format/invents", "complete", "failed", "is not a parameter of the model" },
    { "broken/formats", "format/overlooks", "complete", "failed", "it does not know model." },
    { "broken/formats", "format/half", "read", "failed", "has another shape" },
    { "broken/formats", "format/nothing", "read", "failed", "it does not read what it writes" },
    { "broken/formats", "format/leaking", "leaks", "failed", "writing leaks" },
    { "broken/formats", "format/unnamed", "complete", "failed", "must have a name" },
    { "broken/formats", "format/deep", "complete", "failed", "'more', must have a name" },
    { "broken/formats", "format/negative", "complete", "failed", "'more', must have a name" },
    /* metrics */
    { "broken/opened", "metric/nan", "statistics", "failed", "it must be finite" },
    { "broken/opened", "metric/much", "statistics", "failed", "it must be in [0, 1]" },
    { "broken/opened", "metric/leaking", "leaks", "failed", "measuring leaks" },
    { "broken/opened", "metric/wrong", "right", "failed", "correct answers have a score of 0" },
};

/* With sanitizers the sanitizer reports leaks, and its shadow memory hides how much is
 * allocated. Without Open MPI several processes are neither built nor started. */
static bool is_measured(const defect *m)
{
    if (!strcmp(m->file, "broken/ranks") && !there_is_mpi())
        return false;
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
    /* the cpu backend reserves 128 MiB of addresses for each of up to three threads */
    const char       *arguments[12] = { "--time-limit", "20", "--memory-limit", "1200" };
    const char *const only[] = { "--only", m->test };

    snprintf(path, sizeof path, "%s/%s.so", TANDEM_FIXTURES, m->file);
    if (!strcmp(m->outcome, "timed out"))
        arguments[1] = "2";
    if (strcmp(m->test, "load")) {
        arguments[4] = only[0];
        arguments[5] = only[1];
    }
    if (m->plugin) {
        arguments[6] = "--plugin";
        arguments[7] = m->plugin;
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
EVERY(1, 3)
EVERY(2, 3)
EVERY(3, 3)

/* The test itself finds nothing where there is nothing, and says why it did not run. */
Test(broken, ranks_without_a_mistake)
{
    const defect      none = { .file = "broken/ranks", .test = "ranks", .outcome = "ok" };
    const char *const right[] = { "--plugin", "comm/none", "--only", "ranks", NULL };
    const char *const lonely[] = { "--plugin", "comm/lonely", "--only", "ranks", NULL };
    child             run;
    json_t           *all;
    if (!is_measured(&none))
        return;
    all = check_module(TANDEM_FIXTURES "/broken/ranks.so", right, &run);
    cr_expect_eq(run.code, 0, "%s%s", run.out, run.err);
    cr_expect(strstr(run.out, "\"outcome\": \"ok\""), "%s", run.out);
    json_decref(all);
    child_free(&run);
    all = check_module(TANDEM_FIXTURES "/broken/ranks.so", lonely, &run);
    cr_expect_eq(run.code, 0, "%s%s", run.out, run.err);
    cr_expect(strstr(run.out, "it connects a single process, not the 3 that mpirun started"), "%s",
              run.out);
    json_decref(all);
    child_free(&run);
}

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
    cr_expect(strstr(run.out, " 0 ok, but:\n  converges      failed     after 400 updates"), "%s",
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
