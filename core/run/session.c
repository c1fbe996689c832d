/* session.c - opens and closes a session, and manages its engine.
 *
 * Opening does the quick steps that find most errors: config, plugins, threads. Data and model are
 * opened by the first call that needs them. A session holds at most one engine with memory, because
 * two models may not fit; training and `td_session_hold` replace it.
 */
#include "run/session.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/ranks.h"
#include "evaluate/attend.h"
#include "evaluate/attention.h"
#include "evaluate/extrapolate.h"
#include "model/checkpoint.h"
#include "plan/prepared.h"
#include "plugin/defaults.h"
#include "plugin/hook.h"
#include "run/place.h"
#include "run/tasks.h"

/* ---- where things are ------------------------------------------------------------------------ */

/* Relative to the installed libtandem: .../lib/libtandem.so and .../share/tandem. An installed
 * tree may be moved, so only the path of the sources is compiled in. */
char *td_shipped_directory(void)
{
    Dl_info info;
    char   *library = dladdr((void *)(uintptr_t)td_shipped_directory, &info) && info.dli_fname
                          ? td_path_directory(info.dli_fname)
                          : NULL;
    char   *installed = library ? td_path_join(library, TANDEM_SHARE) : NULL;
    /* without the lib/../share in it, as messages name files there */
    char   *real = installed ? realpath(installed, NULL) : NULL;
    free(library);
    free(installed);
    return real ? real : strdup(TANDEM_SOURCE_TREE);
}

/* ---- opening --------------------------------------------------------------------------------- */

static size_t count(const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

/* free() each and the list; NULL when out of memory. */
static char **copy_list(const char *const *list)
{
    size_t n = count(list);
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t k = 0; copy && k < n; k++)
        copy[k] = strdup(list[k]);
    return copy;
}

