/* trainer.h - the training loop: steps, guard, evaluations, checkpoints, metrics.
 *
 * The loop does the work of a run and nothing else. It installs no signal handlers and prints
 * nothing; its caller watches it through callbacks (td_training, tandem/embed.h), and stops it by
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
#include "train/reduce.h"

/* Scores of the current parameters besides the held-out loss: the scores of tasks. They read
 * parameters and change nothing that a step depends on. */
typedef struct td_scoring {
    const td_metric *metrics; /* [n] */
    size_t           n;
    const char      *text; /* for the log: "boolq acc 0.512 +- 0.020" */
} td_scoring;
typedef struct td_scorer {
    /* `*out` is valid until the next call. `progress`, called with `progress_arg`, must be called
     * from time to time: TD_EEND if it ended the scoring. NULL: there is nothing to score. */
    int (*score)(void *arg, td_task_progress *progress, void *progress_arg, td_scoring *out,
                 td_error *error);
    void       *arg;
    const char *best;            /* the metric that decides which checkpoint is best; NULL: NLL */
    bool        lower_is_better; /* of that metric */
} td_scorer;

typedef struct td_trainer_spec {
    const td_train_options *options;
    td_engine              *engine; /* planned and allocated */
    td_arrange_spec         feed;
    td_evaluate_spec        evaluate;
    td_scorer               scorer;
    td_part                 schedule;
    const td_part          *loggers; /* [n_loggers] */
    size_t                  n_loggers;
    td_journal             *log;
    const td_services      *services;
    const char             *directory; /* the run's directory, which must exist */
    const char             *about;     /* text of a JSON object that goes into each checkpoint */
    const char             *resume;    /* checkpoint to continue from; NULL: from the start */
    /* the config scores differently than when `resume` was saved, so the best score until then is
     * void */
    bool                    other_evaluation;
    double                  peak;  /* the machine's rate of matrix products, FLOP/s; 0: unknown */
    double                  guess; /* a cross-entropy well above guessing's; 0: unknown */
    const td_training      *watch; /* callbacks */
    /* NULL: this process alone. With several processes, only the leader uses the directory,
     * `resume`, the loggers and the scores; the others get the state from it. */
    td_team                *team;
    /* warn about a rank that takes this many times as long as the median rank; 0: never */
    double                  straggler;
    /* Whether `directory` is still this run's, asked before each checkpoint; NULL: always. */
    int (*check_place)(void *arg, td_error *error);
    void *place;
} td_trainer_spec;

typedef struct td_trainer_out {
    td_progress   progress;
    td_evaluation evaluation; /* the last one; td_evaluation_free */
    double        seconds, tokens_per_second, targets_per_second; /* rates 0: no step was made */
    double        cross_entropy; /* the mean in the last line of metrics; NaN: none was written */
    bool          stopped;       /* by a callback, before the end of the run */
} td_trainer_out;

/* Train from the start or a checkpoint to options->steps. When a callback asks to stop, a
 * checkpoint of the last complete step is saved; a step or an evaluation in progress is dropped,
 * and repeated when the run is resumed. TD_EDIVERGED when the guard ends the run. `out` is always
 * set. */
int td_trainer_run(const td_trainer_spec *, td_trainer_out *out, td_error *error);

#endif
