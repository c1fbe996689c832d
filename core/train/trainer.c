/* trainer.c - the training loop.
 *
 * A resumed run is the uninterrupted one, bit for bit. That holds because a checkpoint is saved
 * only between steps, and because everything that a step depends on is either in the checkpoint
 * (parameters, optimizer states, td_progress) or a function of the step's number (dropout, learning
 * rate, the records it reads). Nothing that is computed may depend on a clock.
 *
 * After step n come, in this order: metrics, norms, evaluation, checkpoint. A checkpoint promises
 * that the metrics up to its step are written, so they are flushed first. Its `evaluated` tells
 * whether the evaluation due at its step was made; one that was cut off is made first when the run
 * is resumed.
 */
#include "train/trainer.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"

enum { SPIKES_FROM = 20 }; /* steps until the average of the norm is worth comparing with */

typedef struct trainer {
    const td_trainer_spec  *spec;
    const td_train_options *options; /* spec->options */
    td_progress             progress;
    td_feed                *feed;
    td_metrics              metrics;
    char                    checkpoints[4000];
    double                  started, window_start; /* clocks; evaluations are taken out of them */
    int64_t                 window_tokens;         /* since the last line of metrics */
    double                  step_flops, window_flops;
    td_progress             first; /* where this part of the run began */
    int64_t       saved; /* step of the newest checkpoint; -1: none, or it lacks something */
    td_evaluation evaluation;
    double        loss, norm, rate;
    bool          applied;
    td_auxiliary  aux[TD_AUX]; /* of the last step */
    size_t        n_aux;
    bool          torn;     /* an update failed half way: parameters belong to no step */
    bool          stopping; /* a callback asked for it */
    bool          dropped;  /* an evaluation was ended by that */
} trainer;

/* ---- reporting ------------------------------------------------------------------------------- */

/* Loggers get what the run computes first; the times, which differ from run to run, come last, so
 * that the lines of two runs can be compared. */
static int log_step(trainer *t, td_error *error)
{
    double    now = td_now(), elapsed = now - t->window_start, peak = t->spec->peak;
    double    speed = elapsed > 0 ? (double)t->window_tokens / elapsed : 0;
    double    share = peak > 0 && elapsed > 0 ? t->window_flops / elapsed / peak : 0;
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
    /* auxiliary losses have names of their plugins' choosing */
    for (size_t k = 0; k < t->n_aux; k++) {
        snprintf(names[k], sizeof *names, "train/%s", t->aux[k].name);
        m[n++] = (td_metric){ names[k], t->aux[k].loss, false };
    }
    t->window_start = now;
    t->window_tokens = 0;
    t->window_flops = 0;
    return td_metrics_write(&t->metrics, t->progress.step, m, n, error);
}

/* Tokens per second of this part of the run. Its own tokens are not in the checkpoint that it began
 * with: all tokens so far, by the share of the steps made now. */
static double speed_of(const trainer *t, double seconds)
{
    double made = (double)(t->progress.step - t->first.step);
    return seconds > 0 && made > 0 ? t->progress.tokens / (double)t->progress.step * made / seconds
                                   : 0;
}

static void show_step(trainer *t)
{
    const td_training *w = t->spec->watch;
    double             seconds = td_now() - t->started, peak = t->spec->peak;
    td_training_step   s = {
          .step = t->progress.step,
          .steps = t->options->steps,
          .loss = t->loss,
          .cross_entropy = t->progress.cross_entropy,
          .gradient_norm = t->norm,
          .learning_rate = t->rate,
          .applied = t->applied,
          .seconds = seconds,
          .tokens_per_second = speed_of(t, seconds),
    };
    /* over this whole part of the run, as the rate is: a single step's would jump */
    if (peak > 0 && seconds > 0)
        s.share_of_peak = (t->progress.flops - t->first.flops) / seconds / peak;
    if (w->step && w->step(w->arg, &s))
        t->stopping = true;
}

/* ---- one step -------------------------------------------------------------------------------- */

static void add_auxiliary(trainer *t, const td_micro_out *out, bool first)
{
    for (size_t k = 0; k < out->n_aux; k++) {
        double before = first ? 0 : t->aux[k].loss;
        t->aux[k] = out->aux[k];
        t->aux[k].loss += before;
    }
    t->n_aux = out->n_aux;
}

/* Each micro-batch is divided by the weight of the whole batch, so losses and gradients add up to
 * those of the batch. */
