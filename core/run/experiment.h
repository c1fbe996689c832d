/* experiment.h - a config as parts: every group bound to its plugin or its table, and checked
 * against the others. Every reader of a config uses this, so all report the same errors. */
#ifndef TD_RUN_EXPERIMENT_H
#define TD_RUN_EXPERIMENT_H

#include "config/config.h"
#include "train/metrics.h"
#include "train/options.h"

/* Groups that must exist; other groups, if present, are bound and checked too. */
enum {
    TD_NEED_MODEL = 1,
    TD_NEED_LOSS = 2,
    TD_NEED_OPTIMIZER = 4,
    TD_NEED_SCHEDULE = 8,
    TD_NEED_TOKENIZER = 16,
    TD_NEED_DATA = 32,
    TD_NEED_TRAINING = 63,
    /* the data, but only its held-out records */
    TD_NEED_HELD_OUT = 64 | TD_NEED_DATA
};

/* The group `evaluate`. */
typedef struct td_evaluate_options {
    int64_t length, prefix, sequences, batch;
} td_evaluate_options;

/* The group `tasks`. */
typedef struct td_tasks_options {
    td_strings  names; /* what training scores; train.score_every says how often */
    const char *data;
    int64_t     max_length, shots, limit, seed;
    bool        generate, chat;
} td_tasks_options;

typedef struct td_run_options {
    const char *name, *dir;
    td_parts    loggers; /* the named ones; td_experiment.loggers also has the standard ones */
} td_run_options;

typedef struct td_experiment {
    td_config          *config;
    td_registry        *registry;
    /* plugin is NULL if the config has no such group; backend and comm have defaults */
    td_part             model, loss, optimizer, schedule, tokenizer, data, backend, comm;
    td_list             groups;                       /* items are td_group_rule */
    int64_t             threads;                      /* backend.threads; 0: all processors */
    double              comm_timeout, comm_straggler; /* comm.timeout, comm.straggler */
    td_train_options    train;
    td_evaluate_options evaluate;
    td_tasks_options    tasks;
    td_run_options      run;
    td_part             loggers[TD_LOGGERS];
    size_t              n_loggers;
} td_experiment;

/* A group at the top of a config: the kind of plugin that it names, and the keys in it that belong
 * to the host. */
typedef struct td_group {
    const char      *name;   /* "optimizer" */
    const char      *kind;   /* NULL: the group names no plugin */
    const char      *plugin; /* the default, or NULL */
    const char      *brief;
    const td_option *table; /* table of the host's keys, or NULL */
} td_group;
/* All groups, in the usual order of configs; name NULL at the end. */
const td_group *td_experiment_groups(void);

/* Load, bind and check a config. NULL with `errors`, which has all of them. */
td_experiment *td_experiment_open(td_registry *, const char *const *files, size_t n_files,
                                  const char *const *overrides, size_t n_overrides,
                                  const char *search, unsigned needs, td_errors *errors);
/* The same for a loaded config, which the experiment then owns. NULL: loading it failed, with
 * errors. */
td_experiment *td_experiment_bind(td_registry *, td_config *, unsigned needs, td_errors *errors);
void           td_experiment_close(td_experiment *);

/* The key that sets the length of a run. */
typedef enum td_budget { TD_BUDGET_STEPS, TD_BUDGET_TARGETS, TD_BUDGET_FLOPS } td_budget;
td_budget td_experiment_budget(const td_experiment *);
/* The steps that a budget amounts to, once they are known: train.steps, and a schedule that
 * follows it. `origin` says where they come from. 0, or TD_ECONFIG with errors. */
int td_experiment_set_steps(td_experiment *, int64_t steps, const char *origin, td_errors *errors);

/* The comm of a run with this number of processes whose config names none: one that connects the
 * devices of the config's backend, if there is such a plugin. */
const char *td_experiment_comm(td_registry *, const td_config *, int64_t processes);

/* The model of an experiment, for td_engine_open. */
td_model td_experiment_model(const td_experiment *);

#endif
