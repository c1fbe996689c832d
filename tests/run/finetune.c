/* finetune.c - from a pretrained run to a finetuned one: in every architecture loss and score
 * cover only the targets, a killed run ends with the bits of an uninterrupted one, and a run
 * that no longer improves ends and keeps its best checkpoint. */
#include "tools/child.h"

#include <signal.h>

enum { EXAMPLES = 24, HELD_OUT = 7 };

static char directory[64];

/* Inputs of 3 + k % 5 letters, targets of 1 + k % 4, plus an end token each. */
static int64_t write_pairs(const char *name, int n)
{
    char    path[160];
    FILE   *f;
    int64_t targets = 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    f = fopen(path, "w");
    cr_assert(f);
    for (int k = 0; k < n; k++) {
        fprintf(f, "{\"inputs\": \"%.*s\", \"targets\": \"%.*s\"}\n", 3 + k % 5, "abcdefgh" + k % 2,
                1 + k % 4, "wxyz");
        targets += 1 + k % 4 + 1;
    }
    cr_assert(!fclose(f));
    return targets;
}

static const char *parts_of(const char *architecture)
{
    return !strcmp(architecture, "encoder-decoder") ? "encoder_layers = 1; decoder_layers = 1;"
                                                    : "layers = 1;";
}

/* The model, and what is common to pretraining and finetuning. */
static FILE *open_config(const char *name, const char *architecture)
{
    char  path[160];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s.cfg", directory, name);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            "model = { plugin = \"%s\"; vocab_size = 263; d_model = 24; %s\n"
            "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 12; };\n"
            "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
            "  ffn = { plugin = \"swiglu\"; d_ff = 32; }; };\n"
            "optimizer = { plugin = \"adamw\"; };\n"
            "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
            "tokenizer = { plugin = \"bytes\"; };\n"
            "run = { dir = \"%s\"; name = \"%s\"; };\n",
            architecture, parts_of(architecture), directory, name);
    return f;
}

static void write_pretraining(const char *name, const char *architecture, const char *loss)
{
    FILE *f = open_config(name, architecture);
    fprintf(f,
            "loss = { plugin = \"%s\"; };\n"
            "data = { plugin = \"text\"; sources = ( { name = \"facts\";\n"
            "  files = ( \"data/corpus/facts.train.jsonl\" );\n"
            "  held_out = ( \"data/corpus/facts.valid.jsonl\" ); } ); };\n"
            "train = { steps = 2; length = 33; batch = 2; };\n"
            "evaluate = { sequences = 2; };\n",
            loss);
    cr_assert(!fclose(f));
}

static void write_finetuning(const char *name, const char *architecture, const char *from)
{
    FILE *f = open_config(name, architecture);
    fprintf(f,
            "loss = { plugin = \"prefix-lm\"; };\n"
            "data = { plugin = \"instructions\"; max_inputs = 16; max_targets = 8; sources = (\n"
            "  { name = \"pairs\"; files = ( \"%s/train.jsonl\" );\n"
            "    held_out = ( \"%s/held.jsonl\" ); } ); };\n"
            "train = { steps = 6; length = 24; batch = 8; micro_batch = 4; dropout = 0.05;\n"
            "  bucket = 8; log_every = 1; weights = \"%s/%s\"; };\n",
            directory, directory, directory, from);
    cr_assert(!fclose(f));
}

/* A shell command, %1$s the program, %2$s the directory: its exit code must be `code`, and its
 * output contain `text`. Returns the output; free() it. */
static char *output(int code, const char *text, const char *format)
{
    char  command[3000], *all;
    child c;
    snprintf(command, sizeof command, format, TANDEM_BINARY, directory);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, code, "exit code %d, not %d, of: %s\n%s%s", c.code, code, command, c.out,
                 c.err);
    cr_assert(asprintf(&all, "%s%s", c.out, c.err) >= 0);
    cr_assert(strstr(all, text), "'%s' is not in:\n%s", text, all);
    child_free(&c);
    return all;
}

static void expect(int code, const char *text, const char *format)
{
    free(output(code, text, format));
}

