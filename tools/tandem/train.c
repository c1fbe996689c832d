/* train.c - `tandem train`: a run directory, the training loop, a summary. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "plugin/options.h"
#include "work.h"

/* ---- the run directory ----------------------------------------------------------------------- */

static char *run_directory(const td_work *w) { return td_path_join(w->x->run.dir, w->x->run.name); }

/* One process a run: the lock falls with the process. */
static int lock(const char *directory, td_error *error)
{
    char *name = td_path_join(directory, ".lock");
    int   fd = name ? open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0666) : -1, code = 0;
    if (fd < 0)
        code = td_fail(error, TD_EIO, "cannot make '%s/.lock': %s", directory, strerror(errno));
    else if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        code =
            td_fail(error, TD_ECONFIG,
                    "another process is training in '%s': wait for it, or choose another run.name",
                    directory);
        close(fd);
    }
    free(name);
    return code;
}

/* What may change from one part of a run to the next (docs/config.md): how long it goes on, and
 * what it says. */
static bool may_change(const char *key)
{
    static const char *const allowed[] = { "train.steps",     "train.*_every", "train.keep_*",
                                           "train.guard",     "train.spike",   "train.patience",
                                           "schedule.*",      "evaluate.*",    "run.*",
                                           "backend.threads", "plugin_path" };
    for (size_t k = 0; k < sizeof allowed / sizeof *allowed; k++)
        if (td_match(allowed[k], key))
            return true;
    return false;
}

/* The differences between the config that the run was started with and this one: those allowed are
 * told, others refused. */
static int check_changes(const td_work *w, td_text *differences, td_error *error)
{
    td_text refused = { 0 };
    char   *rest = NULL;
    int     code = 0;
    for (char *line = strtok_r(differences->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char key[300];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(line, ":"), line);
        if (may_change(key))
            td_log_line(w->tool->log, TD_LOG_INFO, "resuming with another %s", line);
        else
            td_text_print(&refused, "\n  %s", line);
    }
    if (refused.size)
        code = td_fail(error, TD_ECONFIG,
                       "cannot resume: this config differs from the run's own in what it "
                       "computes:%.1600s\nundo that, "
                       "or start another run.name with --weights",
                       td_text_get(&refused));
    td_text_free(&refused);
    return code;
}

static int compare_configs(const td_work *w, const char *directory, td_error *error)
{
    td_errors      errors = { 0 };
    char          *configs = td_tool_configs(), *path = td_path_join(directory, "config.cfg");
    td_experiment *before = NULL;
    td_text        differences = { 0 };
    int            code = 0;
    if (path && td_file_exists(path))
        before = td_experiment_open(w->x->registry, (const char *const *)&path, 1, NULL, 0, configs,
                                    TD_NEED_TRAINING, &errors);
    if (before && td_config_diff(before->config, w->x->config, &differences))
        code = check_changes(w, &differences, error);
    else if (!before)
        code =
            td_fail(error, TD_ECONFIG,
                    "cannot resume: '%s/config.cfg' does not say how the run was started: %.1500s",
                    directory, errors.count ? td_text_get(&errors.text) : "there is no such file");
    td_experiment_close(before);
    td_errors_free(&errors), td_text_free(&differences);
    free(configs), free(path);
    return code;
}

/* A directory that holds a run already is only touched to resume it. */
static int check_directory(const td_work *w, const char *directory, bool resume, td_error *error)
{
    char *checkpoints = td_path_join(directory, "checkpoints"),
         *latest = checkpoints ? td_checkpoint_latest(checkpoints) : NULL;
    int code = td_make_directories(directory, error);
    if (!code)
        code = lock(directory, error);
    if (!code && latest && !resume)
        code = td_fail(error, TD_ECONFIG,
                       "'%s' holds a run already: go on with --resume, or choose another run.name",
                       directory);
    else if (!code && latest)
        code = compare_configs(w, directory, error);
    free(checkpoints), free(latest);
    return code;
}

static int write_text(const char *directory, const char *name, const td_text *text, td_error *error)
{
    char *path = td_path_join(directory, name);
    int   code = path ? td_file_write(path, td_text_get(text), text->size, error) : TD_ENOMEM;
    free(path);
    return code;
}

static void list_part(const td_work *w, const td_plugin *p, json_t *plugins, td_text *text)
{
    const td_loaded *m = td_registry_module(w->x->registry, p);
    const char      *version = m && m->path ? m->module->version : "";
    char             hash[33] = "";
    if (m && m->path)
        td_file_hash(m->path, hash, NULL);
    td_text_print(text, "%-16s %-16s %s %s %s\n", p->kind, p->name, version, hash,
                  m && m->path ? m->path : "built in");
    json_array_append_new(plugins, json_pack("{s:s, s:s, s:s, s:s}", "kind", p->kind, "name",
                                             p->name, "version", version, "hash", hash));
}

