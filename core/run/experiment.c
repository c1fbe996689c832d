/* experiment.c - the groups of a config, their tables, and the experiment that is bound from them. */
#include "run/experiment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ranks.h"
#include "model/arrange.h"
#include "plugin/defaults.h"
#include "plugin/hook.h"
#include "run/rules.h"
#include "tandem/kind/comm.h"
#include "tandem/kind/schedule.h"
#include "tandem/kind/tokenizer.h"

/* ---- tables ---------------------------------------------------------------------------------- */

static const char *const precisions[] = { "f32", "bf16", NULL };
static const char *const reduces[] = { "fast", "exact", NULL };
static const char *const shards[] = { "none", "optimizer", "parameters", NULL };
static const char *const recomputes[] = { "none", "layer", NULL };
static const char *const guards[] = { "none", "skip", "stop", NULL };
enum { LARGE = 1 << 30 };

static const td_option train_table[] = {
#define INT(f, value, least, most, doc) TD_OPTION_INT(td_train_options, f, value, least, most, doc),
#define FLOAT(f, value, least, most, doc) \
    TD_OPTION_FLOAT(td_train_options, f, value, least, most, doc),
#define BOOL(f, value, doc) TD_OPTION_BOOL(td_train_options, f, value, doc),
#define CHOICE(f, value, names, doc) TD_OPTION_CHOICE(td_train_options, f, value, names, doc),
#define STRING(f, value, doc) TD_OPTION_STRING(td_train_options, f, value, doc),
#define FILE_NAME(f, value, doc) TD_OPTION_FILE(td_train_options, f, value, doc),
#define STRINGS(f, doc) TD_OPTION_STRINGS(td_train_options, f, doc),
#include "train/options.def"
    TD_OPTION_END
};

/* Options whose 0 stands for the value of another option. */
static void resolve(td_train_options *t)
{
#define INT_LIKE(f, other, least, most, doc) t->f = t->f ? t->f : t->other;
#include "train/options.def"
}

static const td_option evaluate_table[] = {
    TD_OPTION_INT(td_evaluate_options, length, 0, 0, 1 << 24,
                  "tokens per sequence; 0: train.length"),
    TD_OPTION_INT(td_evaluate_options, prefix, 0, 0, 1 << 24,
                  "given tokens; the rest is scored; 0: half"),
    TD_OPTION_INT(td_evaluate_options, sequences, 0, 0, LARGE,
                  "maximum number of sequences per source; 0: all"),
    TD_OPTION_INT(td_evaluate_options, batch, 0, 0, LARGE,
                  "sequences computed together; 0: train.micro_batch"),
    TD_OPTION_END
};

static const td_option tasks_table[] = {
    TD_OPTION_STRINGS(td_tasks_options, names,
                      "tasks, groups and files (.cfg) that training scores every train.score_every "
                      "steps"),
    TD_OPTION_FILE(td_tasks_options, data, "",
                   "directory of the data sets that task files name; --data overrides it"),
    TD_OPTION_INT(td_tasks_options, shots, -1, -1, 1000,
                  "exemplars in a prompt; -1: as each task says; --shots overrides it"),
    TD_OPTION_INT(td_tasks_options, limit, 0, 0, LARGE,
                  "maximum number of items per task; 0: all; --limit overrides it"),
    TD_OPTION_INT(td_tasks_options, seed, 1234, 0, LARGE,
                  "seed for drawing exemplars; --seed overrides it"),
    TD_OPTION_BOOL(td_tasks_options, generate, false,
                   "also generate answers to multiple-choice questions, as --generate does"),
    TD_OPTION_BOOL(td_tasks_options, chat, false,
                   "write prompts as turns of a chat, by the template of the data, as --chat does"),
    TD_OPTION_INT(
        td_tasks_options, max_length, 0, 0, 1 << 24,
        "maximum number of tokens of a prompt and its answer together, for every architecture; 0: "
        "train.length"),
    TD_OPTION_END
};

static const char *const logger_kind[] = { TD_LOGGER_KIND, NULL };
static const td_option   run_table[] = {
      TD_OPTION_STRING(td_run_options, name, "run",
                       "name of the run and of its directory in run.dir"),
      TD_OPTION_STRING(td_run_options, dir, "runs", "directory of all runs"),
      TD_OPTION_PARTS(td_run_options, loggers, logger_kind,
                      "loggers that receive the metrics; by default jsonl and tensorboard"),
      TD_OPTION_END
};