static int64_t train_targets, held_out_targets;

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-finetune-XXXXXX");
    cr_assert(mkdtemp(directory));
    train_targets = write_pairs("train.jsonl", EXAMPLES);
    held_out_targets = write_pairs("held.jsonl", HELD_OUT);
    write_pretraining("two", "encoder-decoder", "prefix-lm");
    write_pretraining("one", "decoder-only", "causal-lm");
    write_finetuning("two-tuned", "encoder-decoder", "two");
    write_finetuning("one-tuned", "decoder-only", "one");
    write_finetuning("both-ways", "decoder-biattn", "one");
    expect(0, "nll", "%1$s train -q -c %2$s/one.cfg");
}

/* Only some tests need the second pretrained run. */
static void pretrain_two(void) { expect(0, "nll", "%1$s train -q -c %2$s/two.cfg"); }

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(finetune, .init = setup, .fini = teardown);

/* ---- what is learnt and what is scored ------------------------------------------------------- */

static double last_of(const char *text, const char *key)
{
    const char *found = NULL;
    for (const char *p = text; (p = strstr(p, key)); p++)
        found = p + strlen(key);
    cr_assert(found, "no %s in:\n%s", key, text);
    return atof(found);
}

/* Three steps of eight read the 24 examples once. */
static void expect_targets(const char *name)
{
    char command[600], *metrics, *scores;
    snprintf(command, sizeof command, "%%1$s train -c %%2$s/%s.cfg train.steps=3", name);
    expect(0, "starting from the parameters of", command);
    snprintf(command, sizeof command, "cat %%2$s/%s/metrics.jsonl", name);
    metrics = output(0, "train/target_tokens", command);
    cr_expect_eq(last_of(metrics, "\"train/target_tokens\": "), (double)train_targets, "%s", name);
    snprintf(command, sizeof command, "%%1$s evaluate --json -c %%2$s/%s.cfg", name);
    scores = output(0, "nll", command);
    cr_expect_eq(last_of(scores, "\"targets\": "), (double)held_out_targets, "%s", name);
    cr_expect_eq(last_of(scores, "\"sequences\": "), HELD_OUT, "%s", name);
    free(metrics);
    free(scores);
}

Test(finetune, targets_are_learnt_and_scored)
{
    pretrain_two();
    expect_targets("two-tuned");
    expect_targets("one-tuned");
    expect_targets("both-ways");
}

/* The score of the given parameters, before any step, equals that of one row at a time. */
Test(finetune, a_score_does_not_depend_on_its_batch)
{
    char *alone = output(0, "nll",
                         "%1$s evaluate --json -c %2$s/one-tuned.cfg --weights %2$s/one "
                         "evaluate.batch=1");
    char *together = output(0, "nll",
                            "%1$s evaluate --json -c %2$s/one-tuned.cfg --weights %2$s/one "
                            "evaluate.batch=7");
    cr_expect_float_eq(last_of(alone, "\"nll\": "), last_of(together, "\"nll\": "), 1e-5);
    cr_expect_eq(last_of(alone, "\"targets\": "), (double)held_out_targets);
    free(alone);
    free(together);
}

/* Rows that several pairs share hold them all, and no weight is lost. */
Test(finetune, packed_rows_learn_the_same_targets)
{
    char *metrics;
    pretrain_two();
    expect(0, "nll",
           "%1$s train -q -c %2$s/two-tuned.cfg train.pack=true train.dropout=0.0 train.length=96 "
           "train.batch=1 train.micro_batch=1 train.steps=8 run.name=packed");
    metrics = output(0, "train/target_tokens", "cat %2$s/packed/metrics.jsonl");
    /* a row of 96 holds 4 examples of the largest size; these are much smaller */
    cr_expect_gt(last_of(metrics, "\"train/target_tokens\": "), (double)train_targets);
    free(metrics);
    expect(0, "nll",
           "%1$s train -q -c %2$s/one-tuned.cfg train.pack=true train.dropout=0.0 train.length=96 "
           "run.name=packed-too");
}

