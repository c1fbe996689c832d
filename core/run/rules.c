/* rules.c - what the groups of an experiment require of each other. */
#include "run/rules.h"

#include <string.h>

#include "model/arrange.h"
#include "plugin/hook.h"

/* ---- parts ----------------------------------------------------------------------------------- */

/* A path that is absolute or contains "..". */
static bool leaves(const char *path)
{
    for (const char *at = path; *at; at += strcspn(at, "/"), at += *at == '/')
        if (*at == '/' || (!strncmp(at, "..", 2) && (!at[2] || at[2] == '/')))
            return strcmp(path, "..") != 0; /* which is refused by name */
    return false;
}

static void check_name(const td_experiment *x, td_errors *errors)
{
    /* run.dir/cache holds prepared data */
    static const char *const taken[] = { "", ".", "..", "cache" };
    for (size_t k = 0; x->run.name && k < sizeof taken / sizeof *taken; k++)
        if (!strcmp(x->run.name, taken[k]))
            td_errors_add(
                errors, "%s: run.name = \"%s\" cannot name a directory in run.dir: choose another",
                td_config_origin(x->config, "run.name"), x->run.name);
    for (const char *c = x->run.name; c && *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) {
            td_errors_add(errors, "%s: run.name has a control character: choose a printable name",
                          td_config_origin(x->config, "run.name"));
            break;
        }
    if (x->run.name && leaves(x->run.name))
        td_errors_add(errors,
                      "%s: run.name = \"%s\" leads out of run.dir: it must be a relative path "
                      "without '..'",
                      td_config_origin(x->config, "run.name"), x->run.name);
}

