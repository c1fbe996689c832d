/* plugins_reference.c - `tandem plugins reference`: docs/reference, a page per kind, from the option
 * tables of the plugins that are shipped. */
#include "manual/reference.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/check.h"
#include "config/config.h"
#include "manual/markdown.h"
#include "plugin/options.h"
#include "tandem/kind/kernels.h"
#include "run/experiment.h"

enum { PLACES = 32, DEEPEST = 4, ABLATIONS = 256 };

typedef struct ablation {
    const char *file; /* "alibi.cfg" */
    td_config  *config;
} ablation;

typedef struct reference {
    td_registry *registry;
    const char  *directory;
    ablation     ablations[ABLATIONS];
    size_t       n_ablations;
} reference;

static int kind_length(const char *kind) { return (int)strcspn(kind, "/"); }

/* ---- where a config names a kind ------------------------------------------------------------- */

typedef struct places {
    char   at[PLACES][96];
    size_t count;
} places;

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void add_place(places *p, const char *path)
{
    for (size_t k = 0; k < p->count; k++)
        if (!strcmp(p->at[k], path))
            return;
    if (p->count < PLACES)
        snprintf(p->at[p->count++], sizeof p->at[0], "%s", path);
}

static void find_places(const td_registry *, const char *kind, int depth, places *out);

/* Options of `table` that take plugins of `kind`, in a group at `path`. */
static void look_in(const td_option *table, size_t size, const char *path, const char *kind,
                    places *out)
{
    td_option row;
    char      full[96];
    for (size_t i = 0; td_option_row(table, size, i, &row); i++) {
        if ((row.type != TD_TYPE_PART && row.type != TD_TYPE_PARTS) ||
            strcmp(row.choices[0], kind) != 0)
            continue;
        snprintf(full, sizeof full, "%s.%s", path, row.name);
        add_place(out, full);
    }
}

/* Those in plugins, wherever these are. */
static void look_in_plugins(const td_registry *r, const char *kind, int depth, places *out)
{
    for (size_t i = 0; i < td_registry_count(r); i++) {
        const td_plugin *p = td_registry_plugin(r, i);
        places           found = { .count = 0 }, owners = { .count = 0 };
        look_in(p->options, p->option_size, "", kind, &found);
        if (found.count)
            find_places(r, p->kind, depth + 1, &owners);
        for (size_t k = 0; k < owners.count; k++)
            look_in(p->options, p->option_size, owners.at[k], kind, out);
    }
}

static void find_places(const td_registry *r, const char *kind, int depth, places *out)
{
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (g->kind && !strcmp(g->kind, kind))
            add_place(out, g->name);
        look_in(g->table, sizeof(td_option), g->name, kind, out);
    }
    if (depth < DEEPEST)
        look_in_plugins(r, kind, depth, out);
    qsort(out->at, out->count, sizeof out->at[0], by_text);
}

/* ---- ablations ------------------------------------------------------------------------------- */

static void open_ablations(reference *x)
{
    char   *configs = td_tool_configs();
    char   *directory = configs ? td_path_join(configs, "ablations") : NULL;
    char  **names = NULL;
    int64_t count = directory ? td_list_directory(directory, &names, NULL) : -1;
    for (int64_t k = 0; k < count && x->n_ablations < ABLATIONS; k++) {
        char      *path = td_path_join(directory, names[k]);
        td_errors  errors = { 0 };
        td_config *c = path ? td_config_load((const char *const *)&path, 1, NULL, 0, configs,
                                             &errors)
                            : NULL;
        if (c)
            x->ablations[x->n_ablations++] = (ablation){ strdup(names[k]), c };
        td_errors_free(&errors);
        free(path);
    }
    if (count >= 0)
        td_free_names(names, count);
    free(directory);
    free(configs);
}

static void close_ablations(reference *x)
{
    for (size_t k = 0; k < x->n_ablations; k++) {
        td_config_free(x->ablations[k].config);
        free((char *)(uintptr_t)x->ablations[k].file);
    }
}

