/* training.c - a training run of a session, from its directory to its result.
 *
 * The order is part of the interface: the directory is locked first; what can be refused is refused
 * before the run's files are changed; what is written is there before the first step, so that a run that is
 * killed can be understood.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "run/provenance.h"
#include "run/weights.h"
#include "train/trainer.h"

/* ---- what a user should know before it starts ------------------------------------------------ */

/* A schedule has a length of its own, so that a run can be cut short or prolonged. */
static void warn_of_schedule(const td_session *s)
{
    int64_t steps, all = s->x->train.steps;
    if (!td_config_get_int(s->x->config, "schedule.steps", &steps) || steps == all)
        return;
    td_log_line(s->log, TD_LOG_WARN,
                steps < all ? "schedule.steps = %" PRId64 " is less than train.steps = %" PRId64
                              ": from then on the learning rate stays where the decay ends"
                            : "schedule.steps = %" PRId64 " is more than train.steps = %" PRId64
                              ": the decay will be cut short; set schedule.steps = train.steps",
                steps, all);
}

/* How often the text is read: a small corpus read many times is learnt by heart. */
static void log_epochs(const td_session *s)
{
    const td_data *d = (const void *)s->x->data.plugin;
    const td_loss *l = (const void *)s->x->loss.plugin;
    int64_t        tokens = d->tokens ? d->tokens(s->data) : -1;
    double         read = (double)s->x->train.steps * (double)s->x->train.batch *
                  (double)l->bounds(s->x->loss.config, s->x->train.length).raw;
    char count[32];
    if (tokens > 0)
        td_log_line(s->log, TD_LOG_INFO,
                    "%s tokens of training text; %" PRId64 " steps read them %.3g times",
                    td_human_count(count, (double)tokens), s->x->train.steps,
                    read / (double)tokens);
}

static void warn_of_unscored(const td_session *s)
{
    const td_data *d = (const void *)s->x->data.plugin;
    int64_t        sources = s->x->train.evaluate_every < 0 ? 0 : d->sources(s->data);
    for (int64_t i = 0; i < sources; i++)
        if (d->held_out(s->data, i) < 1)
            td_log_line(s->log, TD_LOG_WARN,
                        "source '%s' has no held-out text: it is left out of the mean over sources",
                        d->source_name(s->data, i));
}

/* ---- preparing ------------------------------------------------------------------------------- */

/* The checkpoint to go on from, or the parameters to start from, must suit the config. */
static int check_origin(td_session *s, const td_run_directory *r, const char *about,
                        td_error *error)
{
    const char *weights = s->x->train.weights;
    int         code = 0;
    if (r->latest)
        code = td_run_compare(r, s, about, error);
    else if (*weights)
        code = td_session_check_weights(s, weights, error);
    if (*weights || r->latest)
        td_session_warn_of_idle_allows(s);
    return code;
}

/* The files are written between the check and the allocation: a model that does not fit has no
 * run. */
static int plan(td_session *s, const td_run_directory *r, td_error *error)
{
    td_footprint footprint;
    int          code = td_session_plan(s, s->engine, &footprint, error);
    if (!code)
        code = td_footprint_check(&footprint, td_engine_device(s->engine), error);
    return code ? code : td_run_describe(r, s, &footprint, error);
}

static int allocate(td_session *s, const td_run_directory *r, td_error *error)
{
    const char *weights = s->x->train.weights;
    int         code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    /* a checkpoint has the parameters that these became */
    if (!code && *weights && !r->latest)
        code = td_session_take(s, weights, error);
    return code;
}

/* Everything that can fail does so here, before the first step: what is wrong with the config, the
 * data or the memory is not found out after hours. */
static int prepare(td_session *s, const td_run_directory *r, char **about, td_error *error)
{
    int code = td_session_open_data(s, error);
    if (!code)
        code = td_session_replace(s, true, error);
    /* before the checks, which compare it with what the checkpoint keeps */
    if (!code && !(*about = td_run_about(s, error)))
        code = td_failed(error, TD_ENOMEM);
    if (!code)
        code = check_origin(s, r, *about, error);
    if (!code)
        code = plan(s, r, error);
    if (code)
        return code;
    warn_of_schedule(s);
    log_epochs(s);
    warn_of_unscored(s);
    return allocate(s, r, error);
}

/* ---- training -------------------------------------------------------------------------------- */

/* A run that ends in NaN has diverged, whatever the guard let pass. */
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
                         "the held-out NLL is %g: the parameters contain NaN or infinity", e->nll)
               : 0;
}

static int run(td_session *s, const td_run_directory *r, const char *about,
               const td_training *watch, td_trainer_out *out, td_error *error)
{
    const td_device *d = td_engine_device(s->engine);
    td_trainer_spec  spec = { .options = &s->x->train,
                              .engine = s->engine,
                              .feed = td_session_feed(s),
                              .evaluate = td_session_evaluation_spec(s),
                              .schedule = s->x->schedule,
                              .loggers = s->x->loggers,
                              .n_loggers = s->x->n_loggers,
                              .log = s->log,
                              .services = s->services,
                              .directory = r->path,
                              .about = about,
                              .resume = r->latest,
                              .other_evaluation = r->other_evaluation,
                              /* measured now, before the steps compete with it */
                              .peak = d->backend->peak ? d->backend->peak(d->state) : 0,
                              .watch = watch };
    return td_trainer_run(&spec, out, error);
}

/* The session owns the result: callers get pointers into it. */
static void keep(td_session *s, const td_trainer_out *out)
{
    s->last_evaluation = out->evaluation;
    s->trained = (td_trained){ .directory = td_session_directory(s),
                               .step = out->progress.step,
                               .stopped = out->stopped,
                               .cross_entropy = out->progress.cross_entropy,
                               .seconds = out->seconds,
                               .tokens_per_second = out->tokens_per_second,
                               .evaluation = out->evaluation.count ? &s->last_evaluation : NULL };
}

static int train(td_session *s, const td_training *watch, const td_trained **out, td_error *error)
{
    td_run_directory r;
    char            *about = NULL;
    td_trainer_out   result = { 0 };
    int              code = td_run_open(&r, s, watch->resume, error);

    if (!code)
        code = prepare(s, &r, &about, error);
    if (!code) {
        code = run(s, &r, about, watch, &result, error);
        keep(s, &result);
    } else
        td_session_drop(s); /* its engine may not be allocated */
    /* one that failed has no result: its checkpoint and its log say where it stopped */
    if (!code) {
        *out = &s->trained;
        if (result.stopped)
            td_log_line(s->log, TD_LOG_INFO, "stopped at step %" PRId64 "; the run can be resumed",
                        result.progress.step);
        else
            code = check_numbers(&result, error);
    }
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
    if (check_training(s, t, error))
        return TD_ECONFIG;
    code = td_session_result(train(s, t, out, &why), &why);
    if (!code)
        return 0;
    /* log.txt should say how the run ended; a log of the caller's own is the caller's to write */
    if (s->owns_log)
        td_log_line(s->log, TD_LOG_ERROR, "%s", why.text);
    return td_fail(error, why.code, "%s", why.text);
}
