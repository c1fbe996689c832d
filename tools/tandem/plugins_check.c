/* plugins_check.c - `tandem plugins check`: the conformance suite on modules, each test in a process
 * of its own. */
#include "plugins_check.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "check/check.h"
#include "plugin/module.h"

static const td_flag flags[] = {
    { "--only", "TEST", "run this test only; --tests lists them" },
    { "--plugin", "KIND/NAME", "of the module's plugins, this one only" },
    { "--time-limit", "SECONDS", "of one test; default 60" },
    { "--memory-limit", "MIB", "of one test; default 4096" },
    { "--jobs", "N", "tests at once; default: all processors" },
    { "--here", 0, "run in this process, for a debugger: a crash is the end" },
    { "--tests", 0, "list all tests, and what each one asks" },
    { 0, 0, 0 },
};

const td_usage td_usage_plugins_check = {
    .name = "plugins check",
    .arguments = "FILE.so ..",
    .brief = "Run the conformance suite on modules: what the host, the other plugins and a careful "
             "user rely on. Each test has a process of its own, so a crash is a finding.",
    .example = "tandem plugins check build/attention-mine.so",
    .notes = "NAME=VALUE (gate=false) says an option of the plugin, a config what it needs besides "
             "(a data source's "
             "files) or that should be tried; without it defaults are taken.\n\n"
             "exit code: 0 all tests passed or do not apply, 1 there are findings, 2 usage\n",
    .flags = flags,
    .config = true,
    .optional = true,
    .json = true,
    .plain = TD_ARGUMENTS - 2,
};

/* ---- tests ----------------------------------------------------------------------------------- */

static const char load_brief[] =
    "the file is a module of this ABI that exports one symbol, and loads";

static int list_tests(void)
{
    const char *last = "every plugin";
    printf("%s\n  %-14s %s\n", last, TD_CHECK_LOAD, load_brief);
    for (const td_check_case *t = td_check_cases(); t->name; t++) {
        if (strcmp(t->kind ? t->kind : "every plugin", last))
            printf("\n%s\n", last = t->kind);
        printf("  %-14s %s\n", t->name, t->brief);
    }
    return TD_EXIT_OK;
}

static bool is_test(const char *name)
{
    bool is = !strcmp(name, TD_CHECK_LOAD);
    for (const td_check_case *t = td_check_cases(); t->name; t++)
        is = is || !strcmp(t->name, name);
    return is;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

enum { MOST_JOBS = 64 };

typedef struct job {
    td_child    child;
    const char *path;
    char        plugin[300]; /* "attention/mine" */
    const char *test;
    bool        started, done;
    bool        dropped; /* others of its plugin took too long */
    json_t     *result;  /* what it printed; NULL: it did not come to that */
} job;

typedef struct suite {
    td_tool        *tool;
    td_child_limits limits;
    const char     *which; /* the only plugin to be tested, or NULL */
    size_t          at_once, count, room, begun, shown;
    job            *jobs;
    char           *directory;
    json_t         *tests; /* of all that were shown */
    size_t          n_ok, n_failed, n_skipped;
    sigset_t        ends;    /* signals that end it, once what it made is removed */
    int             stopped; /* by which */
    /* of the plugin that is shown: its title, tests that passed, rows of the others */
    char            last[400];
    size_t          passed;
    td_text         rows;
} suite;

static bool add_job(suite *s, const char *path, const char *plugin, const char *test)
{
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        job   *larger = realloc(s->jobs, room * sizeof *larger);
        if (!larger)
            return false;
        s->jobs = larger;
        s->room = room;
    }
    s->jobs[s->count] = (job){ .path = path, .test = test };
    snprintf(s->jobs[s->count++].plugin, sizeof s->jobs->plugin, "%s", plugin);
    return true;
}

/* A plugin that hangs does so in most tests: after two, the rest would only take time. */
static bool hangs(const suite *s, const job *j)
{
    size_t late = 0;
    for (size_t k = 0; k < s->begun; k++)
        late += s->jobs[k].done && s->jobs[k].child.end == TD_CHILD_LATE &&
                s->jobs[k].path == j->path && !strcmp(s->jobs[k].plugin, j->plugin);
    return late >= 2;
}

