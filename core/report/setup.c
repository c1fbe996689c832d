/* setup.c - the section on the runs: settings in which they differ, sizes and budgets, and what
 * is missing. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "report/sections.h"
#include "run/differences.h"
#include "run/results.h"

/* ---- the settings that differ ---------------------------------------------------------------- */

#define SOURCES "data.sources["

static bool is_source_name(td_span key)
{
    return td_span_begins(key, SOURCES) && td_span_ends(key, "].name");
}

static void add_name(td_text *names, td_span name)
{
    if (name.n && name.text[0] == '"')
        td_text_print(names, "%s%.*s", names->size ? ", " : "", (int)name.n, name.text);
}

static void add_setting(td_document *doc, td_doc_table *t, const char *group, const char *key,
                        const char *first, const char *other)
{
    td_table_text(doc, t, group);
    td_table_text(doc, t, key);
    td_table_text(doc, t, first);
    td_table_text(doc, t, other);
}

static const char *text_of(td_document *doc, td_span s)
{
    return td_document_print(doc, "%.*s", (int)s.n, s.text);
}

/* Groups that read other sources differ in a dozen of their files and rates; the names say it in one
 * row. Returns whether there is such a row. */
static bool add_sources(td_document *doc, td_doc_table *t, const char *group, const char *lines)
{
    td_text            first = { 0 }, other = { 0 };
    td_changed_setting s;
    while (td_changed_next(&lines, &s))
        if (is_source_name(s.key)) {
            add_name(&first, s.before);
            add_name(&other, s.now);
        }
    bool        found = first.size || other.size;
    const char *a = td_document_take(doc, &first), *b = td_document_take(doc, &other);
    if (found)
        add_setting(doc, t, group, "data.sources", a, b);
    return found;
}

static void add_group(const td_report_data *d, td_document *doc, td_doc_table *t, size_t g)
{
    const td_compared_run *r = &d->comparison.runs[d->comparison.groups[g].runs[0]];
    const char            *lines = td_text_get(&r->differences);
    bool                   named = add_sources(doc, t, d->groups[g].name, lines);
    td_changed_setting     s;
    while (td_changed_next(&lines, &s))
        if (!td_changed_is_incidental(&s) && !(named && td_span_begins(s.key, SOURCES)))
            add_setting(doc, t, d->groups[g].name, text_of(doc, s.key), text_of(doc, s.before),
                        text_of(doc, s.now));
}

static void tabulate_settings(const td_report_data *d, td_document *doc)
{
    td_doc_table *t;
    if (d->comparison.n_groups < 2)
        return;
    t = td_document_table(
        doc, "settings",
        td_document_print(doc,
                          "Settings in which each group differs from the first, '%s'; "
                          "names, paths and seeds are left out.",
                          d->groups[0].name),
        "group", "key", "first group", "this group", NULL);
    for (size_t g = 1; g < d->comparison.n_groups; g++)
        add_group(d, doc, t, g);
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
    td_doc_table *t = td_document_table(
        doc, "sizes",
        "Sizes and budgets. Tokens are those read in training; "
        "FLOPs are of matrix products, visible scores only; those of inference are for a forward "
        "pass, per target token; latency is the time of a generated token, where it "
        "was measured.",
        "group", "#seeds", "#parameters", "#steps", "#tokens", "#training", "#inference",
        "#latency (ms)", NULL);
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