static void list_parts(const td_work *w, json_t *plugins, td_text *text)
{
    const td_plugin *p;
    for (size_t i = 0; (p = td_config_plugin(w->x->config, i)); i++)
        list_part(w, p, plugins, text);
    for (size_t k = 0; k < w->x->n_loggers; k++)
        list_part(w, w->x->loggers[k].plugin, plugins, text);
}

/* environment.txt, config.cfg (resolved), model-info.txt; and what goes into each checkpoint. */
static char *describe_run(const td_work *w, const char *directory, const td_memory *memory,
                          td_error *error)
{
    td_text           environment = { 0 }, config = { 0 }, model = { 0 };
    json_t           *plugins = json_array(), *about;
    const td_backend *b = td_engine_device(w->engine)->backend;
    td_variables     *v = td_engine_variables(w->engine);
    char              device[1024] = "", bytes[5][32], *text = NULL;
    int64_t           total = 0;

    if (b->describe)
        b->describe(td_engine_device(w->engine)->state, device, sizeof device);
    td_text_print(&environment, "tandem %s, plugin ABI %d.%d\nbackend: %s: %s\nthreads: %d\n\n",
                  TANDEM_VERSION, TD_ABI_MAJOR, TD_ABI_MINOR, b->plugin.name, device,
                  w->services->threads);
    list_parts(w, plugins, &environment);
    td_config_print(w->x->config, true, &config);
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        total += x->count;
        td_text_print(&model, "%-60s %12lld  [", x->name, (long long)x->count);
        for (int k = 0; k < x->rank; k++)
            td_text_print(&model, "%s%lld", k ? ", " : "", (long long)x->dim[k]);
        td_text_print(&model, "]\n");
    }
    td_text_print(&model,
                  "\nparameters %lld\nmemory: parameters %s, gradients %s, optimizer %s, "
                  "activations %s, inputs %s\n",
                  (long long)total, td_human_bytes(bytes[0], (double)memory->parameters),
                  td_human_bytes(bytes[1], (double)memory->gradients),
                  td_human_bytes(bytes[2], (double)memory->states),
                  td_human_bytes(bytes[3], (double)memory->activations),
                  td_human_bytes(bytes[4], (double)memory->inputs));
    td_log_line(w->tool->log, TD_LOG_INFO,
                "%s: %lld parameters; parameters %s, gradients %s, optimizer %s, activations %s",
                w->x->run.name, (long long)total, bytes[0], bytes[1], bytes[2], bytes[3]);
    if (!write_text(directory, "environment.txt", &environment, error) &&
        !write_text(directory, "config.cfg", &config, error) &&
        !write_text(directory, "model-info.txt", &model, error)) {
        about = json_pack("{s:s, s:s, s:O}", "tandem", TANDEM_VERSION, "config",
                          td_text_get(&config), "plugins", plugins);
        text = about ? json_dumps(about, 0) : NULL;
        json_decref(about);
        if (!text)
            td_fail(error, TD_ENOMEM, "out of memory while describing the run");
    }
    json_decref(plugins);
    td_text_free(&environment), td_text_free(&config), td_text_free(&model);
    return text;
}

/* ---- the summary ----------------------------------------------------------------------------- */

