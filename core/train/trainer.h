/* trainer.h - the training loop: steps, guard, evaluations, checkpoints, metrics.
 *
 * The loop does what a run does and nothing else. It installs no signal handlers and prints
 * nothing; whoever runs it watches by callbacks (td_training, tandem/embed.h), and stops it by
 * returning nonzero from one.
 */
#ifndef TD_TRAIN_TRAINER_H
#define TD_TRAIN_TRAINER_H

#include "evaluate/perplexity.h"
#include "model/checkpoint.h"
#include "tandem/kind/schedule.h"
#include "train/feed.h"
#include "train/metrics.h"
#include "train/options.h"

typedef struct td_trainer_spec {
    const td_train_options *options;
    td_engine              *engine; /* planned and allocated */
    td_arrange_spec         feed;
    td_evaluate_spec        evaluate;
    td_part                 schedule;
    const td_part          *loggers; /* [n_loggers] */
    size_t                  n_loggers;
    td_journal             *log;
    const td_services      *services;
    const char             *directory; /* of the run; it exists */
    const char             *about;     /* text of a JSON object that goes into each checkpoint */
    const char             *resume;    /* checkpoint to go on from; NULL: from the start */
    /* the config evaluates differently than when `resume` was saved: its best NLL means nothing
     * now */
    bool                    other_evaluation;
    double                  peak;  /* the machine's rate of matrix products, FLOP/s; 0: unknown */
    const td_training      *watch; /* callbacks */
} td_trainer_spec;

typedef struct td_trainer_out {
    td_progress   progress;
    td_evaluation evaluation; /* the last one; td_evaluation_free */
    double        seconds, tokens_per_second;
    bool          stopped; /* by a callback, with something left to do */
} td_trainer_out;

/* Train from the start or a checkpoint to options->steps. When a callback asks to stop, the step at
 * hand is whole and a checkpoint is saved; an evaluation at hand is dropped, and made when the run
 * is resumed. TD_EDIVERGED when the guard ends the run. `out` is set in any case. */
int td_trainer_run(const td_trainer_spec *, td_trainer_out *out, td_error *error);

#endif
