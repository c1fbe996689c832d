/* here.c - one test of `tandem plugins check` in this process: run by the suite's child
 * processes, or by you in a debugger. */
#include "plugins/here.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/ranks.h"
#include "base/text.h"
#include "check/check.h"
#include "guard.h"
#include "plugins/child.h"
#include "run/session.h"

/* ---- results as JSON ------------------------------------------------------------------------- */

static void add_lines(json_t *list, const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        json_array_append_new(list, json_stringn(text, n));
    }
}

static json_t *result_of(const td_check *c)
{
    json_t *findings = json_array();
    add_lines(findings, td_text_get(&c->findings));
    /* The suite keeps the text of the first few and counts the rest. */
    if (c->n_findings > TD_CHECK_FINDINGS)
        json_array_append_new(findings,
                              json_sprintf("and %zu more", c->n_findings - TD_CHECK_FINDINGS));
    return json_pack("{s:o, s:s}", "findings", findings, "skipped", td_text_get(&c->skipped));
}

static json_t *plugins_of(const td_module *m)
{
    json_t *list = json_array();
    for (size_t k = 0; m && m->plugins[k]; k++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "kind", m->plugins[k]->kind, "name",
                                              m->plugins[k]->name));
    return list;
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Whether `name` is "attention/mine" for the plugin 'mine' of kind "attention/1". */
static bool is_named(const td_plugin *p, const char *name)
{
    size_t kind = (size_t)td_tool_kind_length(p->kind);
    return !strncmp(p->kind, name, kind) && name[kind] == '/' && !strcmp(name + kind + 1, p->name);
}

/* Kinds have tests of the same name: "shapes" of an attention is not that of a loss. */
static const td_check_case *test_for(const char *name, const char *kind)
{
    for (const td_check_case *t = td_check_cases(); t->name; t++)
        if (!strcmp(t->name, name) && td_check_applies(t, kind))
            return t;
    return NULL;
}

/* Standard output belongs to the host: `--json` and answers go there. */
static void check_output(td_check *c)
{
    char    text[201];
    ssize_t n;
    fflush(stdout);
    n = pread(1, text, sizeof text - 1, 0);
    if (n <= 0)
        return;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    td_check_finding(c,
                     "it prints on standard output (\"%s\"), which is the host's: log through "
                     "services->log",
                     text);
}

static void run_test(td_check *c, const td_module *m, const char *plugin, const char *name)
{
    bool found = false;
    td_check_clear(c); /* findings about the file belong to the test "load" */
    for (size_t k = 0; m->plugins[k]; k++) {
        const td_check_case *test = test_for(name, m->plugins[k]->kind);
        td_error             e = { 0 };
        if (!test || !is_named(m->plugins[k], plugin))
            continue;
        found = true;
        c->plugin = td_registry_find(c->registry, m->plugins[k]->kind, m->plugins[k]->name, &e);
        if (c->plugin)
            td_check_run(c, test);
        else
            td_check_finding(c, "%s", e.text);
    }
    if (!found)
        td_check_finding(c, "'%s' has no plugin '%s', or test '%s' does not apply to it", c->path,
                         plugin, name);
}

/* The config's errors, for all plugins or only for `plugin`; "" if there are none. Checked once
 * here, or each test would report the same. */
static json_t *config_errors(td_check *c, const td_module *m, const char *plugin)
{
    json_t *errors;
    td_check_clear(c);
    for (size_t k = 0; m->plugins[k] && c->n_files + c->n_overrides && !c->n_findings; k++) {
        c->plugin = td_registry_find(c->registry, m->plugins[k]->kind, m->plugins[k]->name, NULL);
        if (c->plugin && (!*plugin || is_named(m->plugins[k], plugin)))
            td_check_config(c);
    }
    errors = json_string(td_text_get(&c->findings));
    return errors ? errors : json_string("the config has errors"); /* not UTF-8 */
}

/* NULL after a message: --plugin-path was invalid. */
static json_t *run_here(td_tool *t, const char *path, const char *plugin, const char *test)
{
    char    *search = td_tool_configs(), *shipped = td_shipped_directory();
    td_check c = { .registry = td_tool_registry(t),
                   .path = path,
                   .files = t->files,
                   .n_files = t->n_files,
                   .overrides = t->overrides,
                   .n_overrides = t->n_overrides,
                   .search = search,
                   .shipped = shipped };
    json_t  *result = NULL;
    td_child_watch();
    if (c.registry) {
        /* Every test loads the module, but a module that fails to load is a finding of "load" only:
         * the others are not run then. It may have changed since, so its findings are kept. */
        const td_module *m = td_check_module(&c, path);
        bool             load = !strcmp(test, TD_CHECK_LOAD);
        if (!load && m)
            run_test(&c, m, plugin, test);
        check_output(&c);
        result = result_of(&c);
        json_object_set_new(result, "plugins", plugins_of(load ? m : NULL));
        if (load && m)
            json_object_set_new(result, "config", config_errors(&c, m, plugin));
        td_check_clear(&c);
    }
    free(search);
    free(shipped);
    return result;
}

int td_plugins_check_here(td_tool *t, const char *path, const char *plugin, const char *test)
{
    /* what a plugin prints is caught, so that stdout holds the result alone */
    int     out = dup(1), caught = memfd_create("stdout", MFD_CLOEXEC);
    json_t *result;
    FILE   *f;
    bool    found;
    /* mpirun, killed at a time limit, cannot end its processes */
    if (td_ranks_of_environment().size > 1)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(caught >= 0 ? caught : 2, 1);
    td_guard_output();
    result = run_here(t, path, plugin, test);
    fflush(stdout);
    f = result ? fdopen(out, "w") : NULL;
    if (!f)
        return TD_EXIT_USAGE;
    json_dumpf(result, f, JSON_INDENT(2));
    fputc('\n', f);
    found = json_array_size(json_object_get(result, "findings")) > 0;
    json_decref(result);
    /* of several processes each leaves in order, or mpirun would end those that have not written
     * their results yet */
    if (td_ranks_of_environment().size > 1)
        return fclose(f) ? TD_EXIT_FAILED : TD_EXIT_OK;
    /* A test that stopped half-way has not freed what it allocated; leaving without the exit
     * handlers keeps a leak checker from reporting that as well. */
    if (fclose(f) || found)
        _exit(td_guard_end(TD_EXIT_FAILED));
    return TD_EXIT_OK;
}
