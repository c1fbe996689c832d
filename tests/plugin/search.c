/* search.c - where modules are looked for, in which order, and what is said of what is not
 * there. */
#include "plugin/scratch.h"

#include <unistd.h>

#include "plugin/registry.h"
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
    scratch_free(&a), scratch_free(&b);
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

/* Neither what is no module by its name, nor what cannot be read as one, stops the search. */
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
    write_all(&s, "schedule-fixture.so", "fixture", 8);
    copy_to(&s, FIXTURE("good.so"), "z.so");
    expect_found(paths, "1.0");
    scratch_free(&s);
}

Test(search, what_is_missing_is_explained)
{
    const char *const paths[] = { "/no/such/directory", NULL };
    td_registry      *r = td_registry_new(paths, NULL, NULL);
    td_error          e = { 0 };
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "cosin", &e));
    cr_expect(strstr(e.text, "there is no schedule 'cosin'; did you mean 'cosine'?"), "%s", e.text);
    cr_expect(strstr(e.text, "/no/such/directory") && strstr(e.text, TANDEM_PLUGINS), "%s", e.text);
    e.code = 0;
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "completely-different", &e));
    cr_expect(strstr(e.text, "there are: ") && strstr(e.text, "rsqrt"), "%s", e.text);
    e.code = 0;
    cr_expect(!td_registry_find(r, TD_SCHEDULE_KIND, "../../etc/x", &e));
    cr_expect_eq(e.code, TD_EPLUGIN);
    td_registry_free(r);
}

Test(search, the_scan_sorts_and_knows_where_from)
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
        cr_expect_eq(!td_registry_module(r, q)->path, !strcmp(q->kind, TD_OP_KIND), "%s %s",
                     q->kind, q->name);
    }
    cr_expect_eq(td_registry_refusals(r), 0);
    td_registry_free(r);
}
