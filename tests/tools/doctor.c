/* doctor.c - `tandem doctor`: the machine as text and as JSON, and a complaint about a module that
 * cannot be loaded. */
#include "child.h"

#include "base/threads.h"

static int64_t backends_that_work(const json_t *j)
{
    const json_t *backend, *all = json_object_get(j, "backends");
    size_t        k;
    int64_t       n = 0;
    json_array_foreach(all, k, backend) n += json_is_true(json_object_get(backend, "works"));
    return n;
}

/* The number of plugins that `plugins list --json` lists, of a kind or, "", of all. */
static int64_t listed(const char *kind)
{
    child c = child_run(
        (const char *[]){ TANDEM_BINARY, "plugins", "list", "--json", *kind ? kind : NULL, NULL });
    json_t *j = child_json(&c);
    int64_t n = (int64_t)json_array_size(j);
    cr_expect_gt(n, 10);
    json_decref(j);
    child_free(&c);
    return n;
}

Test(doctor, json)
{
    child   c = child_run((const char *[]){ TANDEM_BINARY, "doctor", "--json", NULL });
    json_t *j = child_json(&c);

    cr_expect(c.code == 0 || c.code == 1, "exit code %d: %s", c.code, c.err);
    cr_expect_eq(json_is_true(json_object_get(j, "well")), c.code == 0);
    cr_expect_eq(json_integer_value(json_object_get(j, "processors")), td_processors());
    cr_expect_gt(json_integer_value(json_object_get(j, "memory")), 0);
    cr_expect_eq(json_integer_value(json_object_get(j, "plugins")), listed("") - listed("op"));
    cr_expect_eq(json_integer_value(json_object_get(j, "ops")), listed("op"));
    cr_expect_eq(json_array_size(json_object_get(j, "refused")), 0);
    cr_expect_geq(backends_that_work(j), 2); /* cpu and reference */
    json_decref(j);
    child_free(&c);
}

Test(doctor, text)
{
    child c = child_run((const char *[]){ TANDEM_BINARY, "doctor", NULL });
    cr_expect(strstr(c.out, "processors "), "%s", c.out);
    cr_expect(strstr(c.out, "backend cpu "), "%s", c.out);
    cr_expect(strstr(c.out, "backend reference "), "%s", c.out);
    cr_expect(strstr(c.out, c.code ? "needs attention" : "all is well"), "%s", c.out);
    child_free(&c);
}

Test(doctor, a_module_that_cannot_be_loaded)
{
    char    directory[] = "/tmp/tandem-doctor-XXXXXX", path[64];
    FILE   *f;
    child   c;
    json_t *j;

    cr_assert(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/attention-broken.so", directory);
    f = fopen(path, "w");
    cr_assert(f && fputs("this is no module", f) >= 0 && !fclose(f));
    c = child_run(
        (const char *[]){ TANDEM_BINARY, "doctor", "--json", "--plugin-path", directory, NULL });
    j = child_json(&c);
    cr_expect_eq(c.code, 1);
    cr_expect(json_is_false(json_object_get(j, "well")));
    cr_assert_eq(json_array_size(json_object_get(j, "refused")), 1);
    cr_expect(strstr(json_string_value(json_array_get(json_object_get(j, "refused"), 0)), path),
              "%s", c.out);
    json_decref(j);
    child_free(&c);
    td_remove_tree(directory, NULL);
}

Test(doctor, usage)
{
    child c = child_run((const char *[]){ TANDEM_BINARY, "doctor", "well", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "unexpected argument 'well'"), "%s", c.err);
    child_free(&c);
}
