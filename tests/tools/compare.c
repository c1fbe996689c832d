/* compare.c - `tandem compare` on results written by the test itself, so that every number is
 * known. */
#include <math.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "tools/scratch.h"

enum { SEQUENCES = 40, ITEMS = 30 };

/* Sequence k of a source; the second run is worse by about `more` on every token. */
static void put_sequences(const char *run, const char *source, double more)
{
    char name[100];
    snprintf(name, sizeof name, "%s/eval/heldout.jsonl", run);
    for (int k = 0; k < SEQUENCES; k++)
        put(name,
            "{\"source\":\"%s\",\"index\":%d,\"targets\":8,\"nll\":%.9f,\"weight\":8,"
            "\"text_bytes\":9,\"hash\":\"%s%d\"}\n",
            source, k, 2 + sin(k) + more * (1 + 0.5 * sin(3 * k)), source, k);
}

/* Item k is right if bit k is set. */
static void put_samples(const char *run, const char *task, unsigned right, int items)
{
    char name[100];
    snprintf(name, sizeof name, "%s/eval/suite.samples_%s.jsonl", run, task);
    for (int k = 0; k < items; k++)
        put(name, "{\"doc_id\":%d,\"doc\":{\"q\":\"question %d\"},\"target\":\"yes\",\"acc\":%d}\n",
            k, k, right >> k & 1);
}

static void put_run(const char *run, const char *plugin, double more, unsigned right)
{
    char name[100];
    snprintf(name, sizeof name, "%s/config.cfg", run);
    put(name, "schedule = { plugin = \"%s\"; peak = 0.01; };\nrun = { name = \"%s\"; };\n", plugin,
        run);
    snprintf(name, sizeof name, "%s/checkpoints/step-00000300/state.json", run);
    put(name, "{\"step\": 300, \"tokens\": 12000, \"flops\": 3e9}\n");
    snprintf(name, sizeof name, "%s/eval/heldout.json", run);
    put(name,
        "{\"kind\":\"heldout\",\"step\":300,\"nll\":%g,\"nll_error\":0.1,\"sources\":[{\"source\":"
        "\"facts\",\"nll\":%g,\"nll_error\":0.1},{\"source\":\"code\",\"nll\":%g}]}\n",
        2 + more, 2 + more, 2 + more);
    put_sequences(run, "facts", more);
    put_sequences(run, "code", more);
    snprintf(name, sizeof name, "%s/eval/suite.json", run);
    put(name,
        "{\"kind\":\"tasks\",\"step\":300,\"results\":{\"boolq\":{\"alias\":\"boolq\",\"acc,none\":"
        "%g,\"acc_stderr,none\":0.05}}}\n",
        __builtin_popcount(right) / (double)ITEMS);
    put_samples(run, "boolq", right, ITEMS);
}

/* red and another run. */
static child compare_with(const char *other, const char *more)
{
    char        a[100], b[100];
    const char *argv[] = { TANDEM_BINARY, "compare", a, b, more, NULL };
    snprintf(a, sizeof a, "%s/red", directory);
    snprintf(b, sizeof b, "%s/%s", directory, other);
    return child_run(argv);
}

static child compare(const char *more) { return compare_with("dec", more); }

