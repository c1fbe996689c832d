/* session.c - opening and closing a session; its engine.
 *
 * Opening does what is quick and finds most errors: config, plugins, threads. Data and model come
 * with the first call that needs them. A session holds at most one engine with memory, because two
 * models may not fit; training and `td_session_hold` replace it.
 */
#include "run/session.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/checkpoint.h"
#include "tandem/kind/comm.h"

/* ---- where things are ------------------------------------------------------------------------ */

/* Beside libtandem, where it was installed: .../lib/libtandem.so and .../share/tandem. An installed
 * tree may have been moved, so no path is compiled in but that of the sources. */
char *td_shipped_directory(void)
{
    Dl_info info;
    char   *library = dladdr((void *)(uintptr_t)td_shipped_directory, &info) && info.dli_fname
                          ? td_path_directory(info.dli_fname)
                          : NULL;
    char   *installed = library ? td_path_join(library, TANDEM_SHARE) : NULL;
    free(library);
    if (installed && td_file_exists(installed))
        return installed;
    free(installed);
    return strdup(TANDEM_SOURCE_TREE);
}

/* ---- opening --------------------------------------------------------------------------------- */

static size_t count(const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

/* free() each and the list; NULL without memory. */
static char **copy_list(const char *const *list)
{
    size_t n = count(list);
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t k = 0; copy && k < n; k++)
        copy[k] = strdup(list[k]);
    return copy;
}

/* The config comes before the threads: most of what is wrong is wrong there. */
static int open_config(td_session *s, const td_session_options *o, td_errors *errors,
                       td_error *error)
{
    td_config_sources sources = { .files = o->files,
                                  .texts = o->texts,
                                  .overrides = o->settings,
                                  .n_files = count(o->files),
                                  .n_texts = count(o->texts),
                                  .n_overrides = count(o->settings),
                                  .search = s->configs };
    if (!sources.n_files && !sources.n_texts && !sources.n_overrides)
        return td_fail(error, TD_ECONFIG, "there is no config: name a file");
    s->registry = td_registry_new(o->plugin_paths, s->log, error);
    if (!s->registry)
        return td_failed(error, TD_EPLUGIN);
    /* a config that could not be read has its errors in `errors`, and binds to nothing */
    s->x = td_experiment_bind(s->registry, td_config_read(&sources, errors), s->needs, errors);
    return s->x ? 0 : TD_ECONFIG;
}

/* Plugins that are opened get the pool's services, and with them the place of shipped files. */
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

/* As many lines of all errors as a td_error has room for; it must not end in the middle of one that
 * names a file. */
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

