/* scores.c - between the steps of training: the held-out loss, tasks, and which checkpoint is the
 * best by them. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "train/internal.h"

/* ---- the best -------------------------------------------------------------------------------- */

/* NaN is never the best. */
static bool is_best(const trainer *t, double score)
{
    const td_progress *p = &t->progress;
    bool               falls = !t->spec->scorer.best || t->spec->scorer.lower_is_better;
    if (p->best_step < 0)
        return isfinite(score);
    return falls ? score < p->best : score > p->best;
}

/* The score that train.best names, of the current step. `known`: it was counted before. */
static void judge(trainer *t, double score, bool known)
{
    td_progress *p = &t->progress;
    if (is_best(t, score)) {
        p->best = score;
        p->best_step = p->step;
        p->since_best = 0;
    } else
        p->since_best += !known;
}

static const char *praise(const trainer *t, bool decides)
{
    return decides && t->progress.best_step == t->progress.step ? " (best so far)" : "";
}

/* Scores of different held-out text, of different prefixes or of other tasks cannot be compared. */
void td_trainer_forget_best(trainer *t)
{
    td_log_line(t->spec->log, TD_LOG_INFO,
                "what is scored has changed: the best score so far, of step %lld, no longer counts",
                (long long)t->progress.best_step);
    t->progress.best = 0;
    t->progress.best_step = -1;
    t->progress.since_best = 0;
}

const char *td_trainer_best_name(const trainer *t)
{
    return t->spec->scorer.best ? t->spec->scorer.best : "NLL";
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static int evaluation_progress(void *arg, int64_t done, int64_t all)
{
    trainer           *t = arg;
    const td_training *w = t->spec->watch;
    if (w->evaluating && w->evaluating(w->arg, t->progress.step, done, all))
        t->stopping = true;
    return t->stopping;
}

/* The time of an evaluation does not count as training. */
static void leave_out(trainer *t, double start)
{
    t->window_start += td_now() - start;
    t->started += td_now() - start;
}

/* The evaluation as metrics. It counts as made only when they are written: otherwise a checkpoint
 * would record it, and a resumed run would not write them either. */
static int report_evaluation(trainer *t, const td_progress *before, td_error *error)
{
    td_progress *p = &t->progress;
    if (td_metrics_evaluation(&t->metrics, p->step, &t->evaluation, error)) {
        *p = *before;
        return td_failed(error, TD_EIO);
    }
    p->evaluated = p->logged = p->step;
    t->saved = -1; /* a checkpoint of this step does not know of the evaluation */
    return 0;
}

int td_trainer_evaluate(trainer *t, bool known, td_error *error)
{
    td_progress     *p = &t->progress, before = *p;
    double           start = td_now();
    bool             decides = !t->spec->scorer.best;
    td_evaluate_spec spec = t->spec->evaluate;
    int              code;

    spec.team = t->spec->team;
    td_evaluation_free(&t->evaluation);
    code = td_evaluate(t->spec->engine, &spec, evaluation_progress, t, &t->evaluation, error);
    leave_out(t, start);
    t->dropped = code == TD_EEND;
    t->stopping |= t->dropped; /* another rank may have been asked */
    if (code)
        return t->dropped ? 0 : td_failed(error, TD_EIO);
    if (!td_team_leads(spec.team)) /* it gets the leader's progress */
        return 0;
    if (decides)
        judge(t, t->evaluation.nll, known);
    td_log_line(t->spec->log, TD_LOG_INFO, "step %lld: held-out NLL %.4f, perplexity %.3f%s",
                (long long)p->step, t->evaluation.nll, exp(t->evaluation.nll), praise(t, decides));
    return known ? 0 : report_evaluation(t, &before, error);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static int task_progress(void *arg, const char *task, int64_t done, int64_t all)
{
    trainer           *t = arg;
    const td_training *w = t->spec->watch;
    if (w->scoring && w->scoring(w->arg, t->progress.step, task, done, all))
        t->stopping = true;
    return t->stopping;
}

/* The metric that decides which checkpoint is best, if it is one of these. */
static void judge_tasks(trainer *t, const td_scoring *s, bool known)
{
    const char *best = t->spec->scorer.best;
    for (size_t k = 0; best && k < s->n; k++)
        if (!strcmp(s->metrics[k].name, best))
            judge(t, s->metrics[k].value, known);
    td_log_line(t->spec->log, TD_LOG_INFO, "step %lld: %s%s", (long long)t->progress.step, s->text,
                praise(t, best != NULL));
}

/* As report_evaluation. */
static int report_scores(trainer *t, const td_scoring *s, const td_progress *before,
                         td_error *error)
{
    td_progress *p = &t->progress;
    if (td_metrics_write(&t->metrics, p->step, s->metrics, s->n, error)) {
        *p = *before;
        return td_failed(error, TD_EIO);
    }
    p->scored = p->logged = p->step;
    t->saved = -1; /* a checkpoint of this step does not know of the scores */
    return 0;
}

int td_trainer_score(trainer *t, bool known, td_error *error)
{
    const td_scorer *s = &t->spec->scorer;
    td_progress      before = t->progress;
    double           start = td_now();
    td_scoring       scores = { 0 };
    int              code = td_team_agree(t->spec->team, t->stopping ? TD_EEND : 0, error);

    /* a run that was asked to stop makes them when it is resumed */
    if (!code)
        code = s->score(s->arg, task_progress, t, &scores, error);
    leave_out(t, start);
    t->dropped = code == TD_EEND;
    t->stopping |= t->dropped; /* another rank may have been asked */
    if (code)
        return t->dropped ? 0 : td_failed(error, TD_EIO);
    if (!td_team_leads(t->spec->team)) /* it gets the leader's progress */
        return 0;
    judge_tasks(t, &scores, known);
    return known ? 0 : report_scores(t, &scores, &before, error);
}

/* ---- when ------------------------------------------------------------------------------------ */

bool td_trainer_evaluation_due(const trainer *t)
{
    if (t->progress.step == t->options->steps)
        return t->options->evaluate_every >= 0;
    return t->progress.step > 0 && td_trainer_every(t->progress.step, t->options->evaluate_every);
}

bool td_trainer_scoring_due(const trainer *t)
{
    if (!t->spec->scorer.score)
        return false;
    if (t->progress.step == t->options->steps)
        return t->options->score_every >= 0;
    return t->progress.step > 0 && td_trainer_every(t->progress.step, t->options->score_every);
}

bool td_trainer_evaluation_missed(const trainer *t)
{
    return td_trainer_evaluation_due(t) && t->progress.evaluated < t->progress.step;
}

bool td_trainer_scoring_missed(const trainer *t)
{
    return td_trainer_scoring_due(t) && t->progress.scored < t->progress.step;
}
