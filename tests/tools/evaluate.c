/* evaluate.c - `tandem evaluate` on runs and checkpoints: its scores, and the files it writes. */
#include <math.h>

#include "tools/command.h"

static char directory[64];

static const char config[] =
    "model = { plugin = \"decoder-only\"; vocab_size = 263; d_model = 32; layers = 1;\n"
    "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 16; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 48; }; };\n"
    "loss = { plugin = \"causal-lm\"; }; optimizer = { plugin = \"adamw\"; };\n"
    "schedule = { plugin = \"constant\"; peak = 0.01; }; tokenizer = { plugin = \"bytes\"; };\n"
    "data = { plugin = \"text\"; sources = (\n"
    "  { name = \"facts\"; files = ( \"data/corpus/facts.train.jsonl\" );\n"
    "    held_out = ( \"data/corpus/facts.valid.jsonl\" ); },\n"
    "  { name = \"code\"; files = ( \"data/corpus/code.train.jsonl\" );\n"
    "    held_out = ( \"data/corpus/code.valid.jsonl\" ); } ); };\n"
    "train = { steps = 4; length = 48; batch = 2; checkpoint_every = 2; keep_last = 0;\n"
    "  evaluate_every = -1; };\n"
    "evaluate = { sequences = 5; };\n";

static void setup(void)
{
    char  path[100];
    FILE *f;
    child c;
    strcpy(directory, "/tmp/tandem-evaluate-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/model.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f && fputs(config, f) >= 0 && !fclose(f));
    c = tandem("train -q -c %s run.dir=%s run.name=red", path, directory);
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(evaluate, .init = setup, .fini = teardown);

static json_t *read_json(const char *name)
{
    char         path[200];
    json_error_t e;
    json_t      *j;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    j = json_load_file(path, 0, &e);
    cr_assert(j, "%s: %s", path, e.text);
    return j;
}

static double number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

/* Sums over the lines of a file: per token over the lines of a source. */
static double mean_of(const char *name, const char *source, int *lines)
{
    char   path[200], line[400];
    double nll = 0, weight = 0;
    FILE  *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    f = fopen(path, "r");
    cr_assert(f, "%s", path);
    *lines = 0;
    while (fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL);
        cr_assert(j, "%s", line);
        if (!strcmp(json_string_value(json_object_get(j, "source")), source)) {
            nll += number(j, "nll") * number(j, "weight");
            weight += number(j, "weight");
            cr_expect_eq(number(j, "index"), *lines);
            cr_expect_eq(number(j, "targets"), 24);
            cr_expect(number(j, "text_bytes") > 20);
            ++*lines;
        }
        json_decref(j);
    }
    fclose(f);
    return nll / weight;
}

/* The table, the summary and the lines agree. */
Test(evaluate, leaves_its_scores_in_the_run)
{
    json_t *all, *facts;
    int     lines;
    expect(0, "parameters: '", "eval/heldout.json", tandem("evaluate %s/red", directory));
    all = read_json("red/eval/heldout.json");
    cr_expect_str_eq(json_string_value(json_object_get(all, "run")), "red");
    cr_expect_eq(number(all, "step"), 4);
    cr_expect_eq(number(json_object_get(all, "protocol"), "prefix"), 24);
    facts = json_array_get(json_object_get(all, "sources"), 0);
    cr_expect_eq(number(facts, "targets"), 5 * 24);
    cr_expect_float_eq(mean_of("red/eval/heldout.jsonl", "facts", &lines), number(facts, "nll"),
                       1e-12);
    cr_expect_eq(lines, 5);
    cr_expect(number(facts, "nll_error") > 0 && number(facts, "nll_error") < 1);
    mean_of("red/eval/heldout.jsonl", "code", &lines);
    cr_expect_eq(lines, 5);
    json_decref(all);
}

static void change(const char *format)
{
    char command[500];
    snprintf(command, sizeof command, format, directory);
    cr_assert_eq(system(command), 0, "%s", command);
}

/* A score with another digit is still a score, and a sequence with another name still a sequence:
 * only a hash tells. */
Test(evaluate, damaged_scores_are_refused)
{
    char    compare[300], path[200];
    json_t *j;
    expect(0, "", "", tandem("evaluate %s/red", directory));
    change("cp -r %1$s/red %1$s/blue");
    snprintf(compare, sizeof compare, "compare %s/red %s/blue", directory, directory);
    expect(0, "", "", tandem("%s", compare));
    change("sed -i '3s/\"hash\":\"./&0/' %s/red/eval/heldout.jsonl");
    expect(1, "", "heldout.jsonl' is damaged, was edited", tandem("%s", compare));
    change("cp %1$s/blue/eval/* %1$s/red/eval && "
           "sed -i 's/\"nll\": [0-9]/&1/' %1$s/red/eval/heldout.json");
    expect(1, "", "heldout.json' is damaged, or was edited", tandem("%s", compare));
    /* results of an older version have no hash */
    j = read_json("red/eval/heldout.json");
    snprintf(path, sizeof path, "%s/red/eval/heldout.json", directory);
    cr_assert(!json_object_del(j, "hash") && !json_dump_file(j, path, 0));
    json_decref(j);
    expect(0, "", "", tandem("%s", compare));
}

/* A sequence's score does not depend on its batch. */
Test(evaluate, sequences_do_not_depend_on_their_batch)
{
    char one[200], four[200], command[500];
    expect(0, "", "",
           tandem("evaluate -q %s/red --out %s/one evaluate.batch=1", directory, directory));
    expect(0, "", "",
           tandem("evaluate -q %s/red --out %s/four evaluate.batch=4 --threads 1", directory,
                  directory));
    snprintf(one, sizeof one, "%s/one/heldout.jsonl", directory);
    snprintf(four, sizeof four, "%s/four/heldout.jsonl", directory);
    snprintf(command, sizeof command, "cmp %s %s", one, four);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        cr_expect_eq(system(command), 0);
    else /* matrix products come from a library, which promises less */
        cr_expect(td_file_exists(one) && td_file_exists(four));
}

/* A checkpoint given by name gets a separate file; the run may have been moved. */
Test(evaluate, takes_checkpoints_and_moved_runs)
{
    char    command[300];
    json_t *j;
    expect(0, "step-00000002/model", "heldout-step-00000002.json",
           tandem("evaluate %s/red/checkpoints/step-00000002/", directory));
    j = read_json("red/eval/heldout-step-00000002.json");
    cr_expect_eq(number(j, "step"), 2);
    json_decref(j);
    snprintf(command, sizeof command, "mv %s/red %s/moved", directory, directory);
    cr_assert_eq(system(command), 0);
    expect(0, "moved/checkpoints/step-00000004", "moved/eval/heldout.json",
           tandem("evaluate %s/moved", directory));
    json_decref(read_json("moved/eval/heldout.json"));
}

/* Results of other parameters must not be taken for the run's. */
Test(evaluate, keeps_no_scores_of_other_parameters)
{
    char path[200], command[500];
    snprintf(path, sizeof path, "%s/other.safetensors", directory);
    snprintf(command, sizeof command, "cp %s/red/checkpoints/step-00000002/model.safetensors %s",
             directory, path);
    cr_assert_eq(system(command), 0);
    expect(0, "other.safetensors", "", tandem("evaluate -q %s/red --weights %s", directory, path));
    snprintf(path, sizeof path, "%s/red/eval", directory);
    cr_expect(!td_file_exists(path));
}

Test(evaluate, rejects_a_directory_without_a_run)
{
    expect(2, "", "'nowhere' is neither a run nor a checkpoint", tandem("evaluate nowhere"));
    expect(2, "", "no model", tandem("evaluate"));
    expect(2, "", "'nowhere' is neither a run nor a checkpoint",
           tandem("evaluate %s/red nowhere", directory));
    expect(2, "", "--out is for one run",
           tandem("evaluate %s/red %s/red --out x", directory, directory));
}

/* ---- several runs ------------------------------------------------------------------------------ */

/* red has seed 1; blue another seed, and green another schedule. */
static void train_others(void)
{
    static const char *const others[] = { "run.name=blue train.seed=7",
                                          "run.name=green schedule.peak=0.02" };
    for (int k = 0; k < 2; k++) {
        child c = tandem("train -q -c %s/model.cfg run.dir=%s %s", directory, directory, others[k]);
        cr_assert_eq(c.code, 0, "%s", c.err);
        child_free(&c);
    }
}

Test(evaluate, several_runs_and_the_mean_over_their_seeds)
{
    json_t      *red, *blue, *j;
    double       a, b;
    char         line[300];
    json_error_t e;
    train_others();
    child c = tandem("evaluate -q %s/red %s/blue %s/green", directory, directory, directory);
    cr_assert_eq(c.code, 0, "%s", c.err);
    red = read_json("red/eval/heldout.json");
    blue = read_json("blue/eval/heldout.json");
    a = number(red, "nll");
    b = number(blue, "nll");
    cr_assert(a != b);
    snprintf(line, sizeof line, " %10.4f %8.4f %10.4f      2\n", (a + b) / 2, fabs(a - b) / 2,
             fabs(a - b) / sqrt(2));
    cr_expect(strstr(c.out, "mean over seeds") && strstr(c.out, line), "'%s' is not in\n%s", line,
              c.out);
    child_free(&c);
    c = tandem("evaluate -q %s/red %s/blue --json", directory, directory);
    j = json_loads(c.out, 0, &e);
    cr_assert(j, "%s", c.out);
    cr_assert_eq(json_array_size(json_object_get(j, "runs")), 2);
    cr_expect_float_eq(number(json_array_get(json_object_get(j, "runs"), 1), "nll"), b, 1e-12);
    cr_expect_float_eq(number(json_array_get(json_object_get(j, "seeds"), 0), "mean"), (a + b) / 2,
                       1e-12);
    child_free(&c);
    json_decref(j);
    json_decref(red);
    json_decref(blue);
}

/* No two of them differ only in their seed. */
Test(evaluate, several_runs_without_seeds)
{
    train_others();
    child c = tandem("evaluate -q %s/red %s/green", directory, directory);
    cr_assert_eq(c.code, 0, "%s", c.err);
    cr_expect(!strstr(c.out, "mean over seeds"), "%s", c.out);
    child_free(&c);
}

/* ---- beyond the training length -------------------------------------------------------------- */

static double extrapolated(const json_t *j, int64_t prefix, int64_t length)
{
    size_t        k;
    const json_t *p;
    json_array_foreach(json_object_get(j, "lengths"), k, p)
    {
        if ((int64_t)number(p, "prefix") == prefix && (int64_t)number(p, "to") == length)
            return number(p, "nll");
    }
    return NAN;
}

/* The score that one long pass gives a shorter length equals that of a pass of that length. */
Test(evaluate, extrapolates_as_if_each_length_were_read_alone)
{
    static const int lengths[] = { 49, 96, 700 };
    json_t          *all;
    expect(0, "of joined text", "sequences are joined from shorter ones",
           tandem("evaluate %s/red --extrapolate --lengths 96,49,700 --prefixes 7,48 --sequences 1",
                  directory));
    all = read_json("red/eval/extrapolate.json");
    for (size_t k = 0; k < 3; k++) {
        json_t *alone;
        expect(0, "", "",
               tandem("evaluate -q %s/red --out %s/alone evaluate.length=%d evaluate.prefix=7 "
                      "evaluate.sequences=1",
                      directory, directory, lengths[k]));
        alone = read_json("alone/heldout.json");
        cr_expect_float_eq(extrapolated(all, 7, lengths[k]), number(alone, "nll"), 1e-5,
                           "%d: %.9g and %.9g", lengths[k], extrapolated(all, 7, lengths[k]),
                           number(alone, "nll"));
        json_decref(alone);
    }
    cr_expect(isfinite(extrapolated(all, 48, 49)));
    json_decref(all);
}

/* By default lengths are up to 8 times the training length, in documents; parts by position add
 * up to the whole. */
Test(evaluate, extrapolates_over_long_documents)
{
    json_t       *all;
    const json_t *p;
    size_t        k;
    double        sum = 0;
    int64_t       at = 12;
    expect(0, "of long documents", "extrapolate.json",
           tandem("evaluate %s/red --extrapolate --sequences 2", directory));
    all = read_json("red/eval/extrapolate.json");
    cr_expect_eq(number(all, "trained"), 48);
    cr_expect_eq(json_array_size(json_object_get(all, "lengths")), 3 * 15);
    json_array_foreach(json_object_get(all, "positions"), k, p)
    {
        if (number(p, "prefix") != 12)
            continue;
        cr_expect_eq(number(p, "from"), at, "%g, not %lld", number(p, "from"), (long long)at);
        at = (int64_t)number(p, "to");
        sum += number(p, "nll") * (number(p, "to") - number(p, "from"));
    }
    cr_expect_eq(at, 8 * 48);
    cr_expect_float_eq(sum / (8 * 48 - 12), extrapolated(all, 12, 8 * 48), 1e-9);
    json_decref(all);
}

static bool exists(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return td_file_exists(path);
}

/* The numbers do not depend on gnuplot, and whoever lacks it is told how to get it. */
Test(evaluate, draws_if_there_is_gnuplot)
{
    char *path = strdup(getenv("PATH"));
    bool  installed = system("gnuplot --version >/dev/null 2>&1") == 0;
    setenv("PATH", directory, 1);
    expect(0, "total length", "apt install gnuplot",
           tandem("evaluate %s/red --extrapolate --lengths 50 --sequences 1", directory));
    cr_expect(exists("red/eval/extrapolate.csv") && exists("red/eval/extrapolate-position.csv") &&
              exists("red/eval/extrapolate.gnuplot") && !exists("red/eval/extrapolate.svg"));
    setenv("PATH", path, 1);
    free(path);
    if (!installed)
        cr_skip_test("gnuplot is not installed");
    expect(0, "", "drawn in .svg",
           tandem("evaluate %s/red --extrapolate --lengths 50,60 --sequences 1", directory));
    cr_expect(exists("red/eval/extrapolate.svg"));
}

Test(evaluate, refuses_impossible_lengths)
{
    expect(2, "", "whole numbers above 0",
           tandem("evaluate %s/red --extrapolate --lengths 50,-3", directory));
    expect(2, "", "whole numbers above 0",
           tandem("evaluate %s/red --extrapolate --lengths 5x", directory));
    expect(2, "", "leaves nothing to score after a prefix of 24",
           tandem("evaluate %s/red --extrapolate --lengths 24", directory));
    expect(2, "", "--lengths is for --extrapolate",
           tandem("evaluate %s/red --lengths 50", directory));
    expect(2, "", "cannot read sequences of 1000000 tokens",
           tandem("evaluate %s/red --extrapolate --lengths 1000000", directory));
}