Test(finetune, a_causal_loss_learns_the_inputs_too)
{
    char *metrics;
    expect(0, "nll",
           "%1$s train -q -c %2$s/one-tuned.cfg train.steps=3 loss.plugin=causal-lm run.name=all");
    metrics = output(0, "train/target_tokens", "cat %2$s/all/metrics.jsonl");
    cr_expect_gt(last_of(metrics, "\"train/target_tokens\": "), 2 * (double)train_targets);
    free(metrics);
}

/* ---- starting, stopping, going on ------------------------------------------------------------ */

Test(finetune, weights_are_a_file_a_checkpoint_or_a_run)
{
    expect(0, "one/checkpoints/step-00000002/model.safetensors",
           "%1$s train -c %2$s/one-tuned.cfg train.steps=0 run.name=a");
    expect(0, "one/checkpoints/step-00000002/model.safetensors",
           "%1$s train -c %2$s/one-tuned.cfg train.steps=0 run.name=b "
           "--weights %2$s/one/checkpoints/step-00000002");
    expect(0, "one/checkpoints/step-00000002/model.safetensors",
           "%1$s train -c %2$s/one-tuned.cfg train.steps=0 run.name=c "
           "--weights %2$s/one/checkpoints/step-00000002/model.safetensors");
    expect(2, "is neither the directory of a run",
           "%1$s train -c %2$s/one-tuned.cfg run.name=d "
           "--weights %2$s");
    expect(2, "there is no checkpoint in",
           "mkdir -p %2$s/empty/checkpoints; %1$s train -c %2$s/one-tuned.cfg run.name=e "
           "--weights %2$s/empty");
    /* another model is refused by name */
    expect(2, "model.d_model: 24 -> 48",
           "%1$s train -c %2$s/one-tuned.cfg run.name=f model.d_model=48");
    expect(1, "is damaged",
           "printf x >> %2$s/one/checkpoints/step-00000002/model.safetensors; "
           "%1$s train -c %2$s/one-tuned.cfg run.name=g");
}

/* Wherever it was killed, the run ends with the same bits; its initial weights are not needed
 * again. */
Test(finetune, a_killed_run_goes_on_bit_for_bit)
{
    char config[96], name[] = "run.name=killed";
    snprintf(config, sizeof config, "%s/both-ways.cfg", directory);
    const char *argv[] = { TANDEM_BINARY,
                           "train",
                           "-c",
                           config,
                           "-q",
                           "--resume",
                           name,
                           "train.steps=40",
                           "train.checkpoint_every=3",
                           NULL };
    expect(0, "nll",
           "%1$s train -q -c %2$s/both-ways.cfg run.name=whole train.steps=40 "
           "train.checkpoint_every=3");
    for (int k = 0; k < 3; k++) {
        pid_t                      pid;
        int                        status;
        posix_spawn_file_actions_t quiet;
        posix_spawn_file_actions_init(&quiet);
        posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
        cr_assert(!posix_spawn(&pid, TANDEM_BINARY, &quiet, NULL, (char *const *)argv, environ));
        posix_spawn_file_actions_destroy(&quiet);
        usleep(150000 + 90000 * (useconds_t)k);
        kill(pid, SIGKILL);
        cr_assert_eq(waitpid(pid, &status, 0), pid);
    }
    /* if it already has a checkpoint, the pretrained run is no longer read */
    expect(
        0, "nll",
        "test -d %2$s/killed/checkpoints/step-00000003 && mv %2$s/one %2$s/gone; "
        "%1$s train -q -c %2$s/both-ways.cfg --resume run.name=killed --threads 1 train.steps=40 "
        "train.checkpoint_every=3");
    expect(0, "",
           "for f in model optimizer; do cmp %2$s/whole/checkpoints/step-00000040/$f.safetensors "
           "%2$s/killed/checkpoints/step-00000040/$f.safetensors || exit 1; done");
}

/* ---- the best checkpoint --------------------------------------------------------------------- */

