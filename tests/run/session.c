/* session.c - sessions as a program sees them: configs as text, errors together, callbacks that
 * stop a run, parameters by name and as files. */
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

TestSuite(session, .init = setup, .fini = teardown);

/* At most as much as there is room for. */
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

static td_session *must_open(td_purpose purpose, const char *name)
{
    td_error    e = { 0 };
    td_session *s = open_session(purpose, name, NULL, &e);
    cr_assert(s, "%s", e.text);
    return s;
}

/* ---- opening --------------------------------------------------------------------------------- */

Test(session, errors_come_together_and_to_the_log)
{
    static const char *const wrong[] = { model, "train = { stepz = 3; batch = \"x\"; };\n", NULL };
    td_session_options       o = { .size = sizeof o, .texts = wrong, .log = keep_line };
    td_error                 e = { 0 };
    cr_assert(!td_session_open(&o, &e));
    cr_assert_eq(e.code, TD_ECONFIG);
    cr_expect(strstr(e.text, "text 2:1: ") && strstr(e.text, "'stepz' is unknown"), "%s", e.text);
    cr_expect(strstr(e.text, "batch") && strstr(e.text, "'optimizer'"), "%s", e.text);
    cr_expect(strstr(log_text, "3 text 2:1: "), "%s", log_text);
}

/* What does not fit is counted, and the log has it. */
Test(session, many_errors)
{
    static char        many[20000];
    const char        *wrong[] = { model, many, NULL };
    td_session_options o = {
        .size = sizeof o, .purpose = TD_PURPOSE_MODEL, .texts = wrong, .log = keep_line
    };
    td_error e = { 0 };
    size_t   n = (size_t)snprintf(many, sizeof many, "train = {\n");
    for (int k = 0; k < 90; k++)
        n += (size_t)snprintf(many + n, sizeof many - n, "unknown_key_number_%d = 3;\n", k);
    snprintf(many + n, sizeof many - n, "};\n");
    cr_assert(!td_session_open(&o, &e));
    cr_expect(strstr(e.text, "number_0'") && strstr(e.text, " more errors"), "%s", e.text);
    cr_expect(strstr(log_text, "number_89'"), "%s", log_text);
}

Test(session, wrong_calls_are_refused)
{
    td_session_options   o = { .size = 8 };
    td_training          t = { .size = sizeof t };
    const td_evaluation *scores;
    const td_trained    *trained;
    td_session          *s;
    td_error             e = { 0 };

    cr_expect(!td_session_open(&o, &e) && strstr(e.text, "size"), "%s", e.text);
    e = (td_error){ 0 };
    o = (td_session_options){ .size = sizeof o };
    cr_expect(!td_session_open(&o, &e) && strstr(e.text, "there is no config"), "%s", e.text);
    e = (td_error){ 0 };
    s = must_open(TD_PURPOSE_MODEL, "a");
    cr_expect(td_session_train(s, &t, &trained, &e) && !trained, "trained");
    cr_expect(strstr(e.text, "TD_PURPOSE_TRAIN"), "%s", e.text);
    e = (td_error){ 0 };
    cr_expect(td_session_evaluate(s, NULL, NULL, &scores, &e) && !scores, "evaluated");
    cr_expect(strstr(e.text, "without data"), "%s", e.text);
    td_session_close(s);
    td_session_close(NULL);
}

Test(session, describes_itself)
{
    td_error              e = { 0 };
    td_session           *s = must_open(TD_PURPOSE_MODEL, "a");
    const td_description *d = td_session_describe(s, &e);
    cr_assert(d, "%s", e.text);
    cr_expect_eq(d->parameters, d->embedding + d->attention + d->ffn + d->norm + d->other);
    cr_expect_eq(d->memory.parameters, 4 * (size_t)d->parameters);
    cr_expect(d->forward.visible < d->forward.dense && d->length == 33);
    cr_expect(strstr(td_session_describe_text(s, &e), "parameters   "));
    cr_expect(strstr(td_session_graph(s, true, &e), "digraph"));
    cr_expect(strstr(td_session_mask(s, "model.layers.1.self_attn", &e), "##"));
    cr_expect(!td_session_mask(s, "nowhere", &e) && e.code);
    cr_expect(strstr(td_session_config(s), "d_model = 24"));
    cr_expect(strstr(td_session_directory(s), "/a"));
    td_session_close(s);
}

/* ---- training -------------------------------------------------------------------------------- */

