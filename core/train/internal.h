/* internal.h - what the files of the trainer share: trainer.c has the loop and the checkpoints,
 * step.c a step, scores.c the evaluations and the tasks between steps, health.c slow ranks.
 */
#ifndef TD_TRAIN_INTERNAL_H
#define TD_TRAIN_INTERNAL_H

#include "train/deal.h"
#include "train/trainer.h"

typedef struct trainer {
    const td_trainer_spec  *spec;
    const td_train_options *options; /* spec->options */
    td_progress             progress;
    td_feed                *feed;
    td_reduction *reduction; /* how gradients are summed; or, if parameters are sharded, */
    td_dealing   *dealing;
    td_exchange   exchange; /* the engine's, in that case */
    double       *outs;     /* what the micro-batches of a step report (step.c) */
    int64_t       n_micro;
    td_metrics    metrics;
    char          checkpoints[4000];
    double        started, window_start;         /* clocks, which leave out evaluations */
    int64_t       window_tokens, window_targets; /* since the last line of metrics */
    double        step_flops, window_flops;
    double        peak;   /* spec->peak, or the highest rate that was measured */
    double        logged; /* cross-entropy in the last line of metrics */
    bool          warned; /* a warning that it is worse than guessing */
    td_progress   first;  /* where this part of the run began */
    int64_t       saved;  /* step of the newest checkpoint; -1: none, or it lacks something */
    td_evaluation evaluation;
    double        loss, norm, rate;
    bool          applied;
    td_auxiliary  aux[TD_AUX]; /* of the last step */
    size_t        n_aux;
    bool          torn;     /* an update failed half-way: parameters belong to no step */
    bool          stopping; /* requested by a callback */
    bool          dropped;  /* it ended an evaluation, or the scoring of tasks */
    double        busy; /* seconds of this rank's part of the steps since the last comparison .. */
    int64_t       busy_steps; /* .. and their number (health.c) */
    int           straggler;  /* the rank that was reported as slow; -1: none */
} trainer;

/* Whether `step` is a multiple of the interval; 0: never. */
static inline bool td_trainer_every(int64_t step, int64_t interval)
{
    return interval > 0 && step % interval == 0;
}

enum { TD_SPIKES_FROM = 20 }; /* steps until the average of the norm is worth comparing with */

/* Open what every rank needs to compute steps, starting at t->progress. Close it even after a
 * failure. */
int     td_trainer_open_steps(trainer *, td_error *error);
void    td_trainer_close_steps(trainer *);
/* How many micro-batches of a step this rank computes. */
int64_t td_trainer_own_micro(const trainer *);
/* All ranks return the same: 0, TD_EEND if one of them was asked to stop before the update, which
 * leaves everything as it was, or, after their next td_team_agree, an error. */
int     td_trainer_step(trainer *, td_error *error);

/* Every rank, after each step: at the interval of the metrics, warn about a rank that is much
 * slower than the others. */
int td_trainer_check_health(trainer *, td_error *error);

/* What comes after the current step; `missed`: it was due, but the run was stopped, or failed,
 * before it. */
bool td_trainer_evaluation_due(const trainer *);
bool td_trainer_scoring_due(const trainer *);
bool td_trainer_evaluation_missed(const trainer *);
bool td_trainer_scoring_missed(const trainer *);

/* Evaluate, or score the tasks, on all ranks together; the leader reports the result.
 * `known`: the metrics have it already. When a callback asks to stop, the result is dropped,
 * and the trainer's `dropped` is set. */
int td_trainer_evaluate(trainer *, bool known, td_error *error);
int td_trainer_score(trainer *, bool known, td_error *error);

/* The best score so far no longer counts. */
void        td_trainer_forget_best(trainer *);
/* The name of the score that decides which checkpoint is best. */
const char *td_trainer_best_name(const trainer *);

#endif