/* A rate of 0 never improves on the first evaluation. */
#define STILL                                                                           \
    "%1$s train -c %2$s/one-tuned.cfg run.name=still schedule.peak=0.0 train.steps=20 " \
    "train.evaluate_every=2 train.keep_last=1 train.checkpoint_every=3 "

Test(finetune, a_run_that_does_not_improve_ends)
{
    char *log;
    expect(0, "step 6: the run ends early: 2 evaluations since the best one",
           STILL "train.early_stopping_patience=2");
    expect(0, "step-00000002\nstep-00000006\n", "ls %2$s/still/checkpoints");
    /* it has ended: resuming changes nothing until the patience is raised */
    log = output(0, "step 6, ", STILL "--resume train.early_stopping_patience=2");
    cr_expect(!strstr(log, "7/20"), "%s", log);
    free(log);
    expect(0, "step 8: the run ends early", STILL "--resume train.early_stopping_patience=3");
}

/* Evaluations made before the run was stopped still count after it. */
Test(finetune, the_end_does_not_depend_on_interruptions)
{
    expect(0, "nll", STILL "train.early_stopping_patience=3 train.steps=4");
    expect(0, "step 8: the run ends early", STILL "--resume train.early_stopping_patience=3");
    expect(0, "\"since_best\": 3",
           "grep -h since_best %2$s/still/checkpoints/step-00000008/state.json");
}

Test(finetune, a_checkpoint_can_be_chosen)
{
    expect(0, "nll", STILL "train.early_stopping_patience=2");
    expect(0, "step-00000006/model.safetensors",
           "%1$s evaluate -c %2$s/one-tuned.cfg run.name=still");
    expect(0, "step-00000002/model.safetensors",
           "%1$s evaluate -c %2$s/one-tuned.cfg run.name=still --best");
    expect(0, "step-00000002/model.safetensors",
           "%1$s evaluate -c %2$s/one-tuned.cfg --weights %2$s/still --step 2");
    expect(2, "still/checkpoints'; available steps: 2, 6",
           "%1$s evaluate -c %2$s/one-tuned.cfg run.name=still --step 4");
    expect(2, "--best and --step choose different checkpoints",
           "%1$s evaluate -c %2$s/one-tuned.cfg run.name=still --step 4 --best");
    expect(2, "is not the directory of a run",
           "%1$s evaluate -c %2$s/one-tuned.cfg --best --weights "
           "%2$s/still/checkpoints/step-00000002/model.safetensors");
    expect(2, "whose checkpoint is not in",
           "rm -r %2$s/still/checkpoints/step-00000002; "
           "%1$s evaluate -c %2$s/one-tuned.cfg run.name=still --best");
    expect(2, "the run has not been evaluated",
           "%1$s train -q -c %2$s/one-tuned.cfg run.name=unscored train.steps=1 "
           "train.evaluate_every=-1; %1$s evaluate -c %2$s/one-tuned.cfg run.name=unscored --best");
}

/* Pairs have fixed lengths, so they cannot be extrapolated. */
Test(finetune, long_sequences_need_running_text)
{
    expect(0, "nll", "%1$s train -q -c %2$s/one-tuned.cfg");
    expect(2, "data 'instructions' consists of pairs",
           "%1$s evaluate %2$s/one-tuned --extrapolate");
}

/* ---- generation ------------------------------------------------------------------------------ */

/* A prompt ends like the inputs in training; the checkpoint records how. */
Test(finetune, prompts_end_as_inputs_did)
{
    char *by_text, *by_ids;
    pretrain_two();
    expect(0, "nll", "%1$s train -q -c %2$s/two-tuned.cfg");
    by_text = output(0, "ids", "%1$s generate %2$s/two-tuned abc --json --max-new-tokens 4 -q");
    by_ids = output(0, "ids",
                    "%1$s generate %2$s/two-tuned --ids '100 101 102 1' --json --max-new-tokens 4 "
                    "-q");
    cr_expect_float_eq(last_of(by_text, "\"logprob\":"), last_of(by_ids, "\"logprob\":"), 1e-6);
    free(by_text);
    free(by_ids);
}
