/* provenance.c - records a run's inputs and environment, compares two such records, and writes them
 * for people.
 *
 * Someone who finds a run a year later should be able to tell how it was computed, and whether the
 * result would be the same today.
 */
#include "run/provenance.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "base/machine.h"
#include "config/resolved.h"
#include "model/arrange.h"
#include "model/checkpoint.h"
#include "plugin/hook.h"
#include "run/keep.h"
#include "run/results.h"
#include "run/weights.h"
#include "tandem/files.h"
#include "tandem/random.h"
#include "train/reduce.h"

/* ---- what a checkpoint keeps ----------------------------------------------------------------- */

/* The hash of its file distinguishes builds of the same version. */
static json_t *json_of_plugin(const td_session *s, const td_plugin *p)
{
    const td_loaded *m = td_registry_module(s->registry, p);
    bool             loaded = m && m->path;
    char             hash[33] = "";
    if (loaded)
        td_file_hash(m->path, hash, NULL);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", p->kind, "name", p->name, "version",
                     loaded ? m->module->version : "", "hash", hash, "file",
                     loaded ? m->path : "built in");
}

static json_t *json_of_plugins(const td_session *s)
{
    json_t          *plugins = json_array();
    const td_plugin *p;
    for (size_t i = 0; (p = td_config_plugin(s->x->config, i)); i++)
        json_array_append_new(plugins, json_of_plugin(s, p));
    /* include the standard loggers, which the config does not name */
    for (size_t k = 0; !s->x->run.loggers.count && k < s->x->n_loggers; k++)
        json_array_append_new(plugins, json_of_plugin(s, s->x->loggers[k].plugin));
    return plugins;
}

/* How many processes add up the gradients: it decides the last bits, but not under "exact". */
static void print_processes(const td_session *s, char out[32])
{
    if (s->x->train.reduce == TD_REDUCE_EXACT)
        strcpy(out, "any number");
    else
        snprintf(out, 32, "%d", td_team_size(s->team));
}

/* What identifies the held-out text alone, in `out`; "": the data has no fingerprint. It is opened
 * a second time, since that of training has another fingerprint. */
static int print_held_out(td_session *s, char out[32], td_error *error)
{
    const td_data *d = (const void *)s->x->data.plugin;
    td_own_data    own = { s->data, s->data_opened };
    unsigned       needs = s->needs;
    int            code;
    *out = 0;
    if (!d->fingerprint)
        return 0;
    s->data_opened = false;
    s->needs |= TD_NEED_HELD_OUT;
    code = td_session_open_data(s, error);
    s->needs = needs;
    if (!code)
        snprintf(out, 32, "%016" PRIx64, TD_HOOK(d, fingerprint, s->data));
    td_session_restore_data(s, &own);
    return code;
}

char *td_run_about(td_session *s, td_error *error)
{
    const td_device *d = td_engine_device(s->engine);
    const td_data   *data = (const void *)s->x->data.plugin;
    td_text          config = { 0 };
    char             arithmetic[1024] = "", records[32] = "", held_out[32], processes[32], *out;
    json_t          *about;

    /* recorded besides the plugins: the same build computes different bits with another
     * instruction set */
    if (d->backend->arithmetic)
        d->backend->arithmetic(d->state, arithmetic, sizeof arithmetic);
    if (data->fingerprint)
        snprintf(records, sizeof records, "%016" PRIx64, TD_HOOK(data, fingerprint, s->data));
    if (print_held_out(s, held_out, error))
        return NULL;
    print_processes(s, processes);
    td_config_print_kept(s->x->config, &config);
    about = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:o}", "tandem", TANDEM_VERSION,
                      "arithmetic", arithmetic, "processes", processes, "tokenizer",
                      s->tokenizer_id, "records", records, "held_out", held_out, "inputs_end",
                      td_arrange_pair(&s->x->data).inputs_end, "config", td_text_get(&config),
                      "plugins", json_of_plugins(s));
    out = about ? json_dumps(about, 0) : NULL;
    json_decref(about);
    if (config.failed) {
        free(out);
        out = NULL;
    }
    td_text_free(&config);
    if (!out)
        td_fail(error, TD_ENOMEM, "out of memory while describing the run");
    return out;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

