/* train.c - `tandem train`: arguments, signals, a progress line, a summary. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "guard.h"
#include "run/directory.h"
#include "run/results.h"
#include "work.h"

/* ---- signals --------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;   /* the signal; 0: none */
static volatile sig_atomic_t training; /* there are steps to save */
static volatile sig_atomic_t follows;  /* another process prints */

/* The signals that end a run in order. */
static const struct ending {
    int  signal, code;
    bool twice; /* a second one ends the program at once: someone is waiting */
} endings[] = {
    { SIGTERM, TD_EXIT_REQUEUE, true },
    { SIGINT, TD_EXIT_INTERRUPTED, true },
    /* batch systems send these before the time limit, the second again every second */
    { SIGUSR1, TD_EXIT_REQUEUE, false },
    { SIGUSR2, TD_EXIT_REQUEUE, false },
    { SIGXCPU, TD_EXIT_REQUEUE, false },
    /* the terminal was closed, or the reader of the output has ended; every write repeats the
     * second */
    { SIGHUP, 128 + SIGHUP, false },
    { SIGPIPE, 128 + SIGPIPE, false },
};
enum { ENDINGS = sizeof endings / sizeof *endings };

static const struct ending *ending_of(int number)
{
    int k = 0;
    while (k + 1 < ENDINGS && endings[k].signal != number)
        k++;
    return &endings[k];
}

static int exit_code(int number) { return ending_of(number)->code; }

static void end_before_training(int number)
{
    static const char text[] = "tandem train: stopped before its first step: nothing to save\n";
    td_run_withdraw();
    if (!follows && write(STDERR_FILENO, text, sizeof text - 1) < 0)
        number = SIGPIPE; /* nobody reads it */
    _exit(td_guard_end(exit_code(number)));
}

/* Before the first step there is nothing to save, and loading may take long, so a signal ends
 * the program at once. Later, the first signal stops the run after the current micro-batch, and
 * a second one ends the program if it is one that a waiting person sends. */
static void on_signal(int number)
{
    if (!training)
        end_before_training(number);
    if (!caught) {
        caught = number;
        return;
    }
    if (!ending_of(number)->twice)
        return;
    /* Not set to SIG_DFL at the first: a change of handlers while a hook runs would be
     * attributed to the hook. */
    signal(number, SIG_DFL);
    raise(number);
}

/* Signals that are already ignored (nohup, a shell's background) stay ignored, except for
 * SIGTERM. */
static void catch_signals(void)
{
    struct sigaction action, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    for (int k = 0; k < ENDINGS; k++)
        if (endings[k].signal == SIGTERM ||
            (!sigaction(endings[k].signal, NULL, &before) && before.sa_handler != SIG_IGN))
            sigaction(endings[k].signal, &action, NULL);
}

/* ---- progress -------------------------------------------------------------------------------- */

typedef struct view {
    td_tool *tool;
    int64_t  first;   /* steps made in earlier parts of the run */
    double   stepped; /* time at which the last step ended */
    double   sum;     /* of the cross-entropies of `shown` steps: those not shown yet */
    int64_t  shown;
    int64_t  evaluated; /* step of the last complete evaluation; -1: none */
} view;

enum { SLOW_STEP = 5 }; /* seconds */

static int begin(void *arg, int64_t step, int64_t steps)
{
    ((view *)arg)->first = step;
    ((view *)arg)->stepped = td_now();
    training = true;
    return 0;
}

/* Stays within 80 columns even for long runs: the rest is in metrics.jsonl. The loss is the mean
 * over the steps since the last line, since a single step's would jump. */
static bool print_step(view *v, const td_training_step *s, bool last)
{
    double each = s->seconds / (double)(s->step - v->first);
    char   time[32], rate[32], targets[32], line[200], share[32] = "";
    int    width = 80;
    if (s->share_of_peak > 0)
        snprintf(share, sizeof share, " %.0f%% peak", 100 * s->share_of_peak);
    /* estimated from the average so far: a single step's time would make it jump */
    td_human_time(time, last ? s->seconds : each * (double)(s->steps - s->step));
    td_human_count(rate, s->tokens_per_second);
    td_human_count(targets, s->targets_per_second);
    do {
        width = snprintf(line, sizeof line,
                         "%" PRId64 "/%" PRId64
                         " nll %.3f norm %.2g lr %.2g %s tok/s %s tgt/s%s %s %s",
                         s->step, s->steps, v->sum / (double)v->shown, s->gradient_norm,
                         s->learning_rate, rate, targets, share, last ? "took" : "eta", time);
    } while (width > 80 && *share && !(*share = 0));
    return td_log_progress(v->tool->log, last, "%s", line);
}

