/* training.c - trains a session's model: directory, checks, steps, result.
 *
 * The order is part of the interface: the directory is locked first; everything that can be refused
 * is refused before the run's files are changed; the descriptive files are written before the first
 * step, so that even a killed run can be understood.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "model/checkpoint.h"
#include "plugin/hook.h"
#include "run/provenance.h"
#include "run/training_tasks.h"
#include "run/weights.h"

/* ---- what a user should know before it starts ------------------------------------------------ */

/* A number of steps in the config, given or derived; false for a share of the steps. */
static bool schedule_steps(const td_session *s, const char *path, int64_t *out)
{
    const char *text = td_config_value(s->x->config, path);
    char       *end = NULL;
    *out = text ? strtoll(text, &end, 10) : 0;
    return text && end != text && *end != '.';
}

/* Such a run ends well, with the parameters that it began with. */
static void warn_of_peak(const td_session *s)
{
    const char *peak = td_config_value(s->x->config, "schedule.peak");
    char       *end = NULL;
    if (peak && strtod(peak, &end) == 0 && end != peak)
        td_log_line(s->log, TD_LOG_WARN,
                    "schedule.peak = %s: the learning rate is 0, and nothing will be trained",
                    peak);
}

/* A schedule may have its own length, so that a run can be cut short or extended. */
static void warn_of_schedule(const td_session *s)
{
    int64_t steps, warmup, all = s->x->train.steps;
    warn_of_peak(s);
    if (schedule_steps(s, "schedule.warmup", &warmup) && warmup >= all && all)
        td_log_line(s->log, TD_LOG_WARN,
                    "schedule.warmup = %" PRId64 " is not less than train.steps = %" PRId64
                    ": the learning rate never reaches its peak; a fraction such as 0.05 works for "
                    "any length",
                    warmup, all);
    if (!schedule_steps(s, "schedule.steps", &steps) || steps == all)
        return;
    td_log_line(s->log, TD_LOG_WARN,
                steps < all ? "schedule.steps = %" PRId64 " is less than train.steps = %" PRId64
                              ": after that the learning rate stays at its final value"
                            : "schedule.steps = %" PRId64 " is more than train.steps = %" PRId64
                              ": the decay will be cut short; without schedule.steps it follows "
                              "train.steps",
                steps, all);
}

/* The same for pairs, counted in examples because their lengths differ. */
static void log_epochs_of_pairs(const td_session *s, int64_t tokens)
{
    const td_data          *d = (const void *)s->x->data.plugin;
    const td_train_options *t = &s->x->train;
    int64_t                 records = d->records ? TD_HOOK(d, records, s->data) : -1;
    double                  read = (double)t->steps * (double)t->batch;
    char                    count[32];
    /* the number of pairs in a packed row is not known in advance */
    if (records > 0 && tokens > 0 && !t->pack)
        td_log_line(s->log, TD_LOG_INFO,
                    "%" PRId64 " training examples of %s tokens; %" PRId64 " steps read them %.3g "
                    "times",
                    records, td_human_count(count, (double)tokens), t->steps,
                    read / (double)records);
}

/* Reports how often the text is read, because a small corpus read many times is memorized. */
static void log_epochs(const td_session *s)
{
    const td_data *d = (const void *)s->x->data.plugin;
    const td_loss *l = (const void *)s->x->loss.plugin;
    int64_t        tokens = d->tokens ? TD_HOOK(d, tokens, s->data) : -1;
    double         read = (double)s->x->train.steps * (double)s->x->train.batch *
                  (double)TD_HOOK(l, bounds, s->x->loss.config, s->x->train.length).raw;
    char count[32];
    if (d->pair)
        log_epochs_of_pairs(s, tokens);
    else if (tokens > 0)
        td_log_line(s->log, TD_LOG_INFO,
                    "%s tokens of training text; %" PRId64 " steps read them %.3g times",
                    td_human_count(count, (double)tokens), s->x->train.steps,
                    read / (double)tokens);
}

