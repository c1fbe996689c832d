/* experiment.c - the groups of a config, their tables, and the rules across them. */
#include "run/experiment.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/defaults.h"
#include "tandem/kind/comm.h"
#include "tandem/kind/tokenizer.h"

/* ---- tables ---------------------------------------------------------------------------------- */

static const char *const precisions[] = { "f32", "bf16", NULL };
static const char *const recomputes[] = { "none", "layer", NULL };
static const char *const guards[] = { "none", "skip", "stop", NULL };
enum { LARGE = 1 << 30 };

#define INT(f, value, lo, hi, doc) TD_OPTION_INT(td_train_options, f, value, lo, hi, doc)
static const td_option train_table[] = {
    INT(steps, 1000, 0, 99999999, "updates to make"),
    INT(length, 2048, 2, 1 << 24, "tokens of one sequence, inputs and targets together"),
    INT(batch, 8, 1, LARGE, "sequences of one update"),
    INT(micro_batch, 0, 0, LARGE,
        "sequences at once; gradients are accumulated; 0: the whole batch"),
    TD_OPTION_FLOAT(td_train_options, clip, 1, 0, 1e9,
                    "largest global gradient norm; 0: no clipping"),
    TD_OPTION_FLOAT(td_train_options, dropout, 0, 0, 0.99, "share of activations that is dropped"),
    TD_OPTION_BOOL(td_train_options, dropout_shared, true,
                   "one dropout mask for all positions of a sequence"),
    TD_OPTION_CHOICE(td_train_options, precision, 0, precisions, "of activations"),
    INT(seed, 1, 0, LARGE, "of everything random, unless said apart"),
    INT(seed_data, 0, 0, LARGE, "of the order of the data; 0: seed"),
    INT(seed_init, 0, 0, LARGE, "of initial values; 0: seed"),
    INT(seed_dropout, 0, 0, LARGE, "of dropout; 0: seed"),
    TD_OPTION_CHOICE(td_train_options, recompute, 0, recomputes,
                     "what the backward pass computes again to save memory"),
    TD_OPTION_CHOICE(
        td_train_options, guard, 1, guards,
        "when the gradient norm is no number or a spike: nothing, skip the update, stop the run"),
    TD_OPTION_FLOAT(td_train_options, spike, 0, 0, 1e9,
                    "a gradient norm of so many running averages is a spike; 0: never"),
    INT(patience, 20, 0, LARGE, "skipped updates in a row that end the run as diverged; 0: never"),
    TD_OPTION_STRING(td_train_options, weights, "",
                     "safetensors file of parameters to start from; empty: initial values"),
    TD_OPTION_STRINGS(td_train_options, allow,
                      "keys in which the model of train.weights may differ from this one: "
                      "\"model.position.*\""),
    INT(log_every, 10, 0, LARGE, "steps between metrics"),
    INT(norms_every, 0, 0, LARGE,
        "steps between norms of each parameter and its gradient in the metrics; 0: never"),
    INT(evaluate_every, 0, -1, LARGE, "steps between evaluations; 0: at the end only; -1: never"),
    INT(checkpoint_every, 1000, 0, LARGE, "steps between checkpoints; 0: at the end only"),
    INT(keep_last, 2, 0, LARGE, "checkpoints kept; 0: all"),
    TD_OPTION_BOOL(td_train_options, keep_best, true,
                   "keep the checkpoint of the best evaluation too"),
    INT(bucket, 64, 1, 1 << 20,
        "lengths are rounded up to a multiple, so that few shapes are planned"),
    TD_OPTION_BOOL(td_train_options, pack, false,
                   "several examples in one row, masked from each other"),
    TD_OPTION_END
};

static const td_option evaluate_table[] = {
    TD_OPTION_INT(td_evaluate_options, length, 0, 0, 1 << 24,
                  "tokens of one sequence; 0: train.length"),
    TD_OPTION_INT(td_evaluate_options, prefix, 0, 0, 1 << 24,
                  "tokens given, the rest is scored; 0: half"),
    TD_OPTION_INT(td_evaluate_options, sequences, 0, 0, LARGE, "of each source, at most; 0: all"),
    TD_OPTION_INT(td_evaluate_options, batch, 0, 0, LARGE,
                  "sequences at once; 0: train.micro_batch"),
    TD_OPTION_END
};