typedef struct watcher {
    int64_t begun_at, steps, last, stop_at, evaluated;
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

static const td_trained *train(td_session *s, watcher *w, bool resume)
{
    td_training       t = { sizeof t, resume, begin, step, evaluating, w };
    const td_trained *trained;
    td_error          e = { 0 };
    cr_assert_eq(td_session_train(s, &t, &trained, &e), 0, "%s", e.text);
    cr_assert(trained);
    return trained;
}

/* The embedding, as the session holds it; free() it. */
static float *embedding(td_session *s, int64_t *count)
{
    td_error     e = { 0 };
    td_parameter p;
    float       *values;
    cr_assert_gt(td_session_parameters(s, &e), 0, "%s", e.text);
    cr_assert_eq(td_session_parameter(s, 0, &p, &e), 0, "%s", e.text);
    values = malloc((size_t)p.count * sizeof *values);
    cr_assert_eq(td_session_read(s, p.name, values, p.count, &e), 0, "%s", e.text);
    *count = p.count;
    return values;
}

Test(session, stopped_and_resumed_is_the_uninterrupted_run)
{
    td_session *whole = must_open(TD_PURPOSE_TRAIN, "whole"),
               *parts = must_open(TD_PURPOSE_TRAIN, "parts");
    watcher           w = { .stop_at = -1 }, v = { .stop_at = 3 };
    const td_trained *t = train(whole, &w, false);
    float            *a, *b;
    int64_t           n, m;

    cr_expect(t->step == 8 && !t->stopped && t->evaluation && isfinite(t->evaluation->nll));
    cr_expect(w.begun_at == 0 && w.steps == 8 && w.last == 8 && w.evaluated == 8);
    t = train(parts, &v, false);
    cr_expect(t->step == 3 && t->stopped && !t->evaluation && v.last == 3);
    v.stop_at = -1;
    t = train(parts, &v, true);
    cr_expect(t->step == 8 && !t->stopped && v.begun_at == 3 && v.loss == w.loss);
    a = embedding(whole, &n);
    b = embedding(parts, &m);
    cr_expect(n == m && !memcmp(a, b, (size_t)n * sizeof *a));
    cr_expect(strstr(log_text, "1 stopped at step 3"), "%s", log_text);
    free(a);
    free(b);
    td_session_close(whole);
    td_session_close(parts);
}

/* The session goes on, and log.txt says how the run ended. */
Test(session, a_run_that_fails)
{
    td_error          e = { 0 };
    td_session       *s;
    watcher           w = { .stop_at = -1 };
    td_training       t = { .size = sizeof t, .arg = &w };
    const td_trained *trained;
    char              path[100], *log;
    s = open_session(TD_PURPOSE_TRAIN, "taken", "train.weights=\"/nowhere/at/all\"", &e);
    cr_assert(s, "%s", e.text);
    cr_expect(td_session_train(s, &t, &trained, &e) && !trained);
    cr_expect(strstr(e.text, "/nowhere/at/all"), "%s", e.text);
    snprintf(path, sizeof path, "%s/taken/log.txt", directory);
    log = td_file_read(path, NULL, NULL);
    cr_assert(log && strstr(log, "error ") && strstr(log, "/nowhere/at/all"), "%s", log);
    free(log);
    e = (td_error){ 0 };
    cr_expect_gt(td_session_parameters(s, &e), 0, "%s", e.text); /* initial values again */
    td_session_close(s);
}

/* ---- parameters ------------------------------------------------------------------------------ */

Test(session, parameters_by_name_and_as_files)
{
    td_session  *s = must_open(TD_PURPOSE_MODEL, "a"), *other;
    td_error     e = { 0 };
    td_parameter p;
    float       *values, *again;
    int64_t      n, m;
    char         path[100];

    values = embedding(s, &n);
    cr_assert_eq(td_session_parameter(s, 0, &p, &e), 0);
    cr_expect(p.rank == 2 && p.shape[0] == 263 && p.shape[1] == 24 && p.count == 263 * 24);
    for (int64_t k = 0; k < n; k++)
        values[k] = (float)k / 7;
    cr_assert_eq(td_session_write(s, p.name, values, n, &e), 0, "%s", e.text);
    snprintf(path, sizeof path, "%s/w.safetensors", directory);
    cr_assert_eq(td_session_save(s, path, &e), 0, "%s", e.text);
    cr_expect(!td_session_loaded(s));
    other = must_open(TD_PURPOSE_EVALUATE, "b");
    cr_assert_eq(td_session_load(other, path, &e), 0, "%s", e.text);
    cr_expect_str_eq(td_session_loaded(other), path);
    again = embedding(other, &m);
    cr_expect(n == m && !memcmp(values, again, (size_t)n * sizeof *values));
    free(again);
    cr_expect(td_session_read(s, "nothing", values, n, &e) && strstr(e.text, "no parameter"));
    e = (td_error){ 0 };
    cr_expect(td_session_read(s, p.name, values, n - 1, &e) && strstr(e.text, "elements"));
    e = (td_error){ 0 };
    cr_expect(td_session_parameter(s, 1000, &p, &e) && strstr(e.text, "1000"), "%s", e.text);
    e = (td_error){ 0 };
    cr_expect(td_session_load(other, NULL, &e) && strstr(e.text, "there is no checkpoint"), "%s",
              e.text);
    free(values);
    td_session_close(other);
    td_session_close(s);
}

static int stop(void *arg, int64_t done, int64_t all) { return 1; }

/* NaN parameters give a result that says so; an evaluation can be stopped. */
Test(session, evaluates_what_it_holds)
{
    td_session          *s = must_open(TD_PURPOSE_EVALUATE, "a");
    td_error             e = { 0 };
    const td_evaluation *out;
    td_parameter         p;
    float               *values;
    int64_t              n;

    cr_assert_eq(td_session_evaluate(s, NULL, NULL, &out, &e), 0, "%s", e.text);
    cr_expect(fabs(out->nll - log(263)) < 1, "untrained: %g", out->nll); /* a guess among 263 ids */
    cr_expect(out->count == 1 && !strcmp(out->at[0].source, "facts") && out->at[0].sequences == 4);
    cr_expect_eq(td_session_evaluate(s, stop, NULL, &out, &e), TD_EEND);
    cr_expect(!out);
    e = (td_error){ 0 };
    values = embedding(s, &n);
    for (int64_t k = 0; k < n; k++)
        values[k] = (float)NAN;
    cr_assert_eq(td_session_parameter(s, 0, &p, &e), 0);
    cr_assert_eq(td_session_write(s, p.name, values, n, &e), 0);
    cr_expect_eq(td_session_evaluate(s, NULL, NULL, &out, &e), TD_EDIVERGED);
    cr_expect(out && isnan(out->nll) && strstr(e.text, "NaN or infinity"), "%s", e.text);
    free(values);
    td_session_close(s);
}
