/* search.c - where modules are searched for, in which order, and how a missing one is explained. */
#include "plugin/scratch.h"

#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "plugin/registry.h"
#include "tandem/kind/kernels.h"
#include "tandem/kind/op.h"
#include "tandem/kind/schedule.h"

static char *version_found(const char *const *paths)
{
    td_registry     *r = td_registry_new(paths, NULL, NULL);
    const td_plugin *p = td_registry_find(r, TD_SCHEDULE_KIND, "fixture", NULL);
    char            *version = p ? strdup(td_registry_module(r, p)->module->version) : NULL;
    td_registry_free(r);
    return version;
}

static void expect_found(const char *const *paths, const char *version)
{
    char *found = version_found(paths);
    cr_expect(found ? version && !strcmp(found, version) : !version, "found %s, wanted %s",
              found ? found : "none", version ? version : "none");
    free(found);
}

Test(search, arguments_come_before_the_environment)
{
    scratch           a = scratch_new(), b = scratch_new();
    const char *const first[] = { a.path, NULL };
    char              list[256];

    copy_to(&a, FIXTURE("good.so"), "schedule-fixture.so");
    copy_to(&b, FIXTURE("other.so"), "schedule-fixture.so");
    unsetenv("TANDEM_PLUGIN_PATH");
    expect_found(NULL, NULL);
    expect_found(first, "1.0");
    setenv("TANDEM_PLUGIN_PATH", b.path, 1);
    expect_found(NULL, "other");
    expect_found(first, "1.0");
    snprintf(list, sizeof list, ":/no/such/directory::%s:%s:", b.path, a.path);
    setenv("TANDEM_PLUGIN_PATH", list, 1);
    expect_found(NULL, "other");
    scratch_free(&a);
    scratch_free(&b);
}

/* dlopen would look for a name without a slash among the system's libraries. */
Test(search, a_relative_directory)
{
    scratch           s = scratch_new();
    const char *const paths[] = { ".", NULL };
    copy_to(&s, FIXTURE("good.so"), "any.so");
    cr_assert(!chdir(s.path));
    expect_found(paths, "1.0");
    cr_assert(!chdir("/"));
    scratch_free(&s);
}

/* Files that are not named like modules are ignored, and an unreadable module does not stop the
 * search. */
Test(search, other_files_do_not_matter)
{
    scratch           s = scratch_new();
    const char *const paths[] = { s.path, NULL };
    char              deep[256];
    copy_to(&s, FIXTURE("other.so"), "schedule-fixture.so.bak");
    copy_to(&s, FIXTURE("other.so"), ".so");
    write_all(&s, "schedule-fixture.txt", "x", 1);
    cr_assert(!td_make_directories(scratch_path(&s, "directory.so", deep), NULL));
    expect_found(paths, NULL);
    write_all(&s, "a.so", "fixture", 8);
    copy_to(&s, FIXTURE("good.so"), "z.so");
    expect_found(paths, "1.0");
    scratch_free(&s);
}

static void expect_refusal(const char *const *paths, bool scanned, const char *path,
                           const char *says)
{
    td_registry *r = td_registry_new(paths, NULL, NULL);
    td_error     e = { 0 };
    if (scanned)
        td_registry_scan(r);
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "fixture", &e));
    cr_expect(e.code == TD_EPLUGIN && strstr(e.text, path) && strstr(e.text, says), "said '%s'",
              e.text);
    td_registry_free(r);
}

