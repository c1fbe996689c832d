/* trainer.c - the training loop.
 *
 * A resumed run equals the uninterrupted one, bit for bit. That holds because a checkpoint is saved
 * only between steps, and because everything that a step depends on is either in the checkpoint
 * (parameters, optimizer states, td_progress) or a function of the step's number (dropout, learning
 * rate, the records it reads). Nothing that is computed may depend on a clock.
 *
 * After step n come, in this order: metrics, norms, evaluation, tasks, checkpoint. A checkpoint promises
 * that the metrics up to its step are written, so they are flushed first. Its `evaluated` tells
 * whether the evaluation due at its step was made; one that was cut off is made first when the run
 * is resumed.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "plugin/hook.h"
#include "train/internal.h"

/* ---- reporting ------------------------------------------------------------------------------- */

/* A share above 1 means that the peak was measured too low, while other work was running: the
 * rate reached is then the better measure. */
static double share_of_peak(trainer *t, double flops, double seconds)
{
    double rate = seconds > 0 ? flops / seconds : 0;
    if (!(t->peak > 0) || !(rate > 0))
        return 0;
    if (rate > t->peak) {
        td_log_line(t->spec->log, TD_LOG_DEBUG,
                    "the machine reached %.3g FLOP/s, more than the %.3g measured before: shares "
                    "of the peak now refer to the higher rate",
                    rate, t->peak);
        t->peak = rate;
    }
    return rate / t->peak;
}

/* Far worse than guessing, and not just because the run has only begun. */
static void warn_of_guessing(trainer *t)
{
    double guess = t->spec->guess;
    if (t->warned || !(guess > 0) || t->progress.step < TD_SPIKES_FROM || !(t->logged > guess))
        return;
    t->warned = true;
    td_log_line(t->spec->log, TD_LOG_WARN,
                "step %lld: a cross-entropy of %.3f is far above guessing: the run has "
                "probably diverged; lower schedule.peak, or lengthen schedule.warmup",
                (long long)t->progress.step, t->logged);
}

/* The mean over the steps since the last line; `last` where there is none. */
static double mean(const trainer *t, double sum, double last)
{
    int64_t n = t->progress.window_steps;
    return n > 1 ? sum / (double)n : n ? sum : last;
}

static void start_window(trainer *t, double now)
{
    t->window_start = now;
    t->window_tokens = t->window_targets = 0;
    t->window_flops = 0;
    t->progress.window_steps = 0;
    t->progress.window_loss = t->progress.window_cross_entropy = 0;
}

/* The first line that differs shows when two runs began to differ (tandem report --diff). 53 bits,
 * which a double keeps exactly. */
static int hash_parameters(const trainer *t, double *out, td_error *error)
{
    uint64_t hash;
    int      code;
    if (!t->spec->n_loggers) /* no one would see it */
        return 0;
    code = td_variables_hash(td_engine_variables(t->spec->engine),
                             td_engine_device(t->spec->engine), &hash, error);
    if (!code)
        *out = (double)(hash >> 11);
    return code;
}

/* Loggers get the run's own results first; the times, which differ from run to run, come last,
 * so that the lines of two runs can be compared. */
static int log_step(trainer *t, td_error *error)
{
    const td_progress *p = &t->progress;
    double             now = td_now(), elapsed = now - t->window_start;
    double             each = elapsed > 0 ? 1 / elapsed : 0;
    char               names[TD_AUX][120];
    double             hash = 0;
    size_t             n = 13;
    t->logged = mean(t, p->window_cross_entropy, p->cross_entropy);
    if (hash_parameters(t, &hash, error))
        return td_failed(error, TD_EIO);
    td_metric m[13 + TD_AUX] = {
        { "train/loss", mean(t, p->window_loss, t->loss), false },
        { "train/cross_entropy", t->logged, false },
        { "train/grad_norm", t->norm, false },
        { "train/learning_rate", t->rate, false },
        { "train/tokens", p->tokens, false },
        { "train/target_tokens", p->targets, false },
        { "train/flops", p->flops, false },
        { "train/skipped", (double)p->skipped, false },
        { "train/parameters_hash", hash, false },
        { "time/tokens_per_second", (double)t->window_tokens * each, true },
        { "time/target_tokens_per_second", (double)t->window_targets * each, true },
        { "time/share_of_peak", share_of_peak(t, t->window_flops, elapsed), true },
        { "time/seconds", now - t->started, true },
    };
    /* auxiliary losses have names of their plugins' choosing */
    for (size_t k = 0; k < t->n_aux; k++) {
        snprintf(names[k], sizeof *names, "train/%s", t->aux[k].name);
        m[n++] = (td_metric){ names[k], t->aux[k].loss, false };
    }
    start_window(t, now);
    warn_of_guessing(t);
    if (td_metrics_write(&t->metrics, t->progress.step, m, n, error))
        return td_failed(error, TD_EIO);
    t->progress.logged = t->progress.step;
    return 0;
}