static int show_step(void *arg, const td_training_step *s)
{
    view *v = arg;
    v->stepped = td_now();
    v->sum += s->cross_entropy;
    v->shown++;
    if (print_step(v, s, s->step == s->steps)) {
        v->sum = 0;
        v->shown = 0;
    }
    return caught;
}

static int show_evaluation(void *arg, int64_t step, int64_t done, int64_t all)
{
    view *v = arg;
    v->evaluated = done == all ? step : v->evaluated;
    td_log_progress(v->tool->log, false,
                    "step %" PRId64 ": evaluating, %" PRId64 "/%" PRId64 " sequences", step, done,
                    all);
    return caught;
}

static int show_scoring(void *arg, int64_t step, const char *task, int64_t done, int64_t all)
{
    const view *v = arg;
    td_log_progress(v->tool->log, false, "step %" PRId64 ": %s, %" PRId64 "/%" PRId64 " items",
                    step, task, done, all);
    return caught;
}

/* Shown only if a step takes so long that the program would seem to hang. */
static int show_accumulation(void *arg, int64_t step, int64_t done, int64_t all)
{
    const view *v = arg;
    if (td_now() - v->stepped > SLOW_STEP)
        td_log_progress(v->tool->log, false, "step %" PRId64 ": micro-batch %" PRId64 "/%" PRId64,
                        step, done, all);
    return caught;
}

static void leave(void *arg, const char *why) { td_work_lost(((view *)arg)->tool, why); }

/* ---- the summary ----------------------------------------------------------------------------- */

/* {"boolq": {"acc": 0.5, "acc_stderr": 0.02}} */
static json_t *json_of_tasks(const td_task_scores *s)
{
    json_t *all = json_object();
    for (size_t k = 0; k < s->count; k++) {
        const td_task_score *x = &s->at[k];
        int                  n = (int)strcspn(x->key, ",");
        json_t              *task = json_object_get(all, x->task);
        char                 error[200];
        if (!task)
            json_object_set_new(all, x->task, task = json_object());
        snprintf(error, sizeof error, "%.*s_stderr%s", n, x->key, x->key + n);
        json_object_set_new(task, x->key, td_tool_number(x->score));
        json_object_set_new(task, error, td_tool_number(x->error));
    }
    return all;
}

/* Non-finite numbers become null, as JSON does not have them. */
static void print_json(const td_session *s, const td_trained *t)
{
    json_t *scores = t->evaluation ? td_results_scores(t->evaluation) : json_object();
    bool    made = t->tokens_per_second > 0; /* any step: otherwise there is no rate */
    json_t *root = json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:I}", "run", s->x->run.name,
                             "directory", t->directory, "step", (json_int_t)t->step, "loss",
                             td_tool_number(t->cross_entropy), "tokens_per_second",
                             made ? json_real(t->tokens_per_second) : json_null(),
                             "target_tokens_per_second",
                             made ? json_real(t->targets_per_second) : json_null(), "skipped",
                             (json_int_t)t->skipped);
    json_object_update(root, scores);
    if (t->best_step >= 0)
        json_object_set_new(root, "best",
                            json_pack("{s:I, s:o}", "step", (json_int_t)t->best_step, t->best_name,
                                      td_tool_number(t->best)));
    if (t->tasks)
        json_object_set_new(root, "tasks", json_of_tasks(t->tasks));
    json_decref(scores);
    td_work_print_json(root, JSON_INDENT(2));
}

static void print_scores(const td_evaluation *e)
{
    for (int64_t i = 0; i < e->count; i++) {
        const td_score *s = &e->at[i];
        if (s->targets)
            printf("%-24s nll %.4f", s->source, fabs(s->nll));
        else /* no held-out text */
            printf("%-24s nll %6s", s->source, "-");
        printf("  (%" PRId64 " sequences)\n", s->sequences);
    }
    /* an NLL is not negative; fabs: the sign of a NaN, which would be printed, means nothing */
    printf("%-24s nll %.4f  perplexity %.3f", "mean over sources", fabs(e->nll), fabs(exp(e->nll)));
    if (e->bits_per_byte >= 0)
        printf("  bits per byte %.4f", e->bits_per_byte);
    putchar('\n');
}

static void print_tasks(const td_task_scores *s)
{
    for (size_t k = 0; k < s->count; k++) {
        const td_task_score *x = &s->at[k];
        if (!x->own)
            continue;
        printf("%-24s %s %.4f", x->task, x->key, x->score);
        if (isfinite(x->error))
            printf(" +- %.4f", x->error);
        printf("  (%" PRId64 " %s)\n", x->items, strcmp(x->key, "mean") ? "items" : "tasks");
    }
}

