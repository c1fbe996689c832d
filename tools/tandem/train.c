/* train.c - `tandem train`: a run directory, the training loop, a summary. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run_directory.h"
#include "weights.h"

/* ---- the summary ----------------------------------------------------------------------------- */

static void print_summary(const td_work *w, const td_trainer_out *out, const char *directory)
{
    const td_evaluation *e = &out->evaluation;
    if (w->tool->json) {
        json_t *scores = e->count ? td_work_scores(e) : json_object();
        json_t *root = json_pack("{s:s, s:s, s:I, s:o, s:f}", "run", w->x->run.name, "directory",
                                 directory, "step", (json_int_t)out->progress.step, "loss",
                                 td_tool_number(out->progress.cross_entropy), "tokens_per_second",
                                 out->tokens_per_second);
        json_object_update(root, scores);
        json_decref(scores);
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    } else {
        for (int64_t i = 0; i < e->count; i++)
            printf("%-24s nll %.4f  (%" PRId64 " sequences)\n", e->at[i].source, e->at[i].nll,
                   e->at[i].sequences);
        if (e->count)
            printf("%-24s nll %.4f  perplexity %.3f%s", "mean over sources", e->nll, exp(e->nll),
                   e->bits_per_byte < 0 ? "\n" : "");
        if (e->count && e->bits_per_byte >= 0)
            printf("  bits per byte %.4f\n", e->bits_per_byte);
        printf("step %" PRId64 ", %.0f tokens/s, in %s\n", out->progress.step,
               out->tokens_per_second, directory);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Until the first step there is nothing to save: what was prepared is kept as it is. */
static void leave(int signal_)
{
    _exit(signal_ == SIGTERM ? TD_EXIT_REQUEUE : TD_EXIT_INTERRUPTED);
}

static void leave_on_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = leave;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

/* A schedule has its own number of steps, which need not be the run's. */
static void tell_schedule(const td_work *w)
{
    int64_t steps;
    if (td_config_get_int(w->x->config, "schedule.steps", &steps) && steps != w->x->train.steps)
        td_log_line(w->tool->log, TD_LOG_WARN,
                    "schedule.steps = %" PRId64 " and train.steps = %" PRId64
                    " differ: the learning "
                    "rate %s",
                    steps, w->x->train.steps,
                    steps < w->x->train.steps ? "stays at its end from then on"
                                              : "does not come to its end");
}

/* How often the text is read, and what is not evaluated. */
static void tell_data(const td_work *w)
{
    const td_data *d = (const void *)w->x->data.plugin;
    const td_loss *l = (const void *)w->x->loss.plugin;
    int64_t        tokens = d->tokens ? d->tokens(w->data) : -1, sources = d->sources(w->data);
    double         read = (double)w->x->train.steps * (double)w->x->train.batch *
                  (double)l->bounds(w->x->loss.config, w->x->train.length).raw;
    char count[32];
    if (tokens > 0)
        td_log_line(w->tool->log, TD_LOG_INFO,
                    "%s tokens of training text; %" PRId64 " steps read them %.3g times",
                    td_human_count(count, (double)tokens), w->x->train.steps,
                    read / (double)tokens);
    for (int64_t i = 0; i < sources && w->x->train.evaluate_every >= 0; i++)
        if (d->held_out(w->data, i) < 1)
            td_log_line(w->tool->log, TD_LOG_WARN,
                        "source '%s' has no held-out text: the mean over sources is without it",
                        d->source_name(w->data, i));
}

static int prepare(td_work *w, td_run_directory *r, char **about, td_error *error)
{
    const char *weights = w->x->train.weights;
    td_memory   memory;
    int         code = td_work_data(w, error);

    if (!code)
        code = td_work_engine(w, error);
    if (!code && !(*about = td_run_about(w, error)))
        code = error->code;
    if (!code && r->latest)
        code = td_run_compare(r, w, *about, error);
    else if (!code && *weights)
        code = td_work_check_weights(w, weights, error);
    if (*weights || r->latest)
        td_work_tell_idle_allows(w);
    if (!code)
        code = td_work_plan(w, &memory, error);
    if (!code)
        code = td_memory_check(&memory, td_engine_device(w->engine), error);
    if (!code)
        code = td_run_describe(r, w, &memory, error);
    if (code)
        return code;
    tell_schedule(w);
    tell_data(w);
    code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code && *weights && !r->latest)
        code = td_weights_load(weights, td_engine_variables(w->engine), td_engine_device(w->engine),
                               error);
    return code;
}

static td_trainer_spec trainer_spec(const td_work *w, const td_run_directory *r, const char *about)
{
    const td_train_options *o = &w->x->train;
    const td_device        *d = td_engine_device(w->engine);
    td_trainer_spec         s = {
                .engine = w->engine,
                .feed = td_work_feed(w),
                .evaluate = td_work_evaluate(w),
                .schedule = w->x->schedule,
                .n_loggers = w->x->n_loggers,
                .log = w->tool->log,
                .services = w->services,
                .directory = r->path,
                .about = about,
                .resume = r->latest,
                .other_evaluation = r->other_evaluation,
                .steps = o->steps,
                .log_every = o->log_every,
                .norms_every = o->norms_every,
                .evaluate_every = o->evaluate_every,
                .checkpoint_every = o->checkpoint_every,
                .keep_last = o->keep_last,
                .keep_best = o->keep_best,
                .guard = (int)o->guard,
                .spike = o->spike,
                .patience = o->patience,
                .peak = d->backend->peak ? d->backend->peak(d->state) : 0,
    };
    memcpy(s.loggers, w->x->loggers, sizeof s.loggers);
    return s;
}

/* What ended in numbers that are none has diverged, whatever the guard let pass. */
static int check_numbers(const td_trainer_out *out, td_error *error)
{
    const td_evaluation *e = &out->evaluation;
    if (out->progress.step && !isfinite(out->progress.cross_entropy))
        return td_fail(error, TD_EDIVERGED,
                       "diverged: the loss of step %" PRId64 " is %g; lower schedule.peak, or set "
                       "train.guard",
                       out->progress.step, out->progress.cross_entropy);
    return e->count && !isfinite(e->nll)
               ? td_fail(error, TD_EDIVERGED,
                         "the held-out NLL is %g: the parameters hold numbers that are none",
                         e->nll)
               : 0;
}

static int train(td_work *w, bool resume, td_error *error)
{
    td_run_directory r;
    char            *about = NULL;
    td_trainer_out   out = { 0 };
    int              code = td_run_open(&r, w, resume, error);

    if (!code)
        code = prepare(w, &r, &about, error);
    if (!code) {
        td_trainer_spec spec = trainer_spec(w, &r, about);
        code = td_trainer_run(&spec, &out, error);
    }
    if (!code)
        print_summary(w, &out, r.path);
    if (!code && out.signal)
        td_log_line(w->tool->log, TD_LOG_INFO,
                    "stopped by a signal at step %" PRId64 "; go on with --resume",
                    out.progress.step);
    if (!code && !out.signal)
        code = check_numbers(&out, error);
    td_evaluation_free(&out.evaluation);
    td_run_close(&r);
    free(about);
    if (code || !out.signal)
        return code;
    return out.signal == SIGTERM ? TD_EXIT_REQUEUE : TD_EXIT_INTERRUPTED;
}

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

static const td_flag flags[] = {
    { "--resume", 0, "go on from the last checkpoint, if there is one" },
    { "--weights", "FILE", "start from these parameters: train.weights" },
    { "--allow", "KEY ..",
      "a key that may differ from the run's, or from the model of the weights: "
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
    .notes = "The run goes to run.dir/run.name: metrics.jsonl, TensorBoard events, checkpoints, "
             "config.cfg, log.txt.\n"
             "Exit codes: 0 done, 1 failed, 2 bad config or usage, 3 diverged, 75 saved after "
             "SIGTERM, 130 after\n"
             "SIGINT (both go on with --resume).\n",
};

int td_command_train(td_tool *t, int argc, char **argv)
{
    const char *weights;
    char        override[8300];
    td_work     w;
    td_error    e = { 0 };
    int         code;

    if (!td_tool_parse(t, &td_usage_train, argc, argv, &code))
        return code;
    leave_on_signals();
    weights = td_tool_option(t, "--weights");
    if (weights)
        set_weights(t, weights, override, sizeof override);
    if (!td_work_open(&w, t, TD_NEED_TRAINING, &code))
        return code;
    code = train(&w, td_tool_option(t, "--resume"), &e);
    if (code < 0)
        code = td_tool_fail(t, &e);
    td_work_close(&w);
    return code;
}