/* A line each: a log knows no longer messages. */
static void log_errors(td_journal *log, const td_errors *errors)
{
    const char *text = td_text_get(&errors->text);
    while (*text) {
        size_t n = strcspn(text, "\n");
        td_log_line(log, TD_LOG_ERROR, "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static unsigned needs_of(td_purpose purpose)
{
    switch (purpose) {
    case TD_PURPOSE_MODEL:
        return TD_NEED_MODEL | TD_NEED_LOSS;
    case TD_PURPOSE_EVALUATE:
        return TD_NEED_MODEL | TD_NEED_LOSS | TD_NEED_TOKENIZER | TD_NEED_DATA;
    default:
        return TD_NEED_TRAINING;
    }
}

static int check_options(const td_session_options *o, td_error *error)
{
    /* a program that forgot it, or that was built against another version of the header */
    if (o->size != sizeof *o)
        return td_fail(
            error, TD_ECONFIG,
            "td_session_options.size is %zu: set it to sizeof(td_session_options), which "
            "is %zu in this library",
            o->size, sizeof *o);
    return (int)o->purpose >= TD_PURPOSE_TRAIN && o->purpose <= TD_PURPOSE_MODEL
               ? 0
               : td_fail(error, TD_ECONFIG, "td_session_options.purpose is %d: use a TD_PURPOSE_",
                         (int)o->purpose);
}

td_session *td_session_open(const td_session_options *o, td_error *error)
{
    td_errors   errors = { 0 };
    td_journal *log;
    td_session *s;

    if (check_options(o, error))
        return NULL;
    log = td_log_to(o->log, o->log_arg);
    if (!log) {
        td_fail(error, TD_ENOMEM, "out of memory while opening a session");
        return NULL;
    }
    s = td_session_begin(o, needs_of(o->purpose), log, &errors, error);
    /* all of them to the log, because a td_error may be too small */
    if (errors.count) {
        log_errors(log, &errors);
        summarize(&errors, error);
    }
    td_errors_free(&errors);
    if (s)
        s->owns_log = true;
    else
        td_log_free(log);
    return s;
}

void td_session_close(td_session *s)
{
    if (!s)
        return;
    /* the reverse of opening: engines and data use the pool, plugins are the registry's */
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
    td_text_free(&s->config);
    td_text_free(&s->text);
    for (size_t k = 0; s->allow && s->allow[k]; k++)
        free(s->allow[k]);
    free(s->allow);
    free(s->loaded);
    free(s->directory);
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

/* ---- the engine ------------------------------------------------------------------------------ */

/* There is one process: a comm that connects several is refused rather than half obeyed. */
static int check_alone(const td_session *s, td_error *error)
{
    const td_comm *c = (const void *)s->x->comm.plugin;
    void          *state = NULL;
    int            processes;
    /* opened only to be asked: how many there are is known when they are connected */
    if (c->open(s->x->comm.config, s->services, &state, error))
        return td_fail(error, td_failed(error, TD_EIO), "comm '%s' cannot be opened",
                       c->plugin.name);
    processes = c->size(state);
    c->close(state);
    return processes == 1
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "comm '%s' connects %d processes; training on more than one is not "
                         "supported yet",
                         c->plugin.name, processes);
}

td_engine *td_session_engine(const td_session *s, bool updates, td_error *error)
{
    td_engine_options o = { .model = td_experiment_model(s->x),
                            .backend = s->x->backend,
                            .services = s->services,
                            .log = s->log };
    td_engine        *e;
    if (check_alone(s, error))
        return NULL;
    if (!updates) /* no states, and no gradients where nothing is differentiated */
        o.model.optimizer.plugin = NULL;
    e = td_engine_open(&o, error);
    if (!e)
        td_fail(error, TD_EIO, "backend '%s' cannot be opened", s->x->backend.plugin->name);
    return e;
}

void td_session_drop(td_session *s)
{
    td_engine_close(s->engine);
    free(s->loaded);
    s->engine = NULL;
    s->loaded = NULL;
}

int td_session_replace(td_session *s, bool updates, td_error *error)
{
    td_session_drop(s); /* first: there may not be memory for two models */
    s->engine = td_session_engine(s, updates, error);
    return s->engine ? 0 : td_failed(error, TD_EIO);
}

int td_session_hold(td_session *s, td_error *error)
{
    td_evaluate_spec spec;
    int              code = 0;
    if (s->engine)
        return 0;
    if (s->needs & TD_NEED_DATA) /* it limits what is planned to what there is to score */
        code = td_session_open_data(s, error);
    if (!code)
        code = td_session_replace(s, false, error);
    spec = td_session_evaluation_spec(s);
    if (!s->data_opened) /* nothing will be scored: the plan only declares the parameters */
        spec.batch = 1;
    if (!code)
        code = td_evaluate_plan(s->engine, &spec, NULL, error);
    if (!code)
        code = td_engine_allocate(s->engine, (uint64_t)s->x->train.seed_init, error);
    if (code) /* an engine that is kept can be used */
        td_session_drop(s);
    return code;
}

int td_session_take(td_session *s, const char *path, td_error *error)
{
    int code = td_weights_load(path, td_engine_variables(s->engine), td_engine_device(s->engine),
                               error);
    if (code) {
        td_session_drop(s);
        return code;
    }
    free(s->loaded);
    s->loaded = strdup(path);
    return s->loaded ? 0 : td_fail(error, TD_ENOMEM, "out of memory while loading parameters");
}

int td_session_result(int code, td_error *error)
{
    return code ? td_fail(error, code, "a plugin failed without a message") : 0;
}
