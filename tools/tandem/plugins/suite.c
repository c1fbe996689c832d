/* suite.c - runs the tests of modules as child processes.
 *
 * For each module a "load" job comes first: a child that loads the module and prints which plugins
 * it has. Then the tests of these plugins are queued, each a job. This process never loads a module
 * itself, so nothing that a plugin does can harm it. Children end in any order; results are
 * reported in the order of the queue, as soon as all earlier ones are there. */
#include "plugins/suite.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "check/check.h"
#include "plugin/suggest.h"
#include "plugins/here.h"
#include "plugins/ranks.h"

/* ---- the queue ------------------------------------------------------------------------------- */

static int add_job(td_suite *s, const char *path, const char *plugin, const char *test, int ranks,
                   td_error *error)
{
    if (s->count == s->room) {
        size_t        room = s->room ? 2 * s->room : 64;
        td_check_job *larger = realloc(s->jobs, room * sizeof *larger);
        if (!larger)
            return td_fail(error, TD_ENOMEM, "out of memory while listing the tests");
        s->jobs = larger;
        s->room = room;
    }
    s->jobs[s->count] = (td_check_job){ .path = path, .test = test, .ranks = ranks };
    /* a copy: the caller's is gone when the test starts */
    snprintf(s->jobs[s->count++].plugin, sizeof s->jobs->plugin, "%s", plugin);
    return 0;
}

/* Queues the tests of all plugins of a module, from what its load job printed. */
static int add_tests(td_suite *s, size_t load, td_error *error)
{
    json_t     *plugins = json_object_get(s->jobs[load].result, "plugins");
    const char *path = s->jobs[load].path;
    for (size_t k = 0; k < json_array_size(plugins); k++) {
        json_t     *p = json_array_get(plugins, k);
        const char *kind = json_string_value(json_object_get(p, "kind")),
                   *name = json_string_value(json_object_get(p, "name"));
        char plugin[300];
        snprintf(plugin, sizeof plugin, "%.*s/%s", td_tool_kind_length(kind), kind, name);
        if (s->plugin && strcmp(s->plugin, plugin))
            continue;
        /* add_job may move the jobs; `plugins` and `path` stay where they are. */
        for (const td_check_case *t = td_check_cases(); t->name; t++)
            if (td_check_applies(t, kind) && (!s->only || !strcmp(s->only, t->name)) &&
                add_job(s, path, plugin, t->name, t->ranks, error))
                return error->code;
    }
    return 0;
}

/* ---- children -------------------------------------------------------------------------------- */

/* A plugin that hangs does so in most of its tests: after two the rest would only take time. */
static bool hangs(const td_suite *s, const td_check_job *j)
{
    size_t late = 0;
    for (size_t k = 0; k < s->begun; k++)
        late += s->jobs[k].done && s->jobs[k].child.end == TD_CHILD_LATE &&
                s->jobs[k].path == j->path && !strcmp(s->jobs[k].plugin, j->plugin);
    return late >= 2;
}

/* Whether the tests of a plugin, "norm/rms", may open a device. */
static bool opens_device(const char *plugin)
{
    return !strncmp(plugin, "backend/", strlen("backend/")) ||
           !strncmp(plugin, "kernels/", strlen("kernels/"));
}

/* Starts the processes of a test that several run together; `words` end with NULL. */
static int start_ranks(td_suite *s, size_t number, const char *const *words,
                       const td_child_limits *limits, td_error *error)
{
    td_check_job  *j = &s->jobs[number];
    const char    *argv[TD_RANKS_WORDS + 5 * TD_ARGUMENTS];
    td_ranks_start r;
    int            code = td_ranks_prepare(&r, j->ranks, s->directory, number, error);
    if (!code && r.mpirun) {
        td_ranks_words(&r, argv);
        for (size_t k = TD_RANKS_WORDS; (argv[k] = *words++) != NULL;)
            k++;
        code = td_child_start(&j->child, (char *const *)(uintptr_t)argv, s->directory, number,
                              limits, error);
    } else if (!code) {
        j->done = true;
        j->result = json_pack("{s:[], s:s}", "findings", "skipped",
                              "it needs several processes, and mpirun is not installed");
    }
    j->out = r.out;
    r.out = NULL;
    td_ranks_free(&r);
    return code;
}

/* Starts the child of a job: `tandem plugins check FILE --here --only TEST ..`, with the config and
 * the plugin paths that we were given. */