static int gradients(trainer *t, const td_feed_batch *batch, td_error *error)
{
    double sum = 0;
    t->loss = 0;
    t->step_flops = 0;
    for (int64_t m = 0; m < batch->n_micro; m++) {
        td_micro     micro = { batch->micro[m], batch->weight, m > 0, (int32_t)t->progress.step,
                               batch->examples[m] };
        td_micro_out out;
        /* the first assigns the gradients, the others add: nothing needs to be cleared between
         * steps */
        if (td_engine_gradient(t->spec->engine, &micro, &out, error))
            return td_failed(error, TD_EGRAPH);
        t->loss += out.loss;
        sum += out.sum;
        add_auxiliary(t, &out, m == 0);
        t->step_flops += out.flops;
    }
    t->progress.cross_entropy = sum / batch->weight;
    return 0;
}

/* The average that a spike is measured by takes about fifty steps to follow a change. */
static void accept(trainer *t, double norm)
{
    td_progress *p = &t->progress;
    p->refused = 0;
    /* without a guard, infinity passes; in the average it would stay for ever */
    if (isfinite(norm))
        p->norm_average = p->norm_average > 0 ? 0.98 * p->norm_average + 0.02 * norm : norm;
}

/* What to change, by the reason of the refusal. */
static const char *advice(const trainer *t, double norm)
{
    if (t->options->guard == TD_GUARD_STOP)
        return "set train.guard = \"skip\" to go on past such steps";
    return isfinite(norm) ? "raise train.spike or train.patience" : "raise train.patience";
}

/* A refused update changes nothing. The run goes on with the next batch, or ends as diverged. */
static int refuse(trainer *t, double norm, td_error *error)
{
    const td_train_options *o = t->options;
    td_progress            *p = &t->progress;
    p->skipped++;
    p->refused++;
    td_log_line(t->spec->log, TD_LOG_WARN,
                "step %lld: gradient norm %g (average %g): the update is skipped",
                (long long)p->step, norm, p->norm_average);
    if (o->guard != TD_GUARD_STOP && (!o->patience || p->refused < o->patience))
        return 0;
    /* fabs: a NaN may be printed with a sign, which means nothing */
    return td_fail(error, TD_EDIVERGED,
                   "diverged at step %lld: loss %g, gradient norm %g (average %g), %lld updates "
                   "refused in a row; lower schedule.peak, or %s",
                   (long long)p->step, t->loss, fabs(norm), p->norm_average, (long long)p->refused,
                   advice(t, norm));
}

/* The guard is part of the graph: the host hands in a limit, and learns afterwards whether the
 * update was applied. */
static int update(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    const td_schedule     *schedule = (const void *)s->schedule.plugin;
    double                 limit = (double)INFINITY;
    td_update_out          u;

    if (t->options->spike > 0 && t->progress.norm_average > 0 && t->progress.step > SPIKES_FROM)
        limit = t->options->spike * t->progress.norm_average;
    t->rate = schedule->rate(s->schedule.config, t->progress.step);
    if (td_engine_update(s->engine, t->rate, t->progress.step + 1, limit, &u, error)) {
        t->torn = true; /* some parameters may be updated, others not */
        return td_failed(error, TD_EGRAPH);
    }
    t->norm = u.norm;
    t->applied = u.applied;
    return 0;
}

/* A refused step counts, too: its records are read, and the next step must not read them again. */
static void count(trainer *t, const td_feed_batch *batch)
{
    td_progress *p = &t->progress;
    p->step++;
    p->record = batch->next;
    p->tokens += (double)batch->tokens;
    p->targets += (double)batch->targets;
    p->flops += t->step_flops;
    t->window_tokens += batch->tokens;
    t->window_flops += t->step_flops;
}

static int step(trainer *t, td_error *error)
{
    const td_feed_batch *batch = td_feed_next(t->feed, error);

    if (!batch)
        return td_failed(error, TD_EIO);
    /* the divisor of the loss */
    if (!(batch->weight > 0))
        return td_fail(error, TD_EFORMAT, "step %lld: the batch has no tokens to predict",
                       (long long)t->progress.step);
    if (gradients(t, batch, error) || update(t, error))
        return td_failed(error, TD_EGRAPH);
    count(t, batch);
    if (!t->applied)
        return refuse(t, t->norm, error);
    accept(t, t->norm);
    return 0;
}

/* ---- now and then ---------------------------------------------------------------------------- */

static int evaluation_progress(void *arg, int64_t done, int64_t all)
{
    trainer           *t = arg;
    const td_training *w = t->spec->watch;
    if (w->evaluating && w->evaluating(w->arg, t->progress.step, done, all))
        t->stopping = true;
    return t->stopping;
}