static void warn_of_unscored(const td_session *s)
{
    const td_data *d = (const void *)s->x->data.plugin;
    int64_t        sources = s->x->train.evaluate_every < 0 ? 0 : TD_HOOK(d, sources, s->data);
    for (int64_t i = 0; i < sources; i++)
        if (TD_HOOK(d, held_out, s->data, i) < 1)
            td_log_line(s->log, TD_LOG_WARN,
                        "source '%s' has no held-out text: it is left out of the mean over sources",
                        TD_HOOK(d, source_name, s->data, i));
}

/* ---- preparing ------------------------------------------------------------------------------- */

/* A run that is past its new end would have trained longer than its config says. */
static int check_length(const td_session *s, const td_run_directory *r, td_error *error)
{
    td_progress p;
    td_error    why = { 0 };
    int64_t     steps = s->x->train.steps;
    if (td_checkpoint_progress(r->latest, &p, &why))
        return td_fail(error, why.code, "cannot resume: %.1900s", why.text);
    if (p.step <= steps)
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "cannot resume: the run in '%.900s' is at step %" PRId64
                   ", and this config ends at step %" PRId64
                   ": a run can be made longer, not shorter; set train.steps to at least %" PRId64
                   ", read an earlier checkpoint (--step N of `tandem evaluate`), or start another "
                   "run.name",
                   r->path, p.step, steps, p.step);
}

/* The checkpoint to resume, or the parameters to start from, must match the config. */
static int check_origin(td_session *s, const td_run_directory *r, const char *about,
                        const char *weights, td_error *error)
{
    int code = 0;
    if (r->latest)
        code = td_run_compare(r, s, about, error);
    if (r->latest && !code)
        code = check_length(s, r, error);
    if (!r->latest && weights)
        code = td_session_check_weights(s, weights, error);
    if (weights || r->latest)
        td_session_warn_of_idle_allows(s);
    return code;
}

/* The files are written between the check and the allocation: a model that does not fit has no
 * run. */
static int plan(td_session *s, const td_run_directory *r, const td_training_tasks *tasks,
                td_error *error)
{
    td_footprint footprint;
    int          code = td_session_plan(s, s->engine, &footprint, error);
    if (!code && tasks->tasks)
        code = td_tasks_plan(tasks->tasks, &footprint, error);
    if (!code)
        code = td_footprint_check(&footprint, td_engine_device(s->engine), error);
    return code || !td_team_leads(s->team) ? code : td_run_describe(r, s, &footprint, error);
}

/* The leader reads the parameters to start from (NULL: none), and hands each rank those only it
 * has, or, later, all (td_trainer_run). */
static int take_weights(td_session *s, const char *weights, td_error *error)
{
    int code = 0;
    td_team_lend(s->team, s->engine);
    td_team_begin_solo(s->team);
    if (td_team_leads(s->team) && weights)
        code = td_session_take(s, weights, error);
    code = td_team_end_solo(s->team, code, error);
    td_team_lend(s->team, NULL);
    if (!code && weights)
        td_log_line(s->log, TD_LOG_INFO, "starting from the parameters of '%s'", weights);
    return code;
}

static int allocate(td_session *s, const char *weights, td_error *error)
{
    int code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    code = td_team_agree(s->team, code, error);
    return code ? code : take_weights(s, weights, error);
}

/* The file of train.weights; *weights is NULL for initial values. A resumed run does not need the
 * file, because its checkpoint has all parameters. */
static int find_weights(const td_session *s, const td_run_directory *r, char **weights,
                        td_error *error)
{
    *weights = NULL;
    if (!*s->x->train.weights || r->latest)
        return 0;
    *weights = td_session_start(s, error);
    return *weights ? 0 : td_failed(error, TD_EIO);
}

static int open_data(td_session *s, const td_run_directory *r, char **weights,
                     td_training_tasks *tasks, td_error *error)
{
    bool leads = td_team_leads(s->team);
    int  code = 0;
    td_team_begin_solo(s->team);
    if (leads)
        code = find_weights(s, r, weights, error);
    /* before the data: a misspelt task should not wait for it to be tokenized */
    if (leads && !code)
        code = td_training_tasks_open(tasks, s, error);
    code = td_team_end_solo(s->team, code, error);
    /* whatever is wrong with the tasks, the leader has reported it */
    if (!code)
        code = td_team_agree(s->team, leads ? 0 : td_training_tasks_open(tasks, s, error), error);
    return code ? code : td_session_open_data_together(s, error);
}