static int start(td_suite *s, size_t number, td_error *error)
{
    td_check_job   *j = &s->jobs[number];
    td_tool        *t = s->tool;
    const char     *only = *j->plugin ? j->plugin : s->plugin ? s->plugin : "";
    /* 10 words, two for each path and file, one for each override, and the NULL */
    const char     *argv[5 * TD_ARGUMENTS] = { "tandem",  "plugins", "check", j->path,    "--here",
                                               "--quiet", "--only",  j->test, "--plugin", only };
    size_t          n = 10;
    td_child_limits limits = s->limits;
    for (size_t k = 0; k < t->n_plugin_paths; k++) {
        argv[n++] = "--plugin-path";
        argv[n++] = t->plugin_paths[k];
    }
    for (size_t k = 0; k < t->n_files; k++) {
        argv[n++] = "-c";
        argv[n++] = t->files[k];
    }
    for (size_t k = 0; k < t->n_overrides; k++)
        argv[n++] = t->overrides[k];
    j->started = true;
    if (hangs(s, j)) {
        j->done = j->dropped = true;
        return 0;
    }
    /* so does the shared memory of an MPI */
    limits.reserves = opens_device(j->plugin) || j->ranks > 1;
    if (j->ranks > 1)
        return start_ranks(s, number, argv + 1, &limits, error);
    return td_child_start(&j->child, (char *const *)(uintptr_t)argv, s->directory, number, &limits,
                          error);
}

static size_t running(const td_suite *s)
{
    size_t n = 0;
    for (size_t k = 0; k < s->begun; k++)
        n += s->jobs[k].started && !s->jobs[k].done;
    return n;
}

/* Takes the results of children that have ended. */
static void collect(td_suite *s)
{
    for (size_t k = 0; k < s->begun; k++) {
        td_check_job *j = &s->jobs[k];
        if (j->done || !td_child_poll(&j->child, &s->limits))
            continue;
        j->done = true;
        if (j->child.end == TD_CHILD_EXITED)
            j->result = j->ranks > 1 ? td_ranks_result(j->out, j->ranks)
                                     : json_load_file(j->child.out, 0, NULL);
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Runs the queued jobs. */
static int run_jobs(td_suite *s, td_error *error)
{
    static const struct timespec pause = { .tv_nsec = 3000000 };
    while (s->shown < s->count) {
        while (s->begun < s->count && running(s) < s->together)
            if (start(s, s->begun++, error))
                return error->code;
        collect(s);
        if (s->jobs[s->shown].done) {
            td_report_job(&s->report, &s->jobs[s->shown++]);
            continue;
        }
        /* The wait between two polls is also where a Ctrl-C arrives: see check.c. */
        s->stopped = sigtimedwait(&s->ends, NULL, &pause);
        if (s->stopped > 0)
            return td_fail(error, TD_EIO, "stopped: %s", strsignal(s->stopped));
    }
    return 0;
}

/* Handles the load job's result: stops at an error in the config, which every test would repeat;
 * otherwise queues the tests. */
static int check_loaded(td_suite *s, size_t load, td_error *error)
{
    const td_tool *t = s->tool;
    json_t        *result = s->jobs[load].result;
    const char    *config = json_string_value(json_object_get(result, "config"));
    if (config && *config)
        return td_fail(error, TD_ECONFIG, "%s%s", config,
                       t->n_overrides && !t->n_files
                           ? "\n(an option of the plugin itself has no group in front: gate=false)"
                           : "");
    return result ? add_tests(s, load, error) : 0;
}

/* A module that does not load is a finding, not an error: the others are still run. */
static int run_module(td_suite *s, const char *path, td_error *error)
{
    size_t load = s->count;
    /* here, because what children log is shown only if a test fails */
    td_warn_of_source(s->tool->log, path);
    if (add_job(s, path, "", TD_CHECK_LOAD, 1, error) || run_jobs(s, error) ||
        check_loaded(s, load, error))
        return error->code;
    if (s->plugin && s->count == load + 1 &&
        json_array_size(json_object_get(s->jobs[load].result, "plugins")))
        return td_fail(error, TD_ECONFIG,
                       "'%s' has no plugin '%s', or the test does not apply to it", path,
                       s->plugin);
    return run_jobs(s, error);
}

int td_suite_run(td_suite *s, td_error *error)
{
    s->directory = td_temporary_directory("tandem-plugins-check", error);
    if (!s->directory)
        return error->code;
    /* Temporary files of plugins are put there as well, and are removed with it. */
    if (setenv("TMPDIR", s->directory, 1))
        return td_fail(error, TD_ENOMEM, "out of memory while starting the tests");
    for (size_t i = 0; i < s->tool->n_plain; i++)
        if (run_module(s, s->tool->plain[i], error))
            return error->code;
    /* Only load jobs, all of them passed: "0 findings" would report success for a test that
     * never ran. */
    if (s->only && strcmp(s->only, TD_CHECK_LOAD) && s->count == s->tool->n_plain &&
        !s->report.n_failed)
        return td_fail(error, TD_ECONFIG,
                       "test '%s' applies to no plugin of these modules; --tests lists the kinds "
                       "that it is for",
                       s->only);
    return 0;
}

void td_suite_free(td_suite *s)
{
    for (size_t k = 0; k < s->count; k++) {
        td_child_free(&s->jobs[k].child);
        json_decref(s->jobs[k].result);
        free(s->jobs[k].out);
    }
    free(s->jobs);
    if (s->directory)
        td_remove_tree(s->directory, NULL);
    free(s->directory);
    td_report_free(&s->report);
}