static const td_option group_table[] = {
    TD_OPTION_NEED_STRING(
        td_group_rule, match,
        "pattern (* and ?) of parameter names; the first rule that matches applies"),
    TD_OPTION_FLOAT(td_group_rule, rate, 1, 0, 1e6, "multiplies the learning rate"),
    TD_OPTION_FLOAT(td_group_rule, decay, 1, 0, 1e6, "multiplies the weight decay"),
    TD_OPTION_BOOL(td_group_rule, freeze, false, "do not train these parameters"), TD_OPTION_END
};

/* The host's own keys in groups that name a plugin. */
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
static const td_option backend_table[] = {
    TD_OPTION_INT(backend_host, threads, 0, 0, 1024,
                  "threads in the host's pool; 0: all processors"),
    TD_OPTION_END
};

typedef struct comm_host {
    double timeout, straggler;
} comm_host;
static const td_option comm_table[] = {
    TD_OPTION_FLOAT(comm_host, timeout, 600, 0, 1e9,
                    "seconds that a process waits for the others before it ends the run; must be "
                    "longer than a step; 0: forever"),
    TD_OPTION_FLOAT(
        comm_host, straggler, 1.5, 0, 1e9,
        "warn about a process that takes this many times as long as the median process; 0: never"),
    TD_OPTION_END
};

const td_group *td_experiment_groups(void)
{
    /* completion, man pages and docs/reference are made from this list */
    static const td_group groups[] = {
        { "model", TD_ARCHITECTURE_KIND, NULL, "the model: an architecture and its parts", NULL },
        { "loss", TD_LOSS_KIND, NULL,
          "the objective: which tokens are given, and which "
          "predicted",
          NULL },
        { "optimizer", TD_OPTIMIZER_KIND, NULL, "the update of the parameters", optimizer_table },
        { "schedule", TD_SCHEDULE_KIND, NULL, "the learning rate", NULL },
        { "tokenizer", TD_TOKENIZER_KIND, NULL, "turns text into ids", NULL },
        { "data", TD_DATA_KIND, NULL, "the text to train and evaluate on", NULL },
        { "train", NULL, NULL,
          "lengths, batches, precision and intervals of "
          "training",
          train_table },
        { "evaluate", NULL, NULL, "how much held-out text is scored, and how", evaluate_table },
        { "tasks", NULL, NULL, "the data sets of downstream tasks, and the length of prompts",
          tasks_table },
        { "run", NULL, NULL, "the run's name, directory and loggers", run_table },
        { "backend", TD_BACKEND_KIND, "cpu", "what computes the model", backend_table },
        { "comm", TD_COMM_KIND, "single", "how the processes of a run communicate", comm_table },
        { NULL, NULL, NULL, NULL, NULL },
    };
    return groups;
}

/* ---- the length of the run ------------------------------------------------------------------- */

td_budget td_experiment_budget(const td_experiment *x)
{
    if (x->train.target_tokens > 0)
        return TD_BUDGET_TARGETS;
    return x->train.flops > 0 ? TD_BUDGET_FLOPS : TD_BUDGET_STEPS;
}

static bool has(const td_experiment *x, const char *path)
{
    return td_config_get(x->config, path) != NULL;
}

static bool is_positive(const td_config *c, const char *path)
{
    const td_setting *v = td_config_get(c, path);
    return v && (v->type == TD_SETTING_INT || v->type == TD_SETTING_FLOAT) && v->number > 0;
}

/* One key sets the length of a run; the others would be ignored. */
static void check_budget(const td_experiment *x, td_errors *errors)
{
    static const char *const keys[] = { "train.steps", "train.target_tokens", "train.flops" };
    const char              *set[3];
    size_t                   n = 0;
    for (size_t k = 0; k < 3; k++)
        if (k ? is_positive(x->config, keys[k]) : has(x, keys[k]))
            set[n++] = keys[k];
    if (n > 1 && td_experiment_budget(x))
        td_errors_add(errors, "%s: %s and %s both set the length of the run: remove one",
                      td_config_origin(x->config, set[1]), set[0], set[1]);
}

/* Before groups are bound, since options may be shares of it; errors in it are reported when
 * `train` is bound. */
static void tell_steps(const td_experiment *x)
{
    int64_t steps = 1000; /* the default of train.steps */
    if (is_positive(x->config, "train.target_tokens") || is_positive(x->config, "train.flops"))
        steps = -1;
    else
        td_config_get_int(x->config, "train.steps", &steps);
    td_config_set_steps(x->config, steps > 0 ? steps : steps < 0 ? -1 : 0, false);
}

int td_experiment_set_steps(td_experiment *x, int64_t steps, const char *origin, td_errors *errors)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, steps);
    x->train.steps = steps;
    td_config_set_steps(x->config, steps, true);
    td_config_note(x->config, "train.steps", text, origin);
    return td_config_rebind(x->config, x->registry, "schedule", TD_SCHEDULE_KIND, &x->schedule,
                            errors);
}

