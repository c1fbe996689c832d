/* reference.c - `tandem plugins reference`: docs/reference, a page per kind of plugin.
 *
 * The pages are committed, and a test writes them again and compares. So all their content comes
 * from the tables of the shipped plugins, in a fixed order, and nothing from this machine: no
 * path, no date, no plugin of the user's. */
#include "manual/reference.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/check.h"
#include "config/config.h"
#include "evaluate/task.h"
#include "manual/ablations.h"
#include "manual/markdown.h"
#include "manual/places.h"
#include "plugins/matrix.h"
#include "run/experiment.h"
#include "tandem/kind/kernels.h"

typedef struct reference {
    td_registry *registry;
    const char  *directory;
    td_ablations ablations;
} reference;

/* ---- pages ----------------------------------------------------------------------------------- */

/* Writes DIR/NAME.md; always frees the text. */
static int write_page(const reference *x, const char *name, td_text *text, td_error *error)
{
    char  file[128];
    char *path;
    int   code;
    snprintf(file, sizeof file, "%s.md", name);
    path = td_path_join(x->directory, file);
    while (text->size > 1 && text->data[text->size - 2] == '\n') /* one newline at the end */
        text->data[--text->size] = 0;
    code = path && !text->failed
               ? td_file_write(path, td_text_get(text), text->size, error)
               : td_fail(error, TD_ENOMEM, "out of memory for the page '%s'", file);
    free(path);
    td_text_free(text);
    return code;
}

/* A comment of HTML: the rendered page does not show it. */
static const char generated[] = "<!-- Written by `tandem plugins reference`. Do not edit. -->\n\n";

static void put_title(td_text *out, const td_kind *k)
{
    td_text_print(out, "%s# %s\n\n", generated, k->name);
    td_markdown_sentence(out, k->brief);
    td_text_print(out,
                  " The kind's id is `%s`; its contract is "
                  "[tandem/kind/%s.h](../../core/include/tandem/kind/%s.h).\n",
                  k->id, k->name, k->name);
}

static void put_places(td_text *out, const td_places *where)
{
    for (size_t k = 0; k < where->count; k++)
        td_text_print(out, "%s`%s`", k ? ", " : "In a config: ", where->at[k]);
    td_text_print(out, where->count ? ".\n\n" : "\n");
}

/* A table of contents, whose links are the anchors that Markdown makes of the headings. */
static void put_overview(const reference *x, const td_kind *k, td_text *out)
{
    td_text_print(out, "| plugin | description |\n|---|---|\n");
    for (size_t i = 0; i < td_registry_count(x->registry); i++) {
        const td_plugin *p = td_registry_plugin(x->registry, i);
        if (strcmp(p->kind, k->id))
            continue;
        td_text_print(out, "| [%s](#%s) | ", p->name, p->name);
        td_markdown_put(out, p->brief);
        td_text_print(out, " |\n");
    }
    td_text_print(out, "\n");
}

/* An op may have rows for several dtypes, anywhere in the table: it is counted where it comes
 * first. */
static void put_kernels(const td_kernels *k, td_text *out)
{
    size_t ops = 0;
    for (size_t i = 0; i < k->count; i++) {
        size_t j = 0;
        while (strcmp(k->rows[j].op, k->rows[i].op) != 0)
            j++;
        ops += j == i;
    }
    td_text_print(out, "Has kernels for %zu ops on the backend `%s`: see [op](op.md).\n\n", ops,
                  k->backend);
}

static void put_plugin(const reference *x, const td_plugin *p, const td_places *where, td_text *out)
{
    td_text_print(out, "## %s\n\n", p->name);
    td_markdown_sentence(out, p->brief);
    td_text_print(out, "\n\n");
    td_markdown_paragraphs(out, p->doc);
    if (p->paper) {
        td_text_print(out, "Paper: ");
        td_markdown_sentence(out, p->paper);
        td_text_print(out, "\n\n");
    }
    if (!strcmp(p->kind, TD_KERNELS_KIND)) /* these have rows instead of options */
        put_kernels((const void *)p, out);
    else if (p->options)
        td_markdown_options(out, p->options, p->option_size, NULL);
    else
        td_text_print(out, "No options.\n\n");
    td_ablations_put(&x->ablations, where, p->name, out);
}

/* The keys that the host itself reads in the group, whatever plugin it names. */
static void put_host_keys(const td_kind *k, td_text *out)
{
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (!g->table || !g->kind || strcmp(g->kind, k->id) != 0)
            continue;
        td_text_print(out, "Besides the plugin's own options, the group has options of the host: ");
        for (size_t i = 0; g->table[i].type != TD_TYPE_END; i++)
            td_text_print(out, "%s`%s`", i ? ", " : "", g->table[i].name);
        td_text_print(out, " ([groups.md](groups.md#%s)).\n\n", g->name);
    }
}

/* The conformance suite's requirements for the kind. */
static void put_checks(const td_kind *k, td_text *out)
{
    td_text_print(out,
                  "\n## Conformance tests\n\n`tandem plugins check` runs these on every plugin of "
                  "the kind, including yours:\n\n| test | requirement |\n|---|---|\n");
    for (const td_check_case *t = td_check_cases(); t->name; t++)
        if (td_check_applies(t, k->id)) {
            td_text_print(out, "| `%s` | ", t->name);
            td_markdown_put(out, t->brief);
            td_text_print(out, " |\n");
        }
}

