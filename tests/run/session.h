/* session.h - for tests of sessions: a small config as text, opening it, and training that is watched.
 * Criterion's hooks are the caller's. */
#ifndef TESTS_RUN_SESSION_H
#define TESTS_RUN_SESSION_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tandem/embed.h"

static char directory[64], log_text[1 << 16];

static const char model[] =
    "model = { plugin = \"decoder-only\"; vocab_size = 263; d_model = 24; layers = 2;\n"
    "  attention = { plugin = \"softmax\"; heads = 2; head_dim = 12; };\n"
    "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
    "  ffn = { plugin = \"swiglu\"; d_ff = 32; }; };\n"
    "loss = { plugin = \"causal-lm\"; };\n";
static const char rest[] =
    "optimizer = { plugin = \"adamw\"; };\n"
    "schedule = { plugin = \"constant\"; peak = 0.01; };\n"
    "tokenizer = { plugin = \"bytes\"; };\n"
    "data = { plugin = \"text\"; sources = ( { name = \"facts\";\n"
    "  files = ( \"data/corpus/facts.train.jsonl\" );\n"
    "  held_out = ( \"data/corpus/facts.valid.jsonl\" ); } ); };\n"
    "train = { steps = 8; length = 33; batch = 2; log_every = 1; dropout = 0.1; };\n"
    "evaluate = { sequences = 4; };\n";
static const char *const texts[] = { model, rest, NULL };

static void setup(void)
{
    strcpy(directory, "/tmp/tandem-session-XXXXXX");
    cr_assert(mkdtemp(directory));
    log_text[0] = 0;
}

static void teardown(void) { td_remove_tree(directory, NULL); }

/* Append the line, cut to the remaining space. */
static void keep_line(void *arg, int level, const char *line)
{
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%d %s\n", level, line);
}

static td_session *open_session(td_purpose purpose, const char *name, const char *more,
                                td_error *error)
{
    char               dir[100], run[64];
    const char        *settings[] = { dir, run, more, NULL };
    td_session_options o = {
        .size = sizeof o, .purpose = purpose, .texts = texts, .settings = settings, .log = keep_line
    };
    snprintf(dir, sizeof dir, "run.dir=%s", directory);
    snprintf(run, sizeof run, "run.name=%s", name);
    return td_session_open(&o, error);
}

__attribute__((unused)) static td_session *must_open(td_purpose purpose, const char *name)
{
    td_error    e = { 0 };
    td_session *s = open_session(purpose, name, NULL, &e);
    cr_assert(s, "%s", e.text);
    return s;
}

typedef struct watcher {
    int64_t begun_at, steps, last, stop_at, evaluated;
    int64_t drop_at; /* stop between the micro-batches of this step */
    double  loss;
} watcher;

static int begin(void *arg, int64_t step, int64_t steps)
{
    ((watcher *)arg)->begun_at = step;
    ((watcher *)arg)->steps = steps;
    return 0;
}

static int step(void *arg, const td_training_step *s)
{
    watcher *w = arg;
    cr_expect(isfinite(s->loss) && s->gradient_norm > 0 && s->learning_rate == 0.01 && s->applied);
    cr_expect(s->tokens_per_second > 0 && s->seconds > 0);
    w->last = s->step;
    w->loss = s->loss;
    return s->step == w->stop_at;
}

static int evaluating(void *arg, int64_t at, int64_t done, int64_t all)
{
    ((watcher *)arg)->evaluated = done == all ? at : -1;
    return 0;
}

static int accumulating(void *arg, int64_t at, int64_t done, int64_t all)
{
    cr_expect(done >= 1 && done < all, "not after the last: the step is then computed");
    return at == ((watcher *)arg)->drop_at;
}

__attribute__((unused)) static const td_trained *train(td_session *s, watcher *w, bool resume)
{
    td_training       t = { .size = sizeof t,
                            .resume = resume,
                            .begin = begin,
                            .step = step,
                            .evaluating = evaluating,
                            .accumulating = accumulating,
                            .arg = w };
    const td_trained *trained;
    td_error          e = { 0 };
    cr_assert_eq(td_session_train(s, &t, &trained, &e), 0, "%s", e.text);
    cr_assert(trained);
    return trained;
}

#endif
