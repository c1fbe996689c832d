/* work.c - opens a session from the arguments. */
#include "work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/ranks.h"
#include "guard.h"
#include "plugin/hook.h"
#include "report/report.h"
#include "run/keep.h"
#include "run/locate.h"
#include "run/picture.h"

/* The values of --allow, for a command that accepts it, then NULL. */
static const char **allowed(const td_tool *t)
{
    size_t       n = td_tool_count(t, "--allow");
    const char **list = calloc(n + 1, sizeof *list);
    for (size_t k = 0; list && k < n; k++)
        list[k] = td_tool_option_at(t, "--allow", k);
    return list;
}

td_session *td_work_open(td_tool *t, unsigned needs, int *code)
{
    td_errors          errors = { 0 };
    td_error           e = { 0 };
    const char       **allow = allowed(t);
    /* the lists of a td_tool end with NULL: it is zeroed, and one argument is always left */
    td_session_options o = { .size = sizeof o,
                             .files = t->files,
                             .settings = t->overrides,
                             .plugin_paths = t->plugin_paths,
                             .kept = t->n_kept,
                             .untrusted = t->looks && !t->trust,
                             .allow = allow };
    td_session        *s = td_session_begin(&o, needs, t->log, &errors, &e);

    free(allow);
    if (errors.count) { /* plain lines that begin with the file, so that editors can jump there */
        fprintf(stderr, "%s\n", td_text_get(&errors.text));
        *code = TD_EXIT_USAGE;
    } else if (!s)
        *code = td_tool_fail(t, &e);
    td_errors_free(&errors);
    return s;
}

/* ---- several processes ----------------------------------------------------------------------- */

bool td_work_follows(td_tool *t)
{
    td_ranks r = td_ranks_of_environment();
    char     name[32];
    if (!r.rank)
        return false;
    /* rank 0 says the same, except for errors */
    if (!td_tool_option(t, "--every-rank")) {
        td_log_free(t->log);
        t->log = td_log_new(TD_LOG_ERROR);
    }
    snprintf(name, sizeof name, "rank %d: ", r.rank);
    if (t->log)
        td_log_name(t->log, name);
    return true;
}

/* The thread that computes waits for the others, and cannot be woken. mpirun and srun end the others
 * when one has left like this. */
_Noreturn void td_work_lost(void *tool, const char *why)
{
    const td_tool *t = tool;
    const char    *saved = td_hook_what_is_saved();
    td_log_line(t->log, TD_LOG_ERROR, "tandem %s: %s%s%s", t->command, why,
                *saved ? "; saved: " : "", saved);
    _exit(td_guard_end(TD_EXIT_REQUEUE));
}

int td_work_join(td_tool *t, td_session *s, td_error *error)
{
    return td_ranks_of_environment().size > 1 ? td_session_join(s, td_work_lost, t, error) : 0;
}

void td_work_end_if_lost(td_tool *t, const td_session *s, const td_error *e)
{
    if (td_team_is_lost(s->team))
        td_work_lost(t, e->text);
}

int td_work_end(td_tool *t, const td_session *s, int code, const td_error *e)
{
    td_work_end_if_lost(t, s, e);
    if (!code)
        return TD_EXIT_OK;
    return td_team_leads(s->team) ? td_tool_fail(t, e) : td_tool_exit_code(e);
}

/* ---- which parameters ------------------------------------------------------------------------ */

bool td_work_step(td_tool *t, int64_t *step)
{
    bool best = td_tool_option(t, "--best") != NULL;
    if (!td_tool_integer(t, "--step", TD_STEP_NEWEST, 0, 99999999, step))
        return false;
    if (best && *step != TD_STEP_NEWEST) {
        td_tool_usage_error(t, "--best and --step choose different checkpoints: use one");
        return false;
    }
    if (best)
        *step = TD_STEP_BEST;
    return true;
}

