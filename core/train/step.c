/* step.c - one training step: the gradients of its micro-batches, and the update.
 *
 * Every rank computes some of the micro-batches, and applies the same update from the same sums, or,
 * if the update is sharded (train.shard), its part of it.
 */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "train/internal.h"
#include "train/rate.h"

/* ---- what micro-batches report ---------------------------------------------------------------- */

/* The report of a micro-batch. A rank fills in its own and leaves zeros for those of other
 * ranks, so that summing over the ranks collects them. */
enum { LOSS, CROSS_ENTROPY, FLOPS, AUX, OUTS = AUX + TD_AUX };

static void write_out(trainer *t, int64_t m, const td_micro_out *out)
{
    double *to = t->outs + m * OUTS;
    to[LOSS] = out->loss;
    to[CROSS_ENTROPY] = out->sum;
    to[FLOPS] = out->flops;
    for (size_t k = 0; k < out->n_aux; k++) {
        t->aux[k].name = out->aux[k].name;
        to[AUX + k] = out->aux[k].loss;
    }
    t->n_aux = out->n_aux;
}

/* In the order of micro-batches, so that the sums do not depend on which rank computed which. */
static void add_outs(trainer *t, double weight)
{
    double sum = 0;
    t->loss = t->step_flops = 0;
    for (size_t k = 0; k < t->n_aux; k++)
        t->aux[k].loss = 0;
    for (int64_t m = 0; m < t->n_micro; m++) {
        const double *from = t->outs + m * OUTS;
        t->loss += from[LOSS];
        sum += from[CROSS_ENTROPY];
        t->step_flops += from[FLOPS];
        for (size_t k = 0; k < t->n_aux; k++)
            t->aux[k].loss += from[AUX + k];
    }
    t->progress.cross_entropy = sum / weight;
}

/* ---- gradients of micro-batches ---------------------------------------------------------------- */

/* Nothing but gradients has changed until a step's update, so it can be dropped on the way. */
static bool asks_to_stop(trainer *t, int64_t done, int64_t all)
{
    const td_training *w = t->spec->watch;
    if (w->accumulating && w->accumulating(w->arg, t->progress.step + 1, done, all))
        t->stopping = true;
    return t->stopping;
}

/* One micro-batch. It is divided by the weight of the whole batch, so losses and gradients add up to
 * those of the batch. `add`: to the gradients of the last. */
static int compute_micro(trainer *t, const td_feed_batch *batch, int64_t m, bool add,
                         td_error *error)
{
    td_micro     micro = { batch->micro[m], batch->weight, add, (int32_t)t->progress.step,
                           batch->examples[m] };
    td_micro_out out;
    if (td_engine_gradient(t->spec->engine, &micro, &out, error))
        return td_failed(error, TD_EGRAPH);
    write_out(t, m, &out);
    return 0;
}

/* This rank's micro-batches. */
static int compute(trainer *t, const td_feed_batch *batch, td_error *error)
{
    int64_t first, end;
    td_reduction_share(t->reduction, &first, &end);
    for (int64_t m = first; m < end; m++) {
        /* the first assigns the gradients, the others add: nothing needs to be cleared between
         * steps */
        if (compute_micro(t, batch, m, td_reduction_adds(t->reduction, m), error) ||
            td_reduction_put(t->reduction, m, error))
            return td_failed(error, TD_EGRAPH);
        if (m + 1 < end && asks_to_stop(t, m + 1, t->n_micro))
            return TD_EEND;
    }
    return 0;
}

/* ---- gradients of sharded parameters --------------------------------------------------------- */

/* All ranks compute their micro-batch of a round at the same time. */
static int compute_round(trainer *t, const td_feed_batch *batch, td_error *error)
{
    int64_t m = td_dealing_micro(t->dealing);
    int     code;
    code = td_team_meet(t->spec->team, t->spec->engine, m < 0 ? NULL : batch->micro[m], false,
                        error);
    if (code)
        return code;
    return m < 0 ? td_engine_serve(t->spec->engine, false, error)
                 : compute_micro(t, batch, m, false, error);
}