/* ---- binding --------------------------------------------------------------------------------- */

/* Whether the group may lack its plugin: a command that works on text alone needs no model, but may
 * need a number from its group, model.vocab_size. */
static bool is_left(const td_experiment *x, const char *path, unsigned needs)
{
    char              key[64];
    /* looking it up marks it as used, so that it is not reported as unknown */
    const td_setting *group = td_config_get(x->config, path);
    snprintf(key, sizeof key, "%s.plugin", path);
    return needs & TD_NEED_TOKENIZER && !(needs & TD_NEED_MODEL) && group &&
           group->type == TD_SETTING_GROUP && !has(x, key);
}

/* A group that is not needed may be missing; one that exists must be valid. */
static void bind(td_experiment *x, const char *path, const char *kind, unsigned need,
                 unsigned needs, const td_option *extra, void *extra_out, td_part *out,
                 td_errors *errors)
{
    if (needs & need || (has(x, path) && !is_left(x, path, needs)))
        td_config_bind_extra(x->config, x->registry, path, kind, NULL, extra, extra_out, out,
                             errors);
}

static void add_logger(td_experiment *x, const td_part *logger, td_errors *errors)
{
    for (size_t k = 0; k < x->n_loggers; k++)
        if (x->loggers[k].plugin == logger->plugin) {
            td_errors_add(errors, "%s: run.loggers names '%s' twice",
                          td_config_origin(x->config, "run.loggers"), logger->plugin->name);
            return;
        }
    /* two equal loggers would write the same file */
    if (x->n_loggers < TD_LOGGERS)
        x->loggers[x->n_loggers++] = *logger;
    else
        td_errors_add(errors, "%s: run.loggers names more than %d loggers",
                      td_config_origin(x->config, "run.loggers"), TD_LOGGERS);
}

static void add_standard_logger(td_experiment *x, const char *name, td_errors *errors)
{
    td_part  logger;
    td_error e = { 0 };
    if (td_part_defaults(x->registry, TD_LOGGER_KIND, name, td_config_arena(x->config), &logger,
                         &e))
        td_errors_add(errors, "run.loggers: %s", e.text);
    else
        add_logger(x, &logger, errors);
}

/* The named loggers, or the standard ones if there will be a run to log. */
static void bind_loggers(td_experiment *x, unsigned needs, td_errors *errors)
{
    const td_parts *named = &x->run.loggers;
    for (size_t k = 0; k < named->count; k++)
        if (named->at[k].plugin) /* NULL: its error has been reported */
            add_logger(x, &named->at[k], errors);
    if (named->count || !(needs & TD_NEED_DATA))
        return;
    add_standard_logger(x, "jsonl", errors);
    add_standard_logger(x, "tensorboard", errors);
}

static const char *const default_backend = "cpu", *const alone = "single";

/* The comm that connects devices of this backend; NULL: none. */
static const char *find_comm_of(td_registry *r, const char *backend)
{
    td_registry_scan_kind(r, TD_COMM_KIND);
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        const td_comm   *c = (const void *)p;
        if (!strcmp(p->kind, TD_COMM_KIND) && c->backend && !strcmp(c->backend, backend))
            return p->name;
    }
    return NULL;
}

const char *td_experiment_comm(td_registry *r, const td_config *c, int64_t processes)
{
    const td_setting *v = td_config_get(c, "backend.plugin");
    const char       *found;
    if (processes < 2)
        return alone;
    found = find_comm_of(r, v && v->type == TD_SETTING_STRING ? v->text : default_backend);
    return found ? found : "mpi";
}

/* Whether a run's comm no longer fits: it connects no other process, or processes that are no
 * longer there; or a backend is named now, which another comm may connect. */
static bool is_outdated(const td_config *c, const td_setting *comm, int64_t processes)
{
    const td_setting *backend = td_config_get(c, "backend.plugin");
    return (processes == 1) != !strcmp(comm->text, alone) || (backend && !backend->kept);
}

/* The default depends on the current processes and backend, even for a run that had others. */
static void bind_comm(td_experiment *x, comm_host *host, td_errors *errors)
{
    static const char *const of_any[] = { "timeout", "straggler", NULL };

    int64_t           size = td_ranks_of_environment().size;
    const td_setting *v = td_config_get(x->config, "comm.plugin");
    if (v && v->kept && v->type == TD_SETTING_STRING && is_outdated(x->config, v, size))
        td_config_forget_kept(x->config, "comm", of_any);
    td_config_bind_extra(x->config, x->registry, "comm", TD_COMM_KIND,
                         td_experiment_comm(x->registry, x->config, size), comm_table, host,
                         &x->comm, errors);
}