static bool is_best(const td_progress *p, double nll)
{
    return p->best_step < 0 ? isfinite(nll) : nll < p->best; /* NaN is never the best */
}

/* Evaluate, and report it. `known`: the metrics have it already. */
static int evaluate(trainer *t, bool known, td_error *error)
{
    td_progress *p = &t->progress;
    double       start = td_now();
    int          code;

    td_evaluation_free(&t->evaluation);
    code = td_evaluate(t->spec->engine, &t->spec->evaluate, evaluation_progress, t, &t->evaluation,
                       error);
    /* rates are those of training */
    t->window_start += td_now() - start;
    t->started += td_now() - start;
    t->dropped = code == TD_EEND && t->stopping;
    if (code)
        return t->dropped ? 0 : td_failed(error, TD_EIO);
    if (is_best(p, t->evaluation.nll)) {
        p->best = t->evaluation.nll;
        p->best_step = p->step;
    }
    td_log_line(t->spec->log, TD_LOG_INFO, "step %lld: held-out NLL %.4f, perplexity %.3f%s",
                (long long)p->step, t->evaluation.nll, exp(t->evaluation.nll),
                p->best_step == p->step ? " (best so far)" : "");
    if (known)
        return 0;
    p->evaluated = p->step;
    t->saved = -1; /* a checkpoint of this step does not know of the evaluation */
    return td_metrics_evaluation(&t->metrics, p->step, &t->evaluation, error);
}

static int save(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    /* metrics first: a run resumed from the checkpoint does not write them again */
    if (td_metrics_flush(&t->metrics, error) ||
        td_checkpoint_save(t->checkpoints, td_engine_variables(s->engine),
                           td_engine_device(s->engine), &t->progress, s->about, error))
        return td_failed(error, TD_EIO);
    t->saved = t->progress.step;
    return td_checkpoint_prune(t->checkpoints, t->options->keep_last,
                               t->options->keep_best ? t->progress.best_step : -1, error);
}

/* A run that cannot go on leaves what it has: the parameters are those of the last whole step,
 * since a refused update and an evaluation change nothing. */
static int give_up(trainer *t, const td_error *why)
{
    td_error e = { 0 };
    int      code = td_failed(why, TD_EGRAPH);
    if (t->torn || t->saved == t->progress.step)
        return code;
    if ((code == TD_EDIVERGED && log_step(t, &e)) || save(t, &e))
        td_log_line(t->spec->log, TD_LOG_WARN, "the last step could not be saved: %s", e.text);
    else
        td_log_line(t->spec->log, TD_LOG_INFO, "step %lld is saved", (long long)t->progress.step);
    return code;
}

static bool every(int64_t step, int64_t interval) { return interval > 0 && step % interval == 0; }

static bool evaluation_due(const trainer *t)
{
    if (t->progress.step == t->options->steps)
        return t->options->evaluate_every >= 0;
    return t->progress.step > 0 && every(t->progress.step, t->options->evaluate_every);
}

/* What is due after step n. Metrics that cannot be written end the run without a checkpoint,
 * because a run resumed from one would lack their lines. */
static int after_step(trainer *t, td_error *error)
{
    const td_train_options *o = t->options;
    int64_t                 n = t->progress.step;

    if ((n == o->steps || every(n, o->log_every)) && log_step(t, error))
        return td_failed(error, TD_EIO);
    if (every(n, o->norms_every) && td_metrics_norms(&t->metrics, n, t->spec->engine, error))
        return td_failed(error, TD_EIO);
    /* before the last evaluation, which may take long; afterwards again, with its result */
    if (n == o->steps && evaluation_due(t) && save(t, error))
        return td_failed(error, TD_EIO);
    if (evaluation_due(t) && evaluate(t, false, error))
        return give_up(t, error);
    if (t->saved != n && (n == o->steps || every(n, o->checkpoint_every) ||
                          (o->keep_best && t->progress.best_step == n)))
        return save(t, error);
    return 0;
}