/* Otherwise a run would silently use a plugin that is not the one just built. */
Test(search, a_refused_file_of_that_name_is_an_error)
{
    scratch           a = scratch_new(), b = scratch_new();
    const char *const bad_first[] = { a.path, b.path, NULL }, *const bad_last[] = { b.path, a.path,
                                                                                    NULL };
    char   path[256], said[4096], arguments[512];
    size_t size;
    char  *data = read_all(FIXTURE("good.so"), &size);

    copy_to(&b, FIXTURE("other.so"), "schedule-fixture.so");
    scratch_path(&a, "schedule-fixture.so", path);
    write_all(&a, "schedule-fixture.so", data, size / 2);
    for (int scanned = 0; scanned < 2; scanned++)
        expect_refusal(bad_first, scanned, path, "truncated");
    copy_to(&a, FIXTURE("other-major.so"), "schedule-fixture.so");
    for (int scanned = 0; scanned < 2; scanned++)
        expect_refusal(bad_first, scanned, path, "plugin ABI");
    copy_to(&a, FIXTURE("good.so"), "any.so");
    expect_refusal(bad_first, true, path, "plugin ABI");
    expect_found(bad_last, "other");
    snprintf(arguments, sizeof arguments,
             "config --plugin-path '%s' -c '" TANDEM_SOURCE
             "/configs/nano/decllm.cfg' check schedule.plugin=fixture",
             a.path);
    cr_expect_eq(run_tool(arguments, said, sizeof said), 2, "%s", said);
    cr_expect(strstr(said, path) && strstr(said, "plugin ABI"), "%s", said);
    free(data);
    scratch_free(&a);
    scratch_free(&b);
}

/* Only modules that mention the kind are loaded. */
Test(search, a_scan_for_one_kind)
{
    scratch           s = scratch_new();
    const char *const paths[] = { s.path, NULL };
    td_registry      *r = td_registry_new(paths, NULL, NULL);
    size_t            kernels = 0;
    copy_to(&s, FIXTURE("good.so"), "good.so");
    copy_to(&s, FIXTURE("kernel-size.so"), "kernels.so");
    td_registry_scan_kind(r, TD_KERNELS_KIND);
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        kernels += !strcmp(p->kind, TD_KERNELS_KIND);
        cr_expect(strcmp(p->kind, TD_SCHEDULE_KIND), "'%s' was loaded", p->name);
    }
    /* and cuda, where it was built */
    cr_expect_eq(kernels, 2 + !access(TANDEM_PLUGINS "/backend-cuda.so", F_OK),
                 "%zu: cpu and reference", kernels);
    cr_expect_eq(td_registry_refusals(r), 1);
    td_registry_free(r);
    scratch_free(&s);
}

/* Plugins of a directory that is added later are sorted in as well. */
Test(search, a_second_scan_sorts_again)
{
    scratch      s = scratch_new();
    td_registry *r = td_registry_new(NULL, NULL, NULL);
    copy_to(&s, FIXTURE("good.so"), "good.so");
    td_registry_scan(r);
    cr_assert(td_registry_count(r));
    td_registry_add_path(r, s.path);
    td_registry_scan(r);
    for (size_t i = 1; i < td_registry_count(r); i++)
        cr_expect_leq(strcmp(td_registry_plugin(r, i - 1)->kind, td_registry_plugin(r, i)->kind), 0,
                      "%s", td_registry_plugin(r, i)->name);
    cr_expect(td_registry_find(r, TD_SCHEDULE_KIND, "fixture", NULL));
    td_registry_free(r);
    scratch_free(&s);
}

Test(search, missing_plugins_are_explained)
{
    scratch           s = scratch_new();
    const char *const paths[] = { s.path, NULL };
    td_registry      *r = td_registry_new(paths, NULL, NULL);
    td_error          e = { 0 };
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "cosin", &e));
    cr_expect(strstr(e.text, "there is no schedule 'cosin'; did you mean 'cosine'?"), "%s", e.text);
    cr_expect(strstr(e.text, s.path) && strstr(e.text, TANDEM_PLUGINS), "%s", e.text);
    e.code = 0;
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "completely-different", &e));
    cr_expect(strstr(e.text, "`tandem plugins list schedule`") && strstr(e.text, "--plugin-path"),
              "%s", e.text);
    e.code = 0;
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "../../etc/x", &e));
    cr_expect_eq(e.code, TD_EPLUGIN);
    td_registry_free(r);
    scratch_free(&s);
}

/* A build that failed leaves no module, or an older one. */
static char *logged;
static void  listen(void *arg, int level, const char *line)
{
    if (level == TD_LOG_WARN)
        logged = strdup(line);
}