static const char *const logger_kind[] = { TD_LOGGER_KIND, NULL };
static const td_option   run_table[] = {
      TD_OPTION_STRING(td_run_options, name, "run", "of the run: its directory under run.dir"),
      TD_OPTION_STRING(td_run_options, dir, "runs", "where runs are kept"),
      TD_OPTION_PARTS(td_run_options, loggers, logger_kind,
                      "where metrics go; none named: jsonl and tensorboard"),
      TD_OPTION_END
};

static const td_option group_table[] = {
    TD_OPTION_NEED_STRING(
        td_group_rule, match,
        "pattern (* and ?) of parameter names; the first rule that matches applies"),
    TD_OPTION_FLOAT(td_group_rule, rate, 1, 0, 1e6, "multiplies the learning rate"),
    TD_OPTION_FLOAT(td_group_rule, decay, 1, 0, 1e6, "multiplies the weight decay"),
    TD_OPTION_BOOL(td_group_rule, freeze, false, "do not train these"), TD_OPTION_END
};

typedef struct optimizer_host {
    td_list groups;
} optimizer_host;
static const td_option optimizer_table[] = { TD_OPTION_LIST(optimizer_host, groups, td_group_rule,
                                                            group_table,
                                                            "rules for parameters by name"),
                                             TD_OPTION_END };

typedef struct backend_host {
    int64_t threads;
} backend_host;
static const td_option backend_table[] = { TD_OPTION_INT(backend_host, threads, 0, 0, 1024,
                                                         "of the host's pool; 0: all processors"),
                                           TD_OPTION_END };

const td_group *td_experiment_groups(void)
{
    static const td_group groups[] = {
        { "model", TD_ARCHITECTURE_KIND, NULL, "the model: an architecture and its parts", NULL },
        { "loss", TD_LOSS_KIND, NULL, "what is given, and what is predicted", NULL },
        { "optimizer", TD_OPTIMIZER_KIND, NULL, "the update of the parameters", optimizer_table },
        { "schedule", TD_SCHEDULE_KIND, NULL, "the learning rate", NULL },
        { "tokenizer", TD_TOKENIZER_KIND, NULL, "text to ids", NULL },
        { "data", TD_DATA_KIND, NULL, "what is read", NULL },
        { "train", NULL, NULL, "length, batch, precision and rhythm of a training", train_table },
        { "evaluate", NULL, NULL, "what is held out, and how much of it is scored",
          evaluate_table },
        { "run", NULL, NULL, "where results go", run_table },
        { "backend", TD_BACKEND_KIND, "cpu", "what it is computed on", backend_table },
        { "comm", TD_COMM_KIND, "single", "how the processes of a run talk", NULL },
        { NULL, NULL, NULL, NULL, NULL },
    };
    return groups;
}

/* ---- binding --------------------------------------------------------------------------------- */

static bool there(const td_experiment *x, const char *path)
{
    return td_config_get(x->config, path) != NULL;
}

static void bind(td_experiment *x, const char *path, const char *kind, unsigned need,
                 unsigned needs, const td_option *extra, void *extra_out, td_part *out,
                 td_errors *errors)
{
    if (there(x, path) || needs & need)
        td_config_bind_extra(x->config, x->registry, path, kind, NULL, extra, extra_out, out,
                             errors);
}

static const char *origin(const td_experiment *x, const char *path)
{
    const td_setting *v = td_config_get(x->config, path);
    return v ? td_setting_origin(v) : path;
}

static void add_logger(td_experiment *x, const td_part *logger, td_errors *errors)
{
    for (size_t k = 0; k < x->n_loggers; k++)
        if (x->loggers[k].plugin == logger->plugin) {
            td_errors_add(errors, "%s: run.loggers names '%s' twice", origin(x, "run.loggers"),
                          logger->plugin->name);
            return;
        }
    if (x->n_loggers < TD_LOGGERS)
        x->loggers[x->n_loggers++] = *logger;
    else
        td_errors_add(errors, "%s: run.loggers names more than %d loggers",
                      origin(x, "run.loggers"), TD_LOGGERS);
}

