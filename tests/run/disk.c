/* disk.c - full disks and damaged files: the message names the file, earlier saves are intact,
 * and a resumed run equals the uninterrupted one. */
#include "tools/child.h"

enum { STEPS = 12, SAVED = 4 }; /* a run of 12 steps that saves every 4 */

static char directory[64], config[128];

static void setup(void)
{
    FILE *f;
    strcpy(directory, "/tmp/tandem-disk-XXXXXX");
    cr_assert(mkdtemp(directory));
    snprintf(config, sizeof config, "%s/model.cfg", directory);
    f = fopen(config, "w");
    cr_assert(f);
    fprintf(f,
            "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 24; "
            "encoder_layers = 1; decoder_layers = 1;\n"
            "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 8; qkv_norm = true; };\n"
            "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; }; ffn = { plugin = "
            "\"swiglu\"; d_ff = 41; }; };\n"
            "loss = { plugin = \"prefix-lm\"; split = \"random\"; };\n"
            "optimizer = { plugin = \"adafactor\"; beta1 = 0.9; };\n"
            "schedule = { plugin = \"cosine\"; peak = 0.01; warmup = 5; steps = 40; };\n"
            "tokenizer = { plugin = \"bytes\"; };\n"
            "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
            "/data/corpus/facts.valid.jsonl\" );\n"
            "  held_out = ( \"" TANDEM_SOURCE "/data/corpus/lists.valid.jsonl\" ); } ); };\n"
            "train = { steps = %d; length = 53; batch = 4; micro_batch = 2; dropout = 0.1; "
            "log_every = 1; checkpoint_every = %d;\n"
            "  keep_last = 0; evaluate_every = -1; };\n"
            "run = { dir = \"%s\"; loggers = [ \"jsonl\" ]; };\n",
            STEPS, SAVED, directory);
    cr_assert(!fclose(f));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(disk, .init = setup, .fini = teardown);

/* A shell command; %1$s is the scratch directory, %2$s the command line of a run called %3$s, to be
 * resumed if it can. */
static child shell(const char *format, const char *run)
{
    char train[600], command[3000];
    snprintf(train, sizeof train, "%s train -c %s run.name=%s --resume --threads 1 -q",
             TANDEM_BINARY, config, run);
    snprintf(command, sizeof command, format, directory, train, run);
    return child_run((const char *[]){ "sh", "-c", command, NULL });
}

/* Expect that it ends with `code` and prints `text`. */
static void expect(const char *format, const char *run, int code, const char *text)
{
    child c = shell(format, run);
    cr_assert_eq(c.code, code, "exit code %d, not %d, of: %s\n%s", c.code, code, format, c.err);
    cr_assert(strstr(c.err, text), "'%s' is not in: %s", text, c.err);
    child_free(&c);
}

static void finish(const char *run) { expect("exec %2$s", run, 0, ""); }

/* Parameters, optimizer state, position and metrics (except for clock readings) of a finished run
 * equal those of the run 'whole'. */
static void expect_whole(const char *run)
{
    expect(
        "for f in model.safetensors optimizer.safetensors; do"
        " cmp %1$s/whole/checkpoints/step-00000012/$f %1$s/%3$s/checkpoints/step-00000012/$f || "
        "exit 1; done;"
        "for r in whole %3$s; do sed 's/, \"time.*//' %1$s/$r/metrics.jsonl >%1$s/$r.metrics; done;"
        "test $(wc -l <%1$s/whole.metrics) = 12 && cmp %1$s/whole.metrics %1$s/%3$s.metrics",
        run, 0, "");
}

/* ---- full ------------------------------------------------------------------------------------ */

/* `ulimit -f` of sh counts 512 bytes. */
Test(disk, full_during_a_checkpoint)
{
    finish("whole");
    expect("exec %2$s train.steps=4", "full", 0, "");
    expect("ulimit -f 64; exec %2$s", "full", 1,
           "full/checkpoints/.step-00000008.tmp/model.safetensors'");
    expect("test -e %1$s/full/checkpoints/step-00000004 && test $(ls -A %1$s/full/checkpoints | wc "
           "-l) = 1",
           "full", 0, "");
    finish("full");
    expect_whole("full");
}

Test(disk, full_during_metrics)
{
    finish("whole");
    expect("exec %2$s train.steps=4", "full", 0, "");
    /* longer than the other files */
    expect("sed -i \"1s/}$/$(printf %%9000s)}/\" %1$s/full/metrics.jsonl", "full", 0, "");
    expect("ulimit -f $(($(wc -c <%1$s/full/metrics.jsonl) / 512 + 1)); exec %2$s", "full", 1,
           "full/metrics.jsonl': File too large");
    finish("full");
    expect_whole("full");
}

/* A separate disk, in a mount namespace that ends with the shell; where that is not allowed,
 * nothing is tested. */
Test(disk, full_file_system)
{
    child c = shell(
        "mkdir %1$s/full && unshare -m sh -c 'mount -t tmpfs -o size=64k none %1$s/full'", "full");
    if (c.code) {
        child_free(&c);
        cr_skip_test("no file system can be mounted here");
    }
    child_free(&c);
    finish("whole");
    expect("exec unshare -m sh -c '"
           "mount -t tmpfs -o size=1m none %1$s/full || exit 9; %2$s train.steps=4 || exit 8;"
           "mount -o remount,size=$(($(df -k --output=used %1$s/full | tail -1) + 90))k %1$s/full "
           "|| exit 7;"
           "%2$s; test $? = 1 || exit 6;"
           "test $(ls -A %1$s/full/checkpoints | wc -l) = 1 || exit 5;"
           "mount -o remount,size=100m %1$s/full || exit 4; %2$s || exit 3; cp -r %1$s/full "
           "%1$s/copied'",
           "full", 0, ".tmp/");
    expect_whole("copied");
}

/* ---- damaged --------------------------------------------------------------------------------- */

/* One byte of a file of the last checkpoint is changed, or the file is truncated: the run does
 * not continue, and says how it could. (tests/model/checkpoint.c has more damage.) */
static void hurt(const char *part, const char *how)
{
    char  command[600];
    child c;
    snprintf(command, sizeof command,
             "cd %%1$s/hurt/checkpoints/step-00000008 && cp %s ../saved && %s %s && { %%2$s; "
             "code=$?; mv ../saved %s; exit $code; }",
             part, how, part, part);
    c = shell(command, "hurt");
    cr_assert(c.code == 1 || c.code == 2, "%s %s: exit code %d: %s", how, part, c.code, c.err);
    cr_assert(strstr(c.err, "hurt/checkpoints/step-00000008/"), "%s %s: %s", how, part, c.err);
    cr_assert(strstr(c.err, "; remove the directory '"), "%s %s: %s", how, part, c.err);
    child_free(&c);
}

Test(disk, damaged_checkpoints)
{
    finish("whole");
    expect("exec %2$s train.steps=8", "hurt", 0, "");
    hurt("model.safetensors", "truncate -s -1");
    hurt("optimizer.safetensors", "sed -i '$s/.$/x/'");
    hurt("state.json", "sed -i 's/\"step\": 8/\"step\": 9/'");
    hurt("hashes.txt", "truncate -s 7");
    expect("truncate -s 99 %1$s/hurt/checkpoints/step-00000008/model.safetensors;"
           "%2$s 2>%1$s/said; test $? = 1 || exit 1;"
           "rm -r \"$(sed -n \"s/.*; remove the directory '\\([^']*\\)'.*/\\1/p\" %1$s/said)\" && "
           "exec %2$s",
           "hurt", 0, "");
    expect_whole("hurt");
}

Test(disk, evaluate_refuses_a_damaged_checkpoint)
{
    char        evaluate[600];
    const char *argv[] = { "sh", "-c", evaluate, NULL };
    child       c;
    snprintf(evaluate, sizeof evaluate,
             "%s evaluate -c %s run.name=hurt evaluate.sequences=3 --threads 1", TANDEM_BINARY,
             config);
    expect("exec %2$s train.steps=4", "hurt", 0, "");
    c = child_run(argv);
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    expect("printf x | dd of=%1$s/hurt/checkpoints/step-00000004/model.safetensors bs=1 seek=9999 "
           "conv=notrunc",
           "hurt", 0, "");
    c = child_run(argv);
    cr_assert_eq(c.code, 1);
    cr_assert(strstr(c.err, "step-00000004/model.safetensors' is damaged"), "%s", c.err);
    child_free(&c);
}