static void print_summary(const td_work *w, const td_trainer_out *out, const char *directory)
{
    const td_evaluation *e = &out->evaluation;
    if (w->tool->json) {
        json_t *scores = e->count ? td_work_scores(e) : json_object();
        json_t *root = json_pack("{s:s, s:s, s:I, s:o, s:f}", "run", w->x->run.name, "directory",
                                 directory, "step", (json_int_t)out->progress.step, "loss",
                                 td_tool_number(out->loss), "tokens_per_second",
                                 out->tokens_per_second);
        json_object_update(root, scores);
        json_decref(scores);
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    } else {
        for (int64_t i = 0; i < e->count; i++)
            printf("%-24s nll %.4f  (%" PRId64 " sequences)\n", e->at[i].source, e->at[i].nll,
                   e->at[i].sequences);
        if (e->count)
            printf("%-24s nll %.4f  perplexity %.3f%s", "mean over sources", e->nll, exp(e->nll),
                   e->bits_per_byte < 0 ? "\n" : "");
        if (e->count && e->bits_per_byte >= 0)
            printf("  bits per byte %.4f\n", e->bits_per_byte);
        printf("step %" PRId64 ", %.0f tokens/s, in %s\n", out->progress.step,
               out->tokens_per_second, directory);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

static int prepare(td_work *w, const char *directory, bool resume, td_memory *memory, char **about,
                   td_error *error)
{
    td_batch *shape = NULL;
    char     *log = td_path_join(directory, "log.txt");
    int       code = check_directory(w, directory, resume, error);
    if (!code)
        code = log ? td_log_open_file(w->tool->log, log, error) : TD_ENOMEM;
    if (!code)
        code = td_work_data(w, error);
    if (!code)
        code = td_work_engine(w, error);
    if (!code && !(shape = td_work_shape(w, w->x->train.micro_batch, error)))
        code = error->code;
    if (!code)
        code = td_engine_plan(w->engine, shape, memory, error);
    if (!code && w->x->train.evaluate_every >= 0) {
        td_evaluate_spec evaluation = td_work_evaluate(w);
        code = td_evaluate_plan(w->engine, &evaluation, memory, error);
    }
    if (!code)
        code = td_engine_allocate(w->engine, (uint64_t)w->x->train.seed_init, error);
    if (!code && !(*about = describe_run(w, directory, memory, error)))
        code = error->code;
    td_batch_free(shape);
    free(log);
    return code;
}

static td_trainer_spec trainer_spec(td_work *w, const char *directory, const char *about,
                                    double flops, bool resume)
{
    const td_train_options *o = &w->x->train;
    const td_device        *d = td_engine_device(w->engine);
    td_trainer_spec         s = {
                .engine = w->engine,
                .feed = td_work_feed(w),
                .evaluate = td_work_evaluate(w),
                .schedule = w->x->schedule,
                .n_loggers = w->x->n_loggers,
                .log = w->tool->log,
                .services = w->services,
                .directory = directory,
                .about = about,
                .resume = resume,
                .steps = o->steps,
                .log_every = o->log_every,
                .norms_every = o->norms_every,
                .evaluate_every = o->evaluate_every,
                .checkpoint_every = o->checkpoint_every,
                .keep_last = o->keep_last,
                .keep_best = o->keep_best,
                .guard = (int)o->guard,
                .spike = o->spike,
                .patience = o->patience,
                .flops = flops,
                .peak = d->backend->peak ? d->backend->peak(d->state) : 0,
    };
    memcpy(s.loggers, w->x->loggers, sizeof s.loggers);
    return s;
}

static int train(td_work *w, const char *weights, bool resume, td_error *error)
{
    char           *directory = run_directory(w), *about = NULL;
    td_memory       memory;
    td_trainer_spec spec;
    td_trainer_out  out = { 0 };
    double          flops = 0;
    int             code = directory ? prepare(w, directory, resume, &memory, &about, error)
                                     : td_fail(error, TD_ENOMEM, "out of memory");

    if (!code)
        code = td_work_flops(w, &flops, error);
    if (!code && weights)
        code = td_weights_load(weights, td_engine_variables(w->engine), td_engine_device(w->engine),
                               error);
    if (!code) {
        spec = trainer_spec(w, directory, about, flops, resume);
        code = td_trainer_run(&spec, &out, error);
    }
    if (!code)
        print_summary(w, &out, directory);
    if (!code && out.signal)
        td_log_line(w->tool->log, TD_LOG_INFO,
                    "stopped by a signal at step %" PRId64 "; go on with --resume",
                    out.progress.step);
    td_evaluation_free(&out.evaluation);
    free(directory), free(about);
    return code                    ? code
           : out.signal == SIGTERM ? TD_EXIT_REQUEUE
           : out.signal            ? TD_EXIT_INTERRUPTED
                                   : 0;
}

int td_command_train(td_tool *t, int argc, char **argv)
{
    bool          resume = false;
    const char   *weights = NULL;
    const td_flag flags[] = {
        { "--resume", 0, "go on from the last checkpoint, if there is one", 0, &resume },
        { "--weights", "FILE", "start from these parameters (safetensors)", &weights, 0 },
        { 0, 0, 0, 0, 0 }
    };
    const td_usage usage = {
        "train",
        "[--resume] [--weights W.safetensors]",
        "Train a model: data, steps, evaluations, checkpoints.",
        "tandem train -c configs/quickstart/redllm.cfg run.name=first train.steps=200",
        flags,
        true,
        .json = true,
        .notes = "The run goes to run.dir/run.name: metrics.jsonl, TensorBoard events, "
                 "checkpoints, config.cfg, log.txt.\n"
                 "Exit codes: 0 done, 1 failed, 2 bad config or usage, 3 diverged, 75 saved after "
                 "SIGTERM, 130 after\n"
                 "SIGINT (both go on with --resume).\n"
    };
    td_work  w;
    td_error e = { 0 };
    int      code;

    if (!td_tool_parse(t, &usage, argc, argv, &code))
        return code;
    if (!td_work_open(&w, t, TD_NEED_TRAINING, &code))
        return code;
    code = train(&w, weights, resume, &e);
    if (code < 0)
        code = td_tool_fail(t, &e);
    td_work_close(&w);
    return code;
}
