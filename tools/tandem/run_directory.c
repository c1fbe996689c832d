/* run_directory.c - lock, compare, describe. */
#include "run_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/machine.h"
#include "weights.h"

/* ---- one process at a time ------------------------------------------------------------------- */

/* Some network file systems have no locks: then only the user can see to it. */
static int lock(td_run_directory *r, const td_work *w, td_error *error)
{
    char *name = td_path_join(r->path, ".lock");
    int   code = 0;
    r->lock = name ? open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0666) : -1;
    if (r->lock < 0)
        code = td_fail(error, TD_EIO, "cannot make '%s/.lock': %s", r->path, strerror(errno));
    else if (flock(r->lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        code = td_fail(error, TD_ECONFIG,
                       "another process is training in '%s': wait for it, or choose another "
                       "run.name",
                       r->path);
    else if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP)
        td_log_line(w->tool->log, TD_LOG_WARN,
                    "cannot lock '%s' (%s): take care that no other process trains there", r->path,
                    strerror(errno));
    free(name);
    return code;
}

/* ---- the config of the run ------------------------------------------------------------------- */

/* What may change from one part of a run to the next (docs/config.md): how long it goes on, and
 * what it says. */
static bool may_change(const char *key)
{
    static const char *const allowed[] = { "train.steps", "train.*_every",   "train.keep_*",
                                           "train.guard", "train.spike",     "train.patience",
                                           "train.allow", "schedule.*",      "evaluate.*",
                                           "run.*",       "backend.threads", "plugin_path" };
    for (size_t k = 0; k < sizeof allowed / sizeof *allowed; k++)
        if (td_match(allowed[k], key))
            return true;
    return false;
}

/* The differences between the config that the run was started with and this one: those allowed are
 * told, others refused. */
static int check_changes(td_run_directory *r, const td_work *w, td_text *differences,
                         td_error *error)
{
    td_text refused = { 0 };
    char   *rest = NULL;
    int     code = 0;
    for (char *line = strtok_r(differences->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char key[300];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(line, ":"), line);
        r->other_evaluation |= td_match("evaluate.*", key) && strcmp(key, "evaluate.batch");
        if (may_change(key))
            td_log_line(w->tool->log, TD_LOG_INFO, "resuming with another %s", line);
        else if (td_work_allows(w, key))
            td_log_line(w->tool->log, TD_LOG_WARN, "resuming with another %s: allowed", line);
        else
            td_text_print(&refused, "\n  %s", line);
    }
    if (refused.size)
        code = td_fail(error, TD_ECONFIG,
                       "cannot resume: this config differs from the run's own in what it "
                       "computes:%.1500s\nundo that, say --allow KEY for a difference that is "
                       "meant, or start another run.name with train.weights",
                       td_text_get(&refused));
    td_text_free(&refused);
    return code;
}

static int compare_configs(td_run_directory *r, const td_work *w, td_error *error)
{
    td_errors errors = { 0 };
    char     *path = td_path_join(r->path, "config.cfg");
    td_text   differences = { 0 };
    int       code = 0;

    td_experiment *before = path ? td_work_differences(w, path, &differences, &errors) : NULL;
    if (!before)
        code =
            td_fail(error, TD_ECONFIG,
                    "cannot resume: '%s/config.cfg' does not say how the run was started: %.1500s",
                    r->path, td_text_get(&errors.text));
    else if (differences.size)
        code = check_changes(r, w, &differences, error);
    td_errors_free(&errors);
    td_text_free(&differences);
    td_experiment_close(before);
    free(path);
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int latest_in(const char *run, char **latest, td_error *error)
{
    char *checkpoints = td_path_join(run, "checkpoints");
    int   code = checkpoints ? td_checkpoint_latest(checkpoints, latest, error)
                             : td_fail(error, TD_ENOMEM, "out of memory");
    free(checkpoints);
    return code;
}

int td_run_latest(const td_work *w, char **latest, td_error *error)
{
    char *run = td_path_join(w->x->run.dir, w->x->run.name);
    int   code = run ? latest_in(run, latest, error) : td_fail(error, TD_ENOMEM, "out of memory");
    free(run);
    return code;
}

static int open_log(const td_run_directory *r, const td_work *w, td_error *error)
{
    char *log = td_path_join(r->path, "log.txt");
    int   code = log ? td_log_open_file(w->tool->log, log, error)
                     : td_fail(error, TD_ENOMEM, "out of memory");
    free(log);
    return code;
}

int td_run_open(td_run_directory *r, const td_work *w, bool resume, td_error *error)
{
    int code;
    *r = (td_run_directory){ .lock = -1 };
    r->path = td_path_join(w->x->run.dir, w->x->run.name);
    code = r->path ? td_make_directories(r->path, error)
                   : td_fail(error, TD_ENOMEM, "out of memory");
    if (!code)
        code = lock(r, w, error);
    if (!code)
        code = latest_in(r->path, &r->latest, error);
    if (!code && r->latest && !resume)
        return td_fail(error, TD_ECONFIG,
                       "'%s' holds a run already: go on with --resume, or choose another run.name",
                       r->path);
    if (!code)
        code = open_log(r, w, error);
    if (!code && r->latest)
        code = compare_configs(r, w, error);
    else if (!code && resume)
        td_log_line(w->tool->log, TD_LOG_INFO, "'%s' has no checkpoint yet: the run begins",
                    r->path);
    return code;
}

void td_run_close(td_run_directory *r)
{
    if (r->lock >= 0)
        close(r->lock);
    free(r->path);
    free(r->latest);
}

/* ---- what a checkpoint keeps ----------------------------------------------------------------- */

static json_t *json_of_plugin(const td_work *w, const td_plugin *p)
{
    const td_loaded *m = td_registry_module(w->x->registry, p);
    char             hash[33] = "";
    if (m && m->path)
        td_file_hash(m->path, hash, NULL);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", p->kind, "name", p->name, "version",
                     m && m->path ? m->module->version : "", "hash", hash, "file",
                     m && m->path ? m->path : "built in");
}

