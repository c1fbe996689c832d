/* train.c - `tandem train`: arguments, signals, a progress line, a summary. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

/* ---- signals --------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;   /* the signal; 0: none */
static volatile sig_atomic_t training; /* there are steps to save */

static int exit_code(int number)
{
    return number == SIGTERM ? TD_EXIT_REQUEUE : TD_EXIT_INTERRUPTED;
}

/* Before the first step there is nothing to save, and loading may take long: leave at once. From
 * then on the first signal asks the run to stop, and a second one ends the program. */
static void on_signal(int number)
{
    if (!training)
        _exit(exit_code(number));
    caught = number;
    signal(number, SIG_DFL);
}

static void catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

/* ---- progress -------------------------------------------------------------------------------- */

typedef struct view {
    td_tool *tool;
    int64_t  first; /* steps made in earlier parts of the run */
} view;

static int begin(void *arg, int64_t step, int64_t steps)
{
    ((view *)arg)->first = step;
    training = true;
    return 0;
}

/* Within 80 columns, of long runs too. */
static int show_step(void *arg, const td_training_step *s)
{
    const view *v = arg;
    bool        last = s->step == s->steps;
    double      each = s->seconds / (double)(s->step - v->first);
    char        time[32], rate[32], share[32] = "";
    if (s->share_of_peak > 0)
        snprintf(share, sizeof share, " %.0f%% peak", 100 * s->share_of_peak);
    /* by the average so far: a single step's time would make it jump */
    td_human_time(time, last ? s->seconds : each * (double)(s->steps - s->step));
    td_log_progress(v->tool->log, last,
                    "%" PRId64 "/%" PRId64 " loss %.3f norm %.2g lr %.2g %s tok/s%s %s %s", s->step,
                    s->steps, s->cross_entropy, s->gradient_norm, s->learning_rate,
                    td_human_count(rate, s->tokens_per_second), share, last ? "took" : "eta", time);
    return caught;
}

static int show_evaluation(void *arg, int64_t step, int64_t done, int64_t all)
{
    const view *v = arg;
    td_log_progress(v->tool->log, false,
                    "step %" PRId64 ": evaluating, %" PRId64 "/%" PRId64 " sequences", step, done,
                    all);
    return caught;
}

/* ---- the summary ----------------------------------------------------------------------------- */

/* null for numbers that are not finite: JSON has none. */
static void print_json(const td_session *s, const td_trained *t)
{
    json_t *scores = t->evaluation ? td_work_scores(t->evaluation) : json_object();
    json_t *root = json_pack("{s:s, s:s, s:I, s:o, s:f}", "run", s->x->run.name, "directory",
                             t->directory, "step", (json_int_t)t->step, "loss",
                             td_tool_number(t->cross_entropy), "tokens_per_second",
                             t->tokens_per_second);
    json_object_update(root, scores);
    json_decref(scores);
    td_work_print_json(root, JSON_INDENT(2));
}

static void print_scores(const td_evaluation *e)
{
    for (int64_t i = 0; i < e->count; i++)
        printf("%-24s nll %.4f  (%" PRId64 " sequences)\n", e->at[i].source, e->at[i].nll,
               e->at[i].sequences);
    printf("%-24s nll %.4f  perplexity %.3f", "mean over sources", e->nll, exp(e->nll));
    if (e->bits_per_byte >= 0)
        printf("  bits per byte %.4f", e->bits_per_byte);
    putchar('\n');
}

static void print_summary(const td_tool *tool, const td_session *s, const td_trained *t)
{
    if (tool->json) {
        print_json(s, t);
        return;
    }
    if (t->evaluation)
        print_scores(t->evaluation);
    printf("step %" PRId64 ", %.0f tokens/s, in %s\n", t->step, t->tokens_per_second, t->directory);
}

/* ---- the command ----------------------------------------------------------------------------- */

/* --weights FILE is train.weights="FILE". */
static void set_weights(td_tool *t, const char *file, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "train.weights=\"");
    for (; *file && n + 4 < size; file++) {
        if (*file == '"' || *file == '\\')
            out[n++] = '\\';
        out[n++] = *file;
    }
    snprintf(out + n, size - n, "\"");
    t->overrides[t->n_overrides++] = out;
}

static int train(td_tool *t, td_session *s)
{
    view              v = { .tool = t };
    td_training       training_ = { .size = sizeof training_,
                                    .resume = td_tool_option(t, "--resume"),
                                    .begin = begin,
                                    .step = show_step,
                                    .evaluating = show_evaluation,
                                    .arg = &v };
    const td_trained *trained;
    td_error          e = { 0 };
    int               code = td_session_train(s, &training_, &trained, &e);

    /* one that diverged has a result, too */
    if (trained)
        print_summary(t, s, trained);
    if (code)
        return td_tool_fail(t, &e);
    return trained->stopped ? exit_code(caught) : TD_EXIT_OK;
}

static const td_flag flags[] = {
    { "--resume", 0, "go on from the newest checkpoint, if there is one" },
    { "--weights", "FILE", "start from these parameters (train.weights)" },
    { "--allow", "KEY ..",
      "a key that may differ from the run's config, or from the model of the weights: "
      "model.position.*" },
    { 0, 0, 0 },
};

const td_usage td_usage_train = {
    .name = "train",
    .arguments = "[--resume] [--weights W.safetensors] [--allow KEY ..]",
    .brief = "Train a model: data, steps, evaluations, checkpoints.",
    .example = "tandem train -c quickstart/redllm.cfg run.name=first train.steps=200",
    .flags = flags,
    .config = true,
    .json = true,
    .notes =
        "The run is written to run.dir/run.name: metrics.jsonl, TensorBoard events, checkpoints, "
        "config.cfg, log.txt.\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong config or usage, 3 diverged, 75 saved after "
        "SIGTERM, 130 saved after "
        "SIGINT (both can be resumed with --resume).\n",
};

int td_command_train(td_tool *t, int argc, char **argv)
{
    const char *weights;
    char        override[8300];
    td_session *s;
    int         code;

    if (!td_tool_parse(t, &td_usage_train, argc, argv, &code))
        return code;
    catch_signals(); /* preparing data may take long, and be interrupted */
    weights = td_tool_option(t, "--weights");
    if (weights)
        set_weights(t, weights, override, sizeof override);
    s = td_work_open(t, TD_NEED_TRAINING, &code);
    if (!s)
        return code;
    code = train(t, s);
    td_session_close(s);
    return code;
}
