/* session.c - sessions as a program sees them: configs as text, errors together, callbacks that
 * stop a run, parameters by name and as files. */
#include "session.h"

TestSuite(session, .init = setup, .fini = teardown);

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

/* Errors that do not fit in the text are counted, and are in the log. */
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

/* The session's embedding; free() it. */
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

/* A step that was interrupted is repeated with the same bits. */
Test(session, stopped_within_a_step)
{
    td_error    e = { 0 };
    td_session *whole = open_session(TD_PURPOSE_TRAIN, "whole", "train.micro_batch=1", &e),
               *parts = open_session(TD_PURPOSE_TRAIN, "parts", "train.micro_batch=1", &e);
    watcher           w = { .stop_at = -1 }, v = { .stop_at = -1, .drop_at = 1 };
    const td_trained *t;
    float            *a, *b;
    int64_t           n, m;

    cr_assert(whole && parts, "%s", e.text);
    train(whole, &w, false);
    t = train(parts, &v, false);
    cr_expect(t->step == 0 && t->stopped && v.last == 0);
    v.drop_at = 4;
    t = train(parts, &v, true);
    cr_expect(t->step == 3 && t->stopped && v.last == 3 && v.begun_at == 0);
    v.drop_at = 0;
    t = train(parts, &v, true);
    cr_expect(t->step == 8 && !t->stopped && v.loss == w.loss);
    a = embedding(whole, &n);
    b = embedding(parts, &m);
    cr_expect(n == m && !memcmp(a, b, (size_t)n * sizeof *a));
    free(a);
    free(b);
    td_session_close(whole);
    td_session_close(parts);
}