/* The engine and, on the leader, the comparison with what the run goes on from. */
static int open_engine(td_session *s, const td_run_directory *r, const char *weights,
                       const td_training_tasks *tasks, char **about, td_error *error)
{
    int code = td_session_set_length(s, error);
    if (!code)
        code = td_session_share_out(s, error);
    if (!code)
        code = td_session_replace(s, true, error);
    /* made before the checks, which compare it with the checkpoint's record */
    if (!code && !(*about = td_run_about(s, error)))
        code = td_failed(error, TD_ENOMEM);
    if (!code && td_team_leads(s->team))
        code = check_origin(s, r, *about, weights, error);
    return code ? code : plan(s, r, tasks, error);
}

/* Everything that can fail does so here, before the first step: what is wrong with the config, the
 * data or the memory is not found out after hours. */
static int prepare(td_session *s, const td_run_directory *r, td_training_tasks *tasks, char **about,
                   td_error *error)
{
    char *weights = NULL;
    int   code = open_data(s, r, &weights, tasks, error);
    if (!code) {
        s->inputs_end = td_arrange_pair(&s->x->data).inputs_end;
        code = td_team_agree(s->team, open_engine(s, r, weights, tasks, about, error), error);
    }
    if (!code)
        code = td_team_same(s->team, td_session_config(s), "config", error);
    /* with other arithmetic the ranks' parameters would drift apart */
    if (!code)
        code = td_team_same(s->team, *about, "tandem, plugin, data or instruction set", error);
    if (!code)
        code = td_team_attach(s->team, td_engine_device(s->engine), error);
    if (!code) {
        warn_of_schedule(s);
        log_epochs(s);
        warn_of_unscored(s);
        code = allocate(s, weights, error);
    }
    free(weights);
    return code;
}

/* ---- training -------------------------------------------------------------------------------- */

/* Guessing costs ln V. A model at its initial values may be somewhat worse; a trained model that
 * is worse by this much has lost what it had learned. */
static double guess(const td_session *s)
{
    return 1.25 * log((double)td_session_vocabulary(s)) + 0.5;
}

/* A run that ends in NaN, or far above guessing, has diverged, whatever the guard let pass. */
static int check_numbers(const td_session *s, const td_trainer_out *out, td_error *error)
{
    const td_evaluation *e = &out->evaluation;
    if (out->progress.step && !isfinite(out->progress.cross_entropy))
        return td_fail(error, TD_EDIVERGED,
                       "diverged: the loss of step %" PRId64 " is %g; lower schedule.peak, or set "
                       "train.guard",
                       out->progress.step, out->progress.cross_entropy);
    /* a few steps may not improve it yet */
    if (out->progress.step >= 20 && out->cross_entropy > guess(s))
        return td_fail(
            error, TD_EDIVERGED,
            "diverged: the last cross-entropy is %.3f nats per token, and guessing costs "
            "ln %" PRId64 " = %.3f; lower schedule.peak, or lengthen schedule.warmup",
            out->cross_entropy, td_session_vocabulary(s), log((double)td_session_vocabulary(s)));
    return e->count && !isfinite(e->nll)
               ? td_fail(error, TD_EDIVERGED,
                         "the held-out NLL is %g: the parameters contain NaN or infinity", e->nll)
               : 0;
}

static int run(td_session *s, td_run_directory *r, td_training_tasks *tasks, const char *about,
               const td_training *watch, td_trainer_out *out, td_error *error)
{
    const td_device *d = td_engine_device(s->engine);
    td_trainer_spec  spec = { .options = &s->x->train,
                              .engine = s->engine,
                              .feed = td_session_feed(s),
                              .evaluate = td_session_evaluation_spec(s),
                              .scorer = td_training_tasks_scorer(tasks),
                              .schedule = s->x->schedule,
                              .loggers = s->x->loggers,
                              .n_loggers = td_team_leads(s->team) ? s->x->n_loggers : 0,
                              .log = s->log,
                              .services = s->services,
                              .directory = r->path,
                              .about = about,
                              .resume = r->latest,
                              .other_evaluation = r->other_evaluation,
                              /* measured now, before steps compete for the processor, by all
                               * ranks at the same time */
                              .peak = td_team_size(s->team) *
                                      td_device_peak(d, s->x->train.precision ? TD_BF16 : 0),
                              .guess = guess(s),
                              .watch = watch,
                              .team = s->team,
                              .straggler = s->x->comm_straggler,
                              .check_place = td_run_check,
                              .place = r };
    return td_trainer_run(&spec, out, error);
}