/* `code`: of reading the batch, which can fail on one rank. All ranks return the same. */
static int compute_dealt(trainer *t, const td_feed_batch *batch, int code, td_error *error)
{
    int64_t rounds = td_dealing_rounds(t->dealing);
    code = td_team_agree(t->spec->team, code, error);
    for (int64_t k = 0; k < rounds && !code; k++) {
        td_dealing_begin(t->dealing, k);
        code = compute_round(t, batch, error);
        if (code == TD_EEND) /* a plugin's: a failure, unlike a request to stop */
            code = td_team_failure(error, TD_EGRAPH);
        td_dealing_end(t->dealing);
        if (!code && k + 1 < rounds && asks_to_stop(t, k + 1, rounds))
            code = TD_EEND;
        code = td_team_agree(t->spec->team, code, error);
    }
    return code;
}

int64_t td_trainer_own_micro(const trainer *t)
{
    int64_t first, end;
    if (t->dealing)
        return td_dealing_own(t->dealing);
    td_reduction_share(t->reduction, &first, &end);
    return end - first;
}

/* ---- gradients of a step ----------------------------------------------------------------------- */

/* `*out`: the batch. */
static int next_batch(trainer *t, const td_feed_batch **out, td_error *error)
{
    const td_feed_batch *batch = *out = td_feed_next(t->feed, error);
    if (!batch)
        return td_team_failure(error, TD_EIO);
    assert(batch->n_micro == t->n_micro);
    /* the divisor of the loss */
    if (!(batch->weight > 0))
        return td_fail(error, TD_EFORMAT, "step %lld: the batch has no tokens to predict",
                       (long long)t->progress.step);
    return 0;
}

/* The part of a step in which other ranks are not involved, unless parameters are sharded. */
static int compute_share(trainer *t, const td_feed_batch **out, td_error *error)
{
    int code = next_batch(t, out, error);
    memset(t->outs, 0, (size_t)t->n_micro * OUTS * sizeof *t->outs);
    if (t->dealing)
        return compute_dealt(t, *out, code, error);
    if (!code)
        code = compute(t, *out, error);
    return !code || (code == TD_EEND && t->stopping) ? code : td_team_failure(error, TD_EGRAPH);
}

/* Returns TD_EEND on all ranks if one of them was asked to stop. */
static int gradients(trainer *t, const td_feed_batch **batch, td_error *error)
{
    td_team *team = t->spec->team;
    double   begun = td_now();
    int      code = compute_share(t, batch, error);
    t->busy += td_now() - begun;
    t->busy_steps++;
    code = td_team_agree(team, code, error);
    if (code) {
        t->stopping |= code == TD_EEND;
        return code;
    }
    if (td_team_sum(team, t->outs, t->n_micro * OUTS, error) ||
        (t->dealing ? td_dealing_finish(t->dealing, error)
                    : td_reduction_finish(t->reduction, error)))
        return td_failed(error, TD_EGRAPH);
    add_outs(t, (*batch)->weight);
    return 0;
}

/* ---- the update ------------------------------------------------------------------------------ */

/* The average against which a spike is measured takes about fifty steps to follow a change. */
static void accept(trainer *t, double norm)
{
    td_progress *p = &t->progress;
    p->refused = 0;
    /* without a guard, infinity passes; in the average it would stay forever */
    if (isfinite(norm))
        p->norm_average = p->norm_average > 0 ? 0.98 * p->norm_average + 0.02 * norm : norm;
}