void td_rules_check_parts(const td_experiment *x, td_errors *errors)
{
    const td_architecture *a = (const void *)x->model.plugin;
    const td_loss         *l = (const void *)x->loss.plugin;
    check_name(x, errors);
    if (a && l && a->flags & TD_ARCHITECTURE_HAS_ENCODER && l->flags & TD_LOSS_NOTHING_GIVEN)
        td_errors_add(
            errors,
            "%s: loss '%s' with architecture '%s': the encoder would have nothing to read; use a "
            "loss that splits a text in two",
            td_config_origin(x->config, "loss"), l->plugin.name, a->plugin.name);
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* The largest sequence of an evaluation: a pair, or running text cut in two. */
static td_bounds evaluation_bounds(const td_experiment *x)
{
    td_pair pair = td_arrange_pair(&x->data);
    int64_t length = x->evaluate.length, k = x->evaluate.prefix ? x->evaluate.prefix : length / 2;
    int64_t total = pair.inputs + pair.targets;
    return total ? (td_bounds){ total, pair.inputs, pair.targets, total }
                 : (td_bounds){ length, k, length - k, length };
}

/* Checks the lengths of training, then of evaluation. */
static void check_bounds(const td_experiment *x, td_errors *errors)
{
    const td_architecture *a = (const void *)x->model.plugin;
    const td_loss         *l = (const void *)x->loss.plugin;
    td_bounds              evaluation = evaluation_bounds(x);
    /* one error is enough: both lengths usually fail for the same reason */
    for (int i = 0; a && l && a->check_bounds && i < 2; i++) {
        td_bounds b = i ? evaluation
                        : td_arrange_bounds(&x->loss, td_arrange_pair(&x->data), x->train.length);
        td_error  e = { 0 };
        if (!a->check_bounds(x->model.config, &b, &e))
            continue;
        td_errors_add(errors, "%s: %s.length = %lld: %s",
                      td_config_origin(x->config, i ? "evaluate.length" : "train.length"),
                      i ? "evaluate" : "train",
                      (long long)(i ? x->evaluate.length : x->train.length), e.text);
        return;
    }
}

/* ---- training -------------------------------------------------------------------------------- */

/* What decides the best checkpoint must be scored, and between steps if it may end the run. */
static void check_judge(const td_experiment *x, td_errors *errors)
{
    const td_train_options *t = &x->train;
    bool                    task = *t->best != 0;
    int64_t                 every = task ? t->score_every : t->evaluate_every;
    const char             *key = task ? "train.score_every" : "train.evaluate_every";
    if (task && strncmp(t->best, "tasks.", strlen("tasks.")) != 0)
        td_errors_add(errors,
                      "%s: train.best = \"%s\" names no score: it takes a task's score, such as "
                      "tasks.boolq or tasks.boolq.acc; leave it out for the held-out NLL",
                      td_config_origin(x->config, "train.best"), t->best);
    if ((task || t->score_every > 0) && !x->tasks.names.count)
        td_errors_add(errors, "%s: no task is scored: tasks.names has none, so %s has no effect",
                      td_config_origin(x->config, task ? "train.best" : "train.score_every"),
                      task ? "train.best" : "train.score_every");
    /* 0 scores at the end only, which can still decide the best checkpoint; -1 never scores */
    else if (task && t->score_every < 0)
        td_errors_add(errors, "%s: train.best = \"%s\" has no effect with train.score_every = -1",
                      td_config_origin(x->config, "train.best"), t->best);
    if (t->early_stopping_patience && every <= 0)
        td_errors_add(errors,
                      "%s: train.early_stopping_patience = %lld has no effect with %s = %lld: set "
                      "the number of steps between %s",
                      td_config_origin(x->config, "train.early_stopping_patience"),
                      (long long)t->early_stopping_patience, key, (long long)every,
                      task ? "scorings" : "evaluations");
}

/* Refuses what needs all parameters on one rank, or ranks that work at different times. */
static void check_shard(const td_experiment *x, td_errors *errors)
{
    static const char text[] =
        "%s: %s cannot be combined with train.shard = \"parameters\" yet: use "
        "train.shard = \"optimizer\"";
    const td_train_options *t = &x->train;
    if (t->shard != TD_SHARD_PARAMETERS)
        return;
    if (t->norms_every > 0)
        td_errors_add(errors, text, td_config_origin(x->config, "train.norms_every"),
                      "train.norms_every");
    if (x->tasks.names.count && t->score_every >= 0)
        td_errors_add(errors, text, td_config_origin(x->config, "tasks.names"),
                      "scoring tasks between steps (tasks.names without train.score_every = -1)");
    if (t->precision)
        td_errors_add(errors, text, td_config_origin(x->config, "train.precision"),
                      "train.precision = \"bf16\"");
}

/* Options of `train` that cannot be combined. */
static void check_training(const td_experiment *x, td_errors *errors)
{
    const td_train_options *t = &x->train;
    if (t->batch % t->micro_batch)
        td_errors_add(errors, "%s: train.micro_batch = %lld does not divide train.batch = %lld",
                      td_config_origin(x->config, "train.micro_batch"), (long long)t->micro_batch,
                      (long long)t->batch);
    if (t->spike > 0 && t->guard == TD_GUARD_NONE)
        td_errors_add(errors,
                      "%s: train.spike has no effect with train.guard = \"none\": remove it, or "
                      "set train.guard",
                      td_config_origin(x->config, "train.spike"));
    check_judge(x, errors);
    check_shard(x, errors);
    /* dropout is keyed by the example's number, and a packed row has several */
    if (t->pack && t->dropout > 0)
        td_errors_add(errors,
                      "%s: train.pack with train.dropout = %g: a dropout mask belongs to one "
                      "example, and a packed row has several; use only one of the two",
                      td_config_origin(x->config, "train.pack"), t->dropout);
}

/* Pairs determine the given and the scored tokens. */
static void check_idle(const td_experiment *x, const char *key, td_errors *errors)
{
    int64_t value;
    if (td_config_get_int(x->config, key, &value) && value)
        td_errors_add(errors,
                      "%s: %s = %lld has no effect: the data consists of pairs, whose inputs are "
                      "given and whose targets are scored; set it to 0",
                      td_config_origin(x->config, key), key, (long long)value);
}

/* train.length is the length of a row, into which the largest pair must fit. */
static void check_pairs(const td_experiment *x, td_errors *errors)
{
    td_pair pair = td_arrange_pair(&x->data);
    if (!pair.inputs)
        return;
    check_idle(x, "evaluate.length", errors);
    check_idle(x, "evaluate.prefix", errors);
    if (pair.inputs + pair.targets > x->train.length)
        td_errors_add(errors,
                      "%s: train.length = %lld is less than the %lld tokens of the largest pair, "
                      "data.max_inputs = %lld and data.max_targets = %lld together: raise it, or "
                      "lower one of these",
                      td_config_origin(x->config, "train.length"), (long long)x->train.length,
                      (long long)(pair.inputs + pair.targets), (long long)pair.inputs,
                      (long long)pair.targets);
}

void td_rules_check_sizes(const td_experiment *x, bool lengths, td_errors *errors)
{
    const td_loss *l = (const void *)x->loss.plugin;
    check_training(x, errors);
    if (l && TD_HOOK(l, bounds, x->loss.config, x->train.length).predicted < 1)
        td_errors_add(errors,
                      "%s: loss '%s' leaves nothing to predict in train.length = %lld tokens",
                      td_config_origin(x->config, "loss"), l->plugin.name,
                      (long long)x->train.length);
    if (lengths) {
        check_pairs(x, errors);
        check_bounds(x, errors);
    }
    /* evaluate.length may come from train.length, so no option's range can say this */
    if (x->evaluate.prefix >= x->evaluate.length)
        td_errors_add(errors, "%s: evaluate.prefix = %lld leaves nothing to score in %lld tokens",
                      td_config_origin(x->config, "evaluate.prefix"), (long long)x->evaluate.prefix,
                      (long long)x->evaluate.length);
}