Test(search, modules_that_are_not_built)
{
    scratch           s = scratch_new();
    const char *const paths[] = { s.path, NULL };
    td_journal       *log = td_log_to(listen, NULL);
    td_registry      *r = td_registry_new(paths, log, NULL);
    td_error          e = { 0 };
    char              source[200], module[200], *want;
    snprintf(source, sizeof source, "%s/schedule-mine.c", s.path);
    snprintf(module, sizeof module, "%s/schedule-mine.so", s.path);
    cr_assert(!td_file_write(source, "int x", 5, &e), "%s", e.text);
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "mine", &e));
    cr_assert(asprintf(&want, "its source '%s' is not built: `make -C '%s'`", source, s.path) > 0);
    cr_expect(strstr(e.text, want), "%s", e.text);
    e.code = 0;
    cr_expect(!td_registry_add_module(r, module, &e));
    cr_expect(strstr(e.text, want), "%s", e.text);
    free(want);
    e.code = 0;
    /* older than its source */
    copy_to(&s, FIXTURE("good.so"), "schedule-mine.so");
    cr_assert(!utimes(module, (struct timeval[2]){ { 0 } }));
    cr_expect(td_registry_add_module(r, module, &e), "%s", e.text);
    cr_expect(logged && strstr(logged, "schedule-mine.so' is older than its source '"), "%s",
              logged);
    free(logged);
    td_registry_free(r);
    td_log_free(log);
    scratch_free(&s);
}

/* A directory given on the command line must exist; one from the environment may be meant for
 * another machine. */
Test(search, a_missing_directory)
{
    const char *const paths[] = { "/no/such/directory", NULL };
    td_error          e = { 0 };
    td_registry      *r;
    cr_expect_null(td_registry_new(paths, NULL, &e));
    cr_expect(strstr(e.text, "cannot look for plugins in '/no/such/directory': No such file"), "%s",
              e.text);
    setenv("TANDEM_PLUGIN_PATH", "/no/such/directory", 1);
    cr_expect((r = td_registry_new(NULL, NULL, NULL)) != NULL);
    td_registry_free(r);
}

/* A pipe without a writer: opening it would block forever. */
Test(search, a_pipe_is_not_a_module)
{
    scratch           s = scratch_new();
    const char *const paths[] = { s.path, NULL };
    char              path[256];
    td_registry      *r = td_registry_new(paths, NULL, NULL);
    cr_assert(!mkfifo(scratch_path(&s, "schedule-pipe.so", path), 0600));
    td_registry_scan_kind(r, TD_SCHEDULE_KIND);
    td_registry_scan(r);
    cr_expect_eq(td_registry_refusals(r), 1);
    cr_expect(strstr(td_registry_refusal(r, 0), "it is not a regular file"));
    td_registry_free(r);
    scratch_free(&s);
}

Test(search, the_scan_sorts_and_records_origins)
{
    td_registry *r = td_registry_new(NULL, NULL, NULL);
    td_registry_scan(r);
    cr_assert(td_registry_count(r) > 31);
    for (size_t i = 1; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i - 1), *q = td_registry_plugin(r, i);
        int              order = strcmp(p->kind, q->kind);
        cr_expect(order < 0 || (order == 0 && strcmp(p->name, q->name) < 0), "%s %s", q->kind,
                  q->name);
        cr_expect_eq(td_registry_find(r, q->kind, q->name, NULL), q);
        /* only ops are built in, and modules may bring more of them */
        cr_expect(td_registry_module(r, q)->path || !strcmp(q->kind, TD_OP_KIND), "%s %s", q->kind,
                  q->name);
    }
    cr_expect(!td_registry_module(r, td_registry_find(r, TD_OP_KIND, "matmul", NULL))->path);
    cr_expect(td_registry_module(r, td_registry_find(r, TD_OP_KIND, "chunk_attend", NULL))->path);
    cr_expect_eq(td_registry_refusals(r), 0);
    td_registry_free(r);
}