/* The advice for each reason of a refusal. */
static const char *advice(const trainer *t, double norm)
{
    if (t->options->guard == TD_GUARD_STOP)
        return "set train.guard = \"skip\" to continue past such steps";
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
static int update_own(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    double                 limit = (double)INFINITY;
    td_update_out          u;

    if (t->options->spike > 0 && t->progress.norm_average > 0 && t->progress.step > TD_SPIKES_FROM)
        limit = t->options->spike * t->progress.norm_average;
    if (td_rate_of_step(&s->schedule, t->progress.step, &t->rate, error))
        return td_team_failure(error, TD_EPLUGIN);
    if (td_engine_update(s->engine, t->rate, t->progress.step + 1, limit, &u, error))
        return td_team_failure(error, TD_EGRAPH);
    t->norm = u.norm;
    t->applied = u.applied;
    return 0;
}

/* It is the norm of all gradients, which no rank has. A rank that fails still takes part in the
 * sum, because the others do; without its part the sum means nothing, so then all fail. */
static int share_squares(trainer *t, td_error *error)
{
    double *squares;
    int64_t count;
    int     code = td_engine_square(t->spec->engine, &squares, &count, error);
    if (td_team_sum(t->spec->team, squares, count, error))
        code = td_failed(error, TD_EIO);
    return td_team_agree(t->spec->team, code ? td_team_failure(error, TD_EGRAPH) : 0, error);
}

/* If sharded, the ranks update different parameters. */
static int update(trainer *t, td_error *error)
{
    td_team *team = t->spec->team;
    bool     shared = td_engine_model(t->spec->engine)->shard.size > 1;
    int      code = shared ? share_squares(t, error) : 0;
    if (code)
        return code; /* no parameter has changed */
    code = update_own(t, error);
    if (shared) {
        code = td_team_agree(team, code, error);
        if (!code && !t->dealing)
            code = td_team_share_owned(team, t->spec->engine, error);
        /* what one rank could not send, the others lack: the step is torn for all */
        code = td_team_agree(team, code, error);
    }
    t->torn = code != 0; /* some parameters may be updated, others not */
    return code;
}

/* A refused step counts, too: its records have been read, and the next step must not read them
 * again. */
static void count(trainer *t, const td_feed_batch *batch)
{
    td_progress *p = &t->progress;
    p->step++;
    p->record = batch->next;
    p->tokens += (double)batch->tokens;
    p->targets += (double)batch->targets;
    p->flops += t->step_flops;
    p->window_steps++;
    p->window_loss += t->loss;
    p->window_cross_entropy += p->cross_entropy;
    t->window_tokens += batch->tokens;
    t->window_targets += batch->targets;
    t->window_flops += t->step_flops;
}

int td_trainer_step(trainer *t, td_error *error)
{
    const td_feed_batch *batch;
    int                  code = gradients(t, &batch, error);

    if (code)
        return code;
    code = update(t, error);
    if (code)
        return code;
    count(t, batch);
    /* counted by now: the records of a refused step have been read, too */
    if (!t->applied)
        return refuse(t, t->norm, error);
    accept(t, t->norm);
    return 0;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

int td_trainer_open_steps(trainer *t, td_error *error)
{
    const td_trainer_spec *s = t->spec;
    t->n_micro = s->feed.batch / s->feed.micro_batch;
    t->outs = calloc((size_t)t->n_micro * OUTS, sizeof *t->outs);
    if (!t->outs)
        return td_fail(error, TD_ENOMEM, "out of memory for %lld micro-batches",
                       (long long)t->n_micro);
    if (td_engine_exchanges(s->engine))
        t->dealing = td_dealing_new(s->engine, s->team, (td_reduce)t->options->reduce, t->n_micro,
                                    TD_DEALING_CHUNK, error);
    else
        t->reduction = td_reduction_new(s->engine, s->team, (td_reduce)t->options->reduce,
                                        t->n_micro, error);
    if (t->reduction || t->dealing)
        t->feed = td_feed_open(&s->feed, t->progress.record, error);
    return t->feed ? 0 : td_failed(error, TD_ENOMEM);
}

void td_trainer_close_steps(trainer *t)
{
    td_feed_close(t->feed);
    td_reduction_free(t->reduction);
    td_dealing_free(t->dealing);
    free(t->outs);
}