static void print_summary(const view *v, const td_session *s, const td_trained *t)
{
    if (v->tool->json) {
        print_json(s, t);
        return;
    }
    /* a run that was stopped is not evaluated again: that happens only at its end */
    if (t->evaluation && v->evaluated >= 0 && v->evaluated != t->step)
        printf("the last evaluation, at step %" PRId64 ":\n", v->evaluated);
    if (t->evaluation)
        print_scores(t->evaluation);
    if (t->tasks)
        print_tasks(t->tasks);
    if (t->best_step >= 0 && t->best_step != t->step)
        printf("%-24s %s %.4f  at step %" PRId64 "\n", "best evaluation", t->best_name, t->best,
               t->best_step);
    printf("step %" PRId64, t->step);
    if (t->tokens_per_second > 0)
        printf(", %.0f tokens/s read, %.0f predicted", t->tokens_per_second, t->targets_per_second);
    /* a resumed run that was complete makes no step */
    else if (!t->stopped)
        printf(", nothing was left to train");
    if (t->skipped)
        printf(", %" PRId64 " updates skipped", t->skipped);
    printf(", in %s\n", t->directory);
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

/* All ranks fail together, and end with the same code; the first one prints why. */
static int train(td_tool *t, td_session *s, bool follows)
{
    view              v = { .tool = t, .evaluated = -1 };
    td_training       training_ = { .size = sizeof training_,
                                    .resume = td_tool_option(t, "--resume"),
                                    .begin = begin,
                                    .step = show_step,
                                    .evaluating = show_evaluation,
                                    .scoring = show_scoring,
                                    .accumulating = show_accumulation,
                                    .arg = &v,
                                    .lost = leave };
    const td_trained *trained;
    td_error          e = { 0 };
    int               code = td_session_train(s, &training_, &trained, &e);

    /* a diverged run has a result too */
    if (trained && !follows)
        print_summary(&v, s, trained);
    if (code)
        return follows ? td_tool_exit_code(&e) : td_tool_fail(t, &e);
    if (!trained->stopped)
        return TD_EXIT_OK;
    /* the signal may have come to another rank */
    return caught ? exit_code(caught) : TD_EXIT_REQUEUE;
}

static const td_flag flags[] = {
    { "--resume", 0, "continue from the newest checkpoint, if there is one" },
    { "--weights", "PATH",
      "start from these parameters (train.weights): a file, a checkpoint or a run's directory" },
    { "--every-rank", 0, "let every process write its log, not only the first" },
    { "--allow", "KEY ..",
      "a key that may differ from the run's config, or from the model of the weights: "
      "model.position.*" },
    { 0, 0, 0 },
};

const td_usage td_usage_train = {
    .name = "train",
    .arguments = "[RUN] [--resume] [--weights PATH] [--allow KEY ..] [--every-rank]",
    .brief = "Train a model: data, steps, evaluations, checkpoints.",
    .example = "tandem train -c quickstart/redllm.cfg run.name=first train.steps=200",
    .flags = flags,
    .config = true,
    .optional = true,
    .run = true,
    .folders = 1,
    .json = true,
    .plain = 1,
    .notes =
        "RUN --resume continues a run wherever it is, with its own config; -c and key=value change "
        "that config.\n\n"
        "The progress line: nll is the cross-entropy per target token in nats, without z-loss, as "
        "the mean since the last line; tok/s counts tokens read, inputs and targets, and tgt/s the "
        "targets alone; peak is the share of the rate at which this machine multiplies "
        "matrices.\n\n"
        "On several processors or hosts: `mpirun -np 4 tandem train ..`, or srun --mpi=pmix. The "
        "processes share the micro-batches of a step; train.reduce = \"exact\" gives the same bits "
        "on any number of them.\n\n"
        "The run is written to run.dir/run.name: metrics.jsonl, TensorBoard events, checkpoints, "
        "config.cfg, log.txt.\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong config or usage, 3 diverged; saved, to be resumed "
        "with --resume: 75 after SIGTERM, SIGUSR1, SIGUSR2 or SIGXCPU, 129 after SIGHUP, 130 after "
        "SIGINT, 141 when nothing reads the output any more (SIGPIPE).\n",
};

int td_command_train(td_tool *t, int argc, char **argv)
{
    const char  *weights;
    char         override[8300];
    td_run_place place;
    td_session  *s = NULL;
    bool         follower;
    int          code;

    if (!td_tool_parse(t, &td_usage_train, argc, argv, &code))
        return code;
    follows = follower = td_work_follows(t);
    catch_signals(); /* preparing data may take long, and may be interrupted */
    weights = td_tool_option(t, "--weights");
    if (weights)
        set_weights(t, weights, override, sizeof override);
    td_work_take_run(t, &place);
    if (td_work_has_model(t, &place, &code))
        s = td_work_open_run(t, &place, TD_NEED_TRAINING, &code);
    if (s)
        code = train(t, s, follower);
    td_session_close(s);
    td_run_place_free(&place);
    return code;
}