/* For this part of the run. */
static double rate_of(double now, double before, double seconds)
{
    return seconds > 0 ? (now - before) / seconds : 0;
}

static void show_step(trainer *t)
{
    const td_training *w = t->spec->watch;
    const td_progress *p = &t->progress;
    double             seconds = td_now() - t->started;
    td_training_step   s = {
          .step = p->step,
          .steps = t->options->steps,
          .loss = t->loss,
          .cross_entropy = p->cross_entropy,
          .gradient_norm = t->norm,
          .learning_rate = t->rate,
          .applied = t->applied,
          .seconds = seconds,
          .tokens_per_second = rate_of(p->tokens, t->first.tokens, seconds),
          .targets_per_second = rate_of(p->targets, t->first.targets, seconds),
          /* over this whole part of the run, like the rates: a single step's value would jump */
          .share_of_peak = share_of_peak(t, p->flops - t->first.flops, seconds),
    };
    if (w->step && w->step(w->arg, &s))
        t->stopping = true;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

/* The run's directory no longer belongs to it: its state is saved next to it, for train.weights
 * or to be moved back. */
static int rescue(trainer *t, const td_error *why, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    char                   directory[4200];
    td_error               e = { 0 };
    snprintf(directory, sizeof directory, "%s.rescued-%ld/checkpoints", s->directory,
             (long)getpid());
    if (td_make_directories(directory, &e) ||
        td_checkpoint_save(directory, td_engine_variables(s->engine), td_engine_device(s->engine),
                           &t->progress, s->about, &e))
        return td_fail(error, why->code, "%.1000s; step %lld could not be saved elsewhere: %.800s",
                       why->text, (long long)t->progress.step, e.text);
    t->saved = t->progress.step;
    return td_fail(error, why->code, "%.1500s; step %lld is saved in '%s'", why->text,
                   (long long)t->progress.step, directory);
}

/* If a plugin ends the process, the user wants to know how much work is lost. */
static void note_saved(const trainer *t)
{
    char text[sizeof t->checkpoints + 80];
    if (t->saved < 0)
        snprintf(text, sizeof text, "nothing yet");
    else
        snprintf(text, sizeof text, "step %lld in '%s' (--resume continues from there)",
                 (long long)t->saved, t->checkpoints);
    td_hook_saved(text);
}

static int save(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    td_error               why = { 0 };
    if (s->check_place && s->check_place(s->place, &why))
        return rescue(t, &why, error);
    /* metrics first: a run resumed from the checkpoint does not write them again */
    if (td_metrics_flush(&t->metrics, error) ||
        td_checkpoint_save(t->checkpoints, td_engine_variables(s->engine),
                           td_engine_device(s->engine), &t->progress, s->about, error))
        return td_failed(error, TD_EIO);
    t->saved = t->progress.step;
    note_saved(t);
    /* a checkpoint that cannot be removed only takes space */
    if (td_checkpoint_prune(t->checkpoints, t->options->keep_last,
                            t->options->keep_best ? t->progress.best_step : -1, &why))
        td_log_line(s->log, TD_LOG_WARN,
                    "an old checkpoint could not be removed and still takes up space: %s",
                    why.text);
    return 0;
}

/* A run that cannot continue saves its state: the parameters are those of the last complete step,
 * since a refused update and an evaluation change nothing. */
static int give_up(trainer *t, const td_error *why)
{
    td_error e = { 0 };
    int      code = td_failed(why, TD_EGRAPH);
    /* scores that are not finite come after the line of their step */
    bool     line = code == TD_EDIVERGED && t->progress.logged != t->progress.step;
    if (t->torn || t->saved == t->progress.step || !td_team_leads(t->spec->team))
        return code;
    if ((line && log_step(t, &e)) || save(t, &e))
        td_log_line(t->spec->log, TD_LOG_WARN, "the last step could not be saved: %s", e.text);
    else
        td_log_line(t->spec->log, TD_LOG_INFO, "step %lld is saved", (long long)t->progress.step);
    return code;
}

/* The same for all ranks: the others hand their states to the leader. If they are lost, it saves
 * what it has itself, which is not enough if states are sharded (train.shard). */
static int give_up_together(trainer *t, const td_error *why)
{
    td_team *team = t->spec->team;
    bool     leads = td_team_leads(team), lost = td_team_is_lost(team);
    td_error e = { 0 }; /* `why` is what matters */
    if (!lost)
        td_team_begin_solo(team);
    if (leads)
        give_up(t, why);
    if (!lost)
        td_team_end_solo(team, 0, &e);
    return td_failed(why, TD_EGRAPH);
}

/* Depends only on state that checkpoints keep: a resumed run ends where the uninterrupted one
 * does, and one that has ended stays ended until the option is raised. */
static bool ends_early(const trainer *t)
{
    int64_t patience = t->options->early_stopping_patience;
    return patience > 0 && t->progress.since_best >= patience;
}

/* Nothing is left to train. */
static bool is_done(const trainer *t)
{
    return t->progress.step >= t->options->steps || ends_early(t);
}

/* ---- after a step ---------------------------------------------------------------------------- */

/* The leader's part of what is due after step n, before the evaluation. Metrics that cannot be
 * written end the run without a checkpoint, because a run resumed from one would lack their lines. */
static int report_step(trainer *t, td_error *error)
{
    const td_train_options *o = t->options;
    int64_t                 n = t->progress.step;

    if ((n == o->steps || td_trainer_every(n, o->log_every)) && log_step(t, error))
        return td_failed(error, TD_EIO);
    if (td_trainer_every(n, o->norms_every) &&
        td_metrics_norms(&t->metrics, n, t->spec->engine, error))
        return td_failed(error, TD_EIO);
    /* before the last evaluation, which may take long; afterwards again, with its result */
    if (n == o->steps && (td_trainer_evaluation_due(t) || td_trainer_scoring_due(t)))
        return save(t, error);
    return 0;
}

/* .. and after it and the tasks. */
static int conclude_step(trainer *t, td_error *error)
{
    const td_train_options *o = t->options;
    int64_t                 n = t->progress.step;
    if (t->saved != n && (n == o->steps || td_trainer_every(n, o->checkpoint_every) ||
                          (o->keep_best && t->progress.best_step == n)))
        return save(t, error);
    return 0;
}

/* Ends a solo of the leader: all fail, or stop, or go on, with the leader's progress, which has the
 * scores. */
static int meet(trainer *t, int code, td_error *error)
{
    td_team *team = t->spec->team;
    code = td_team_end_solo(team, code ? code : t->stopping ? TD_EEND : 0, error);
    t->stopping |= code == TD_EEND;
    if (code && code != TD_EEND)
        return code;
    return td_team_share(team, &t->progress, sizeof t->progress, error);
}

/* Interrupts a solo of the leader, whose part so far ended with `code`, for `work`, which all
 * ranks do. If `work` fails, the leader saves first, so 0 is returned and `failed` is set. */
static int together(trainer *t, int code, int (*work)(trainer *, bool known, td_error *),
                    int *failed, td_error *error)
{
    if ((code = meet(t, code, error)))
        return code;
    *failed = work(t, false, error);
    td_team_begin_solo(t->spec->team);
    if (*failed && td_team_leads(t->spec->team))
        give_up(t, error);
    return 0;
}

/* All ranks evaluate and score; the leader does the rest, in one solo if neither is due. */
static int after_step(trainer *t, td_error *error)
{
    bool leads = td_team_leads(t->spec->team);
    int  code, lost = 0;
    td_team_begin_solo(t->spec->team);
    code = leads ? report_step(t, error) : 0;
    if (td_trainer_evaluation_due(t))
        lost = together(t, code, td_trainer_evaluate, &code, error);
    if (!lost && td_trainer_scoring_due(t))
        lost = together(t, code, td_trainer_score, &code, error);
    if (lost)
        return lost;
    if (!code && leads)
        code = conclude_step(t, error);
    return meet(t, code, error);
}

/* The leader's part. */
static int end_run(trainer *t, td_error *error)
{
    if (ends_early(t))
        td_log_line(
            t->spec->log, TD_LOG_INFO,
            "step %lld: the run ends early: %lld evaluations since the best one, %s %.4f at "
            "step %lld",
            (long long)t->progress.step, (long long)t->progress.since_best, td_trainer_best_name(t),
            t->progress.best, (long long)t->progress.best_step);
    return t->saved == t->progress.step ? 0 : save(t, error);
}

static int loop(trainer *t, td_error *error)
{
    td_team *team = t->spec->team;
    int      code = 0;
    while (!code && !is_done(t) && !t->stopping) {
        int made = td_team_agree(team, td_trainer_step(t, error), error);
        if (made == TD_EEND) /* dropped: the caller asked to stop */
            break;
        if (made)
            return give_up_together(t, error);
        show_step(t);
        if ((code = td_trainer_check_health(t, error)))
            return give_up_together(t, error);
        code = after_step(t, error);
    }
    if (code)
        return code;
    td_team_begin_solo(team);
    if (td_team_leads(team))
        code = end_run(t, error);
    return td_team_end_solo(team, code, error);
}

/* ---- beginning and end ----------------------------------------------------------------------- */

/* A damaged checkpoint is never silently skipped: the message says how to continue without it. */
static int refuse_checkpoint(const char *checkpoint, const td_error *why, td_error *error)
{
    if (why->code == TD_EFORMAT)
        return td_fail(error, why->code,
                       "cannot resume: %.1500s; remove the directory '%.300s' to resume from the "
                       "checkpoint before it",
                       why->text, checkpoint);
    return td_fail(error, why->code, "cannot resume: %.1900s", why->text);
}

/* Sets the run's position and, when it is resumed, loads the parameters and states of that step. */
static int load(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    td_error               why = { 0 };
    t->progress = (td_progress){
        .best_step = -1, .evaluated = -1, .scored = -1, .cross_entropy = (double)NAN
    };
    t->saved = -1;
    note_saved(t);
    if (!s->resume)
        return 0;
    if (td_checkpoint_load(s->resume, td_engine_variables(s->engine), td_engine_device(s->engine),
                           &t->progress, &why))
        return refuse_checkpoint(s->resume, &why, error);
    t->saved = t->progress.step;
    note_saved(t);
    td_log_line(s->log, TD_LOG_INFO, "resuming from %s", s->resume);
    if (s->other_evaluation && t->progress.best_step >= 0)
        td_trainer_forget_best(t);
    return 0;
}

/* Loggers drop the lines after the step that is resumed from: the run writes them again. */
static int open_metrics(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    td_logger_in           in = { .services = s->services,
                                  .directory = s->directory,
                                  .resume = t->progress.step ? t->progress.step + 1 : 0,
                                  .evaluate_again = td_trainer_evaluation_missed(t),
                                  .score_again = td_trainer_scoring_missed(t),
                                  .written = t->progress.logged };
    return td_metrics_open(&t->metrics, s->loggers, s->n_loggers, &in, error);
}

/* Outside a step. The leader alone may fail to report an evaluation, and the tasks are for all or for
 * none. */
static int evaluate_and_score(trainer *t, bool evaluates, bool scores, bool known, td_error *error)
{
    int code = evaluates ? td_trainer_evaluate(t, known, error) : 0;
    code = td_team_agree(t->spec->team, code, error);
    return !code && scores ? td_trainer_score(t, known, error) : code;
}

/* A finished run repeats its last evaluation and tasks, to show them. */
static int show_again(trainer *t, td_error *error)
{
    return evaluate_and_score(t, t->options->evaluate_every >= 0,
                              t->spec->scorer.score && t->options->score_every >= 0, true, error);
}

/* What an earlier part of the run was stopped before. */
static int make_up(trainer *t, bool evaluates, bool scores, td_error *error)
{
    bool leads = td_team_leads(t->spec->team);
    int  code = evaluate_and_score(t, evaluates, scores, false, error);
    td_team_begin_solo(t->spec->team);
    if (code && leads)
        give_up(t, error);
    return meet(t, code, error);
}

/* What was missed, then steps. */
static int go_on(trainer *t, td_error *error)
{
    const td_training *w = t->spec->watch;
    td_team           *team = t->spec->team;
    /* known before the loop: making them changes it */
    bool               finished = is_done(t), evaluates = td_trainer_evaluation_missed(t),
         scores = td_trainer_scoring_missed(t), again = finished && !evaluates && !scores;
    int code;
    if (w->begin && w->begin(w->arg, t->progress.step, t->options->steps))
        t->stopping = true;
    code = make_up(t, evaluates, scores, error);
    if (!code)
        code = td_team_share(team, &again, sizeof again, error);
    /* a better score may have brought a run back that had ended early */
    if (!code && !is_done(t) && !t->feed)
        code = td_team_agree(team, td_trainer_open_steps(t, error), error);
    if (code)
        return code;
    return again ? show_again(t, error) : loop(t, error);
}

/* The leader's part: its files, and the state to begin with. */
static int open_files(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    int length = snprintf(t->checkpoints, sizeof t->checkpoints, "%s/checkpoints", s->directory);
    if (length < 0 || (size_t)length >= sizeof t->checkpoints)
        return td_fail(error, TD_ECONFIG, "run.dir is longer than %zu bytes",
                       sizeof t->checkpoints);
    if (td_make_directories(t->checkpoints, error) || load(t, error) || open_metrics(t, error))
        return td_failed(error, TD_EIO);
    return 0;
}

static int open_run(trainer *t, td_error *error)
{
    td_team *team = t->spec->team;
    int      code;
    td_team_begin_solo(team);
    code = td_team_end_solo(team, td_team_leads(team) ? open_files(t, error) : 0, error);
    if (!code)
        code = td_team_share(team, &t->progress, sizeof t->progress, error);
    if (!code)
        code = td_team_share_variables(team, t->spec->engine, error);
    if (code || is_done(t)) /* nothing will be read */
        return code;
    return td_team_agree(team, td_trainer_open_steps(t, error), error);
}

static void report(const trainer *t, td_trainer_out *out)
{
    *out = (td_trainer_out){ .progress = t->progress,
                             .evaluation = t->evaluation,
                             .seconds = td_now() - t->started,
                             .cross_entropy = t->logged };
    out->tokens_per_second = rate_of(t->progress.tokens, t->first.tokens, out->seconds);
    out->targets_per_second = rate_of(t->progress.targets, t->first.targets, out->seconds);
    /* a run that is stopped at its last step counts as finished */
    out->stopped = t->stopping && (!is_done(t) || t->dropped);
}

/* ---- sharded parameters ---------------------------------------------------------------------- */

/* The owner's elements are copied: whoever reads them may overwrite what it reads. */
static int collect(void *arg, const td_variable *x, void *to, size_t bytes, td_error *error)
{
    const trainer *t = arg;
    if (x->owner == td_team_rank(t->spec->team))
        memcpy(to, x->memory, bytes);
    return td_team_share_from(t->spec->team, to, bytes, x->owner, error);
}

static int deliver(void *arg, td_variable *gradient, const void *from, td_error *error)
{
    const trainer *t = arg;
    return td_dealing_deliver(t->dealing, gradient, from, error);
}

/* ---- the run --------------------------------------------------------------------------------- */

int td_trainer_run(const td_trainer_spec *spec, td_trainer_out *out, td_error *error)
{
    trainer t = {
        .spec = spec,
        .options = spec->options,
        .peak = spec->peak,
        .logged = (double)NAN,
        .straggler = -1,
    };
    int code;

    assert(spec->watch && spec->options && spec->engine);
    /* the leader's checkpoints have the states of all ranks */
    td_team_lend(spec->team, spec->engine);
    t.exchange = (td_exchange){ collect, deliver, &t };
    td_engine_connect(spec->engine, &t.exchange);
    code = open_run(&t, error);
    t.first = t.progress;
    /* clocks begin here: loading is not training */
    t.started = t.window_start = td_now();
    if (!code)
        code = go_on(&t, error);
    report(&t, out);
    if (!code)
        code = td_metrics_flush(&t.metrics, error);
    td_trainer_close_steps(&t);
    td_metrics_close(&t.metrics);
    td_engine_connect(spec->engine, NULL);
    td_team_lend(spec->team, NULL);
    return code;
}
