/* plugins.c - all of our own modules pass the suite that third-party modules must pass. */
#include "conformance/check.h"
#include "open_mpi.h"
#include "plugin/registry.h"

/* Arguments for plugins that cannot be tested with their defaults. */
static const struct {
    const char *file, *arguments[5];
} needs[] = {
    { "data-text.so", { "-c", "quickstart/decllm.cfg", NULL } },
    { "data-instructions.so", { "-c", "data/instructions.cfg", NULL } },
    { "format-t5.so",
      { "model.position.plugin=t5-relative", "model.attention.qkv_norm=false", NULL } },
    { "format-t5gemma.so",
      { "model.post_norm=true", "model.post_ffn_norm=true", "model.cross_positions=false",
        "model.attention.qkv_norm=false", NULL } },
    { "tokenizer-huggingface.so",
      { "file=" TANDEM_SOURCE "/tests/plugins/tokenizer/cases/gpt.json", NULL } },
};

static const char *const *arguments_for(const char *file)
{
    for (size_t k = 0; k < sizeof needs / sizeof *needs; k++)
        if (!strcmp(needs[k].file, file))
            return needs[k].arguments;
    return NULL;
}

static void expect_conformance(const char *file)
{
    char    path[4096];
    child   run;
    json_t *all, *tests;
    snprintf(path, sizeof path, "%s/%s", TANDEM_PLUGINS, file);
    all = check_module(path, arguments_for(file), &run);
    tests = json_object_get(all, "tests");
    cr_assert_gt(json_array_size(tests), 2, "%s: no tests ran: %s", file, run.err);
    for (size_t k = 0; k < json_array_size(tests); k++) {
        json_t     *t = json_array_get(tests, k), *findings = json_object_get(t, "findings");
        const char *outcome = json_string_value(json_object_get(t, "outcome"));
        cr_expect(!strcmp(outcome, "ok") || !strcmp(outcome, "skipped"), "%s: %s: %s: %s", file,
                  json_string_value(json_object_get(t, "test")), outcome,
                  json_array_size(findings) ? json_string_value(json_array_get(findings, 0)) : "");
    }
    cr_expect_eq(run.code, 0);
    json_decref(all);
    child_free(&run);
}

/* All modules of a kind, or of two. */
static void check_kind(const char *kind)
{
    char  **names = NULL;
    int64_t n = td_list_directory(TANDEM_PLUGINS, &names, NULL), found = 0;
    size_t  length = strlen(kind);
    for (int64_t k = 0; k < n; k++)
        if (!strncmp(names[k], kind, length) && names[k][length] == '-') {
            expect_conformance(names[k]);
            found++;
        }
    cr_expect_gt(found, 0, "no module of kind '%s' was found", kind);
    td_free_names(names, n);
}

#define KIND(name) \
    Test(plugins, name) { check_kind(#name); }
KIND(architecture)
KIND(attention)
KIND(backend)
KIND(data)
KIND(ffn)
KIND(format)
KIND(logger)
KIND(loss)
KIND(metric)
KIND(norm)
KIND(optimizer)
KIND(position)
KIND(schedule)
KIND(tokenizer)

Test(plugins, comm, .init = open_mpi_ignore_leaks) { check_kind("comm"); }

/* A new kind must be added above. There are no modules for ops or kernels alone: ours are parts
 * of other modules. */
Test(plugins, every_kind_is_here)
{
    static const char *const here[] = { "architecture", "attention", "backend",  "comm",
                                        "data",         "ffn",       "logger",   "loss",
                                        "norm",         "optimizer", "position", "schedule",
                                        "tokenizer",    "kernels",   "op",       "metric",
                                        "format" };
    size_t                   n = 0;
    for (const td_kind *k = td_kinds(); k->id; k++, n++) {
        bool found = false;
        for (size_t i = 0; i < sizeof here / sizeof *here; i++)
            found = found || !strcmp(here[i], k->name);
        cr_expect(found, "kind '%s' is not tested here", k->name);
    }
    cr_expect_eq(n, sizeof here / sizeof *here);
}