/* Whether the file itself names the plugin, not one that it extends. */
static bool names_it(const ablation *a, const places *where, const char *name)
{
    for (size_t k = 0; k < where->count; k++) {
        char            path[128];
        const td_setting *v;
        const char     *slash;
        snprintf(path, sizeof path, "%s.plugin", where->at[k]);
        v = td_config_get(a->config, path);
        slash = v && v->file ? strrchr(v->file, '/') : NULL;
        if (slash && !strcmp(slash + 1, a->file) && v->type == TD_SETTING_STRING &&
            !strcmp(v->text, name))
            return true;
    }
    return false;
}

static void put_ablations(const reference *x, const places *where, const char *name, td_text *out)
{
    size_t n = 0;
    for (size_t k = 0; k < x->n_ablations; k++)
        if (x->ablations[k].file && names_it(&x->ablations[k], where, name))
            td_text_print(out, "%s[%s](../../configs/ablations/%s)",
                          n++ ? ", " : "Ablation: ", x->ablations[k].file, x->ablations[k].file);
    if (n)
        td_text_print(out, "\n\n");
}

/* ---- pages ----------------------------------------------------------------------------------- */

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

static const char generated[] = "<!-- Written by `tandem plugins reference`. Do not edit. -->\n\n";

static void put_title(td_text *out, const td_kind *k)
{
    td_text_print(out, "%s# %s\n\n", generated, k->name);
    td_markdown_sentence(out, k->brief);
    td_text_print(out,
                  " The kind is `%s`; its contract is "
                  "[tandem/kind/%s.h](../../core/include/tandem/kind/%s.h).\n",
                  k->id, k->name, k->name);
}

static void put_places(td_text *out, const places *where)
{
    for (size_t k = 0; k < where->count; k++)
        td_text_print(out, "%s`%s`", k ? ", " : "Configs name it in ", where->at[k]);
    td_text_print(out, where->count ? ".\n\n" : "\n");
}

static void put_overview(const reference *x, const td_kind *k, td_text *out)
{
    td_text_print(out, "| plugin | is |\n|---|---|\n");
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

/* Rows of one op lie anywhere in the table: each op counts where it is first. */
static void put_kernels(const td_kernels *k, td_text *out)
{
    size_t ops = 0;
    for (size_t i = 0; i < k->count; i++) {
        size_t j = 0;
        while (strcmp(k->rows[j].op, k->rows[i].op) != 0)
            j++;
        ops += j == i;
    }
    td_text_print(out, "It has kernels for %zu ops of the backend `%s`: see [op](op.md).\n\n", ops,
                  k->backend);
}

static void put_plugin(const reference *x, const td_plugin *p, const places *where, td_text *out)
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
    if (!strcmp(p->kind, TD_KERNELS_KIND))
        put_kernels((const void *)p, out);
    else if (p->options)
        td_markdown_options(out, p->options, p->option_size, NULL);
    else
        td_text_print(out, "It has no options.\n\n");
    put_ablations(x, where, p->name, out);
}

/* The keys in its group that every plugin of the kind has. */
static void put_host_keys(const td_kind *k, td_text *out)
{
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (!g->table || !g->kind || strcmp(g->kind, k->id) != 0)
            continue;
        td_text_print(out, "Beside the plugin's own options the group has the host's: ");
        for (size_t i = 0; g->table[i].type != TD_TYPE_END; i++)
            td_text_print(out, "%s`%s`", i ? ", " : "", g->table[i].name);
        td_text_print(out, " ([groups.md](groups.md#%s)).\n\n", g->name);
    }
}