/* An empty text means unknown, and is never refused. */
static int refuse_other(const json_t *before, const json_t *now, const char *key, const char *what,
                        td_error *error)
{
    const char *a = word(before, key), *b = word(now, key);
    if (!*a || !*b || !strcmp(a, b))
        return 0;
    return td_fail(error, TD_ECONFIG,
                   "cannot resume: the %s is not the run's own (saved: %s, found: %s): restore it, "
                   "or start another run.name with train.weights",
                   what, a, b);
}

static bool is_other_build(const json_t *a, const json_t *b)
{
    return !strcmp(word(a, "kind"), word(b, "kind")) && !strcmp(word(a, "name"), word(b, "name")) &&
           strcmp(word(a, "hash"), word(b, "hash"));
}

/* A rebuilt plugin usually computes the same, but that cannot be verified, so this is a warning. */
static void warn_of_builds(const td_session *s, const json_t *before, const json_t *now)
{
    td_text list = { 0 };
    json_t *p, *q;
    size_t  i, k;
    json_array_foreach(json_object_get(now, "plugins"), i, p)
    {
        json_array_foreach(json_object_get(before, "plugins"), k, q)
        {
            /* loggers do not affect results */
            if (is_other_build(p, q) && strncmp(word(p, "kind"), "logger", 6))
                td_text_print(&list, "%s%s '%s'", list.size ? ", " : "", word(p, "kind"),
                              word(p, "name"));
        }
    }
    if (list.size)
        td_log_line(s->log, TD_LOG_WARN,
                    "resuming with different builds of %s: the files were compiled again since the "
                    "run began, so if their code or compiler changed, the result differs from an "
                    "uninterrupted run's, if only in its last bits",
                    td_text_get(&list));
    td_text_free(&list);
}

static void warn_of(const td_session *s, const json_t *before, const json_t *now, const char *key,
                    const char *what)
{
    if (strcmp(word(before, key), word(now, key)))
        td_log_line(s->log, TD_LOG_WARN,
                    "resuming with a different %s (%s, before %s): the result may differ in its "
                    "last bits from an uninterrupted run's",
                    what, word(now, key), word(before, key));
}

int td_run_compare(const td_run_directory *r, const td_session *s, const char *about,
                   td_error *error)
{
    td_error why = { 0 };
    char    *saved = td_checkpoint_about(r->latest, &why);
    json_t  *before = saved ? json_loads(saved, 0, NULL) : NULL, *now = json_loads(about, 0, NULL);
    int      code = saved ? 0
                          : td_fail(error, why.code,
                                    "cannot resume: %.1200s; remove the directory '%.500s' to resume "
                                         "from the checkpoint before it",
                                    why.text, r->latest);
    /* a different text or tokenizer is a different experiment; another build only rounds
     * differently */
    if (!code)
        code = refuse_other(before, now, "records", "training or held-out text", error);
    if (!code)
        code = refuse_other(before, now, "tokenizer", "tokenizer", error);
    if (!code) {
        warn_of(s, before, now, "tandem", "version of tandem");
        warn_of(s, before, now, "arithmetic", "arithmetic");
        if (*word(before, "processes")) /* older checkpoints do not say */
            warn_of(s, before, now, "processes", "number of processes");
        warn_of_builds(s, before, now);
    }
    json_decref(before);
    json_decref(now);
    free(saved);
    return code;
}

/* ---- the held-out text ----------------------------------------------------------------------- */

static int judge_held_out(td_session *s, const char *was, const char *is, td_error *error)
{
    if (!strcmp(was, is))
        return 0;
    if (!td_session_allows(s, "data"))
        return td_fail(error, TD_ECONFIG,
                       "the run in '%.900s' has different held-out text (saved: %s, found: %s), so "
                       "it may have been trained on this: restore the "
                       "files that data names, or score this text all the same (--allow data)",
                       td_session_directory(s), was, is);
    td_log_line(
        s->log, TD_LOG_WARN,
        "the held-out text is not the run's own: allowed; the run may have been trained on it");
    return 0;
}