/* Those named, or the standard ones where a run is to be made. */
static void bind_loggers(td_experiment *x, unsigned needs, td_errors *errors)
{
    static const char *const standard[] = { "jsonl", "tensorboard" };
    const td_parts          *named = &x->run.loggers;
    size_t                   n_standard = named->count || !(needs & TD_NEED_DATA) ? 0 : 2;
    for (size_t k = 0; k < named->count; k++)
        if (named->at[k].plugin)
            add_logger(x, &named->at[k], errors);
    for (size_t k = 0; k < n_standard; k++) {
        td_part  logger;
        td_error e = { 0 };
        if (td_part_defaults(x->registry, TD_LOGGER_KIND, standard[k], td_config_arena(x->config),
                             &logger, &e))
            td_errors_add(errors, "run.loggers: %s", e.text);
        else
            add_logger(x, &logger, errors);
    }
}

/* Whether train and evaluate hold what the config says. */
static bool bind_all(td_experiment *x, unsigned needs, td_errors *errors)
{
    bool           sized;
    optimizer_host o = { { NULL, 0 } };
    backend_host   b = { 0 };
    td_config_bind_top(x->config, x->registry, errors);
    bind(x, "model", TD_ARCHITECTURE_KIND, TD_NEED_MODEL, needs, NULL, NULL, &x->model, errors);
    bind(x, "loss", TD_LOSS_KIND, TD_NEED_LOSS, needs, NULL, NULL, &x->loss, errors);
    bind(x, "optimizer", TD_OPTIMIZER_KIND, TD_NEED_OPTIMIZER, needs, optimizer_table, &o,
         &x->optimizer, errors);
    bind(x, "schedule", TD_SCHEDULE_KIND, TD_NEED_SCHEDULE, needs, NULL, NULL, &x->schedule,
         errors);
    bind(x, "tokenizer", TD_TOKENIZER_KIND, TD_NEED_TOKENIZER, needs, NULL, NULL, &x->tokenizer,
         errors);
    bind(x, "data", TD_DATA_KIND, TD_NEED_DATA, needs, NULL, NULL, &x->data, errors);
    td_config_bind_extra(x->config, x->registry, "backend", TD_BACKEND_KIND, "cpu", backend_table,
                         &b, &x->backend, errors);
    td_config_bind(x->config, x->registry, "comm", TD_COMM_KIND, "single", &x->comm, errors);
    sized = !td_config_bind_table(x->config, x->registry, "train", train_table, &x->train, errors);
    sized &= !td_config_bind_table(x->config, x->registry, "evaluate", evaluate_table, &x->evaluate,
                                   errors);
    td_config_bind_table(x->config, x->registry, "run", run_table, &x->run, errors);
    x->groups = o.groups;
    x->threads = b.threads;
    bind_loggers(x, needs, errors);
    return sized;
}

/* ---- rules across groups --------------------------------------------------------------------- */

/* Parts that were bound without an error. */
static void check_parts(const td_experiment *x, td_errors *errors)
{
    const td_architecture *a = (const void *)x->model.plugin;
    const td_loss         *l = (const void *)x->loss.plugin;
    if (x->run.name && (!*x->run.name || !strcmp(x->run.name, ".") || !strcmp(x->run.name, "..") ||
                        !strcmp(x->run.name, "cache")))
        td_errors_add(errors,
                      "%s: run.name = \"%s\" cannot name the run's directory in run.dir: take "
                      "another",
                      origin(x, "run.name"), x->run.name);
    if (a && l && a->flags & TD_ARCHITECTURE_HAS_ENCODER && l->flags & TD_LOSS_NOTHING_GIVEN)
        td_errors_add(errors,
                      "%s: loss '%s' with architecture '%s': there is nothing to give its encoder; "
                      "take a loss that splits a text in two",
                      origin(x, "loss"), l->plugin.name, a->plugin.name);
}

/* The lengths of training, then of evaluation. */
static void check_bounds(const td_experiment *x, td_errors *errors)
{
    const td_architecture *a = (const void *)x->model.plugin;
    const td_loss         *l = (const void *)x->loss.plugin;
    int64_t   length = x->evaluate.length, k = x->evaluate.prefix ? x->evaluate.prefix : length / 2;
    td_bounds evaluation = { length, k, length - k, length };
    for (int i = 0; a && l && a->check_bounds && i < 2; i++) {
        td_bounds b = i ? evaluation : l->bounds(x->loss.config, x->train.length);
        td_error  e = { 0 };
        if (!a->check_bounds(x->model.config, &b, &e))
            continue;
        td_errors_add(errors, "%s: %s.length = %lld: %s",
                      origin(x, i ? "evaluate.length" : "train.length"), i ? "evaluate" : "train",
                      (long long)(i ? length : x->train.length), e.text);
        return;
    }
}

