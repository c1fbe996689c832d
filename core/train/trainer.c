/* trainer.c - the training loop. */
#include "train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "base/threads.h"

typedef struct trainer {
    const td_trainer_spec *spec;
    td_progress            progress;
    td_feed               *feed;
    void                  *loggers[TD_LOGGERS];
    char                   checkpoints[4000];
    double                 started, window_start; /* clocks */
    int64_t                window_tokens, window_steps, first_step;
    td_evaluation          evaluation;
    double                 loss, cross_entropy, norm, rate;
} trainer;

static volatile sig_atomic_t caught; /* the one thing a handler may write */

static void on_signal(int number) { caught = number; }

static const td_logger *logger_of(const trainer *t, size_t k)
{
    return (const void *)t->spec->loggers[k].plugin;
}

/* ---- metrics --------------------------------------------------------------------------------- */

static int write_metrics(trainer *t, int64_t step, const td_metric *m, size_t n, td_error *error)
{
    for (size_t k = 0; k < t->spec->n_loggers; k++)
        if (logger_of(t, k)->write(t->loggers[k], step, m, n, error))
            return error && error->code ? error->code : TD_EIO;
    return 0;
}

static int flush_metrics(trainer *t, td_error *error)
{
    for (size_t k = 0; k < t->spec->n_loggers; k++)
        if (logger_of(t, k)->flush && logger_of(t, k)->flush(t->loggers[k], error))
            return error && error->code ? error->code : TD_EIO;
    return 0;
}

static int log_step(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    double                 now = td_now(), elapsed = now - t->window_start;
    double                 speed = elapsed > 0 ? (double)t->window_tokens / elapsed : 0;
    double                 share = s->peak > 0 && elapsed > 0
                                       ? s->flops * (double)t->window_steps / elapsed / s->peak
                                       : 0;
    td_metric              m[] = {
                     { "train/loss", t->loss, false },
                     { "train/cross_entropy", t->cross_entropy, false },
                     { "train/grad_norm", t->norm, false },
                     { "train/learning_rate", t->rate, false },
                     { "train/tokens", t->progress.tokens, false },
                     { "train/target_tokens", t->progress.targets, false },
                     { "train/flops", t->progress.flops, false },
                     { "train/skipped", (double)t->progress.skipped, false },
                     { "time/tokens_per_second", speed, true },
                     { "time/share_of_peak", share, true },
                     { "time/seconds", now - t->started, true },
    };
    t->window_start = now, t->window_tokens = t->window_steps = 0;
    return write_metrics(t, t->progress.step, m, sizeof m / sizeof *m, error);
}

/* Of each trained parameter and its gradient, after the update of this step. */
static int log_norms(trainer *t, td_error *error)
{
    char(*names)[400] = NULL;
    td_parameter_norms *norms = NULL;
    td_metric          *m = NULL;
    size_t              n = 0;
    int                 code = td_engine_norms(t->spec->engine, &norms, &n, error);

    if (!code &&
        (!(m = calloc(2 * n + 1, sizeof *m)) || !(names = calloc(2 * n + 1, sizeof *names))))
        code = td_fail(error, TD_ENOMEM, "out of memory while logging norms");
    for (size_t k = 0; !code && k < n; k++) {
        snprintf(names[2 * k], sizeof *names, "norm/%s", norms[k].name);
        snprintf(names[2 * k + 1], sizeof *names, "grad_norm/%s", norms[k].name);
        m[2 * k] = (td_metric){ names[2 * k], norms[k].parameter, false };
        m[2 * k + 1] = (td_metric){ names[2 * k + 1], norms[k].gradient, false };
    }
    if (!code)
        code = write_metrics(t, t->progress.step, m, 2 * n, error);
    free(m), free(names), free(norms);
    return code;
}