/* What the conformance suite asks of the kind. */
static void put_checks(const td_kind *k, td_text *out)
{
    td_text_print(out,
                  "\n## What is checked\n\n`tandem plugins check` asks this of every plugin of "
                  "the kind, a stranger's too:\n\n| test | what must hold |\n|---|---|\n");
    for (const td_check_case *t = td_check_cases(); t->name; t++)
        if (td_check_applies(t, k->id)) {
            td_text_print(out, "| `%s` | ", t->name);
            td_markdown_put(out, t->brief);
            td_text_print(out, " |\n");
        }
}

static int kind_page(const reference *x, const td_kind *k, td_error *error)
{
    td_text out = { 0 };
    places  where = { .count = 0 };
    find_places(x->registry, k->id, 0, &where);
    put_title(&out, k);
    put_places(&out, &where);
    put_host_keys(k, &out);
    put_overview(x, k, &out);
    for (size_t i = 0; i < td_registry_count(x->registry); i++)
        if (!strcmp(td_registry_plugin(x->registry, i)->kind, k->id))
            put_plugin(x, td_registry_plugin(x->registry, i), &where, &out);
    put_checks(k, &out);
    return write_page(x, k->name, &out, error);
}

/* ---- ops ------------------------------------------------------------------------------------- */

static void put_op(const reference *x, const td_op *op, td_text *out)
{
    td_text_print(out, "| `%s` | ", op->plugin.name);
    td_markdown_put(out, op->plugin.brief);
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

/* The ops have no options: one table of what they are and how they run. */
static int op_page(const reference *x, const td_kind *k, td_error *error)
{
    td_text out = { 0 };
    put_title(&out, k);
    td_text_print(
        &out,
        "\n[tandem/ops.h](../../core/include/tandem/ops.h) has a function for each that is built "
        "in, "
        "with its formula and its attributes; the others come with the modules of plugins that "
        "use them. Inputs: how many, absent ones counted. Flags: "
        "`effect` writes to a state, `elementwise` needs of each input only the element itself, "
        "`view` is another window of its input's memory, `accumulates` can start from an input "
        "instead of 0. An op without a kernel is lowered to simpler ones; `kernel +i32`: there is "
        "one for integers too.\n\n");
    td_text_print(&out, "| op | is | inputs | flags | gradient | lowering |");
    for (size_t i = 0; i < td_registry_count(x->registry); i++)
        if (!strcmp(td_registry_plugin(x->registry, i)->kind, TD_BACKEND_KIND))
            td_text_print(&out, " %s |", td_registry_plugin(x->registry, i)->name);
    td_text_print(&out, "\n|---|---|---|---|---|---|");
    for (size_t i = 0; i < td_registry_count(x->registry); i++)
        if (!strcmp(td_registry_plugin(x->registry, i)->kind, TD_BACKEND_KIND))
            td_text_print(&out, "---|");
    td_text_print(&out, "\n");
    for (size_t i = 0; i < td_registry_count(x->registry); i++)
        if (!strcmp(td_registry_plugin(x->registry, i)->kind, TD_OP_KIND))
            put_op(x, (const void *)td_registry_plugin(x->registry, i), &out);
    put_checks(k, &out);
    return write_page(x, k->name, &out, error);
}

/* ---- the groups, and the list of all --------------------------------------------------------- */

static int groups_page(const reference *x, td_error *error)
{
    td_text out = { 0 };
    td_text_print(&out,
                  "%s# Groups\n\nThe groups of a config. What each plugin takes is on the page of "
                  "its kind; how files compose, `extends` and `plugin_path` are in "
                  "[config.md](../config.md).\n\n| group | is | plugin | if not named |\n"
                  "|---|---|---|---|\n",
                  generated);
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        td_text_print(&out, g->table ? "| [%s](#%s) | %s | " : "| %s%.0s | %s | ", g->name, g->name,
                      g->brief);
        if (g->kind)
            td_markdown_kind(&out, g->kind);
        if (g->plugin)
            td_text_print(&out, " | `\"%s\"`", g->plugin);
        else
            td_text_print(&out, g->kind ? " | needed" : " | ");
        td_text_print(&out, " |\n");
    }
    td_text_print(&out, "\n");
    for (const td_group *g = td_experiment_groups(); g->name; g++) {
        if (!g->table)
            continue;
        td_text_print(&out, "## %s\n\n", g->name);
        td_markdown_sentence(&out, g->brief);
        td_text_print(&out, g->kind ? " Beside the options of the plugin:\n\n" : "\n\n");
        td_markdown_options(&out, g->table, sizeof(td_option), NULL);
    }
    return write_page(x, "groups", &out, error);
}