/* Sizes, once train and evaluate were bound without an error. */
static void check_sizes(td_experiment *x, bool lengths, td_errors *errors)
{
    const td_loss *l = (const void *)x->loss.plugin;
    if (x->train.precision)
        td_errors_add(errors, "%s: train.precision = \"bf16\": no backend has it yet; use \"f32\"",
                      origin(x, "train.precision"));
    if (x->train.batch % x->train.micro_batch)
        td_errors_add(errors, "%s: train.micro_batch = %lld does not divide train.batch = %lld",
                      origin(x, "train.micro_batch"), (long long)x->train.micro_batch,
                      (long long)x->train.batch);
    if (l && l->bounds(x->loss.config, x->train.length).predicted < 1)
        td_errors_add(errors,
                      "%s: loss '%s' leaves nothing to predict of train.length = %lld tokens",
                      origin(x, "loss"), l->plugin.name, (long long)x->train.length);
    if (x->train.spike > 0 && x->train.guard == TD_GUARD_NONE)
        td_errors_add(
            errors,
            "%s: train.spike does nothing with train.guard = \"none\": leave it out, or guard",
            origin(x, "train.spike"));
    if (x->train.pack && x->train.dropout > 0)
        td_errors_add(
            errors,
            "%s: train.pack with train.dropout = %g: a dropout mask belongs to one example, "
            "and a packed row holds several; train without one of the two",
            origin(x, "train.pack"), x->train.dropout);
    if (lengths)
        check_bounds(x, errors);
    if (x->evaluate.prefix >= x->evaluate.length)
        td_errors_add(errors, "%s: evaluate.prefix = %lld leaves nothing to score of %lld tokens",
                      origin(x, "evaluate.prefix"), (long long)x->evaluate.prefix,
                      (long long)x->evaluate.length);
}

/* What 0 stands for. */
static void fill_in(td_experiment *x)
{
    td_train_options *t = &x->train;
    t->micro_batch = t->micro_batch ? t->micro_batch : t->batch;
    t->seed_data = t->seed_data ? t->seed_data : t->seed;
    t->seed_init = t->seed_init ? t->seed_init : t->seed;
    t->seed_dropout = t->seed_dropout ? t->seed_dropout : t->seed;
    x->evaluate.length = x->evaluate.length ? x->evaluate.length : t->length;
    x->evaluate.batch = x->evaluate.batch ? x->evaluate.batch : t->micro_batch;
}

/* ---- life ------------------------------------------------------------------------------------ */

td_experiment *td_experiment_open(td_registry *registry, const char *const *files, size_t n_files,
                                  const char *const *overrides, size_t n_overrides,
                                  const char *search, unsigned needs, td_errors *errors)
{
    td_experiment *x = calloc(1, sizeof *x);
    if (!x) {
        td_errors_add(errors, "out of memory while reading a config");
        return NULL;
    }
    x->registry = registry;
    x->config = td_config_load(files, n_files, overrides, n_overrides, search, errors);
    if (x->config) {
        /* a probe's batch has lengths of its own */
        bool lengths = needs & TD_NEED_DATA || there(x, "train.length");
        bool sized = bind_all(x, needs, errors);
        td_config_check_unused(x->config, errors);
        fill_in(x);
        check_parts(x, errors);
        if (sized)
            check_sizes(x, lengths, errors);
    }
    if (!errors->count)
        return x;
    td_experiment_close(x);
    return NULL;
}

void td_experiment_close(td_experiment *x)
{
    if (!x)
        return;
    td_config_free(x->config);
    free(x);
}

td_model td_experiment_model(const td_experiment *x)
{
    return (td_model){ .registry = x->registry,
                       .architecture = x->model,
                       .loss = x->loss,
                       .optimizer = x->optimizer,
                       .groups = x->groups.at,
                       .n_groups = x->groups.count,
                       .dropout = x->train.dropout,
                       .clip = x->train.clip,
                       .dropout_shared = x->train.dropout_shared,
                       .guard = x->train.guard != TD_GUARD_NONE,
                       .recompute = x->train.recompute != 0,
                       .dropout_seed = (uint64_t)x->train.seed_dropout };
}