static void bind_parts(td_experiment *x, unsigned needs, td_errors *errors)
{
    optimizer_host o = { { NULL, 0 } };
    backend_host   b = { 0 };
    comm_host      c = { 0 };
    bind(x, "model", TD_ARCHITECTURE_KIND, TD_NEED_MODEL, needs, NULL, NULL, &x->model, errors);
    bind(x, "loss", TD_LOSS_KIND, TD_NEED_LOSS, needs, NULL, NULL, &x->loss, errors);
    bind(x, "optimizer", TD_OPTIMIZER_KIND, TD_NEED_OPTIMIZER, needs, optimizer_table, &o,
         &x->optimizer, errors);
    bind(x, "schedule", TD_SCHEDULE_KIND, TD_NEED_SCHEDULE, needs, NULL, NULL, &x->schedule,
         errors);
    bind(x, "tokenizer", TD_TOKENIZER_KIND, TD_NEED_TOKENIZER, needs, NULL, NULL, &x->tokenizer,
         errors);
    bind(x, "data", TD_DATA_KIND, TD_NEED_DATA, needs, NULL, NULL, &x->data, errors);
    /* these two have a default, so a config without them is complete */
    td_config_bind_extra(x->config, x->registry, "backend", TD_BACKEND_KIND, default_backend,
                         backend_table, &b, &x->backend, errors);
    bind_comm(x, &c, errors);
    x->groups = o.groups;
    x->threads = b.threads;
    x->comm_timeout = c.timeout;
    x->comm_straggler = c.straggler;
}

/* Returns whether train and evaluate could be bound; if not, their sizes are meaningless. */
static bool bind_all(td_experiment *x, unsigned needs, td_errors *errors)
{
    bool sized;
    /* comes first: it adds directories to the plugin search path */
    td_config_bind_top(x->config, x->registry, errors);
    tell_steps(x);
    bind_parts(x, needs, errors);
    sized = !td_config_bind_table(x->config, x->registry, "train", train_table, &x->train, errors);
    sized &= !td_config_bind_table(x->config, x->registry, "evaluate", evaluate_table, &x->evaluate,
                                   errors);
    td_config_bind_table(x->config, x->registry, "tasks", tasks_table, &x->tasks, errors);
    td_config_bind_table(x->config, x->registry, "run", run_table, &x->run, errors);
    bind_loggers(x, needs, errors);
    resolve(&x->train);
    if (td_experiment_budget(x))
        td_config_note(x->config, "train.steps", "?", "set by the budget once the data is open");
    x->evaluate.length = x->evaluate.length ? x->evaluate.length : x->train.length;
    x->tasks.max_length = x->tasks.max_length ? x->tasks.max_length : x->train.length;
    x->evaluate.batch = x->evaluate.batch ? x->evaluate.batch : x->train.micro_batch;
    return sized;
}

/* ---- life ------------------------------------------------------------------------------------ */

td_experiment *td_experiment_bind(td_registry *registry, td_config *config, unsigned needs,
                                  td_errors *errors)
{
    td_experiment *x = config ? calloc(1, sizeof *x) : NULL;
    bool           lengths, sized;
    if (!x) {
        if (config)
            td_errors_add(errors, "out of memory while reading a config");
        td_config_free(config);
        return NULL;
    }
    x->registry = registry;
    x->config = config;
    /* a probe's batch has other lengths, so the default train.length must not refuse a
     * model */
    lengths = needs & TD_NEED_DATA || has(x, "train.length");
    sized = bind_all(x, needs, errors);
    td_config_check_unused(x->config, errors);
    td_rules_check_parts(x, errors);
    if (sized) {
        check_budget(x, errors);
        td_rules_check_sizes(x, lengths, errors);
    }
    if (!errors->count)
        return x;
    td_experiment_close(x);
    return NULL;
}

td_experiment *td_experiment_open(td_registry *registry, const char *const *files, size_t n_files,
                                  const char *const *overrides, size_t n_overrides,
                                  const char *search, unsigned needs, td_errors *errors)
{
    td_config *c = td_config_load(files, n_files, overrides, n_overrides, search, errors);
    return td_experiment_bind(registry, c, needs, errors);
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
                       /* skip and stop differ in the trainer alone: the graph refuses for both */
                       .guard = x->train.guard != TD_GUARD_NONE,
                       .recompute = x->train.recompute != 0,
                       .narrow = x->train.precision ? TD_BF16 : 0,
                       .dropout_seed = (uint64_t)x->train.seed_dropout };
}