/* Logs one message per line. */
static void log_lines(td_journal *log, int level, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        td_log_line(log, level, "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

/* The config is read before threads are started, because most errors are there. */
static int open_config(td_session *s, const td_session_options *o, td_errors *errors,
                       td_error *error)
{
    td_config_sources sources = { .files = o->files,
                                  .texts = o->texts,
                                  .overrides = o->settings,
                                  .n_files = count(o->files),
                                  .n_texts = count(o->texts),
                                  .n_overrides = count(o->settings),
                                  .n_kept = o->kept,
                                  .untrusted = o->untrusted,
                                  .origin = o->origin,
                                  .search = s->configs };
    if (!sources.n_files && !sources.n_texts && !sources.n_overrides)
        return td_fail(error, TD_ECONFIG, "there is no config: name a file");
    s->registry = td_registry_new(o->plugin_paths, s->log, error);
    if (!s->registry)
        return td_failed(error, TD_EPLUGIN);
    /* the errors of an unreadable config are in `errors`; nothing is bound */
    s->x = td_experiment_bind(s->registry, td_config_read(&sources, errors), s->needs, errors);
    if (s->x)
        log_lines(s->log, TD_LOG_INFO, td_config_notes(s->x->config));
    return s->x ? 0 : TD_ECONFIG;
}

/* Opened plugins get the pool's services, which include the directory of shipped files. */
static int open_threads(td_session *s, td_error *error)
{
    s->pool = td_pool_new((int)s->x->threads, s->log, error);
    if (!s->pool)
        return td_failed(error, TD_ENOMEM);
    td_pool_set_shipped(s->pool, s->shipped);
    s->services = td_pool_services(s->pool);
    return 0;
}

td_session *td_session_begin(const td_session_options *o, unsigned needs, td_journal *log,
                             td_errors *errors, td_error *error)
{
    td_session *s = calloc(1, sizeof *s);
    if (!s) {
        td_fail(error, TD_ENOMEM, "out of memory while opening a session");
        return NULL;
    }
    s->log = log;
    s->needs = needs;
    s->shipped = o->shipped ? strdup(o->shipped) : td_shipped_directory();
    s->configs = s->shipped ? td_path_join(s->shipped, "configs") : NULL;
    /* copied: they are compared when parameters are loaded, long after this call */
    s->allow = copy_list(o->allow);
    if (!s->configs || !s->allow)
        td_fail(error, TD_ENOMEM, "out of memory while opening a session");
    else if (!open_config(s, o, errors, error) && !open_threads(s, error))
        return s;
    td_session_close(s);
    return NULL;
}

/* Copies as many whole lines as fit into a td_error: a line cut in the middle could name a wrong
 * file. */
static void summarize(const td_errors *errors, td_error *error)
{
    const char *text = td_text_get(&errors->text);
    size_t      room = sizeof error->text - 64, n = strlen(text), shown = 0;
    if (n <= room) {
        td_fail(error, TD_ECONFIG, "%s", text);
        return;
    }
    for (n = 0; n + strcspn(text + n, "\n") < room; n += strcspn(text + n, "\n") + 1)
        shown++;
    if (shown)
        td_fail(error, TD_ECONFIG, "%.*sand %zu more errors", (int)n, text, errors->count - shown);
    else
        td_fail(error, TD_ECONFIG, "%.*s ..", (int)room, text);
}

static unsigned needs_of(td_purpose purpose)
{
    switch (purpose) {
    case TD_PURPOSE_MODEL:
        return TD_NEED_MODEL | TD_NEED_LOSS;
    case TD_PURPOSE_GENERATE:
        return TD_NEED_MODEL;
    case TD_PURPOSE_EVALUATE:
        return TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_HELD_OUT;
    default:
        return TD_NEED_TRAINING;
    }
}

static int check_options(const td_session_options *o, td_error *error)
{
    /* the program forgot it, or was built against another version of the header */
    if (o->size != sizeof *o)
        return td_fail(
            error, TD_ECONFIG,
            "td_session_options.size is %zu: set it to sizeof(td_session_options), which "
            "is %zu in this library",
            o->size, sizeof *o);
    return (int)o->purpose >= TD_PURPOSE_TRAIN && o->purpose <= TD_PURPOSE_GENERATE
               ? 0
               : td_fail(error, TD_ECONFIG, "td_session_options.purpose is %d: use a TD_PURPOSE_",
                         (int)o->purpose);
}

static td_session *open_session(const td_session_options *o, td_error *error)
{
    td_errors   errors = { 0 };
    td_journal *log;
    td_session *s;

    log = td_log_to(o->log, o->log_arg);
    if (!log) {
        td_fail(error, TD_ENOMEM, "out of memory while opening a session");
        return NULL;
    }
    s = td_session_begin(o, needs_of(o->purpose), log, &errors, error);
    /* logs all of them, because a td_error may be too small */
    if (errors.count) {
        log_lines(log, TD_LOG_ERROR, td_text_get(&errors.text));
        summarize(&errors, error);
    }
    td_errors_free(&errors);
    if (s)
        s->owns_log = true;
    else
        td_log_free(log);
    return s;
}

/* The config that the run keeps comes before the caller's files; it may not name code. */
static td_session *open_run(const td_session_options *o, const td_run_place *place, td_error *error)
{
    td_session_options own = *o;
    size_t             n = count(o->files);
    const char       **files = calloc(n + 2, sizeof *files);
    td_session        *s = NULL;
    if (!files) {
        td_fail(error, TD_ENOMEM, "out of memory while opening a run");
        return NULL;
    }
    files[0] = place->config;
    if (n)
        memcpy(files + 1, o->files, n * sizeof *files);
    own.files = files;
    own.kept++;
    s = open_session(&own, error);
    free(files);
    if (!s || !td_run_place_enter(place, s, error))
        return s;
    td_session_close(s);
    return NULL;
}

td_session *td_session_open(const td_session_options *o, td_error *error)
{
    td_run_place place;
    td_session  *s = NULL;
    if (check_options(o, error))
        return NULL;
    if (!o->run)
        return open_session(o, error);
    if (td_run_place_find(&place, o->run))
        s = open_run(o, &place, error);
    else
        td_fail(error, TD_EIO,
                "'%s' is neither a run nor a checkpoint: it has no config.cfg; name the directory "
                "that training wrote",
                o->run);
    td_run_place_free(&place);
    return s;
}

const char *td_library_version(void) { return TANDEM_VERSION; }

void td_session_close(td_session *s)
{
    if (!s)
        return;
    /* in reverse order of opening: engines and data use the pool, and plugins belong to the
     * registry */
    td_session_forget_layouts(s);
    td_session_leave(s);
    td_engine_close(s->engine);
    td_engine_close(s->sketch);
    td_session_close_data(s);
    td_pool_free(s->pool);
    td_experiment_close(s->x);
    td_registry_free(s->registry);
    if (s->owns_log)
        td_log_free(s->log);
    td_evaluation_free(&s->evaluation);
    td_evaluation_free(&s->last_evaluation);
    td_task_scores_free(&s->tasks);
    td_task_scores_free(&s->last_tasks);
    free(s->best_name);
    td_extrapolation_free(&s->extrapolation);
    td_analysis_free(&s->analysis);
    td_attended_free(&s->attended);
    free(s->ids);
    free(s->given);
    free(s->target);
    td_text_free(&s->config);
    td_text_free(&s->text);
    for (size_t k = 0; s->allow && s->allow[k]; k++)
        free(s->allow[k]);
    free(s->allow);
    free(s->loaded);
    free(s->directory);
    free(s->unavailable);
    td_arena_free(s->stand_in_options);
    free(s->shipped);
    free(s->configs);
    free(s);
}

const char *td_session_config(td_session *s)
{
    if (!s->config.size)
        td_config_print(s->x->config, false, &s->config);
    return td_text_get(&s->config);
}

const char *td_session_directory(td_session *s)
{
    if (!s->directory)
        s->directory = td_path_join(s->x->run.dir, s->x->run.name);
    return s->directory ? s->directory : "";
}

/* ---- several processes ----------------------------------------------------------------------- */

int td_session_join(td_session *s, void (*lost)(void *arg, const char *why), void *arg,
                    td_error *error)
{
    td_team_spec spec = { .comm = &s->x->comm,
                          .services = s->services,
                          .timeout = s->x->comm_timeout,
                          .lost = lost,
                          .arg = arg };
    int          size;
    s->team = td_team_join(&spec, error);
    size = td_team_size(s->team);
    if (size > 1 && spec.timeout > 0 && lost)
        td_log_line(s->log, TD_LOG_INFO,
                    "%d processes; one that waits %g s for the others ends the run (comm.timeout)",
                    size, spec.timeout);
    else if (size > 1)
        td_log_line(s->log, TD_LOG_INFO, "%d processes, which wait for each other forever (%s)",
                    size, lost ? "comm.timeout = 0" : "the program does not handle lost processes");
    return s->team ? 0 : td_failed(error, TD_EIO);
}

void td_session_leave(td_session *s)
{
    td_team_leave(s->team);
    s->team = NULL;
}

/* ---- the engine ------------------------------------------------------------------------------ */

/* Not everything spreads over processes: they would all do, and write, the same. */
static int check_alone(const td_session *s, td_error *error)
{
    td_ranks r = td_ranks_of_environment();
    if (s->team || r.size == 1)
        return 0;
    return td_fail(
        error, TD_ECONFIG,
        "%s started %d processes, but this command uses one (training, `tandem bench` of training "
        "steps, evaluation and `tandem generate` use several): start it without %s",
        r.launcher, r.size, r.launcher);
}

static td_engine *open_engine(const td_session *s, td_part backend, bool updates, td_error *error)
{
    td_engine_options o = { .model = td_experiment_model(s->x),
                            .backend = backend,
                            .services = s->services,
                            .log = s->log };
    td_engine        *e;
    if (check_alone(s, error))
        return NULL;
    if (!updates) /* no optimizer states, and no gradients if none are computed */
        o.model.optimizer.plugin = NULL;
    else if (s->x->train.shard)
        o.model.shard = (td_shard){ td_team_rank(s->team), td_session_processes(s),
                                    s->x->train.shard == TD_SHARD_PARAMETERS };
    e = td_engine_open(&o, error);
    if (!e)
        td_fail(error, TD_EIO, "backend '%s' cannot be opened", backend.plugin->name);
    return e;
}

td_engine *td_session_engine(const td_session *s, bool updates, td_error *error)
{
    return open_engine(s, s->x->backend, updates, error);
}

static int take_stand_in(td_session *s, const char *why, td_error *error)
{
    const td_group *g = td_experiment_groups();
    while (strcmp(g->name, "backend"))
        g++;
    s->unavailable = strdup(why);
    s->stand_in_options = td_arena_new();
    if (!s->unavailable || !s->stand_in_options)
        return td_fail(error, TD_ENOMEM, "out of memory while opening a backend");
    return td_part_defaults(s->registry, g->kind, g->plugin, s->stand_in_options, &s->stand_in,
                            error);
}

td_engine *td_session_sketch(td_session *s, td_error *error)
{
    td_error   why = { 0 };
    td_engine *e = td_session_engine(s, true, &why);
    if (e)
        return e;
    /* counting needs no GPU: a cluster's login node, or a laptop, can describe its runs */
    if (why.code != TD_EUNSUPPORTED) {
        td_fail(error, why.code, "%s", why.text);
        return NULL;
    }
    return take_stand_in(s, why.text, error) ? NULL : open_engine(s, s->stand_in, true, error);
}

void td_session_forget_layouts(td_session *s)
{
    td_prepared_free(s->layouts);
    s->layouts = NULL;
}

void td_session_drop(td_session *s)
{
    td_session_forget_layouts(s);
    td_team_detach(s->team);
    td_engine_close(s->engine);
    free(s->loaded);
    s->engine = NULL;
    s->loaded = NULL;
}

int td_session_replace(td_session *s, bool updates, td_error *error)
{
    td_session_drop(s); /* closed first: there may not be memory for two models */
    s->engine = td_session_engine(s, updates, error);
    return s->engine ? 0 : td_failed(error, TD_EIO);
}

/* Without a tokenizer no id is special: an answer ends only at the caller's stops. */
int td_session_open_special(td_session *s, td_error *error)
{
    if (s->x->tokenizer.plugin)
        return td_session_open_tokenizer(s, error);
    s->special = (td_special){ .pad = 0, .bos = -1, .eos = -1, .unk = -1 };
    return 0;
}

int td_session_declare(td_session *s, td_error *error)
{
    int code = td_session_open_special(s, error);
    if (!code)
        code = td_session_replace(s, false, error);
    if (!code)
        code = td_decoder_declare(td_engine_model(s->engine), &s->special,
                                  td_engine_variables(s->engine), error);
    return code;
}

/* Parameters are found by building a graph, and generation builds one for every shape, so they are
 * declared first, then allocated and loaded. */
static int hold_generation(td_session *s, td_error *error)
{
    int code = td_session_declare(s, error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    if (code)
        td_session_drop(s);
    return code;
}

int td_session_hold(td_session *s, td_error *error)
{
    td_evaluate_spec spec;
    int              code = 0;
    if (s->engine)
        return 0;
    if (!(s->needs & TD_NEED_LOSS))
        return hold_generation(s, error);
    if (s->needs & TD_NEED_DATA) /* limits the planned batch to the available data */
        code = td_session_open_data(s, error);
    if (!code)
        code = td_session_replace(s, false, error);
    spec = td_session_evaluation_spec(s);
    if (!s->data_opened) /* nothing will be scored, so the plan only declares the parameters */
        spec.batch = 1;
    if (!code)
        code = td_evaluate_plan(s->engine, &spec, NULL, error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    if (code) /* if the engine was kept, it can be used */
        td_session_drop(s);
    return code;
}

int td_session_take(td_session *s, const char *path, td_error *error)
{
    td_text notes = { 0 };
    int     code;
    td_session_forget_layouts(s);
    code = td_weights_load(path, td_engine_variables(s->engine), td_engine_device(s->engine),
                           &notes, error);
    if (!code && notes.size)
        td_log_line(s->log, TD_LOG_INFO,
                    "'%s' also has tensors that the model does not need, which are ignored: %s",
                    path, td_text_get(&notes));
    td_text_free(&notes);
    if (code)
        return code;
    free(s->loaded);
    s->loaded = strdup(path);
    return s->loaded ? 0 : td_fail(error, TD_ENOMEM, "out of memory while loading parameters");
}

int td_session_result(int code, td_error *error)
{
    return code ? td_fail(error, code, "a plugin failed without a message") : 0;
}
