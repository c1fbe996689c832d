/* experiment.h - a config as parts: what every command that reads a config gets. */
#ifndef TD_RUN_EXPERIMENT_H
#define TD_RUN_EXPERIMENT_H

#include "config/config.h"
#include "train/trainer.h"

/* Groups that a command needs; those that are there are bound and checked in any case. */
enum {
    TD_NEED_MODEL = 1,
    TD_NEED_LOSS = 2,
    TD_NEED_OPTIMIZER = 4,
    TD_NEED_SCHEDULE = 8,
    TD_NEED_TOKENIZER = 16,
    TD_NEED_DATA = 32,
    TD_NEED_TRAINING = 63
};

typedef struct td_train_options {
    int64_t steps, length, batch, micro_batch, precision, seed, seed_data, seed_init, seed_dropout,
        recompute, guard, patience;
    int64_t     log_every, norms_every, evaluate_every, checkpoint_every, keep_last, bucket;
    double      clip, dropout, spike;
    bool        dropout_shared, keep_best, pack;
    const char *weights;
    td_strings  allow;
} td_train_options;

typedef struct td_evaluate_options {
    int64_t length, prefix, sequences, batch;
} td_evaluate_options;

typedef struct td_run_options {
    const char *name, *dir;
    td_parts    loggers;
} td_run_options;

typedef struct td_experiment {
    td_config          *config;
    td_registry        *registry;
    td_part             model, loss, optimizer, schedule, tokenizer, data, backend, comm;
    td_list             groups;  /* of td_group_rule */
    int64_t             threads; /* 0: all */
    td_train_options    train;
    td_evaluate_options evaluate;
    td_run_options      run;
    td_part             loggers[TD_LOGGERS];
    size_t              n_loggers;
} td_experiment;

/* A group at the top of a config: the kind of plugin that it names, and the keys in it that are the
 * host's. */
typedef struct td_group {
    const char      *name;   /* "optimizer" */
    const char      *kind;   /* NULL: it names no plugin */
    const char      *plugin; /* by default; NULL: none */
    const char      *brief;
    const td_option *table; /* NULL: no keys of the host */
} td_group;
/* All of them, in the order in which configs have them; name NULL at the end. */
const td_group *td_experiment_groups(void);

/* Load, bind and check a config. All mistakes are in `errors`; then NULL. */
td_experiment *td_experiment_open(td_registry *, const char *const *files, size_t n_files,
                                  const char *const *overrides, size_t n_overrides,
                                  const char *search, unsigned needs, td_errors *errors);
void           td_experiment_close(td_experiment *);

/* The model of an experiment, for td_engine_open. */
td_model td_experiment_model(const td_experiment *);

#endif
