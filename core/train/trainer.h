/* trainer.h - the training loop: steps, guard, evaluation, checkpoints, metrics, signals. */
#ifndef TD_TRAIN_TRAINER_H
#define TD_TRAIN_TRAINER_H

#include "tandem/kind/schedule.h"
#include "model/checkpoint.h"
#include "train/feed.h"
#include "train/metrics.h"

typedef struct td_trainer_spec {
    td_engine         *engine;
    td_arrange_spec    feed;
    td_evaluate_spec   evaluate;
    td_part            schedule;
    td_part            loggers[TD_LOGGERS];
    size_t             n_loggers;
    td_journal        *log;
    const td_services *services;
    const char        *directory; /* of the run; it exists */
    /* JSON object: config, plugins, machine; goes into each checkpoint */
    const char        *about;
    const char        *resume;           /* checkpoint to go on from; NULL: from the start */
    bool               other_evaluation; /* than the one that the checkpoint's best is of */
    /* 0: never; keep_last 0: all */
    int64_t            steps, log_every, norms_every, evaluate_every, checkpoint_every, keep_last;
    bool               keep_best;
    int                guard; /* td_guard */
    double             spike; /* a norm above this many running averages is a spike; 0: none is */
    double             peak;  /* the machine's matmul rate in FLOP/s, 0: unknown */
    int64_t            patience; /* unapplied updates in a row that end the run as diverged */
} td_trainer_spec;

typedef enum td_guard { TD_GUARD_NONE, TD_GUARD_SKIP, TD_GUARD_STOP } td_guard;

typedef struct td_trainer_out {
    td_progress   progress;
    td_evaluation evaluation; /* the last one; td_evaluation_free */
    double        seconds, tokens_per_second;
    int           signal; /* that ended it, 0: none */
} td_trainer_out;

/* Train from the start or a checkpoint to `steps`. Catches SIGTERM and SIGINT meanwhile: the
 * step is finished, a checkpoint saved. TD_EDIVERGED when the guard stops it. */
int td_trainer_run(const td_trainer_spec *, td_trainer_out *out, td_error *error);

#endif
