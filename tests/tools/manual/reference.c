/* reference.c - docs/reference is what `tandem plugins reference` writes: it describes shipped
 * plugins only, wherever it is written. */
#include <unistd.h>

#include "tools/child.h"

#define PAGES TANDEM_SOURCE "/docs/reference"

static child write_pages(const char *directory)
{
    /* it must not describe other people's modules */
    setenv("TANDEM_PLUGIN_PATH", TANDEM_FIXTURES "/modules", 1);
    return child_run(
        (const char *[]){ TANDEM_BINARY, "plugins", "reference", "--dir", directory, NULL });
}

static char *page(const char *directory, const char *name, size_t *size)
{
    td_error e = { 0 };
    char    *path = td_path_join(directory, name), *text = td_file_read(path, size, &e);
    free(path);
    return text;
}

static int64_t count(const char *directory)
{
    char  **names;
    int64_t n = td_list_directory(directory, &names, NULL);
    if (n >= 0)
        td_free_names(names, n);
    return n;
}

static bool is_built(const char *module)
{
    char path[4200];
    snprintf(path, sizeof path, TANDEM_PLUGINS "/%s.so", module);
    return !access(path, F_OK);
}

/* Whether this build has all the modules that a page describes: the backend 'cuda' needs a compiler of its
 * own, and the comm 'nccl' also the headers of NCCL and Open MPI. */
static bool is_complete(const char *name)
{
    bool index = !strcmp(name, "index.md");
    if ((index || !strcmp(name, "comm.md")) && !is_built("comm-nccl"))
        return false;
    return is_built("backend-cuda") || !(index || !strcmp(name, "backend.md") ||
                                         !strcmp(name, "kernels.md") || !strcmp(name, "op.md"));
}

Test(reference, is_not_stale)
{
    char    directory[] = "/tmp/tandem-reference-XXXXXX", **names;
    child   c;
    int64_t n;

    cr_assert(mkdtemp(directory));
    c = write_pages(directory);
    cr_assert_eq(c.code, 0, "%s", c.err);
    n = td_list_directory(directory, &names, NULL);
    cr_assert_geq(n, 17, "a page per kind, groups and index: %lld", (long long)n);
    for (int64_t k = 0; k < n; k++) {
        size_t made_size = 0, kept_size = 0;
        char  *made = page(directory, names[k], &made_size);
        char  *kept = page(PAGES, names[k], &kept_size);
        if (!is_complete(names[k]))
            made_size = kept_size = 0;
        cr_expect(made && kept && made_size == kept_size && !memcmp(made, kept, made_size),
                  "docs/reference/%s is stale: run `tandem plugins reference` of this build in the "
                  "project's directory, and commit docs/reference",
                  names[k]);
        free(made);
        free(kept);
    }
    td_free_names(names, n);
    cr_expect_eq(count(PAGES), n,
                 "docs/reference has pages of kinds that no longer exist: remove them");
    cr_assert(!td_remove_tree(directory, NULL));
    child_free(&c);
}

/* Its content does not depend on where it was written. */
Test(reference, names_no_place_of_this_machine)
{
    char  **names;
    int64_t n = td_list_directory(PAGES, &names, NULL);
    for (int64_t k = 0; k < n; k++) {
        char *text = page(PAGES, names[k], NULL);
        cr_assert(text);
        cr_expect_null(strstr(text, TANDEM_SOURCE), "%s", names[k]);
        cr_expect_null(strstr(text, ".so"), "%s", names[k]);
        free(text);
    }
    cr_assert_geq(n, 17);
    td_free_names(names, n);
}

/* The page describes all groups of a resolved config. */
Test(reference, has_every_group)
{
    char *text = page(PAGES, "groups.md", NULL);
    child c = child_run((const char *[]){ TANDEM_BINARY, "config", "show", "-c",
                                          TANDEM_SOURCE "/configs/quickstart/redllm.cfg", NULL });
    int   groups = 0;
    cr_assert(text && !c.code, "%s", c.err);
    for (char *line = strtok(c.out, "\n"); line; line = strtok(NULL, "\n")) {
        char name[64], plain[80], linked[80];
        if (sscanf(line, "%63[a-z_] = {", name) != 1 || !strstr(line, "{"))
            continue;
        snprintf(plain, sizeof plain, "\n| %s |", name);
        snprintf(linked, sizeof linked, "\n| [%s](", name);
        cr_expect(strstr(text, plain) || strstr(text, linked),
                  "'%s' is not in groups.md: add it to td_experiment_groups", name);
        groups++;
    }
    cr_expect_geq(groups, 11, "%d groups", groups);
    free(text);
    child_free(&c);
}

Test(reference, needs_a_place)
{
    child c = child_run(
        (const char *[]){ "sh", "-c", "cd /tmp && '" TANDEM_BINARY "' plugins reference", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "there is no directory 'docs' here: run this in the project's"), "%s",
              c.err);
    child_free(&c);
    c = child_run(
        (const char *[]){ TANDEM_BINARY, "plugins", "reference", "--plugin-path", "/tmp", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "leave out --plugin-path"), "%s", c.err);
    child_free(&c);
}