/* The run's config comes first, so that -c and key=value can change it. */
static void put_first(td_tool *t, const char *config)
{
    memmove(t->files + 1, t->files, t->n_files * sizeof *t->files);
    t->files[0] = config;
    t->n_files++;
    t->n_kept++;
}

bool td_work_take_run(td_tool *t, td_run_place *place)
{
    *place = (td_run_place){ 0 };
    if (!t->n_plain || !td_run_place_find(place, t->plain[0]))
        return false;
    put_first(t, place->config);
    return true;
}

/* The name beside it that is nearest to a path that does not exist; free() it. NULL: none. */
static char *near_path(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *nearest;
    char       *directory = slash ? td_path_directory(path) : strdup("."), **names = NULL;
    char       *found = NULL;
    int64_t     n = directory ? td_list_directory(directory, &names, NULL) : -1;
    nearest = n > 0 ? td_nearest(name, (const char *const *)names, (size_t)n) : NULL;
    if (nearest)
        found = slash ? td_path_join(directory, nearest) : strdup(nearest);
    if (n >= 0)
        td_free_names(names, n);
    free(directory);
    return found;
}

int td_work_no_run(td_tool *t, const char *name)
{
    char *config = td_tool_config_near(name);
    bool  there = td_file_exists(name), study = td_report_is_study(name);
    char *near = there || config ? NULL : near_path(name);
    int   code;
    if (config && !there)
        code = td_tool_usage_error(
            t, "'%s' is neither a run nor a checkpoint; did you mean the config '%s'?", name,
            config);
    else if (study)
        code = td_tool_usage_error(
            t, "'%s' is a study, not a run: name one of its runs, which are in '%s/cells'", name,
            name);
    else if (there)
        code = td_tool_usage_error(t,
                                   "'%s' is neither a run nor a checkpoint: it has no config.cfg",
                                   name);
    else
        code = td_tool_usage_error(
            t, "'%s' is neither a run nor a checkpoint: it does not exist%s%s%s", name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    free(config);
    free(near);
    return code;
}

bool td_work_has_model(td_tool *t, const td_run_place *place, int *code)
{
    if (t->n_plain && !place->run && t->n_files)
        /* with a config the argument can only be a misspelt one */
        *code = td_tool_usage_error(t,
                                    "unexpected argument '%s': it is neither an option, nor "
                                    "FILE.cfg, nor key=value, nor the directory of a run",
                                    t->plain[0]);
    else if (t->n_plain && !place->run)
        *code = td_work_no_run(t, t->plain[0]);
    else if (!t->n_files)
        *code = td_tool_usage_error(
            t, "no model: name the directory of a run, or a config with -c FILE.cfg");
    else
        return true;
    return false;
}

void td_work_trust(td_tool *t, const char *modules)
{
    if (!modules || !t->trust)
        return;
    /* before the user's own paths: it is this run that is trusted */
    memmove(t->plugin_paths + 1, t->plugin_paths, t->n_plugin_paths * sizeof *t->plugin_paths);
    t->plugin_paths[0] = modules;
    t->n_plugin_paths++;
}

void td_work_advise(const td_tool *t, const char *modules)
{
    if (modules && !t->trust)
        td_tool_say(
            "that may be because the modules that the run was made with, '%s', were not loaded: "
            "--trust loads them, --plugin-path DIR loads your own\n",
            modules);
}

td_session *td_work_open_run(td_tool *t, const td_run_place *place, unsigned needs, int *code)
{
    char       *modules = place->run ? td_run_modules(place->run) : NULL;
    td_session *s;
    td_error    e = { 0 };
    td_work_trust(t, modules);
    s = td_work_open(t, needs, code);
    if (!s)
        td_work_advise(t, modules);
    free(modules);
    if (!s || !place->run || !td_run_place_enter(place, s, &e))
        return s;
    *code = td_tool_fail(t, &e);
    td_session_close(s);
    return NULL;
}

char *td_work_weights(td_tool *t, const td_run_place *place, td_session *s, int64_t step,
                      td_error *error)
{
    const char *named = td_tool_option(t, "--weights");
    return named ? td_weights_locate(named, step, error)
                 : td_run_place_weights(place, s, step, error);
}

/* The checkpoint of a run that is training may be removed (train.keep_last) after it was found.
 * Then there is a newer one. */
char *td_work_load(td_tool *t, const td_run_place *place, td_session *s, int64_t step,
                   td_error *error)
{
    enum { ATTEMPTS = 4 };
    td_error why = { 0 };
    for (int k = 0; k < ATTEMPTS; k++) {
        why = (td_error){ 0 };
        char *weights = td_work_weights(t, place, s, step, &why);
        bool  gone = false;
        if (weights && !td_session_load(s, weights, &why))
            return weights;
        gone = weights && !td_file_exists(weights);
        free(weights);
        if (!gone)
            break;
    }
    td_fail(error, why.code, "%s", why.text);
    return NULL;
}

/* ---- lists and pictures ----------------------------------------------------------------------- */

bool td_work_numbers(td_tool *t, const char *option, int64_t lowest, td_numbers *l)
{
    const char *text = td_tool_option(t, option);
    char       *end;
    l->n = 0;
    for (const char *at = text; at; at = *end ? end + 1 : NULL) {
        /* strtoll reports numbers beyond int64 only through errno */
        errno = 0;
        if (l->n == sizeof l->at / sizeof *l->at) {
            td_tool_usage_error(t, "%s takes at most %zu numbers", option, l->n);
            return false;
        }
        l->at[l->n++] = strtoll(at, &end, 10);
        if (end == at || errno || l->at[l->n - 1] < lowest || (*end && *end != ',')) {
            td_tool_usage_error(t, "%s takes whole numbers %s 0, separated by commas, not '%s'",
                                option, lowest ? "above" : "from", text);
            return false;
        }
    }
    return true;
}

int td_work_draw(td_tool *t, const char *directory, const char *name, bool *drawn, td_error *error)
{
    td_text  script = { 0 };
    td_error why = { 0 };
    int      code;
    td_text_print(&script, "%s.gnuplot", name);
    code = td_picture_draw(directory, td_text_get(&script), &why);
    td_text_free(&script);
    *drawn = !code;
    /* there is no gnuplot here: data and script are written, and can be drawn elsewhere */
    if (code == TD_EUNSUPPORTED)
        td_log_line(t->log, TD_LOG_WARN, "no plot was drawn: %s", why.text);
    else if (code)
        return td_fail(error, code, "%s", why.text);
    return 0;
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* A run that is compared with itself has no difference, and p = 1, which says nothing; as another
 * group it would also weaken the correction of every other p. */
void td_work_leave_out_repeated(td_tool *t)
{
    char  *seen[TD_ARGUMENTS];
    size_t n = 0, kept = 0;
    for (size_t k = 0; k < t->n_plain; k++) {
        char  *real = realpath(t->plain[k], NULL); /* NULL: it is not there, which is said later */
        size_t i = 0;
        while (i < n && !(real && !strcmp(seen[i], real)))
            i++;
        if (i < n) {
            td_log_line(t->log, TD_LOG_WARN,
                        "'%s' is a run that was already named: it is read once", t->plain[k]);
            free(real);
            continue;
        }
        t->plain[kept++] = t->plain[k];
        if (real)
            seen[n++] = real;
    }
    t->n_plain = kept;
    while (n)
        free(seen[--n]);
}

/* ---- printing -------------------------------------------------------------------------------- */

void td_work_print_json(json_t *j, size_t flags)
{
    json_dumpf(j, stdout, flags);
    putchar('\n');
    json_decref(j);
}

void td_work_result(td_tool *t, json_t *j)
{
    if (t->results)
        json_array_append_new(t->results, j);
    else
        td_work_print_json(j, JSON_INDENT(2));
}