int td_run_check_held_out(td_session *s, const char *weights, td_error *error)
{
    bool        own = td_results_lie_in(weights, td_session_directory(s));
    char       *checkpoint = own ? td_path_directory(weights) : NULL, is[32];
    /* one that cannot be read was reported when its model was compared */
    char       *about = checkpoint ? td_checkpoint_about(checkpoint, &(td_error){ 0 }) : NULL;
    json_t     *j = about ? json_loads(about, 0, NULL) : NULL;
    const char *was = word(j, "held_out");
    int         code = 0;
    if (*was)
        code = print_held_out(s, is, error);
    if (*was && *is && !code)
        code = judge_held_out(s, was, is, error);
    else if (!*was && *word(j, "records"))
        td_log_line(s->log, TD_LOG_INFO,
                    "the checkpoint '%s', of an older version, does not record its run's held-out "
                    "text: unchecked",
                    checkpoint);
    json_decref(j);
    free(about);
    free(checkpoint);
    return code;
}

/* ---- the text later -------------------------------------------------------------------------- */

typedef struct stamping {
    uint64_t hash;
    time_t   newest;
} stamping;

static void stamp_file(stamping *s, const char *path)
{
    struct stat st = { 0 };
    int64_t     about[3];
    if (stat(path, &st))
        st = (struct stat){ 0 };
    about[0] = st.st_size;
    about[1] = st.st_mtim.tv_sec;
    about[2] = st.st_mtim.tv_nsec;
    s->hash = td_hash(td_hash(s->hash, path, strlen(path) + 1), about, sizeof about);
    s->newest = st.st_mtim.tv_sec > s->newest ? st.st_mtim.tv_sec : s->newest;
}

static void stamp_pattern(void *arg, const char *pattern)
{
    glob_t found = { 0 };
    if (td_glob(pattern, 0, &found))
        stamp_file(arg, pattern);
    for (size_t k = 0; k < found.gl_pathc; k++)
        stamp_file(arg, found.gl_pathv[k]);
    globfree(&found);
}

td_text_stamp td_run_stamp_text(const td_session *s)
{
    stamping      all = { .hash = td_random_stream("stamp") };
    td_text_stamp out;
    td_config_each_file(s->x->config, "data", stamp_pattern, &all);
    snprintf(out.of, sizeof out.of, "%016" PRIx64, all.hash);
    out.newest = all.newest;
    return out;
}

int td_run_is_other_text(td_session *s, const char *checkpoint, bool *other, td_error *error)
{
    const td_data *d = (const void *)s->x->data.plugin;
    char          *about = td_checkpoint_about(checkpoint, error), found[32];
    json_t        *j = about ? json_loads(about, 0, NULL) : NULL;
    const char    *was = word(j, "records");
    int            code = about ? 0 : td_failed(error, TD_EFORMAT);
    *other = false;
    if (!code && *was && d->fingerprint)
        code = td_session_open_data(s, error);
    if (s->data_opened) {
        snprintf(found, sizeof found, "%016" PRIx64, TD_HOOK(d, fingerprint, s->data));
        *other = strcmp(was, found) != 0;
    }
    json_decref(j);
    free(about);
    return code;
}

/* ---- files for people ------------------------------------------------------------------------ */

/* Frees the text. */
static int write_text(const char *directory, const char *name, td_text *text, td_error *error)
{
    /* half a text would be read as a whole one when the run is resumed */
    char *path = text->failed ? NULL : td_path_join(directory, name);
    int   code = path ? td_file_write(path, td_text_get(text), text->size, error)
                      : td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", name);
    free(path);
    td_text_free(text);
    return code;
}

static int write_config(const td_run_directory *r, const td_session *s, td_error *error)
{
    td_text text = { 0 };
    td_config_print_kept(s->x->config, &text);
    return write_text(r->path, "config.cfg", &text, error);
}