static int kind_page(const reference *x, const td_kind *k, td_error *error)
{
    td_text   out = { 0 };
    td_places where = { .count = 0 };
    td_places_find(x->registry, k->id, &where);
    put_title(&out, k);
    put_places(&out, &where);
    put_host_keys(k, &out);
    put_overview(x, k, &out);
    for (size_t i = 0; i < td_registry_count(x->registry); i++)
        if (!strcmp(td_registry_plugin(x->registry, i)->kind, k->id))
            put_plugin(x, td_registry_plugin(x->registry, i), &where, &out);
    put_checks(k, &out); /* last: it matters to authors, the rest to everyone */
    return write_page(x, k->name, &out, error);
}

/* ---- ops ------------------------------------------------------------------------------------- */

/* A row of the table; its columns are the header's in op_page. */
static void put_op(const reference *x, const td_op *op, td_text *out)
{
    td_text_print(out, "| `%s` | ", op->plugin.name);
    td_markdown_put(out, op->plugin.brief);
    /* An input that may be left out makes a range of it. */
    if (op->min_inputs == op->max_inputs)
        td_text_print(out, " | %d |", op->max_inputs);
    else
        td_text_print(out, " | %d .. %d |", op->min_inputs, op->max_inputs);
    td_text_print(out, "%s%s%s%s | %s | %s |", op->flags & TD_OP_EFFECT ? " effect" : "",
                  op->flags & TD_OP_ELEMENTWISE ? " elementwise" : "",
                  op->flags & TD_OP_VIEW ? " view" : "", op->accumulate_in ? " accumulates" : "",
                  op->vjp ? "yes" : "no", op->lower ? "yes" : "no");
    for (size_t i = 0; i < td_registry_count(x->registry); i++) {
        const td_plugin *b = td_registry_plugin(x->registry, i);
        if (!strcmp(b->kind, TD_BACKEND_KIND))
            td_text_print(out, " %s |", td_plugins_how(x->registry, (const void *)b, op));
    }
    td_text_print(out, "\n");
}

static const char ops_intro[] =
    "\n[tandem/ops.h](../../core/include/tandem/ops.h) has a function for each built-in op, with "
    "its "
    "formula and its attributes; other ops come with the modules of plugins that use them. Inputs: "
    "their number, including optional ones. Flags: `effect` writes to a state; "
    "`elementwise` needs only the matching element of each input; `view` shows its input's memory "
    "in "
    "another shape; `accumulates` can start from an input instead of 0. An op without a kernel is "
    "lowered to simpler ones; `kernel +i32` means that there is a kernel for integers too.\n\n";

static void put_op_header(const reference *x, td_text *out)
{
    size_t backends = 0;
    td_text_print(out, "| op | description | inputs | flags | gradient | lowering |");
    for (size_t i = 0; i < td_registry_count(x->registry); i++) {
        const td_plugin *p = td_registry_plugin(x->registry, i);
        if (strcmp(p->kind, TD_BACKEND_KIND))
            continue;
        td_text_print(out, " %s |", p->name);
        backends++;
    }
    td_text_print(out, "\n|---|---|---|---|---|---|"); /* Markdown counts them: one per column */
    while (backends--)
        td_text_print(out, "---|");
    td_text_print(out, "\n");
}

/* Ops have no options; one table describes them and shows how they run. */
static int op_page(const reference *x, const td_kind *k, td_error *error)
{
    td_text out = { 0 };
    put_title(&out, k);
    td_text_print(&out, "%s", ops_intro);
    put_op_header(x, &out);
    for (size_t i = 0; i < td_registry_count(x->registry); i++)
        if (!strcmp(td_registry_plugin(x->registry, i)->kind, TD_OP_KIND))
            put_op(x, (const void *)td_registry_plugin(x->registry, i), &out);
    put_checks(k, &out);
    return write_page(x, k->name, &out, error);
}

/* ---- groups and index ------------------------------------------------------------------------ */

static const char groups_intro[] =
    "# Groups\n\nThe groups of a config. The options of each plugin are on the page of its kind; "
    "[config.md](../config.md) explains `extends`, `plugin_path` and how files are merged.\n\n"
    "| group | description | plugin | default |\n|---|---|---|---|\n";

static void put_group_row(const td_group *g, td_text *out)
{
    /* Only a group with keys of the host has a section on this page to link to. */
    td_text_print(out, g->table ? "| [%s](#%s) | %s | " : "| %s%.0s | %s | ", g->name, g->name,
                  g->brief);
    if (g->kind)
        td_markdown_kind(out, g->kind);
    if (g->plugin)
        td_text_print(out, " | `\"%s\"`", g->plugin);
    else
        td_text_print(out, g->kind ? " | required" : " | ");
    td_text_print(out, " |\n");
}

