/* experiment.h - a config as parts: every group bound to its plugin or its table, and checked
 * against the others. Whatever reads a config goes through here, so all report the same errors. */
#ifndef TD_RUN_EXPERIMENT_H
#define TD_RUN_EXPERIMENT_H

#include "config/config.h"
#include "train/metrics.h"
#include "train/options.h"

/* Groups that must exist; existing ones are bound and checked in any case. */
enum {
    TD_NEED_MODEL = 1,
    TD_NEED_LOSS = 2,
    TD_NEED_OPTIMIZER = 4,
    TD_NEED_SCHEDULE = 8,
    TD_NEED_TOKENIZER = 16,
    TD_NEED_DATA = 32,
    TD_NEED_TRAINING = 63
};

/* The group `evaluate`. */
typedef struct td_evaluate_options {
    int64_t length, prefix, sequences, batch;
} td_evaluate_options;

typedef struct td_run_options {
    const char *name, *dir;
    td_parts    loggers; /* as named; td_experiment.loggers has the standard ones, too */
} td_run_options;

typedef struct td_experiment {
    td_config          *config;
    td_registry        *registry;
    /* plugin NULL: the config has no such group; backend and comm have defaults */
    td_part             model, loss, optimizer, schedule, tokenizer, data, backend, comm;
    td_list             groups;  /* of td_group_rule */
    int64_t             threads; /* backend.threads; 0: all processors */
    td_train_options    train;
    td_evaluate_options evaluate;
    td_run_options      run;
    td_part             loggers[TD_LOGGERS];
    size_t              n_loggers;
} td_experiment;

/* A group at the top of a config: the kind of plugin that it names, and the keys in it that belong
 * to the host. */
typedef struct td_group {
    const char      *name;   /* "optimizer" */
    const char      *kind;   /* NULL: it names no plugin */
    const char      *plugin; /* the default; NULL: none */
    const char      *brief;
    const td_option *table; /* of the host's keys; NULL: none */
} td_group;
/* All groups, in the usual order of configs; name NULL at the end. */
const td_group *td_experiment_groups(void);

/* Load, bind and check a config. NULL with `errors`, which has all of them. */
td_experiment *td_experiment_open(td_registry *, const char *const *files, size_t n_files,
                                  const char *const *overrides, size_t n_overrides,
                                  const char *search, unsigned needs, td_errors *errors);
/* The same for a config that was loaded, which is the experiment's from then on. NULL: loading it
 * failed, with errors. */
td_experiment *td_experiment_bind(td_registry *, td_config *, unsigned needs, td_errors *errors);
void           td_experiment_close(td_experiment *);

/* The model of an experiment, for td_engine_open. */
td_model td_experiment_model(const td_experiment *);

#endif