static void print_plugins(const td_session *s, td_text *out)
{
    json_t *plugins = json_of_plugins(s), *p;
    size_t  i;
    json_array_foreach(plugins, i, p)
        td_text_print(out, "%-16s %-16s %s %s %s\n", word(p, "kind"), word(p, "name"),
                      word(p, "version"), word(p, "hash"), word(p, "file"));
    json_decref(plugins);
}

/* Where modules were looked for: --plugin-path is in no config. */
static void print_paths(const td_session *s, td_text *out)
{
    const char *const *paths = td_registry_paths(s->registry);
    td_text_print(out, "modules are looked for in");
    for (size_t k = 0; paths[k]; k++)
        td_text_print(out, "%s %s", k ? "," : "", paths[k]);
    td_text_print(out, "\n");
}

/* What was done now, from what, and by which program on which machine. */
static void print_beginning(const char *what, const char *from, td_text *out)
{
    char      when[64];
    time_t    now = time(NULL);
    struct tm utc;
    /* UTC, because parts of a run may be on machines in several time zones */
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    td_text_print(out, "%s: %s, from %s\ntandem %s, plugin ABI %d.%d\n", what, when, from,
                  TANDEM_VERSION, TD_ABI_MAJOR, TD_ABI_MINOR);
    td_machine_describe(out);
}

static void print_start(const td_run_directory *r, const td_session *s, td_text *out)
{
    const td_device *d = td_engine_device(s->engine);
    char             device[1024] = "";

    if (d->backend->describe)
        TD_HOOK(d->backend, describe, d->state, device, sizeof device);
    print_beginning("started", r->latest ? r->latest : "the beginning", out);
    td_text_print(out, "backend %s: %s\n", d->backend->plugin.name, device);
    print_paths(s, out);
    print_plugins(s, out);
}

/* Keeps the paragraphs of earlier parts of the run, each with its machine. */
static int write_environment(const td_run_directory *r, const td_session *s, td_error *error)
{
    td_text text = { 0 };
    char   *path = td_path_join(r->path, "environment.txt");
    char   *before = path && r->latest ? td_file_read(path, NULL, NULL) : NULL;
    if (before)
        td_text_print(&text, "%s\n", before);
    print_start(r, s, &text);
    free(path);
    free(before);
    return write_text(r->path, "environment.txt", &text, error);
}

int td_run_describe_converted(const char *directory, td_error *error)
{
    td_text text = { 0 };
    print_beginning("converted", "another model", &text);
    return write_text(directory, "environment.txt", &text, error);
}

/* Writes a line per parameter; returns the total number of elements. */
static int64_t print_parameters(td_variables *v, td_text *out)
{
    int64_t total = 0;
    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        total += x->count;
        td_text_print(out, "%-60s %12" PRId64 "  [", x->name, x->count);
        for (int k = 0; k < x->rank; k++)
            td_text_print(out, "%s%" PRId64, k ? ", " : "", x->dim[k]);
        td_text_print(out, "]\n");
    }
    return total;
}

/* Names and shapes, for writing patterns in optimizer.groups. */
static int write_model(const td_run_directory *r, const td_session *s,
                       const td_footprint *footprint, td_error *error)
{
    td_text text = { 0 }, sizes = { 0 };
    int64_t total = print_parameters(td_engine_variables(s->engine), &text);

    /* the sum is also logged: it is the first thing to check in a run */
    td_text_print(&sizes, "%" PRId64 " parameters; memory: ", total);
    td_footprint_print(footprint, &sizes);
    td_log_line(s->log, TD_LOG_INFO, "%s: %s, %s, %s: %s", s->x->run.name, s->x->model.plugin->name,
                s->x->loss.plugin->name, s->x->optimizer.plugin->name, td_text_get(&sizes));
    td_text_print(&text, "\n%s\n", td_text_get(&sizes));
    td_text_free(&sizes);
    return write_text(r->path, "model-info.txt", &text, error);
}

int td_run_describe(const td_run_directory *r, td_session *s, const td_footprint *footprint,
                    td_error *error)
{
    int code = td_run_keep(s, r->path, error);
    if (!code)
        code = write_config(r, s, error);
    if (!code)
        code = write_environment(r, s, error);
    return code ? code : write_model(r, s, footprint, error);
}
