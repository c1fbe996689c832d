/* trainer.c - the training loop. */
#include "train/trainer.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "base/clock.h"

typedef struct trainer {
    const td_trainer_spec *spec;
    td_progress            progress;
    td_feed               *feed;
    td_metrics             metrics;
    char                   checkpoints[4000];
    double                 started, window_start; /* clocks */
    int64_t                window_tokens, first_step;
    double                 step_flops, window_flops, first_flops;
    int64_t                saved; /* step of the newest checkpoint; -1: none, or no longer true */
    td_evaluation          evaluation;
    double                 loss, norm, rate;
    td_auxiliary           aux[TD_AUX]; /* of the last step */
    size_t                 n_aux;
    bool                   torn;        /* an update failed half way: parameters are of no step */
    bool                   interrupted; /* a signal ended an evaluation */
} trainer;

static volatile sig_atomic_t caught; /* the one thing a handler may write */

static void on_signal(int number) { caught = number; }

/* ---- telling --------------------------------------------------------------------------------- */

static int log_step(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    double                 now = td_now(), elapsed = now - t->window_start;
    double                 speed = elapsed > 0 ? (double)t->window_tokens / elapsed : 0;
    double    share = s->peak > 0 && elapsed > 0 ? t->window_flops / elapsed / s->peak : 0;
    char      names[TD_AUX][120];
    size_t    n = 11;
    td_metric m[11 + TD_AUX] = {
        { "train/loss", t->loss, false },
        { "train/cross_entropy", t->progress.cross_entropy, false },
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
    for (size_t k = 0; k < t->n_aux; k++) {
        snprintf(names[k], sizeof *names, "train/%s", t->aux[k].name);
        m[n++] = (td_metric){ names[k], t->aux[k].loss, false };
    }
    t->window_start = now;
    t->window_tokens = 0;
    t->window_flops = 0;
    return td_metrics_write(&t->metrics, t->progress.step, m, n, error);
}

/* Within 80 columns, of long runs too. */
static void show_progress(trainer *t, bool last)
{
    const td_trainer_spec *s = t->spec;
    double elapsed = td_now() - t->started, done = (double)(t->progress.step - t->first_step);
    double each = done > 0 ? elapsed / done : 0,
           tokens = done > 0 ? t->progress.tokens / (double)t->progress.step / each : 0;
    char eta[32], rate[32], share[32] = "";
    if (s->peak > 0 && each > 0)
        snprintf(share, sizeof share, " %.0f%% peak",
                 100 * (t->progress.flops - t->first_flops) / elapsed / s->peak);
    td_log_progress(s->log, last, "%lld/%lld loss %.3f norm %.2g lr %.2g %s tok/s%s %s %s",
                    (long long)t->progress.step, (long long)s->steps, t->progress.cross_entropy,
                    t->norm, t->rate, td_human_count(rate, tokens), share, last ? "took" : "eta",
                    td_human_time(eta,
                                  last ? elapsed : each * (double)(s->steps - t->progress.step)));
}

/* ---- one step -------------------------------------------------------------------------------- */

static int gradients(trainer *t, const td_feed_step *batch, td_error *error)
{
    double sum = 0;
    t->loss = 0;
    t->step_flops = 0;
    for (int64_t m = 0; m < batch->n_micro; m++) {
        td_micro     micro = { batch->micro[m], batch->weight, m > 0, (int32_t)t->progress.step,
                               batch->examples[m] };
        td_micro_out out;
        if (td_engine_gradient(t->spec->engine, &micro, &out, error))
            return td_failed(error, TD_EGRAPH);
        t->loss += out.loss;
        sum += out.sum;
        for (size_t k = 0; k < out.n_aux; k++) {
            out.aux[k].loss += m ? t->aux[k].loss : 0;
            t->aux[k] = out.aux[k];
        }
        t->n_aux = out.n_aux;
        t->step_flops += out.flops;
    }
    t->progress.cross_entropy = sum / batch->weight;
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
    t->progress.skipped++;
    t->progress.refused++;
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
        return td_failed(error, TD_EIO);
    if (!(batch->weight > 0))
        return td_fail(error, TD_EFORMAT, "step %lld: the batch has no tokens to predict",
                       (long long)t->progress.step);
    if (gradients(t, batch, error))
        return td_failed(error, TD_EGRAPH);
    if (s->spike > 0 && t->progress.norm_average > 0 && t->progress.step > 20)
        limit = s->spike * t->progress.norm_average;
    t->rate = schedule->rate(s->schedule.config, t->progress.step);
    if (td_engine_update(s->engine, t->rate, t->progress.step + 1, limit, &u, error)) {
        t->torn = true;
        return td_failed(error, TD_EGRAPH);
    }
    t->norm = u.norm;
    t->progress.step++;
    t->progress.record = batch->next;
    t->progress.tokens += (double)batch->tokens;
    t->progress.targets += (double)batch->targets;
    t->progress.flops += t->step_flops;
    t->window_tokens += batch->tokens;
    t->window_flops += t->step_flops;
    return after_update(t, &u, error);
}

/* ---- now and then ---------------------------------------------------------------------------- */

static int evaluation_progress(void *arg, int64_t done, int64_t all)
{
    trainer *t = arg;
    td_log_progress(t->spec->log, false, "step %lld: evaluating, %lld/%lld sequences",
                    (long long)t->progress.step, (long long)done, (long long)all);
    return caught ? TD_EEND : 0;
}

/* A signal ends it: it is made when the run goes on. `known`: the metrics have it already. */
static int evaluate(trainer *t, bool known, td_error *error)
{
    td_progress *p = &t->progress;
    double       start = td_now();
    int          code;

    td_evaluation_free(&t->evaluation);
    code = td_evaluate(t->spec->engine, &t->spec->evaluate, evaluation_progress, t, &t->evaluation,
                       error);
    t->window_start += td_now() - start;
    t->started += td_now() - start;
    t->interrupted = code == TD_EEND && caught;
    if (code)
        return t->interrupted ? 0 : td_failed(error, TD_EIO);
    if (t->evaluation.nll < p->best || (p->best_step < 0 && isfinite(t->evaluation.nll))) {
        p->best = t->evaluation.nll;
        p->best_step = p->step;
    }
    td_log_line(t->spec->log, TD_LOG_INFO, "step %lld: held-out NLL %.4f, perplexity %.3f%s",
                (long long)p->step, t->evaluation.nll, exp(t->evaluation.nll),
                p->best_step == p->step ? " (best so far)" : "");
    if (known)
        return 0;
    p->evaluated = p->step;
    t->saved = -1;
    return td_metrics_evaluation(&t->metrics, p->step, &t->evaluation, error);
}

static int save(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    if (td_metrics_flush(&t->metrics, error) ||
        td_checkpoint_save(t->checkpoints, td_engine_variables(s->engine),
                           td_engine_device(s->engine), &t->progress, s->about, error))
        return td_failed(error, TD_EIO);
    t->saved = t->progress.step;
    return td_checkpoint_prune(t->checkpoints, s->keep_last,
                               s->keep_best ? t->progress.best_step : -1, error);
}

/* A run that cannot go on leaves what it has: parameters are those of the last whole step, as a
 * refused update and an evaluation change nothing. */
static int give_up(trainer *t, const td_error *why)
{
    td_error e = { 0 };
    int      code = td_failed(why, TD_EGRAPH);
    if (t->torn || t->saved == t->progress.step)
        return code;
    if ((code == TD_EDIVERGED && log_step(t, &e)) || save(t, &e))
        td_log_line(t->spec->log, TD_LOG_WARN, "the last step is not saved: %s", e.text);
    else
        td_log_line(t->spec->log, TD_LOG_INFO, "step %lld is saved", (long long)t->progress.step);
    return code;
}

static bool every(int64_t step, int64_t interval) { return interval > 0 && step % interval == 0; }

static bool evaluation_due(const trainer *t)
{
    const td_trainer_spec *s = t->spec;
    if (t->progress.step == s->steps)
        return s->evaluate_every >= 0;
    return t->progress.step > 0 && every(t->progress.step, s->evaluate_every);
}

/* What there is to do after step n, beside training. Metrics that cannot be written end the run
 * without a checkpoint, which would lack their lines. */
static int after_step(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    int64_t                n = t->progress.step;

    if ((n == s->steps || every(n, s->log_every)) && log_step(t, error))
        return td_failed(error, TD_EIO);
    if (every(n, s->norms_every) && td_metrics_norms(&t->metrics, n, s->engine, error))
        return td_failed(error, TD_EIO);
    if (n == s->steps && evaluation_due(t) && save(t, error)) /* it may be long */
        return td_failed(error, TD_EIO);
    if (evaluation_due(t) && evaluate(t, false, error))
        return give_up(t, error);
    if (t->saved != n && (n == s->steps || every(n, s->checkpoint_every) ||
                          (s->keep_best && t->progress.best_step == n)))
        return save(t, error);
    return 0;
}

static int loop(trainer *t, td_error *error)
{
    int code;
    while (t->progress.step < t->spec->steps && !caught) {
        if (step(t, error))
            return give_up(t, error);
        show_progress(t, t->progress.step == t->spec->steps);
        if ((code = after_step(t, error)) != 0)
            return code;
    }
    return t->saved == t->progress.step ? 0 : save(t, error);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

/* A checkpoint that is damaged is never passed over in silence: the message says how to do without
 * it. */
static int refuse(const char *checkpoint, const td_error *why, td_error *error)
{
    if (why->code == TD_EFORMAT)
        return td_fail(error, why->code,
                       "cannot resume: %.1500s; remove the directory '%.300s' to go on from the "
                       "checkpoint before it",
                       why->text, checkpoint);
    return td_fail(error, why->code, "cannot resume: %.1900s", why->text);
}

static int load(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    td_error               why = { 0 };
    t->progress = (td_progress){ .best_step = -1, .evaluated = -1, .cross_entropy = (double)NAN };
    t->saved = -1;
    if (!s->resume)
        return 0;
    if (td_checkpoint_load(s->resume, td_engine_variables(s->engine), td_engine_device(s->engine),
                           &t->progress, &why))
        return refuse(s->resume, &why, error);
    t->saved = t->progress.step;
    td_log_line(s->log, TD_LOG_INFO, "resuming from %s", s->resume);
    if (s->other_evaluation && t->progress.best_step >= 0) {
        td_log_line(s->log, TD_LOG_INFO,
                    "the best evaluation so far, of step %lld, was another: it is forgotten",
                    (long long)t->progress.best_step);
        t->progress.best = 0;
        t->progress.best_step = -1;
    }
    if (t->progress.step > s->steps)
        td_log_line(s->log, TD_LOG_WARN, "the run is at step %lld, past train.steps = %lld",
                    (long long)t->progress.step, (long long)s->steps);
    return 0;
}

/* Whether the evaluation after the step that was resumed from is still to be made: a signal or an
 * error came first. */
static bool evaluation_missed(const trainer *t)
{
    return evaluation_due(t) && t->progress.evaluated < t->progress.step;
}

static int open_metrics(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    td_logger_in           in = { .services = s->services,
                                  .directory = s->directory,
                                  .resume = t->progress.step ? t->progress.step + 1 : 0,
                                  .evaluate_again = evaluation_missed(t) };
    return td_metrics_open(&t->metrics, s->loggers, s->n_loggers, &in, error);
}

static void catch_signals(struct sigaction before[2])
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    /* a second one ends the program */
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    caught = 0;
    sigaction(SIGTERM, &action, &before[0]);
    sigaction(SIGINT, &action, &before[1]);
}

/* An evaluation that was missed, then steps; of a finished run the last evaluation, to show it. */
static int go_on(trainer *t, td_error *error)
{
    bool finished = t->progress.step >= t->spec->steps, missed = evaluation_missed(t);
    if (missed && evaluate(t, false, error))
        return give_up(t, error);
    if (!finished || missed)
        return loop(t, error);
    return t->spec->evaluate_every >= 0 ? evaluate(t, true, error) : 0;
}

static void report(const trainer *t, td_trainer_out *out)
{
    int64_t steps = t->progress.step - t->first_step;
    out->seconds = td_now() - t->started;
    out->progress = t->progress;
    out->evaluation = t->evaluation;
    out->signal = t->progress.step < t->spec->steps || t->interrupted ? (int)caught : 0;
    if (out->seconds > 0 && steps > 0)
        out->tokens_per_second = t->progress.tokens / (double)t->progress.step * (double)steps /
                                 out->seconds;
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
        code = load(&t, error);
    if (!code)
        code = open_metrics(&t, error);
    if (!code && t.progress.step < spec->steps) {
        t.feed = td_feed_open(&spec->feed, t.progress.record, error);
        code = t.feed ? 0 : td_failed(error, TD_ENOMEM);
    }
    if (!code) {
        t.first_step = t.progress.step;
        t.first_flops = t.progress.flops;
        t.started = t.window_start = td_now();
        catch_signals(before);
        code = go_on(&t, error);
        report(&t, out);
        sigaction(SIGTERM, &before[0], NULL);
        sigaction(SIGINT, &before[1], NULL);
    }
    if (!code)
        code = td_metrics_flush(&t.metrics, error);
    td_feed_close(t.feed);
    td_metrics_close(&t.metrics);
    return code;
}