static void show_progress(trainer *t, bool last)
{
    const td_trainer_spec *s = t->spec;
    double elapsed = td_now() - t->started, done = (double)(t->progress.step - t->first_step);
    double each = done > 0 ? elapsed / done : 0,
           tokens = done > 0 ? t->progress.tokens / (double)t->progress.step / each : 0;
    char eta[32], share[32] = "";
    if (s->peak > 0 && each > 0)
        snprintf(share, sizeof share, ", %.0f%% of peak", 100 * s->flops / each / s->peak);
    td_log_progress(s->log, last,
                    "step %lld/%lld  loss %.4f  norm %.3g  lr %.3g  %.0f tokens/s%s  %s %s",
                    (long long)t->progress.step, (long long)s->steps, t->cross_entropy, t->norm,
                    t->rate, tokens, share, last ? "took" : "left",
                    td_human_time(eta,
                                  last ? elapsed : each * (double)(s->steps - t->progress.step)));
}

/* ---- one step -------------------------------------------------------------------------------- */

static int gradients(trainer *t, const td_feed_step *batch, td_error *error)
{
    t->loss = t->cross_entropy = 0;
    for (int64_t m = 0; m < batch->n_micro; m++) {
        td_micro     micro = { batch->micro[m], batch->weight, m > 0, (int32_t)t->progress.step,
                               batch->examples[m] };
        td_micro_out out;
        if (td_engine_gradient(t->spec->engine, &micro, &out, error))
            return error && error->code ? error->code : TD_EGRAPH;
        t->loss += out.loss, t->cross_entropy += out.sum;
    }
    t->cross_entropy /= batch->weight;
    return 0;
}

/* A refused update changes nothing; the run goes on, or ends as diverged. */
static int after_update(trainer *t, const td_update_out *u, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    if (u->applied) {
        t->progress.refused = 0;
        if (!isfinite(u->norm))
            return 0;
        t->progress.norm_average = t->progress.norm_average > 0
                                       ? 0.98 * t->progress.norm_average + 0.02 * u->norm
                                       : u->norm;
        return 0;
    }
    t->progress.skipped++, t->progress.refused++;
    td_log_line(s->log, TD_LOG_WARN,
                "step %lld: gradient norm %g (average %g): the update is skipped",
                (long long)t->progress.step, u->norm, t->progress.norm_average);
    if (s->guard != TD_GUARD_STOP && (!s->patience || t->progress.refused < s->patience))
        return 0;
    return td_fail(
        error, TD_EDIVERGED,
        "diverged at step %lld: loss %g, gradient norm %g (average %g), %lld updates refused in a "
        "row; lower schedule.peak, or %s",
        (long long)t->progress.step, t->loss, fabs(u->norm), t->progress.norm_average,
        (long long)t->progress.refused,
        s->guard == TD_GUARD_STOP ? "go on past such steps with train.guard = \"skip\""
        : isfinite(u->norm)       ? "raise train.spike or train.patience"
                                  : "raise train.patience");
}

static int step(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    const td_feed_step    *batch = td_feed_next(t->feed, error);
    const td_schedule     *schedule = (const void *)s->schedule.plugin;
    double                 limit = (double)INFINITY;
    td_update_out          u;

    if (!batch)
        return error && error->code ? error->code : TD_EIO;
    if (!(batch->weight > 0))
        return td_fail(error, TD_EFORMAT, "step %lld: the batch has no tokens to predict",
                       (long long)t->progress.step);
    if (gradients(t, batch, error))
        return error && error->code ? error->code : TD_EGRAPH;
    if (s->spike > 0 && t->progress.norm_average > 0 && t->progress.step > 20)
        limit = s->spike * t->progress.norm_average;
    t->rate = schedule->rate(s->schedule.config, t->progress.step);
    if (td_engine_update(s->engine, t->rate, t->progress.step + 1, limit, &u, error))
        return error && error->code ? error->code : TD_EGRAPH;
    t->norm = u.norm;
    t->progress.step++, t->progress.record = batch->next;
    t->progress.tokens += (double)batch->tokens, t->progress.targets += (double)batch->targets,
        t->progress.flops += s->flops;
    t->window_tokens += batch->tokens, t->window_steps++;
    return after_update(t, &u, error);
}

/* ---- now and then ---------------------------------------------------------------------------- */

static void evaluation_progress(void *arg, int64_t done, int64_t all)
{
    trainer *t = arg;
    td_log_progress(t->spec->log, false, "step %lld: evaluating, %lld/%lld sequences",
                    (long long)t->progress.step, (long long)done, (long long)all);
}