/* The first model is right on 25 of 30 questions, the second on 11; both on 10. */
static void setup(void)
{
    strcpy(directory, "/tmp/tandem-compare-XXXXXX");
    cr_assert(mkdtemp(directory));
    put_run("red", "constant", 0, 0x1ffffff);
    put_run("dec", "wsd", 0.3, 0x20003ff);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(compare, .init = setup, .fini = teardown);

static json_t *compare_json(void)
{
    child   c = compare("--json");
    json_t *j;
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    child_free(&c);
    return j;
}

static const json_t *find(const json_t *j, const char *measure)
{
    size_t        k;
    const json_t *p;
    json_array_foreach(json_object_get(j, "pairs"), k, p)
    {
        if (!strcmp(json_string_value(json_object_get(p, "measure")), measure))
            return p;
    }
    return NULL;
}

static double number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

/* Right and wrong answers: 15 questions only the first model answers, one only the second. */
Test(compare, questions_by_mcnemar)
{
    json_t       *j = compare_json();
    const json_t *p = find(j, "boolq acc");
    cr_assert(p);
    cr_expect_str_eq(json_string_value(json_object_get(p, "method")), "McNemar");
    cr_expect_float_eq(number(p, "difference"), -14 / 30., 1e-12);
    cr_expect_float_eq(number(p, "p"), 2 * 17 / 65536., 1e-12); /* (1 + 16) 2^-16 on both sides */
    cr_expect(number(p, "low") < -14 / 30. && number(p, "high") < 0);
    cr_expect_eq(number(p, "pairs"), ITEMS);
    json_decref(j);
}

/* The mean over sources of the mean differences per token; Holm's correction counts all four
 * tests. */
Test(compare, sequences_by_bootstrap)
{
    json_t       *j = compare_json();
    const json_t *p = find(j, "heldout"), *facts = find(j, "heldout facts");
    double        mean = 0;
    for (int k = 0; k < SEQUENCES; k++)
        mean += 0.3 * (1 + 0.5 * sin(3 * k)) / SEQUENCES;
    cr_assert(p && facts);
    cr_expect_eq(json_array_size(json_object_get(j, "pairs")), 4);
    cr_expect_str_eq(json_string_value(json_object_get(p, "method")), "bootstrap");
    cr_expect_float_eq(number(p, "difference"), mean, 1e-7);
    cr_expect_float_eq(number(facts, "difference"), mean, 1e-7);
    cr_expect(number(p, "low") > 0.2 && number(p, "low") < mean && number(p, "high") > mean);
    cr_expect(number(p, "pairs") == 2 * SEQUENCES && number(facts, "pairs") == SEQUENCES);
    cr_expect_float_eq(number(p, "p_adjusted"), 4. / 10001, 1e-12);
    json_decref(j);
}

/* Only items that both models answered are tested; the rest are reported. */
Test(compare, items_in_common)
{
    json_t *j;
    child   c;
    char    path[200], command[500];
    put_sequences("red", "lists", 0);
    put("red/eval/more.json", "{\"kind\":\"tasks\",\"results\":{\"rte\":{\"acc,none\":0.5}}}\n");
    snprintf(path, sizeof path, "%s/dec/eval/suite.samples_boolq.jsonl", directory);
    snprintf(command, sizeof command, "sed -i '1,3d; s/question 7/another 7/' %s", path);
    cr_assert_eq(system(command), 0);
    j = compare_json();
    cr_expect_eq(number(find(j, "boolq acc"), "pairs"), ITEMS - 4);
    cr_expect_eq(number(find(j, "heldout"), "pairs"), 2 * SEQUENCES);
    cr_expect(!find(j, "rte acc"));
    json_decref(j);
    c = compare(NULL);
    cr_expect(strstr(c.out, "\nheldout: '") && strstr(c.out, ", more than noise (p 0.000"), "%s",
              c.out);
    cr_expect(strstr(c.out, " differences are more than noise of the scored text (Holm"), "%s",
              c.out);
    cr_expect(strstr(c.out, "boolq acc: '") && strstr(c.out, "has 30 items") &&
                  strstr(c.out, "the test is on the 26 that they have in common"),
              "%s", c.out);
    child_free(&c);
}

Test(compare, tables)
{
    child c = compare(NULL), csv = compare("--csv");
    cr_assert_eq(c.code, 0, "%s", c.err);
    cr_expect(strstr(c.out, "schedule.plugin: \"constant\" -> \"wsd\"") &&
                  strstr(c.out, "2.0000 +- 0.1000") && strstr(c.out, "red -> dec") &&
                  strstr(c.out, "McNemar"),
              "%s", c.out);
    cr_expect(strstr(csv.out, "\"boolq acc\",\""), "%s", csv.out);
    cr_expect(strstr(csv.out, ",0.833333,0.366667,-0.466666667,"), "%s", csv.out);
    child_free(&c);
    child_free(&csv);
}

static void truncate_file(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    cr_assert(!truncate(path, 0));
}

/* A state.json that is a pipe, or has a step that no run makes, leaves the scores as they are. */
Test(compare, a_state_that_cannot_be_read_is_noted)
{
    char  path[300];
    child c;
    snprintf(path, sizeof path, "%s/red/checkpoints/step-00000300/state.json", directory);
    cr_assert(!unlink(path) && !mkfifo(path, 0600));
    c = compare(NULL);
    cr_expect(c.code == 0 && strstr(c.out, "steps, tokens and FLOPs of '") &&
                  strstr(c.out, "step-00000300' are unknown: cannot read '") && c.seconds < 15,
              "%s%s", c.out, c.err);
    child_free(&c);
    cr_assert(!unlink(path));
    put("red/checkpoints/step-00000300/state.json", "{\"step\": 1e300, \"tokens\": 12000}\n");
    c = compare(NULL);
    cr_expect_eq(c.code, 0, "%s", c.err);
    child_free(&c);
}

/* Scores older than the run, damaged files, and runs without any. */
Test(compare, reports_mistakes)
{
    child c;
    put("red/checkpoints/step-00000400/state.json", "{\"step\": 400}\n");
    c = compare(NULL);
    cr_expect(strstr(c.out, "are from step 300, but the run is at step 400"), "%s", c.out);
    child_free(&c);
    put("dec/eval/heldout.jsonl", "{\"source\":");
    c = compare(NULL);
    cr_expect(c.code == 1 && strstr(c.err, "heldout.jsonl', line 81, is not a JSON object"), "%s",
              c.err);
    child_free(&c);
    truncate_file("dec/eval/heldout.jsonl");
    put("dec/eval/heldout.jsonl",
        "{\"source\":\"facts\",\"nll\":2,\"weight\":-3,\"hash\":\"a\"}\n");
    c = compare(NULL);
    cr_expect(c.code == 1 &&
                  strstr(c.err, "heldout.jsonl', sequence 1, has \"nll\" 2 and \"weight\" -3"),
              "%s", c.err);
    child_free(&c);
    put("none/config.cfg", "run = { name = \"none\"; };\n");
    c = compare_with("none", NULL);
    cr_expect(c.code == 2 && strstr(c.err, "none' has no results in eval: run `tandem evaluate"),
              "%s", c.err);
    child_free(&c);
    c = compare_with("nowhere", NULL);
    cr_expect(c.code == 2 && strstr(c.err, "nowhere' is neither a run nor a checkpoint"), "%s",
              c.err);
    child_free(&c);
    c = compare_with("cells/cache", NULL);
    cr_expect(c.code == 2 && strstr(c.err, "name at least two runs"),
              "cells/cache was counted as a run: %s", c.err);
    child_free(&c);
}

/* What a pattern such as RUNS/ * adds: a run that was already named, and the prepared data. */
Test(compare, reads_each_run_once)
{
    child c = compare_with("red", NULL);
    cr_expect(c.code == 2 && strstr(c.err, "red' is a run that was already named") &&
                  strstr(c.err, "name at least two different runs"),
              "%s", c.err);
    child_free(&c);
    c = compare_with("dec", "cache/");
    cr_expect(!c.code && !strstr(c.err, "cache"), "%s", c.err);
    child_free(&c);
}

/* ---- seeds ------------------------------------------------------------------------------------- */

/* Seed k of a config: worse by `more` on every token, and right on these questions. */
static void put_seed(const char *name, const char *plugin, int seed, double more, unsigned right)
{
    char run[40], file[80];
    snprintf(run, sizeof run, "%s-%d", name, seed);
    put_run(run, plugin, more, right);
    snprintf(file, sizeof file, "%s/config.cfg", run);
    put(file, "train = { seed = %d; };\n", seed);
}

static child compare_seeds(const char *more)
{
    static const char *const names[] = { "a-1", "a-2", "a-3", "b-1", "b-2" };
    char                     path[5][100];
    const char              *argv[] = { TANDEM_BINARY, "compare", path[0], path[1], path[2],
                                        path[3],       path[4],   more,    NULL };
    put_seed("a", "constant", 1, 0.0, 0xff);
    put_seed("a", "constant", 2, 0.2, 0x3ff);
    put_seed("a", "constant", 3, 0.1, 0x7f);
    put_seed("b", "wsd", 1, 0.5, 0xf);
    put_seed("b", "wsd", 2, 0.7, 0x1f);
    for (int k = 0; k < 5; k++)
        snprintf(path[k], sizeof path[k], "%s/%s", directory, names[k]);
    return child_run(argv);
}

static const json_t *measure_of(const json_t *j, const char *name)
{
    size_t        k;
    const json_t *m;
    json_array_foreach(json_object_get(j, "measures"), k, m)
    {
        if (!strcmp(json_string_value(json_object_get(m, "measure")), name))
            return m;
    }
    return NULL;
}

Test(compare, seeds_are_averaged)
{
    child         c = compare_seeds("--json");
    json_t       *j = child_json(&c);
    const json_t *groups = json_object_get(measure_of(j, "heldout"), "groups"), *p;
    const json_t *a = json_array_get(groups, 0), *b = json_array_get(groups, 1);
    cr_assert_eq(c.code, 0, "%s", c.err);
    cr_assert_eq(json_array_size(groups), 2);
    cr_expect_float_eq(number(a, "score"), 2.1, 1e-9);
    cr_expect_float_eq(number(a, "deviation"), 0.1, 1e-9);
    cr_expect_float_eq(number(a, "error"), 0.1 / sqrt(3), 1e-9);
    cr_expect_float_eq(number(b, "score"), 2.6, 1e-9);
    cr_expect_float_eq(number(b, "deviation"), 0.2 / sqrt(2), 1e-9);
    cr_expect_eq(number(a, "seeds"), 3);
    a = json_array_get(json_object_get(measure_of(j, "boolq acc"), "groups"), 0);
    cr_expect_float_eq(number(a, "score"), 25 / 90., 1e-6);
    p = find(j, "heldout");
    cr_expect_str_eq(json_string_value(json_object_get(p, "method")), "t over seeds and items");
    /* means 0.5 apart, of 3 and 2 seeds with the variances 0.1^2 and 0.02: the sequences hardly
     * matter, so t has about 1.5 degrees of freedom */
    cr_expect(number(p, "difference") > 0.45 && number(p, "difference") < 0.55);
    cr_expect(number(p, "high") - number(p, "low") > 1, "the seeds are not in the interval");
    cr_expect_str_eq(json_string_value(json_object_get(find(j, "boolq acc"), "method")),
                     "t over seeds and items");
    /* 0.5 is 4.1 times the pooled deviation: noncentral t has a power of 0.5 with two seeds each, and
     * of 0.97 with three */
    cr_expect_float_eq(number(p, "spread"), sqrt(0.015), 1e-9);
    cr_expect_eq(number(p, "seeds_needed"), 3);
    json_decref(j);
    child_free(&c);
}

Test(compare, seeds_in_the_table)
{
    child c = compare_seeds(NULL);
    cr_expect(strstr(c.out, "a (3 seeds)") && strstr(c.out, "b (2 seeds)") &&
                  strstr(c.out, "2.1000 +- 0.0577 (0.1000)") &&
                  strstr(c.out, "3 runs that differ only in their seed: ") &&
                  strstr(c.out, "a -> b") &&
                  strstr(c.out, "; about 3 seeds each would show 0.4982"),
              "%s", c.out);
    child_free(&c);
}

Test(compare, seeds_as_csv)
{
    child c = compare_seeds("--csv");
    cr_expect(strstr(c.out, ",method,seeds_needed\n"), "%s", c.out);
    cr_expect(strstr(c.out, ",t over seeds and items,3\n"), "%s", c.out);
    cr_expect(strstr(c.out, ",t over seeds and items,\n"), "%s", c.out);
    child_free(&c);
}

/* A score in the thousands, as the perplexity of a model that has hardly learnt, takes more space. */
Test(compare, columns_are_as_wide_as_their_scores)
{
    char        path[3][100];
    const char *argv[] = { TANDEM_BINARY, "compare", path[0], path[1], path[2], NULL }, *line, *end;
    child       c;
    size_t      width;
    put_seed("a", "constant", 1, 7000, 0xff);
    put_seed("a", "constant", 2, 7500, 0x3ff);
    put_seed("b", "wsd", 1, 0.5, 0xf);
    for (int k = 0; k < 3; k++)
        snprintf(path[k], sizeof path[k], "%s/%s", directory,
                 (const char *const[]){ "a-1", "a-2", "b-1" }[k]);
    c = child_run(argv);
    line = strstr(c.out, "\nstep ");
    end = strstr(c.out, "\nfor several seeds");
    cr_assert(line && end && strstr(line, " (353.5534)"), "%s%s", c.out, c.err);
    width = strcspn(line + 1, "\n");
    for (; line < end; line += 1 + width)
        cr_expect_eq(strcspn(line + 1, "\n"), width, "%s", c.out);
    child_free(&c);
}

Test(compare, seeds_one_by_one)
{
    child c = compare_seeds("--by-run");
    cr_expect(strstr(c.out, "a-1 -> a-3") && !strstr(c.out, "seeds)"), "%s", c.out);
    child_free(&c);
}

/* Of these runs, as JSON. */
static json_t *groups_of(const char *first, const char *second, const char *third)
{
    char        path[3][100];
    const char *names[] = { first, second, third };
    const char *argv[] = { TANDEM_BINARY, "compare", path[0], path[1], path[2], "--json", NULL };
    child       c;
    json_t     *j;
    for (int k = 0; k < 3; k++)
        snprintf(path[k], sizeof path[k], "%s/%s", directory, names[k]);
    c = child_run(argv);
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    child_free(&c);
    return j;
}

/* A seed more, and another option: not a seed of it. red has the default seed, which x-1 names. */
Test(compare, what_is_no_seed)
{
    json_t *j;
    put_seed("x", "constant", 1, 0, 1);
    put_seed("x", "constant", 2, 0, 1);
    put_seed("x", "constant", 3, 0, 1);
    put("x-2/config.cfg", "optimizer = { plugin = \"lion\"; };\n");
    j = groups_of("x-1", "x-2", "x-3");
    cr_expect_eq(json_array_size(json_object_get(j, "groups")), 2);
    json_decref(j);
    j = groups_of("x-1", "x-1", "x-3"); /* named twice, it is one seed */
    cr_expect_eq(json_array_size(json_object_get(j, "groups")), 1);
    json_decref(j);
    j = groups_of("x-1", "red", "dec");
    cr_expect_eq(json_array_size(json_object_get(j, "groups")), 3);
    json_decref(j);
}

/* A finetuning of `start`, "" for none. */
static void put_finetuned(const char *run, const char *start, int seed)
{
    char file[80];
    put_run(run, "constant", 0.1 * seed, 0xff);
    snprintf(file, sizeof file, "%s/config.cfg", run);
    put(file, "train = { seed = %d; weights = \"%s/%s\"; };\n", seed, directory, start);
}

/* Each from its own seed's pretraining, named as a run, a checkpoint or a file. */
Test(compare, seeds_of_pretraining_and_finetuning)
{
    json_t *j;
    put_seed("pre", "wsd", 1, 0, 1);
    put_seed("pre", "wsd", 2, 0, 1);
    put_seed("other", "cosine", 3, 0, 1);
    put_finetuned("f-1", "pre-1", 1);
    put_finetuned("f-2", "pre-2", 2);
    put_finetuned("f-3", "other-3", 3);
    j = groups_of("f-1", "f-2", "f-3");
    cr_assert_eq(json_array_size(json_object_get(j, "groups")), 2);
    cr_expect_str_eq(json_string_value(
                         json_object_get(json_array_get(json_object_get(j, "groups"), 1), "name")),
                     json_string_value(
                         json_object_get(json_array_get(json_object_get(j, "runs"), 2), "run")));
    json_decref(j);
    put_finetuned("g-1", "pre-1/checkpoints/step-00000300", 1);
    put_finetuned("g-2", "pre-2/checkpoints/step-00000300/model.safetensors", 2);
    put("pre-2/checkpoints/step-00000400/state.json", "{\"step\": 400}\n");
    put_finetuned("g-3", "pre-2/checkpoints/step-00000400", 3);
    j = groups_of("g-1", "g-2", "g-3"); /* another step is another model */
    cr_expect_eq(json_array_size(json_object_get(j, "groups")), 2);
    json_decref(j);
    put_finetuned("h-1", "pre-1", 1);
    put_finetuned("h-2", "pre-2", 1); /* the same seed from another start is another seed, too */
    put_finetuned("h-3", "gone", 2);
    j = groups_of("h-1", "h-2", "h-3");
    cr_expect_eq(json_array_size(json_object_get(j, "groups")), 2);
    json_decref(j);
}

/* A chain of configs that name each other ends. */
Test(compare, starts_in_a_circle)
{
    json_t *j;
    put_finetuned("c-1", "c-2", 1);
    put_finetuned("c-2", "c-1", 2);
    put_finetuned("c-3", "c-3", 3);
    j = groups_of("c-1", "c-2", "c-3");
    cr_expect_eq(json_array_size(json_object_get(j, "groups")), 3);
    json_decref(j);
}

/* Long names of results only where they tell two apart. */
Test(compare, names_of_results)
{
    child c;
    put("red/eval/boolq+rte+arc-5-shot-generated-first-100.json",
        "{\"kind\":\"tasks\",\"results\":{\"arc\":{\"acc,none\":0.5}}}\n");
    put("red/eval/other.json", "{\"kind\":\"tasks\",\"results\":{\"rte\":{\"acc,none\":0.5}}}\n");
    put("red/eval/more.json", "{\"kind\":\"tasks\",\"results\":{\"rte\":{\"acc,none\":0.6}}}\n");
    c = compare(NULL);
    cr_expect(strstr(c.out, "arc acc (5-shot-generated-first-100) ") &&
                  strstr(c.out, "rte acc (other)") && strstr(c.out, "rte acc (more)"),
              "%s", c.out);
    child_free(&c);
}