static int index_page(const reference *x, td_error *error)
{
    td_text out = { 0 };
    td_text_print(&out,
                  "%s# Reference\n\nEvery plugin that is shipped, with its options: a page per "
                  "kind. The groups of a config that are the host's: [groups.md](groups.md). "
                  "The same for one plugin, yours too: `tandem plugins show KIND NAME`.\n\n"
                  "| kind | is | revision | plugins |\n|---|---|---|---|\n",
                  generated);
    for (const td_kind *k = td_kinds(); k->id; k++) {
        size_t n = 0;
        td_text_print(&out, "| ");
        td_markdown_kind(&out, k->id);
        td_text_print(&out, " | %s | %s | ", k->brief, k->id + kind_length(k->id) + 1);
        for (size_t i = 0; i < td_registry_count(x->registry); i++) {
            const td_plugin *p = td_registry_plugin(x->registry, i);
            if (!strcmp(p->kind, k->id) && strcmp(p->kind, TD_OP_KIND))
                td_text_print(&out, "%s[%s](%s.md#%s)", n++ ? ", " : "", p->name, k->name, p->name);
            n += !strcmp(p->kind, k->id) && !strcmp(p->kind, TD_OP_KIND);
        }
        if (!strcmp(k->id, TD_OP_KIND))
            td_text_print(&out, "%zu", n);
        td_text_print(&out, " |\n");
    }
    return write_page(x, "index", &out, error);
}

static int write_all(const reference *x, td_error *error)
{
    int code = td_make_directories(x->directory, error);
    for (const td_kind *k = td_kinds(); k->id && !code; k++)
        code = strcmp(k->id, TD_OP_KIND) ? kind_page(x, k, error) : op_page(x, k, error);
    if (!code)
        code = groups_page(x, error);
    return code ? code : index_page(x, error);
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--dir", "DIR", "where the pages go (docs/reference)" },
    { 0, 0, 0 },
};

const td_usage td_usage_plugins_reference = {
    .name = "plugins reference",
    .arguments = "[--dir DIR]",
    .brief = "Write the reference: a page per kind of plugin, with every option of those that are "
             "shipped.",
    .example = "tandem plugins reference",
    .flags = flags,
    .notes = "--plugin-path and TANDEM_PLUGIN_PATH are not looked at: the pages tell of what is "
             "shipped.\n",
};

int td_plugins_reference(td_tool *t, int argc, char **argv)
{
    reference x = { .n_ablations = 0 };
    td_error  e = { 0 };
    int       code;

    if (!td_tool_parse(t, &td_usage_plugins_reference, argc, argv, &code))
        return code;
    x.directory = td_tool_option(t, "--dir");
    if (t->n_plugin_paths)
        return td_tool_usage_error(t, "plugins reference tells of what is shipped: it takes no "
                                      "--plugin-path");
    if (!x.directory && !td_file_exists("docs"))
        return td_tool_usage_error(t, "plugins reference: there is no 'docs' here: go to the "
                                      "project's directory, or give --dir DIR");
    x.directory = x.directory ? x.directory : "docs/reference";
    unsetenv("TANDEM_PLUGIN_PATH");
    x.registry = td_tool_registry(t);
    if (!x.registry)
        return TD_EXIT_USAGE;
    td_registry_scan(x.registry);
    open_ablations(&x);
    code = write_all(&x, &e) ? td_tool_fail(t, &e) : TD_EXIT_OK;
    close_ablations(&x);
    return code;
}
