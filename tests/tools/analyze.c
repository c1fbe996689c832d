/* analyze.c - `tandem analyze`: its table, its files, its pictures, and its refusals. */
#include <math.h>

#include "tools/command.h"

static char directory[64];

static const char config[] =
    "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 32; encoder_layers = 1;\n"
    "  decoder_layers = 2; attention = { plugin = \"softmax\"; heads = 2; head_dim = 16; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 48; }; };\n"
    "loss = { plugin = \"prefix-lm\"; }; optimizer = { plugin = \"adamw\"; };\n"
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
    strcpy(directory, "/tmp/tandem-analyze-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/model.cfg", directory);
    f = fopen(path, "w");
    cr_assert(f && fputs(config, f) >= 0 && !fclose(f));
    expect(0, "", "", tandem("train -q -c %s run.dir=%s run.name=red", path, directory));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(analyze, .init = setup, .fini = teardown);

static bool exists(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/red/eval/%s", directory, name);
    return td_file_exists(path);
}

static FILE *open_result(const char *name)
{
    char  path[200];
    FILE *f;
    snprintf(path, sizeof path, "%s/red/eval/%s", directory, name);
    f = fopen(path, "r");
    cr_assert(f, "%s", path);
    return f;
}

static double number(const json_t *j, const char *key)
{
    return json_number_value(json_object_get(j, key));
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Every row of a map adds up to 1. Returns the number of rows. */
static int expect_map(const char *name)
{
    char  line[4000];
    int   rows = 0;
    FILE *f = open_result(name);
    cr_assert(fgets(line, sizeof line, f) && !strncmp(line, "from,", 5), "%s", line);
    while (fgets(line, sizeof line, f)) {
        double sum = 0;
        char  *at = strchr(line, ',');
        while (at) {
            sum += strtod(at + 1, NULL);
            at = strchr(at + 1, ',');
        }
        cr_expect_float_eq(sum, 1, 1e-5, "row %d of %s: %g", rows, name, sum);
        rows++;
    }
    fclose(f);
    return rows;
}

/* The log-probabilities of a sequence are the same as in evaluation. */
static void expect_logprob(const json_t *all)
{
    const json_t *p;
    size_t        k;
    double        sum = 0;
    char          path[200];
    json_t       *alone;
    expect(0, "", "",
           tandem("evaluate -q %s/red --out %s/alone evaluate.length=80 evaluate.prefix=20 "
                  "evaluate.sequences=1",
                  directory, directory));
    snprintf(path, sizeof path, "%s/alone/heldout.json", directory);
    alone = json_load_file(path, 0, NULL);
    json_array_foreach(json_object_get(all, "logprobs"), k, p)
        sum += number(p, "logprob") * (number(p, "to") - number(p, "from"));
    cr_expect_float_eq(-sum / 60, number(alone, "nll"), 1e-5, "%g and %g", -sum / 60,
                       number(alone, "nll"));
    json_decref(alone);
}

Test(analyze, writes_the_reported_files)
{
    json_t *all;
    expect(0, "model.decoder.layers.1.cross_attn", "analyze.json",
           tandem("analyze %s/red --length 80 --prefix 20 --sequences 2", directory));
    cr_expect_eq(expect_map("analyze-map-self.csv"), 60);
    cr_expect_eq(expect_map("analyze-map-cross.csv"), 60);
    cr_expect_eq(expect_map("analyze-map-encoder.csv"), 20);
    cr_expect(exists("analyze-locality.csv") && exists("analyze-coverage.csv") &&
              exists("analyze-logprob.csv") && exists("analyze.gnuplot"));
    all = json_loadf(open_result("analyze.json"), 0, NULL);
    cr_assert(all);
    cr_expect_str_eq(json_string_value(json_object_get(all, "kind")), "analyze");
    cr_expect_eq(json_array_size(json_object_get(all, "attentions")), 5);
    cr_expect_eq(number(all, "length"), 80);
    cr_expect_eq(number(all, "sequences"), 2);
    expect_logprob(all);
    json_decref(all);
}

Test(analyze, reads_long_documents_by_default)
{
    json_t *all;
    expect(0, "", "", tandem("analyze -q %s/red --length 30", directory));
    cr_expect(exists("analyze-map-encoder.csv"));
    expect(0, "of long documents, 24 + 168 tokens; trained at 48", "",
           tandem("analyze -q %s/red --layers 1", directory));
    all = json_loadf(open_result("analyze.json"), 0, NULL);
    cr_assert(all);
    cr_expect_eq(json_array_size(json_object_get(all, "attentions")), 2);
    cr_expect(!exists("analyze-map-encoder.csv"));
    json_decref(all);
}

Test(analyze, names_the_checkpoint_that_was_chosen)
{
    expect(0, "step-00000002", "", tandem("analyze -q %s/red --step 2 --length 30", directory));
    cr_expect(exists("analyze-step-00000002.json") && !exists("analyze.json"));
    expect(0, "\"attentions\"", "",
           tandem("analyze -q %s/red/checkpoints/step-00000004 --json --length 30 --heads 1",
                  directory));
    cr_expect(exists("analyze-step-00000004.json"));
}

/* The numbers do not depend on gnuplot; if it is missing, a message says how to install it. */
Test(analyze, draws_if_there_is_gnuplot)
{
    char *path = strdup(getenv("PATH"));
    bool  installed = system("gnuplot --version >/dev/null 2>&1") == 0;
    setenv("PATH", directory, 1);
    expect(0, "locality", "apt install gnuplot", tandem("analyze %s/red --length 50", directory));
    cr_expect(exists("analyze-map-self.csv") && !exists("analyze-maps.svg"));
    setenv("PATH", path, 1);
    free(path);
    if (!installed)
        cr_skip_test("gnuplot is not installed");
    expect(0, "", "drawn in -maps.svg and -curves.svg",
           tandem("analyze %s/red --length 50 --prefix 20", directory));
    cr_expect(exists("analyze-maps.svg") && exists("analyze-curves.svg"));
    /* the least that can be drawn */
    expect(0, "", "drawn", tandem("analyze %s/red --length 2 --prefix 1", directory));
}

/* ---- refusals -------------------------------------------------------------------------------- */

Test(analyze, reports_missing_names)
{
    expect(2, "", "there is no attention in layer '2'",
           tandem("analyze %s/red --length 50 --layers 0,2", directory));
    expect(2, "", "model.encoder.layers.0.self_attn, model.decoder.layers.0.self_attn",
           tandem("analyze %s/red --length 50 --layers encoder", directory));
    expect(2, "", "no head 2 in", tandem("analyze %s/red --length 50 --heads 2", directory));
    expect(2, "", "whole numbers from 0", tandem("analyze %s/red --heads 0,x", directory));
    expect(2, "", "--layers is empty", tandem("analyze %s/red --layers ,", directory));
    expect(2, "", "a prefix of 24 tokens in sequences of 20",
           tandem("analyze %s/red --length 20", directory));
    expect(2, "", "cannot read sequences of 1000000 tokens",
           tandem("analyze %s/red --length 1000000", directory));
    expect(2, "", "'nowhere' is neither a run nor a checkpoint", tandem("analyze nowhere"));
    expect(2, "", "no model", tandem("analyze"));
}