static json_t *json_of_plugins(const td_work *w)
{
    json_t          *plugins = json_array();
    const td_plugin *p;
    for (size_t i = 0; (p = td_config_plugin(w->x->config, i)); i++)
        json_array_append_new(plugins, json_of_plugin(w, p));
    for (size_t k = 0; !w->x->run.loggers.count && k < w->x->n_loggers; k++) /* named by nobody */
        json_array_append_new(plugins, json_of_plugin(w, w->x->loggers[k].plugin));
    return plugins;
}

char *td_run_about(const td_work *w, td_error *error)
{
    const td_device *d = td_engine_device(w->engine);
    const td_data   *data = (const void *)w->x->data.plugin;
    td_text          config = { 0 };
    char             arithmetic[1024] = "", records[32] = "", *out;
    json_t          *about;

    if (d->backend->arithmetic)
        d->backend->arithmetic(d->state, arithmetic, sizeof arithmetic);
    if (data->fingerprint)
        snprintf(records, sizeof records, "%016" PRIx64, data->fingerprint(w->data));
    td_config_print(w->x->config, true, &config);
    about = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "tandem", TANDEM_VERSION, "arithmetic",
                      arithmetic, "tokenizer", w->tokenizer_id, "records", records, "config",
                      td_text_get(&config), "plugins", json_of_plugins(w));
    out = about ? json_dumps(about, 0) : NULL;
    json_decref(about);
    td_text_free(&config);
    if (!out)
        td_fail(error, TD_ENOMEM, "out of memory while describing the run");
    return out;
}

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

static int refuse_other(const json_t *before, const json_t *now, const char *key, const char *what,
                        td_error *error)
{
    const char *a = word(before, key), *b = word(now, key);
    if (!*a || !*b || !strcmp(a, b))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "cannot resume: the %s is not that of the run any more (%s was saved, %s is "
                   "there): put it back, or start another run.name with train.weights",
                   what, a, b);
}

/* Plugins whose file is another; loggers compute nothing. */
static void tell_other_builds(const td_work *w, const json_t *before, const json_t *now)
{
    td_text list = { 0 };
    json_t *p, *q;
    size_t  i, k;
    json_array_foreach(json_object_get(now, "plugins"), i, p)
    {
        json_array_foreach(json_object_get(before, "plugins"), k,
                           q) if (!strcmp(word(p, "kind"), word(q, "kind")) &&
                                  !strcmp(word(p, "name"), word(q, "name")) &&
                                  strcmp(word(p, "hash"), word(q, "hash")) &&
                                  strncmp(word(p, "kind"), "logger", 6))
            td_text_print(&list, "%s%s '%s'", list.size ? ", " : "", word(p, "kind"),
                          word(p, "name"));
    }
    if (list.size)
        td_log_line(
            w->tool->log, TD_LOG_WARN,
            "resuming with other builds of %s than those of the run until now: its bits may "
            "not be those of an uninterrupted run",
            td_text_get(&list));
    td_text_free(&list);
}

static void tell_other(const td_work *w, const json_t *before, const json_t *now, const char *key,
                       const char *what)
{
    if (strcmp(word(before, key), word(now, key)))
        td_log_line(w->tool->log, TD_LOG_WARN,
                    "resuming with another %s (%s, until now %s): bits may not be those of an "
                    "uninterrupted run",
                    what, word(now, key), word(before, key));
}