/* A start that fails leaves no directory behind, and the session can still be used. */
Test(session, a_start_that_fails)
{
    td_error          e = { 0 };
    td_session       *s;
    watcher           w = { .stop_at = -1 };
    td_training       t = { .size = sizeof t, .arg = &w };
    const td_trained *trained;
    char              path[100];
    s = open_session(TD_PURPOSE_TRAIN, "taken", "train.weights=\"/nowhere/at/all\"", &e);
    cr_assert(s, "%s", e.text);
    cr_expect(td_session_train(s, &t, &trained, &e) && !trained);
    cr_expect(strstr(e.text, "/nowhere/at/all"), "%s", e.text);
    snprintf(path, sizeof path, "%s/taken", directory);
    cr_expect(!td_file_exists(path));
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

/* NaN parameters have a result that shows it, and an evaluation can be stopped. */
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

/* ---- scores ---------------------------------------------------------------------------------- */

/* Sums over sequences are those of the sources, and a single sequence has no error. */
Test(session, scores_each_sequence)
{
    td_session          *s = must_open(TD_PURPOSE_EVALUATE, "a");
    td_error             e = { 0 };
    const td_evaluation *out;
    double               nll = 0, squares = 0;

    cr_assert_eq(td_session_evaluate(s, NULL, NULL, &out, &e), 0, "%s", e.text);
    cr_assert_eq(out->n_sequences, 4);
    for (int64_t i = 0; i < 4; i++) {
        const td_sequence_score *q = &out->sequences[i];
        cr_expect(q->source == 0 && q->index == i && q->targets == 17 && q->weight == 17);
        nll += q->nll;
    }
    cr_expect_float_eq(out->nll, nll / (4 * 17), 1e-12);
    for (int64_t i = 0; i < 4; i++) {
        double d = out->sequences[i].nll / 17 - out->nll;
        squares += d * d;
    }
    cr_expect_float_eq(out->nll_error, sqrt(squares / 3 / 4), 1e-12);
    td_session_close(s);
    s = open_session(TD_PURPOSE_EVALUATE, "a", "evaluate.sequences=1", &e);
    cr_assert_eq(td_session_evaluate(s, NULL, NULL, &out, &e), 0, "%s", e.text);
    cr_expect(isnan(out->nll_error) && isfinite(out->nll));
    td_session_close(s);
}

static int64_t items_done;

static int count_items(void *arg, int64_t done, int64_t all)
{
    items_done = done;
    return all != 2 || *(int *)arg;
}

/* Tokens can be scored without data; NaN parameters and a stop are distinguished. */
Test(session, scores_tokens)
{
    td_session  *s = must_open(TD_PURPOSE_EVALUATE, "a");
    td_error     e = { 0 };
    int32_t      tokens[] = { 70, 71, 72, 73 };
    td_scored    items[] = { { .given = tokens, .n_given = 3, .target = tokens + 3, .n_target = 1 },
                             { .target = tokens, .n_target = 4 } };
    int          stopped = 0;
    int64_t      n;
    float       *values;
    td_parameter p;

    cr_assert_eq(td_session_score(s, items, 2, count_items, &stopped, &e), 0, "%s", e.text);
    cr_expect(items_done == 2 && fabs(items[0].logprob + log(263)) < 3 &&
                  fabs(items[1].logprob + 4 * log(263)) < 8,
              "untrained: %g, %g", items[0].logprob, items[1].logprob);
    stopped = 1;
    cr_expect_eq(td_session_score(s, items, 2, count_items, &stopped, &e), TD_EEND);
    e = (td_error){ 0 };
    values = embedding(s, &n);
    for (int64_t k = 0; k < n; k++)
        values[k] = (float)NAN;
    cr_assert_eq(td_session_parameter(s, 0, &p, &e), 0);
    cr_assert_eq(td_session_write(s, p.name, values, n, &e), 0);
    cr_expect_eq(td_session_score(s, items, 2, NULL, NULL, &e), TD_EDIVERGED);
    cr_expect(strstr(e.text, "NaN or infinity"), "%s", e.text);
    free(values);
    td_session_close(s);
}

/* ---- tasks and comparisons --------------------------------------------------------------------- */

Test(session, compares_runs)
{
    td_session  *s = must_open(TD_PURPOSE_TRAIN, "a"), *other;
    td_error     e = { 0 };
    char         a[100], b[100];
    const char  *runs[] = { a, b }, *text;
    td_comparing c = { .size = sizeof c, .runs = runs, .n_runs = 2 };
    watcher      w = { .stop_at = -1 };
    snprintf(a, sizeof a, "%s/a", directory);
    snprintf(b, sizeof b, "%s/b", directory);
    train(s, &w, false);
    other = must_open(TD_PURPOSE_TRAIN, "b");
    train(other, &w, false);
    td_session_close(other);
    cr_expect(!td_session_compare(s, &c, &e) && strstr(e.text, "has no results in eval"), "%s",
              e.text);
    for (int k = 0; k < 2; k++) {
        char path[140],
            text_of_it[] = "{\"kind\":\"tasks\",\"results\":{\"x\":{\"acc,none\":0.5}}}";
        td_error why = { 0 };
        snprintf(path, sizeof path, "%s/eval", k ? b : a);
        cr_assert_eq(td_make_directories(path, &why), 0);
        snprintf(path, sizeof path, "%s/eval/x.json", k ? b : a);
        text_of_it[strlen(text_of_it) - 4] = k ? '7' : '5';
        cr_assert_eq(td_file_write(path, text_of_it, strlen(text_of_it), &why), 0, "%s", why.text);
    }
    e = (td_error){ 0 };
    text = td_session_compare(s, &c, &e);
    cr_assert(text, "%s", e.text);
    cr_expect(strstr(text, "\"measure\": \"x acc\"") && strstr(text, "\"score\": 0.6999"), "%s",
              text);
    c.n_runs = 1;
    cr_expect(!td_session_compare(s, &c, &e) && strstr(e.text, "two runs or more"), "%s", e.text);
    td_session_close(s);
}

Test(session, asks_only_what_there_is)
{
    const char           *names[] = { "sumz" };
    td_session           *s = must_open(TD_PURPOSE_GENERATE, "a");
    td_asking             a = { .size = sizeof a };
    const td_task_scores *scores;
    td_error              e = { 0 };
    cr_expect(td_session_ask(s, &a, &scores, &e) && !scores);
    cr_expect(strstr(e.text, "there is no task to score"), "%s", e.text);
    e = (td_error){ 0 };
    a.tasks = names;
    a.n_tasks = 1;
    cr_expect(td_session_ask(s, &a, &scores, &e) && strstr(e.text, "unknown task 'sumz'"), "%s",
              e.text);
    e = (td_error){ 0 };
    names[0] = "sums";
    a.data = TANDEM_SOURCE "/data/tasks";
    a.limit = 3;
    cr_assert_eq(td_session_ask(s, &a, &scores, &e), 0, "%s", e.text);
    cr_expect(scores->count == 1 && scores->at[0].own && scores->at[0].items == 3);
    cr_expect_str_eq(scores->at[0].key, "acc");
    td_session_close(s);
}
