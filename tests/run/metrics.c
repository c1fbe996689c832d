/* metrics.c - the length of a run that has a budget, and the numbers in its lines of metrics. */
#include "session.h"

TestSuite(metrics, .init = setup, .fini = teardown);

/* ---- budgets --------------------------------------------------------------------------------- */

/* Trains under a budget; returns the steps made, and the run's config.cfg. */
static int64_t steps_of_budget(const char *name, const char *budget, char **config)
{
    td_training       t = { .size = sizeof t, .resume = true };
    const td_trained *trained;
    td_error          e = { 0 };
    td_session       *s = open_session(TD_PURPOSE_TRAIN, name, budget, &e);
    char              path[200];
    int64_t           steps;
    cr_assert(s, "%s", e.text);
    cr_assert_eq(td_session_train(s, &t, &trained, &e), 0, "%s", e.text);
    steps = trained->step;
    td_session_close(s);
    snprintf(path, sizeof path, "%s/%s/config.cfg", directory, name);
    *config = td_file_read(path, NULL, &e);
    cr_assert(*config, "%s", e.text);
    return steps;
}

/* Two rows of 33 tokens, all of which are targets of the causal loss. */
Test(metrics, a_budget_of_tokens_or_flops_becomes_steps)
{
    char *config, path[200];
    cr_expect_eq(steps_of_budget("t", "train.target_tokens=199", &config), 4);
    cr_expect(strstr(config, "# steps = 4;") && strstr(config, "at 66 a step"), "%s", config);
    free(config);
    /* the same budget again, as for a resumed run; then a larger one */
    cr_expect_eq(steps_of_budget("t", "train.target_tokens=199", &config), 4);
    free(config);
    cr_expect_eq(steps_of_budget("t", "train.target_tokens=264.5", &config), 5);
    free(config);
    cr_expect_eq(steps_of_budget("f", "train.flops=1", &config), 1);
    free(config);
    snprintf(path, sizeof path, "%s/f/metrics.jsonl", directory);
    config = td_file_read(path, NULL, NULL);
    cr_assert(config && strstr(config, "\"train/flops\": "));
    double each = atof(strstr(config, "\"train/flops\": ") + 15);
    free(config);
    /* all rows have the same length, so every step costs as much as the first */
    snprintf(path, sizeof path, "train.flops=%.17g", 2.5 * each);
    cr_expect_eq(steps_of_budget("g", path, &config), 3);
    free(config);
}

/* ---- numbers of a line ----------------------------------------------------------------------- */

enum { LINES = 16 };

/* The values of a key in a run's metrics, in order. Returns their number. */
static int values_of(const char *run, const char *key, double out[LINES])
{
    char path[200], wanted[100], *text;
    int  n = 0;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", directory, run);
    snprintf(wanted, sizeof wanted, "\"%s\": ", key);
    text = td_file_read(path, NULL, NULL);
    cr_assert(text);
    for (const char *p = text; (p = strstr(p, wanted)) && n < LINES; p++)
        out[n++] = atof(p + strlen(wanted));
    free(text);
    return n;
}

static void train_with(const char *run, const char *more, int64_t stop_at, bool resume)
{
    td_error    e = { 0 };
    watcher     w = { .stop_at = stop_at };
    td_session *s = open_session(TD_PURPOSE_TRAIN, run, more, &e);
    cr_assert(s, "%s", e.text);
    train(s, &w, resume);
    td_session_close(s);
}

/* With one line every third step, each is the mean of three steps, wherever the run was
 * interrupted. */
Test(metrics, a_line_has_the_mean_since_the_last_one)
{
    static const char *const keys[] = { "train/loss", "train/cross_entropy" };
    train_with("each", "train.log_every=1", -1, false);
    train_with("third", "train.log_every=3", -1, false);
    train_with("cut", "train.log_every=3", 4, false);
    train_with("cut", "train.log_every=3", -1, true);
    for (int k = 0; k < 2; k++) {
        double each[LINES], third[LINES], cut[LINES];
        cr_assert_eq(values_of("each", keys[k], each), 8);
        cr_assert_eq(values_of("third", keys[k], third), 3);
        cr_assert_eq(values_of("cut", keys[k], cut), 3);
        cr_expect(fabs(third[0] - (each[0] + each[1] + each[2]) / 3) < 1e-12);
        cr_expect(fabs(third[1] - (each[3] + each[4] + each[5]) / 3) < 1e-12);
        cr_expect(fabs(third[2] - (each[6] + each[7]) / 2) < 1e-12);
        cr_expect(!memcmp(third, cut, 3 * sizeof *cut), "%.17g, not %.17g", cut[1], third[1]);
    }
}

Test(metrics, both_rates_and_none_without_a_step)
{
    watcher           w = { .stop_at = -1 };
    td_session       *s = must_open(TD_PURPOSE_TRAIN, "rates");
    const td_trained *t = train(s, &w, false);
    double            tokens[LINES], targets[LINES];
    int               n = values_of("rates", "train/tokens", tokens);
    cr_assert(n == values_of("rates", "train/target_tokens", targets) && n == 8);
    cr_expect(fabs(t->targets_per_second / t->tokens_per_second - targets[7] / tokens[7]) < 1e-9);
    t = train(s, &w, true);
    cr_expect(t->tokens_per_second == 0 && t->targets_per_second == 0);
    td_session_close(s);
}

/* The loss is finite but worse than guessing: it must not look like a result, and log.txt says how
 * the run ended. */
Test(metrics, a_run_that_exploded_has_diverged)
{
    td_error           e = { 0 };
    char               dir[100], path[120], *log;
    td_training        t = { .size = sizeof t };
    const td_trained  *trained;
    const char        *settings[] = { "schedule.peak=50.0",
                                      "optimizer.plugin=lion",
                                      "train.steps=24",
                                      "run.name=exploded",
                                      dir,
                                      NULL };
    td_session_options o = { .size = sizeof o,
                             .purpose = TD_PURPOSE_TRAIN,
                             .texts = texts,
                             .settings = settings,
                             .log = keep_line };
    snprintf(dir, sizeof dir, "run.dir=%s", directory);
    td_session *s = td_session_open(&o, &e);
    cr_assert(s, "%s", e.text);
    cr_expect_eq(td_session_train(s, &t, &trained, &e), TD_EDIVERGED);
    cr_expect(strstr(e.text, "guessing costs ln 263 = 5.572"), "%s", e.text);
    cr_expect(trained && trained->step == 24);
    cr_expect(strstr(log_text, "far above guessing"), "%s", log_text);
    snprintf(path, sizeof path, "%s/exploded/log.txt", directory);
    log = td_file_read(path, NULL, NULL);
    cr_assert(log && strstr(log, "error ") && strstr(log, "guessing costs ln 263"), "%s", log);
    free(log);
    td_session_close(s);
}