int td_run_compare(const td_run_directory *r, const td_work *w, const char *about, td_error *error)
{
    char   *saved = td_checkpoint_about(r->latest, error);
    json_t *before = saved ? json_loads(saved, 0, NULL) : NULL, *now = json_loads(about, 0, NULL);
    int     code = saved ? 0 : td_failed(error, TD_EFORMAT);
    if (!code)
        code = refuse_other(before, now, "records", "training or held-out text", error);
    if (!code)
        code = refuse_other(before, now, "tokenizer", "tokenizer", error);
    if (!code) {
        tell_other(w, before, now, "tandem", "version of tandem");
        tell_other(w, before, now, "arithmetic", "arithmetic");
        tell_other_builds(w, before, now);
    }
    json_decref(before);
    json_decref(now);
    free(saved);
    return code;
}

/* ---- files for people ------------------------------------------------------------------------ */

static int write_text(const td_run_directory *r, const char *name, td_text *text, td_error *error)
{
    char *path = td_path_join(r->path, name);
    int   code = path ? td_file_write(path, td_text_get(text), text->size, error)
                      : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", name);
    free(path);
    td_text_free(text);
    return code;
}

static int write_config(const td_run_directory *r, const td_work *w, td_error *error)
{
    td_text text = { 0 };
    td_config_print(w->x->config, true, &text);
    return write_text(r, "config.cfg", &text, error);
}

/* What there was, and a paragraph for now. */
static int write_environment(const td_run_directory *r, const td_work *w, td_error *error)
{
    td_text          text = { 0 };
    const td_device *d = td_engine_device(w->engine);
    char            *path = td_path_join(r->path, "environment.txt"), device[1024] = "", when[64];
    char            *before = path && r->latest ? td_file_read(path, NULL, NULL) : NULL;
    time_t           now = time(NULL);
    struct tm        utc;
    json_t          *plugins = json_of_plugins(w), *p;
    size_t           i;

    if (d->backend->describe)
        d->backend->describe(d->state, device, sizeof device);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    td_text_print(&text, "%s%sstarted: %s, from %s\ntandem %s, plugin ABI %d.%d\n",
                  before ? before : "", before ? "\n" : "", when,
                  r->latest ? r->latest : "the beginning", TANDEM_VERSION, TD_ABI_MAJOR,
                  TD_ABI_MINOR);
    td_machine_describe(&text);
    td_text_print(&text, "backend %s: %s\n", d->backend->plugin.name, device);
    json_array_foreach(plugins, i, p)
        td_text_print(&text, "%-16s %-16s %s %s %s\n", word(p, "kind"), word(p, "name"),
                      word(p, "version"), word(p, "hash"), word(p, "file"));
    json_decref(plugins);
    free(path);
    free(before);
    return write_text(r, "environment.txt", &text, error);
}

static int write_model(const td_run_directory *r, const td_work *w, const td_memory *memory,
                       td_error *error)
{
    td_text       text = { 0 }, sizes = { 0 };
    td_variables *v = td_engine_variables(w->engine);
    char          bytes[5][32];
    int64_t       total = 0;

    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        total += x->count;
        td_text_print(&text, "%-60s %12" PRId64 "  [", x->name, x->count);
        for (int k = 0; k < x->rank; k++)
            td_text_print(&text, "%s%" PRId64, k ? ", " : "", x->dim[k]);
        td_text_print(&text, "]\n");
    }
    td_text_print(&sizes,
                  "%" PRId64 " parameters; memory: parameters %s, gradients %s, optimizer %s, "
                  "activations %s, inputs %s",
                  total, td_human_bytes(bytes[0], (double)memory->parameters),
                  td_human_bytes(bytes[1], (double)memory->gradients),
                  td_human_bytes(bytes[2], (double)memory->states),
                  td_human_bytes(bytes[3], (double)memory->activations),
                  td_human_bytes(bytes[4], (double)memory->inputs));
    td_log_line(w->tool->log, TD_LOG_INFO, "%s: %s, %s, %s: %s", w->x->run.name,
                w->x->model.plugin->name, w->x->loss.plugin->name, w->x->optimizer.plugin->name,
                td_text_get(&sizes));
    td_text_print(&text, "\n%s\n", td_text_get(&sizes));
    td_text_free(&sizes);
    return write_text(r, "model-info.txt", &text, error);
}

int td_run_describe(const td_run_directory *r, const td_work *w, const td_memory *memory,
                    td_error *error)
{
    int code = write_config(r, w, error);
    if (!code)
        code = write_environment(r, w, error);
    return code ? code : write_model(r, w, memory, error);
}