static int log_evaluation(trainer *t, td_error *error)
{
    td_evaluation *e = &t->evaluation;
    size_t         count = (size_t)e->count * 2 + 3, n = 0;
    td_metric     *m = calloc(count, sizeof *m);
    char(*names)[160] = calloc(count, sizeof *names);
    int code = m && names ? 0
                          : td_fail(error, TD_ENOMEM, "out of memory while logging an evaluation");

    for (int64_t i = 0; !code && i < e->count; i++) {
        snprintf(names[n], sizeof *names, "evaluate/%s/nll", e->at[i].source);
        m[n] = (td_metric){ names[n], e->at[i].nll, false }, n++;
        if (e->at[i].bits_per_byte < 0)
            continue;
        snprintf(names[n], sizeof *names, "evaluate/%s/bits_per_byte", e->at[i].source);
        m[n] = (td_metric){ names[n], e->at[i].bits_per_byte, false }, n++;
    }
    if (!code) {
        m[n++] = (td_metric){ "evaluate/nll", e->nll, false };
        m[n++] = (td_metric){ "evaluate/perplexity", exp(e->nll), false };
        if (e->bits_per_byte >= 0)
            m[n++] = (td_metric){ "evaluate/bits_per_byte", e->bits_per_byte, false };
        code = write_metrics(t, t->progress.step, m, n, error);
    }
    free(m), free(names);
    return code;
}

/* `again`: a finished run is looked at once more; its metrics have the result already. */
static int evaluate(trainer *t, bool again, td_error *error)
{
    double start = td_now();
    td_evaluation_free(&t->evaluation);
    if (td_evaluate(t->spec->engine, &t->spec->evaluate, evaluation_progress, t, &t->evaluation,
                    error))
        return error && error->code ? error->code : TD_EIO;
    if (t->evaluation.nll < t->progress.best ||
        (t->progress.best == 0 && isfinite(t->evaluation.nll)))
        t->progress.best = t->evaluation.nll, t->progress.best_step = t->progress.step;
    td_log_line(t->spec->log, TD_LOG_INFO, "step %lld: held-out NLL %.4f, perplexity %.3f%s",
                (long long)t->progress.step, t->evaluation.nll, exp(t->evaluation.nll),
                t->progress.best_step == t->progress.step ? " (best so far)" : "");
    t->window_start += td_now() - start, t->started += td_now() - start;
    return again ? 0 : log_evaluation(t, error);
}

static int save(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    if (flush_metrics(t, error) ||
        td_checkpoint_save(t->checkpoints, td_engine_variables(s->engine),
                           td_engine_device(s->engine), &t->progress, s->about, error))
        return error && error->code ? error->code : TD_EIO;
    return td_checkpoint_prune(t->checkpoints, s->keep_last,
                               s->keep_best ? t->progress.best_step : -1, error);
}

/* A run that ends by itself leaves what it has: refused updates changed nothing. */
static int diverged(trainer *t, const td_error *why)
{
    td_error e = { 0 };
    if (why && why->code == TD_EDIVERGED && (log_step(t, &e) || save(t, &e)))
        td_log_line(t->spec->log, TD_LOG_WARN, "the last step is not saved: %s", e.text);
    return why && why->code ? why->code : TD_EGRAPH;
}

/* What was trained is saved, whatever becomes of the evaluation. */
static int evaluate_or_save(trainer *t, td_error *error)
{
    td_error e = { 0 };
    int      code = evaluate(t, false, error);
    if (code && save(t, &e))
        td_log_line(t->spec->log, TD_LOG_WARN, "the last step is not saved: %s", e.text);
    return code;
}

static bool due(int64_t step, int64_t every, int64_t last)
{
    return step == last || (every > 0 && step % every == 0);
}