static int loop(trainer *t, td_error *error)
{
    int code = 0;
    while (!code && t->progress.step < t->options->steps && !t->stopping) {
        if (step(t, error))
            return give_up(t, error);
        show_step(t);
        code = after_step(t, error);
    }
    if (code)
        return code;
    return t->saved == t->progress.step ? 0 : save(t, error);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

/* A damaged checkpoint is never passed over in silence: the message says how to do without it. */
static int refuse_checkpoint(const char *checkpoint, const td_error *why, td_error *error)
{
    if (why->code == TD_EFORMAT)
        return td_fail(error, why->code,
                       "cannot resume: %.1500s; remove the directory '%.300s' to resume from the "
                       "checkpoint before it",
                       why->text, checkpoint);
    return td_fail(error, why->code, "cannot resume: %.1900s", why->text);
}

/* Scores of different held-out text, or of different prefixes, cannot be compared. */
static void forget_best(trainer *t)
{
    td_log_line(
        t->spec->log, TD_LOG_INFO,
        "evaluate.* has changed: the best evaluation so far, of step %lld, no longer counts",
        (long long)t->progress.best_step);
    t->progress.best = 0;
    t->progress.best_step = -1;
}

/* Where the run stands, and, when it is resumed, the parameters and states of that step. */
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
        return refuse_checkpoint(s->resume, &why, error);
    t->saved = t->progress.step;
    td_log_line(s->log, TD_LOG_INFO, "resuming from %s", s->resume);
    if (s->other_evaluation && t->progress.best_step >= 0)
        forget_best(t);
    /* no error: train.steps may have been lowered to look at a run that went further */
    if (t->progress.step > t->options->steps)
        td_log_line(s->log, TD_LOG_WARN, "the run is at step %lld, past train.steps = %lld",
                    (long long)t->progress.step, (long long)t->options->steps);
    return 0;
}

/* The evaluation due after the step that the checkpoint is of was not made: the run was stopped, or
 * failed, before it. */
static bool evaluation_missed(const trainer *t)
{
    return evaluation_due(t) && t->progress.evaluated < t->progress.step;
}

/* Loggers drop the lines after the step that is resumed from: the run writes them again. */
static int open_metrics(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    td_logger_in           in = { .services = s->services,
                                  .directory = s->directory,
                                  .resume = t->progress.step ? t->progress.step + 1 : 0,
                                  .evaluate_again = evaluation_missed(t) };
    return td_metrics_open(&t->metrics, s->loggers, s->n_loggers, &in, error);
}

/* A missed evaluation, then steps. Of a finished run the last evaluation again, to show it. */
static int go_on(trainer *t, td_error *error)
{
    const td_training *w = t->spec->watch;
    /* `missed` is known before the loop: making the evaluation changes it */
    bool finished = t->progress.step >= t->options->steps, missed = evaluation_missed(t);
    if (w->begin && w->begin(w->arg, t->progress.step, t->options->steps))
        t->stopping = true;
    if (missed && evaluate(t, false, error))
        return give_up(t, error);
    if (!finished || missed)
        return loop(t, error);
    return t->options->evaluate_every >= 0 ? evaluate(t, true, error) : 0;
}

static int open_run(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    int length = snprintf(t->checkpoints, sizeof t->checkpoints, "%s/checkpoints", s->directory);
    if (length < 0 || (size_t)length >= sizeof t->checkpoints)
        return td_fail(error, TD_ECONFIG, "run.dir is longer than %zu bytes",
                       sizeof t->checkpoints);
    if (td_make_directories(t->checkpoints, error) || load(t, error) || open_metrics(t, error))
        return td_failed(error, TD_EIO);
    if (t->progress.step >= t->options->steps)
        return 0; /* nothing will be read */
    t->feed = td_feed_open(&s->feed, t->progress.record, error);
    return t->feed ? 0 : td_failed(error, TD_ENOMEM);
}

static void report(const trainer *t, td_trainer_out *out)
{
    *out = (td_trainer_out){ .progress = t->progress,
                             .evaluation = t->evaluation,
                             .seconds = td_now() - t->started };
    out->tokens_per_second = speed_of(t, out->seconds);
    /* asked to stop at its very end, a run is finished all the same */
    out->stopped = t->stopping && (t->progress.step < t->options->steps || t->dropped);
}

int td_trainer_run(const td_trainer_spec *spec, td_trainer_out *out, td_error *error)
{
    trainer t = { .spec = spec, .options = spec->options };
    int     code;

    assert(spec->watch && spec->options && spec->engine);
    code = open_run(&t, error);
    t.first = t.progress;
    /* clocks begin here: loading is not training */
    t.started = t.window_start = td_now();
    if (!code)
        code = go_on(&t, error);
    report(&t, out);
    if (!code)
        code = td_metrics_flush(&t.metrics, error);
    td_feed_close(t.feed);
    td_metrics_close(&t.metrics);
    return code;
}