static int start(suite *s, size_t number, td_error *error)
{
    job        *j = &s->jobs[number];
    td_tool    *t = s->tool;
    const char *argv[5 * TD_ARGUMENTS] = {
        "tandem",  "plugins", "check", j->path,    "--here",
        "--quiet", "--only",  j->test, "--plugin", *j->plugin ? j->plugin : s->which ? s->which : ""
    };
    size_t n = 10;
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
    return td_child_start(&j->child, (char *const *)(uintptr_t)argv, s->directory, number,
                          &s->limits, error);
}

/* ---- results --------------------------------------------------------------------------------- */

/* The last lines of what the child said on standard error, without what it tells of its memory. */
static json_t *last_words(const job *j)
{
    char *text = td_file_read(j->child.error, NULL, NULL),
         *end = text ? strstr(text, "Name:\t") : NULL;
    json_t *lines = json_array();
    if (end)
        *end = 0;
    if (text)
        td_make_utf8(text);
    for (char *rest = text, *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        if (*line && strncmp(line, "    #", 5)) {
            if (json_array_size(lines) >= 6)
                json_array_remove(lines, 0);
            json_array_append_new(lines, json_string(line));
        }
    free(text);
    return lines;
}

static void say_crash(const suite *s, const job *j, json_t *findings)
{
    const td_child *c = &j->child;
    json_t         *words = last_words(j);
    if (c->end == TD_CHILD_CRASHED && c->code == SIGXFSZ)
        json_array_append_new(findings,
                              json_sprintf("it writes a file of more than %zu MiB (1/%d of "
                                           "--memory-limit)",
                                           s->limits.bytes / TD_CHILD_FILE_SHARE >> 20,
                                           TD_CHILD_FILE_SHARE));
    else
        json_array_append_new(
            findings, c->end == TD_CHILD_CRASHED
                          ? json_sprintf("it crashes: %s (add --here --plugin %s --only %s to "
                                         "run it in a debugger)",
                                         strsignal(c->code), j->plugin, j->test)
                          : json_sprintf("it ends the process with code %d", c->code));
    json_array_extend(findings, words);
    json_decref(words);
}

static const char *outcome_of(const suite *s, const job *j, json_t *findings)
{
    const td_child *c = &j->child;
    if (j->dropped) {
        json_array_append_new(findings, json_string("two other tests of it took too long"));
        return "not run";
    }
    if (c->end == TD_CHILD_LATE) {
        json_array_append_new(findings,
                              json_sprintf("it is not done after %.0f seconds (--time-limit)",
                                           s->limits.seconds));
        return "timed out";
    }
    if (c->end == TD_CHILD_MEMORY) {
        json_array_append_new(findings,
                              json_sprintf("it takes more memory than %zu MiB (--memory-limit)",
                                           s->limits.bytes >> 20));
        return "memory";
    }
    if (c->end == TD_CHILD_CRASHED || !j->result) {
        say_crash(s, j, findings);
        return "crashed";
    }
    json_array_extend(findings, json_object_get(j->result, "findings"));
    if (json_array_size(findings))
        return "failed";
    return *json_string_value(json_object_get(j->result, "skipped")) ? "skipped" : "ok";
}

static void put_row(td_text *out, const char *test, const char *outcome, json_t *findings,
                    const char *skipped)
{
    td_text_print(out, "  %-14s %-10s ", test, outcome);
    for (size_t k = 0; k < json_array_size(findings); k++) {
        const char *text = json_string_value(json_array_get(findings, k));
        td_text_print(out, "%s%s\n", k ? "                             " : "", text ? text : "");
    }
    if (!json_array_size(findings))
        td_text_print(out, "%s\n", skipped);
}

/* Of several modules, what passes is counted: a line for each plugin, and rows for the rest. */
static void end_plugin(suite *s)
{
    bool several = s->tool->n_plain > 1, loaded = *s->last != ' ' && !s->rows.size;
    if (several && *s->last && loaded)
        printf("%s\n", s->last);
    else if (several && *s->last)
        printf("%-44s %2zu ok%s\n%s", s->last, s->passed, s->rows.size ? ", but" : "",
               td_text_get(&s->rows));
    s->passed = 0;
    td_text_free(&s->rows);
}

static void show_row(suite *s, const job *j, const char *outcome, json_t *findings,
                     const char *skipped)
{
    char title[sizeof s->last];
    bool several = s->tool->n_plain > 1;
    snprintf(title, sizeof title, "%s%s%s", *j->plugin && several ? "  " : j->path,
             *j->plugin && !several ? ": " : "", j->plugin);
    if (strcmp(title, s->last)) {
        end_plugin(s);
        if (!several)
            printf("%s%s\n", *s->last ? "\n" : "", title);
        strcpy(s->last, title);
    }
    if (several && !strcmp(outcome, "ok"))
        s->passed++;
    else
        put_row(&s->rows, j->test, outcome, findings, skipped);
    if (!several) {
        fputs(td_text_get(&s->rows), stdout);
        td_text_free(&s->rows);
    }
    fflush(stdout);
}

static void show(suite *s, const job *j)
{
    char        file[4096];
    json_t     *findings = json_array();
    const char *outcome = outcome_of(s, j, findings), *skipped = "";
    if (!strcmp(outcome, "skipped"))
        skipped = json_string_value(json_object_get(j->result, "skipped"));
    s->n_ok += !strcmp(outcome, "ok");
    s->n_skipped += !strcmp(outcome, "skipped");
    s->n_failed += strcmp(outcome, "ok") && strcmp(outcome, "skipped");
    if (!s->tool->json)
        show_row(s, j, outcome, findings, skipped);
    snprintf(file, sizeof file, "%s", j->path);
    td_make_utf8(file);
    json_array_append_new(s->tests,
                          json_pack("{s:s, s:s, s:s, s:s, s:O, s:s, s:f}", "file", file, "plugin",
                                    j->plugin, "test", j->test, "outcome", outcome, "findings",
                                    findings, "skipped", skipped, "seconds", j->child.seconds));
    json_decref(findings);
}

/* A module that loads has plugins, and each has tests. */
static void add_tests(suite *s, const job *loaded, const char *only, const char *which)
{
    json_t     *plugins = json_object_get(loaded->result, "plugins");
    const char *path = loaded->path;
    for (size_t k = 0; k < json_array_size(plugins); k++) {
        json_t     *p = json_array_get(plugins, k);
        const char *kind = json_string_value(json_object_get(p, "kind")),
                   *name = json_string_value(json_object_get(p, "name"));
        char plugin[300];
        snprintf(plugin, sizeof plugin, "%.*s/%s", (int)strcspn(kind, "/"), kind, name);
        if (which && strcmp(which, plugin))
            continue;
        for (const td_check_case *t = td_check_cases(); t->name; t++)
            if (td_check_applies(t, kind) && (!only || !strcmp(only, t->name)))
                add_job(s, path, plugin, t->name);
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

static size_t running(const suite *s)
{
    size_t n = 0;
    for (size_t k = 0; k < s->begun; k++)
        n += s->jobs[k].started && !s->jobs[k].done;
    return n;
}

static void collect(suite *s)
{
    for (size_t k = 0; k < s->begun; k++) {
        job *j = &s->jobs[k];
        if (j->done || !td_child_poll(&j->child, &s->limits))
            continue;
        j->done = true;
        if (j->child.end == TD_CHILD_EXITED)
            j->result = json_load_file(j->child.out, 0, NULL);
    }
}

static int run_jobs(suite *s, td_error *error)
{
    while (s->shown < s->count) {
        while (s->begun < s->count && running(s) < s->at_once)
            if (start(s, s->begun++, error))
                return error->code;
        collect(s);
        if (s->jobs[s->shown].done)
            show(s, &s->jobs[s->shown++]);
        else if ((s->stopped = sigtimedwait(&s->ends, NULL,
                                            &(struct timespec){ .tv_nsec = 3000000 })) > 0)
            return td_fail(error, TD_EIO, "stopped: %s", strsignal(s->stopped));
    }
    return 0;
}

/* Modules are loaded first; what they hold is tested module by module. */
static int run_suite(suite *s, const char *only, const char *which, td_error *error)
{
    td_tool *t = s->tool;
    for (size_t i = 0; i < t->n_plain; i++) {
        size_t      first = s->count;
        const char *config;
        if (!add_job(s, t->plain[i], "", TD_CHECK_LOAD))
            return td_fail(error, TD_ENOMEM, "out of memory");
        if (run_jobs(s, error))
            return error->code;
        config = json_string_value(json_object_get(s->jobs[first].result, "config"));
        if (config && *config)
            return td_fail(
                error, TD_ECONFIG, "%s%s", config,
                t->n_overrides && !t->n_files
                    ? "\n(an option of the plugin itself has no group before it: gate=false)"
                    : "");
        if (s->jobs[first].result)
            add_tests(s, &s->jobs[first], only, which);
        if (which && s->count == first + 1 &&
            json_array_size(json_object_get(s->jobs[first].result, "plugins")))
            return td_fail(error, TD_ECONFIG, "'%s' has no plugin '%s', or the test is not for it",
                           t->plain[i], which);
        if (run_jobs(s, error))
            return error->code;
    }
    if (only && strcmp(only, TD_CHECK_LOAD) && s->count == t->n_plain && !s->n_failed)
        return td_fail(error, TD_ECONFIG,
                       "test '%s' is for no plugin of these modules: --tests "
                       "says what it is for",
                       only);
    return 0;
}

static void sum_up(const suite *s)
{
    if (s->tool->json) {
        json_t *all = json_pack("{s:b, s:O}", "ok", !s->n_failed, "tests", s->tests);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
        return;
    }
    printf("\n%zu test%s: %zu ok, %zu with findings, %zu skipped\n", s->count,
           s->count == 1 ? "" : "s", s->n_ok, s->n_failed, s->n_skipped);
}

static double number(td_tool *t, const char *name, double otherwise, int *code)
{
    const char *text = td_tool_option(t, name);
    char       *end;
    double      x = text ? strtod(text, &end) : otherwise;
    if (!text || (*text && !*end && x > 0 && x <= 1e9))
        return x;
    *code = td_tool_usage_error(t, "%s takes a number above 0, not '%s'", name, text);
    return otherwise;
}

/* Its children have a process group of their own: a signal from the terminal is for us alone. */
static void hold_signals(suite *s, sigset_t *before)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction a;
    sigemptyset(&s->ends);
    for (size_t k = 0; k < sizeof signals / sizeof *signals; k++)
        if (!sigaction(signals[k], NULL, &a) && a.sa_handler != SIG_IGN) /* nohup */
            sigaddset(&s->ends, signals[k]);
    sigprocmask(SIG_BLOCK, &s->ends, before);
}

static int check_all(td_tool *t, const char *only, const char *which)
{
    int      code = 0;
    td_error e = { 0 };
    sigset_t before;
    suite    s = { .tool = t, .which = which, .tests = json_array() };
    s.limits.seconds = number(t, "--time-limit", 60, &code);
    s.limits.bytes = (size_t)ceil(number(t, "--memory-limit", 4096, &code)) << 20;
    s.at_once = (size_t)fmin(MOST_JOBS, ceil(number(t, "--jobs", td_processors(), &code)));
    hold_signals(&s, &before);
    s.directory = code ? NULL : td_temporary_directory("tandem-plugins-check", &e);
    if (s.directory && !setenv("TMPDIR", s.directory, 1))
        run_suite(&s, only, which, &e);
    if (!t->json)
        end_plugin(&s);
    if (s.directory && !e.code)
        sum_up(&s);
    for (size_t k = 0; k < s.count; k++) {
        td_child_free(&s.jobs[k].child);
        json_decref(s.jobs[k].result);
    }
    if (s.directory)
        td_remove_tree(s.directory, NULL);
    free(s.jobs);
    free(s.directory);
    json_decref(s.tests);
    if (s.stopped > 0)
        raise(s.stopped);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (code)
        return code;
    return e.code ? td_tool_fail(t, &e) : s.n_failed ? TD_EXIT_FAILED : TD_EXIT_OK;
}

int td_plugins_check(td_tool *t, int argc, char **argv)
{
    const char *only, *plugin;
    int         code;
    if (!td_tool_parse(t, &td_usage_plugins_check, argc, argv, &code))
        return code;
    if (td_tool_option(t, "--tests"))
        return list_tests();
    only = td_tool_option(t, "--only");
    plugin = td_tool_option(t, "--plugin");
    if (!t->n_plain)
        return td_tool_usage_error(t, "which module? Name a file: tandem plugins check FILE.so");
    if (only && !is_test(only))
        return td_tool_usage_error(t, "there is no test '%s'; --tests lists them", only);
    if (!td_tool_option(t, "--here"))
        return check_all(t, only, plugin);
    if (!only || !plugin || t->n_plain != 1)
        return td_tool_usage_error(t, "--here takes one file, --plugin and --only");
    return td_plugins_check_here(t, t->plain[0], plugin, only);
}
