/* setup.c - the section on the runs: settings in which they differ, sizes and budgets, and what
 * is missing. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report/sections.h"
#include "run/results.h"

/* ---- the settings that differ ---------------------------------------------------------------- */

/* Lines of td_config_diff are "key: first's -> this one's". Incidental keys tell seeds and places. */
static bool is_incidental(const char *line, size_t key)
{
    static const char *const keys[] = { "run.dir", "run.name", "train.seed", "train.weights" };
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (strlen(keys[k]) == key && !strncmp(line, keys[k], key))
            return true;
    return false;
}

static void setting_row(const td_report_data *d, td_document *doc, td_doc_table *t, size_t g,
                        const char *line, size_t size)
{
    size_t      key = strcspn(line, ":");
    const char *values = key < size ? line + key + 1 : "", *arrow = strstr(values, " -> ");
    size_t      end = (size_t)(line + size - values);
    /* names and seeds differ between any two groups */
    if (key >= size || is_incidental(line, key))
        return;
    td_table_text(doc, t, d->groups[g].name);
    td_table_text(doc, t, td_document_print(doc, "%.*s", (int)key, line));
    if (arrow && (size_t)(arrow - values) < end) {
        td_table_text(doc, t,
                      td_document_print(doc, "%.*s", (int)(arrow - values - 1), values + 1));
        td_table_text(doc, t,
                      td_document_print(doc, "%.*s", (int)(values + end - arrow - 4), arrow + 4));
        return;
    }
    td_table_text(doc, t, "");
    td_table_text(doc, t, td_document_print(doc, "%.*s", (int)end, values));
}

static void tabulate_settings(const td_report_data *d, td_document *doc)
{
    td_doc_table *t;
    if (d->comparison.n_groups < 2)
        return;
    t = td_document_table(doc, "settings",
                          td_document_print(doc,
                                            "Settings in which each group differs from the first, "
                                            "'%s'; names, paths and seeds are left out.",
                                            d->groups[0].name),
                          "group", "key", "first group", "this group", NULL);
    for (size_t g = 1; g < d->comparison.n_groups; g++) {
        /* any run will do: those of a group differ only in their seed */
        const td_compared_run *r = &d->comparison.runs[d->comparison.groups[g].runs[0]];
        for (const char *line = td_text_get(&r->differences); *line;) {
            size_t n = strcspn(line, "\n");
            setting_row(d, doc, t, g, line, n);
            line += n + (line[n] == '\n');
        }
    }
}

/* ---- sizes and budgets ----------------------------------------------------------------------- */

static void size_row(const td_report_data *d, td_document *doc, td_doc_table *t, size_t g)
{
    const td_compared_group *group = &d->comparison.groups[g];
    const td_report_group   *x = &d->groups[g];
    td_table_text(doc, t, x->name);
    td_table_number(doc, t, "%.0f", (double)group->count);
    td_table_number(doc, t, "%.0f", x->described ? (double)x->model.parameters : (double)NAN);
    td_table_number(doc, t, "%.0f", group->step < 0 ? (double)NAN : (double)group->step);
    td_table_number(doc, t, "%.0f", group->tokens);
    td_table_text(doc, t, td_report_flops(doc, group->flops));
    td_table_text(doc, t, td_report_flops(doc, td_report_inference(d, g)));
    td_table_number(doc, t, "%.3g", 1e3 * td_report_latency(d, g));
}

static const char *sizes_csv(const td_report_data *d, td_document *doc)
{
    td_text t = { 0 };
    td_text_print(&t, "group_index,seeds,parameters,step,tokens,flops,inference_flops_per_target,"
                      "seconds_per_token\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        const td_compared_group *group = &d->comparison.groups[g];
        td_text_print(&t, "%zu,%zu", g, group->count);
        td_results_cell(&t, d->groups[g].described ? (double)d->groups[g].model.parameters
                                                   : (double)NAN);
        td_results_cell(&t, group->step < 0 ? (double)NAN : (double)group->step);
        td_results_cell(&t, group->tokens);
        td_results_cell(&t, group->flops);
        td_results_cell(&t, td_report_inference(d, g));
        td_results_cell(&t, td_report_latency(d, g));
        td_text_print(&t, "\n");
    }
    return td_document_take(doc, &t);
}

static void tabulate_sizes(const td_report_data *d, td_document *doc)
{
    td_doc_table *t = td_document_table(doc, "sizes",
                                        "Sizes and budgets. Tokens are those read in training; "
                                        "FLOPs are of matrix products, visible scores only; those "
                                        "of inference are those of a forward pass, per target "
                                        "token; latency is the time of a generated token, where it "
                                        "was measured.",
                                        "group", "#seeds", "#parameters", "#steps", "#tokens",
                                        "#training", "#inference", "#latency (ms)", NULL);
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        size_row(d, doc, t, g);
    t->csv = sizes_csv(d, doc);
}

/* ---- notes ----------------------------------------------------------------------------------- */

static void list_lines(td_document *doc, const char *lines)
{
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        td_document_item(doc, "%.*s", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

void td_report_setup(const td_report_data *d, td_document *doc)
{
    td_document_heading(doc, 2, "Setup");
    tabulate_sizes(d, doc);
    tabulate_settings(d, doc);
    if (!d->notes.size && !d->comparison.notes.size)
        return;
    td_document_heading(doc, 2, "Notes");
    list_lines(doc, td_text_get(&d->comparison.notes));
    list_lines(doc, td_text_get(&d->notes));
}