static int groups_page(const reference *x, td_error *error)
{
    td_text out = { 0 };
    td_text_print(&out, "%s%s", generated, groups_intro);
    for (const td_group *g = td_experiment_groups(); g->name; g++)
        put_group_row(g, &out);
    td_text_print(&out, "\n");
    /* A group without keys of the host has no section: its options are on the page of its kind. */
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (!g->table)
            continue;
        td_text_print(&out, "## %s\n\n", g->name);
        td_markdown_sentence(&out, g->brief);
        td_text_print(&out, g->kind ? " Besides the options of the plugin:\n\n" : "\n\n");
        td_markdown_options(&out, g->table, sizeof(td_option), NULL);
    }
    return write_page(x, "groups", &out, error);
}

static const char tasks_intro[] =
    "# Task files\n\nThe options of the group `task`, which makes up a task file. "
    "[tasks.md](../tasks.md) explains them with an example.\n\n";

static int tasks_page(const reference *x, td_error *error)
{
    td_text out = { 0 };
    td_text_print(&out, "%s%s", generated, tasks_intro);
    td_markdown_options(&out, td_task_table, sizeof(td_option), NULL);
    return write_page(x, "tasks", &out, error);
}

static const char index_intro[] =
    "# Reference\n\nEvery shipped plugin with its options, one page per kind. The groups of a "
    "config, "
    "and the options that belong to the host: [groups.md](groups.md); the options of task files: "
    "[tasks.md](tasks.md). `tandem plugins show KIND "
    "NAME` "
    "prints the same for any plugin, including yours.\n\n"
    "| kind | description | revision | plugins |\n|---|---|---|---|\n";

static void put_index_row(const reference *x, const td_kind *k, td_text *out)
{
    bool   ops = !strcmp(k->id, TD_OP_KIND); /* about a hundred, so they are counted rather than
                                              * listed */
    size_t n = 0;
    td_text_print(out, "| ");
    td_markdown_kind(out, k->id);
    td_text_print(out, " | %s | %s | ", k->brief, k->id + td_tool_kind_length(k->id) + 1);
    for (size_t i = 0; i < td_registry_count(x->registry); i++) {
        const td_plugin *p = td_registry_plugin(x->registry, i);
        if (strcmp(p->kind, k->id))
            continue;
        if (!ops)
            td_text_print(out, "%s[%s](%s.md#%s)", n ? ", " : "", p->name, k->name, p->name);
        n++;
    }
    if (ops)
        td_text_print(out, "%zu", n);
    td_text_print(out, " |\n");
}

static int index_page(const reference *x, td_error *error)
{
    td_text out = { 0 };
    td_text_print(&out, "%s%s", generated, index_intro);
    for (const td_kind *k = td_kinds(); k->id; k++)
        put_index_row(x, k, &out);
    return write_page(x, "index", &out, error);
}

/* A page for each kind that this host knows, including kinds without a shipped plugin. */
static int write_all(const reference *x, td_error *error)
{
    int code = td_make_directories(x->directory, error);
    for (const td_kind *k = td_kinds(); k->id && !code; k++)
        code = strcmp(k->id, TD_OP_KIND) ? kind_page(x, k, error) : op_page(x, k, error);
    if (!code)
        code = groups_page(x, error);
    if (!code)
        code = tasks_page(x, error);
    return code ? code : index_page(x, error);
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--dir", "DIR", "write the pages to DIR (default: docs/reference)" },
    { 0, 0, 0 },
};

const td_usage td_usage_plugins_reference = {
    .name = "plugins reference",
    .arguments = "[--dir DIR]",
    .brief = "Write the reference: one page per kind of plugin, with every option of every shipped "
             "plugin.",
    .example = "tandem plugins reference",
    .flags = flags,
    .notes = "The pages describe shipped plugins only, so --plugin-path is refused and "
             "TANDEM_PLUGIN_PATH is ignored.",
};

/* Where to write; NULL after a message. */
static const char *directory_of(td_tool *t)
{
    const char *given = td_tool_option(t, "--dir");
    if (t->n_plugin_paths)
        td_tool_usage_error(t, "the pages describe shipped plugins only: leave out --plugin-path");
    else if (given)
        return given;
    else if (td_file_exists("docs"))
        return "docs/reference";
    else
        td_tool_usage_error(t, "there is no directory 'docs' here: run this in the project's "
                               "directory, or use --dir DIR");
    return NULL;
}

int td_plugins_reference(td_tool *t, int argc, char **argv)
{
    reference x = { .ablations = { .count = 0 } };
    td_error  e = { 0 };
    char     *configs;
    int       code;

    if (!td_tool_parse(t, &td_usage_plugins_reference, argc, argv, &code))
        return code;
    x.directory = directory_of(t);
    unsetenv("TANDEM_PLUGIN_PATH"); /* before the registry reads it */
    x.registry = x.directory ? td_tool_registry(t) : NULL;
    if (!x.registry)
        return TD_EXIT_USAGE;
    td_registry_scan(x.registry);
    configs = td_tool_configs();
    if (configs)
        td_ablations_open(&x.ablations, configs);
    code = write_all(&x, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    td_ablations_close(&x.ablations);
    free(configs);
    return code;
}
