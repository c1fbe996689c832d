/* precision.c - runs in bf16: the same bits every time and after a stop, checkpoints in f32 that
 * either precision loads, and memory that is counted. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tandem/embed.h"

static char directory[64];

static const char model[] =
    "model = { plugin = \"encoder-decoder\"; vocab_size = 263; d_model = 24;\n"
    "  encoder_layers = 1; decoder_layers = 2;\n"
    "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 12; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 32; }; };\n"
    "loss = { plugin = \"prefix-lm\"; };\n";
static const char rest[] =
    "optimizer = { plugin = \"adamw\"; };\n"
    "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
    "tokenizer = { plugin = \"bytes\"; };\n"
    "data = { plugin = \"text\"; sources = ( { name = \"facts\";\n"
    "  files = ( \"data/corpus/facts.train.jsonl\" );\n"
    "  held_out = ( \"data/corpus/facts.valid.jsonl\" ); } ); };\n"
    "train = { steps = 6; length = 33; batch = 4; micro_batch = 2; log_every = 1;\n"
    "  dropout = 0.1; recompute = \"layer\"; };\n"
    "evaluate = { sequences = 4; };\n";

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-precision-XXXXXX");
    cr_assert(mkdtemp(directory));
}

static void teardown(void) { td_remove_tree(directory, NULL); }

TestSuite(precision, .init = setup, .fini = teardown);

static td_session *open_run(const char *name, const char *precision, const char *threads)
{
    static const char *const texts[] = { model, rest, NULL };
    char                     dir[100], run[64], how[64];
    const char              *settings[] = { dir, run, how, threads, NULL };
    td_session_options       o = {
              .size = sizeof o, .purpose = TD_PURPOSE_TRAIN, .texts = texts, .settings = settings
    };
    td_error    e = { 0 };
    td_session *s;
    snprintf(dir, sizeof dir, "run.dir=%s", directory);
    snprintf(run, sizeof run, "run.name=%s", name);
    snprintf(how, sizeof how, "train.precision=%s", precision);
    s = td_session_open(&o, &e);
    cr_assert(s, "%s", e.text);
    return s;
}

static int stop_at(void *arg, const td_training_step *s) { return s->step == *(int *)arg; }

/* Train to the step `*end`, or to the end; the NLL of the evaluation there, or NaN. */
static double train(td_session *s, int end, bool resume)
{
    td_training       t = { .size = sizeof t, .resume = resume, .step = stop_at, .arg = &end };
    const td_trained *trained;
    td_error          e = { 0 };
    cr_assert_eq(td_session_train(s, &t, &trained, &e), 0, "%s", e.text);
    return trained->evaluation ? trained->evaluation->nll : NAN;
}

/* All parameters, one after the other; free() them. */
static float *parameters(td_session *s, size_t *count)
{
    td_error e = { 0 };
    int64_t  n = td_session_parameters(s, &e);
    float   *all = NULL;
    *count = 0;
    cr_assert_gt(n, 0, "%s", e.text);
    for (int64_t k = 0; k < n; k++) {
        td_parameter p;
        cr_assert_eq(td_session_parameter(s, k, &p, &e), 0, "%s", e.text);
        all = realloc(all, (*count + (size_t)p.count) * sizeof *all);
        cr_assert_eq(td_session_read(s, p.name, all + *count, p.count, &e), 0, "%s", e.text);
        *count += (size_t)p.count;
    }
    return all;
}

static void expect_same(td_session *a, td_session *b)
{
    size_t n, m;
    float *x = parameters(a, &n), *y = parameters(b, &m);
    cr_expect(n == m && !memcmp(x, y, n * sizeof *x));
    free(x);
    free(y);
}

Test(precision, the_same_bits_on_any_threads_and_after_a_stop)
{
    td_session *one = open_run("one", "bf16", "backend.threads=1"),
               *three = open_run("three", "bf16", "backend.threads=3"),
               *parts = open_run("parts", "bf16", "backend.threads=2");
    double nll = train(one, -1, false);

    cr_expect_eq(train(three, -1, false), nll);
    expect_same(one, three);
    train(parts, 2, false);
    cr_expect_eq(train(parts, -1, true), nll);
    expect_same(one, parts);
    td_session_close(one);
    td_session_close(three);
    td_session_close(parts);
}

static double evaluate(td_session *s)
{
    const td_evaluation *out;
    td_error             e = { 0 };
    cr_assert_eq(td_session_evaluate(s, NULL, NULL, &out, &e), 0, "%s", e.text);
    return out->nll;
}

/* A checkpoint keeps the parameters in f32, which both precisions read: in bf16 the score is that of
 * the run, in f32 one that is close. */
Test(precision, checkpoints_serve_either)
{
    td_session *run = open_run("run", "bf16", "backend.threads=2"),
               *wide = open_run("wide", "f32", "backend.threads=2"),
               *narrow = open_run("narrow", "bf16", "backend.threads=2");
    char     path[100];
    double   nll = train(run, -1, false);
    td_error e = { 0 };

    snprintf(path, sizeof path, "%s/w.safetensors", directory);
    cr_assert_eq(td_session_save(run, path, &e), 0, "%s", e.text);
    cr_assert_eq(td_session_load(wide, path, &e), 0, "%s", e.text);
    cr_assert_eq(td_session_load(narrow, path, &e), 0, "%s", e.text);
    expect_same(run, wide);
    expect_same(run, narrow);
    cr_expect_eq(evaluate(narrow), nll);
    cr_expect_float_eq(evaluate(wide), nll, 0.02);
    cr_expect_neq(evaluate(wide), nll);
    td_session_close(run);
    td_session_close(wide);
    td_session_close(narrow);
}

/* Copies of matrices in bf16 come on top; activations take less. */
Test(precision, memory_is_counted)
{
    td_session *wide = open_run("wide", "f32", "backend.threads=1"),
               *narrow = open_run("narrow", "bf16", "backend.threads=1");
    td_error              e = { 0 };
    const td_description *a = td_session_describe(wide, &e), *b = td_session_describe(narrow, &e);
    cr_assert(a && b, "%s", e.text);
    cr_expect_eq(a->memory.parameters, 4 * (size_t)a->parameters);
    cr_expect_eq(b->memory.parameters,
                 a->memory.parameters + 2 * (size_t)(a->parameters - a->norm));
    cr_expect_eq(b->memory.gradients, a->memory.gradients);
    cr_expect_eq(b->memory.states, a->memory.states);
    cr_expect_lt(b->memory.activations, a->memory.activations);
    cr_expect(strstr(td_session_precision(narrow, &e), "bf16, sums f32"), "%s", e.text);
    td_session_close(wide);
    td_session_close(narrow);
}