/* The session owns the result: callers get pointers into it. */
static void keep(td_session *s, td_training_tasks *tasks, const td_trainer_out *out)
{
    s->last_evaluation = out->evaluation;
    s->last_tasks = tasks->scores;
    tasks->scores = (td_task_scores){ 0 };
    s->best_name = tasks->best;
    tasks->best = NULL;
    s->trained = (td_trained){ .directory = td_session_directory(s),
                               .step = out->progress.step,
                               .stopped = out->stopped,
                               .cross_entropy = out->progress.cross_entropy,
                               .seconds = out->seconds,
                               .tokens_per_second = out->tokens_per_second,
                               .targets_per_second = out->targets_per_second,
                               .skipped = out->progress.skipped,
                               .evaluation = out->evaluation.count ? &s->last_evaluation : NULL,
                               .tasks = s->last_tasks.count ? &s->last_tasks : NULL,
                               .best_step = out->progress.best_step,
                               .best = out->progress.best,
                               .best_name = s->best_name ? s->best_name : "nll" };
}

static int train(td_session *s, const td_training *watch, const td_trained **out, td_error *error)
{
    td_run_directory  r = { .lock = -1, .directory = -1 };
    td_training_tasks tasks = { 0 };
    char             *about = NULL;
    td_trainer_out    result = { 0 };
    bool              leads = td_team_leads(s->team);
    int               code;

    td_team_begin_solo(s->team);
    code = leads ? td_run_open(&r, s, watch->resume, error) : 0;
    code = td_team_end_solo(s->team, code, error);
    if (!code)
        code = prepare(s, &r, &tasks, &about, error);
    if (code && leads)
        td_run_abandon(&r);
    if (!code) {
        code = run(s, &r, &tasks, about, watch, &result, error);
        keep(s, &tasks, &result);
    } else
        td_session_drop(s); /* its engine may not be allocated */
    /* a failed run has no result; its checkpoint and log show where it stopped */
    if (!code) {
        *out = &s->trained;
        if (result.stopped)
            td_log_line(s->log, TD_LOG_INFO,
                        "stopped at step %" PRId64
                        "; the run can be resumed: tandem train %s --resume",
                        result.progress.step, td_session_directory(s));
        else
            code = check_numbers(s, &result, error);
    }
    td_training_tasks_close(&tasks);
    if (leads)
        td_run_close(&r);
    free(about);
    return code;
}

static int check_training(const td_session *s, const td_training *t, td_error *error)
{
    if (t->size != sizeof *t)
        return td_fail(
            error, TD_ECONFIG,
            "td_training.size is %zu: set it to sizeof(td_training), which is %zu in this "
            "library",
            t->size, sizeof *t);
    return (s->needs & TD_NEED_TRAINING) == TD_NEED_TRAINING
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "this session was not opened for training: use TD_PURPOSE_TRAIN");
}

int td_session_train(td_session *s, const td_training *t, const td_trained **out, td_error *error)
{
    td_error why = { 0 };
    int      code;

    *out = NULL;
    td_evaluation_free(&s->last_evaluation);
    td_task_scores_free(&s->last_tasks);
    free(s->best_name);
    s->best_name = NULL;
    if (check_training(s, t, error))
        return TD_ECONFIG;
    code = td_session_join(s, t->lost, t->arg, &why);
    code = td_session_result(code ? code : train(s, t, out, &why), &why);
    if (td_team_is_lost(s->team) && t->lost)
        t->lost(t->arg, why.text);
    td_session_leave(s);
    if (!code)
        return 0;
    /* log.txt should say how the run ended; the caller writes its own log */
    if (s->owns_log)
        td_log_line(s->log, TD_LOG_ERROR, "%s", why.text);
    return td_fail(error, why.code, "%s", why.text);
}