static int loop(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    int64_t                saved = t->progress.step;
    while (t->progress.step < s->steps && !caught) {
        bool    last;
        int64_t n;
        if (step(t, error))
            return diverged(t, error);
        n = t->progress.step, last = n == s->steps;
        show_progress(t, last);
        if (due(n, s->log_every, s->steps) && log_step(t, error))
            return error && error->code ? error->code : TD_EIO;
        if (s->norms_every > 0 && n % s->norms_every == 0 && log_norms(t, error))
            return error && error->code ? error->code : TD_EIO;
        if (((s->evaluate_every > 0 && n % s->evaluate_every == 0) ||
             (last && s->evaluate_every >= 0)) &&
            evaluate_or_save(t, error))
            return error && error->code ? error->code : TD_EIO;
        if (due(n, s->checkpoint_every, s->steps) || (s->keep_best && t->progress.best_step == n)) {
            if (save(t, error))
                return error && error->code ? error->code : TD_EIO;
            saved = n;
        }
    }
    return saved == t->progress.step ? 0 : save(t, error);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

/* A checkpoint that is damaged is never passed over in silence: the message says how to do without
 * it. */
static int refuse(const char *checkpoint, const td_error *why, td_error *error)
{
    if (why->code == TD_ECONFIG)
        return td_fail(
            error, why->code,
            "cannot resume: %.1500s; resume with the config that the run was started with",
            why->text);
    return td_fail(error, why->code,
                   "cannot resume: %.1500s; remove the directory '%.300s' to go on from the "
                   "checkpoint before it",
                   why->text, checkpoint);
}

static int resume(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    char                  *latest = s->resume ? td_checkpoint_latest(t->checkpoints) : NULL;
    td_error               why = { 0 };
    int                    code;
    if (!latest)
        return 0;
    td_log_line(s->log, TD_LOG_INFO, "resuming from %s", latest);
    code = td_checkpoint_load(latest, td_engine_variables(s->engine), td_engine_device(s->engine),
                              &t->progress, &why);
    if (code)
        code = refuse(latest, &why, error);
    free(latest);
    return code;
}

static int open_loggers(trainer *t, td_error *error)
{
    /* What was logged at the checkpoint's own step was written before it, and stays. */
    td_logger_in in = { t->spec->services, t->spec->directory,
                        t->progress.step ? t->progress.step + 1 : 0 };
    for (size_t k = 0; k < t->spec->n_loggers; k++)
        if (logger_of(t, k)->open(t->spec->loggers[k].config, &in, &t->loggers[k], error))
            return error && error->code ? error->code : TD_EIO;
    return 0;
}

static void close_all(trainer *t)
{
    td_feed_close(t->feed);
    for (size_t k = 0; k < t->spec->n_loggers; k++)
        if (t->loggers[k])
            logger_of(t, k)->close(t->loggers[k]);
}

static void catch_signals(struct sigaction before[2])
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    /* a second one ends the program */
    action.sa_handler = on_signal, action.sa_flags = (int)SA_RESETHAND;
    caught = 0;
    sigaction(SIGTERM, &action, &before[0]);
    sigaction(SIGINT, &action, &before[1]);
}

int td_trainer_run(const td_trainer_spec *spec, td_trainer_out *out, td_error *error)
{
    trainer          t = { .spec = spec };
    struct sigaction before[2];
    int              code;

    memset(out, 0, sizeof *out);
    snprintf(t.checkpoints, sizeof t.checkpoints, "%s/checkpoints", spec->directory);
    code = td_make_directories(t.checkpoints, error);
    if (!code)
        code = resume(&t, error);
    if (!code)
        code = open_loggers(&t, error);
    if (!code && t.progress.step < spec->steps) {
        t.feed = td_feed_open(&spec->feed, t.progress.record, error);
        code = t.feed ? 0 : TD_ENOMEM;
    }
    if (!code) {
        t.first_step = t.progress.step, t.started = t.window_start = td_now();
        catch_signals(before);
        code = t.progress.step < spec->steps ? loop(&t, error)
               : spec->evaluate_every >= 0   ? evaluate(&t, true, error)
                                             : 0;
        sigaction(SIGTERM, &before[0], NULL), sigaction(SIGINT, &before[1], NULL);
        out->seconds = td_now() - t.started,
        out->signal = t.progress.step < spec->steps ? (int)caught : 0;
    }
    if (!code)
        code = flush_metrics(&t, error);
    out->progress = t.progress, out->evaluation = t.evaluation, out->loss = t.cross_entropy;
    out->tokens_per_second = out->seconds > 0 && t.progress.step > t.first_step
                                 ? t.progress.tokens / (double)t.progress.step *
                                       (double)(t.progress.step - t.first_step) / out->seconds
                                 : 0;
    close_all(&t);
    return code;
}
