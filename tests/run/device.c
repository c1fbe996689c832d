/* device.c - everything that a run does, on a backend whose memory the host cannot touch (the
 * fixture 'apart'). Its kernels are those of 'reference', so the bits must be the same. */
#include <unistd.h>

#include "base/file.h"
#include "conformance/check.h"
#include "tools/command.h"
#include "tools/run_files.h"

static char directory[64], config[100];

static void write_config(void)
{
    FILE *f = fopen(config, "w");
    cr_assert(f);
    fprintf(f,
            "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 12; "
            "encoder_layers = 1; decoder_layers = 1;\n"
            "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 6; qkv_norm = true; };\n"
            "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
            "  ffn = { plugin = \"swiglu\"; d_ff = 16; }; };\n"
            "loss = { plugin = \"prefix-lm\"; };\n"
            "optimizer = { plugin = \"adafactor\"; beta1 = 0.9; };\n"
            "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
            "tokenizer = { plugin = \"bytes\"; };\n"
            "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
            "/data/corpus/facts.train.jsonl\" );\n"
            "  held_out = ( \"" TANDEM_SOURCE "/data/corpus/facts.valid.jsonl\" ); } ); };\n"
            "train = { steps = 4; length = 17; batch = 2; micro_batch = 1; dropout = 0.1;\n"
            "  log_every = 1; checkpoint_every = 2; evaluate_every = 2; };\n"
            "evaluate = { sequences = 2; };\n"
            "run = { dir = \"%s\"; };\n",
            directory);
    cr_assert(!fclose(f));
}

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-device-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(config, sizeof config, "%s/model.cfg", directory);
    write_config();
    setenv("TANDEM_PLUGIN_PATH", TANDEM_FIXTURES "/apart-apart", 1);
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(device, .init = setup, .fini = teardown);

static void train(const char *backend, const char *name, const char *more)
{
    child c = tandem("train -c %s backend.plugin=%s run.name=%s --quiet %s", config, backend, name,
                     more);
    cr_assert_eq(c.code, 0, "%s on %s: code %d: %s", name, backend, c.code, c.err);
    child_free(&c);
}

static void expect_same_output(const char *format)
{
    char  a[400], b[400];
    child one, other;
    snprintf(a, sizeof a, format, directory, "host", "reference");
    snprintf(b, sizeof b, format, directory, "host", "apart");
    one = tandem("%s", a);
    other = tandem("%s", b);
    cr_assert_eq(one.code, 0, "%s: %s", a, one.err);
    cr_assert_eq(other.code, 0, "%s: code %d: %s", b, other.code, other.err);
    cr_expect(!strcmp(one.out, other.out), "%s\n%s\nand\n%s", format, one.out, other.out);
    child_free(&one);
    child_free(&other);
}

/* It says how much memory it has: a model that needs more is refused before anything is taken. */
Test(device, too_large_a_model_is_refused_with_the_numbers)
{
    expect(2, "", " of device memory (parameters",
           tandem("train -c %s backend.plugin=apart model.vocab_size=4000000 run.name=large "
                  "--quiet",
                  config));
    expect(2, "", "but only 256 MiB is available: use a smaller model",
           tandem("train -c %s backend.plugin=apart model.vocab_size=4000000 run.name=large "
                  "--quiet",
                  config));
}

/* A plan's second run is recorded: one launch each for gradients and update. */
Test(device, a_step_is_two_launches)
{
    child   c = tandem("bench -c %s backend.plugin=apart train.micro_batch=2 --seconds 0.1 --json",
                       config);
    json_t *j = child_json(&c);
    cr_expect_eq(json_number_value(json_object_get(j, "launches_per_step")), 2, "%s", c.out);
    json_decref(j);
    child_free(&c);
}

/* Training, checkpoints and resuming; then every other command that runs a model. */
Test(device, computes_the_bits_of_host_memory)
{
    train("reference", "host", "");
    train("apart", "whole", "");
    expect_same_in_runs(directory, "host", "whole", "checkpoints/step-00000004/model.safetensors");
    expect_same_in_runs(directory, "host", "whole",
                        "checkpoints/step-00000004/optimizer.safetensors");
    train("apart", "halves", "train.steps=2");
    train("apart", "halves", "--resume");
    expect_same_in_runs(directory, "host", "halves", "checkpoints/step-00000004/model.safetensors");
    expect_same_in_runs(directory, "host", "halves",
                        "checkpoints/step-00000004/optimizer.safetensors");

    expect_same_output("evaluate %s/%s backend.plugin=%s --json");
    expect_same_output("generate %s/%s backend.plugin=%s --max-new-tokens 5 --ids 51");
    expect_same_output("analyze %s/%s backend.plugin=%s --json");
}

static void expect_suite_passes(const char *path)
{
    child   run;
    json_t *all = check_module(path, NULL, &run);
    cr_expect_eq(run.code, 0, "%s: %s", path, run.out);
    json_decref(all);
    child_free(&run);
}

/* The backend itself, and its kernels against the lowerings. */
Test(device, the_suite_passes)
{
    expect_suite_passes(TANDEM_FIXTURES "/apart-apart/backend-apart.so");
}

/* Parts of a model are tested in double, here on a 'reference' that is this backend by another
 * name: the suite reads and writes parameters and gradients on its own account. */
Test(device, the_suite_leaves_its_memory_alone)
{
    static const char *const modules[] = { "attention-softmax", "optimizer-adamw", "norm-rms",
                                           "loss-prefix-lm" };
    setenv("TANDEM_PLUGIN_PATH", TANDEM_FIXTURES "/apart-reference", 1);
    for (size_t k = 0; k < sizeof modules / sizeof *modules; k++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.so", TANDEM_PLUGINS, modules[k]);
        expect_suite_passes(path);
    }
}
