/* scores.c - held-out losses and scores of tasks: pictures with intervals, and tables. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "report/figure.h"
#include "report/sections.h"
#include "run/results.h"

/* ---- the picture of several measures --------------------------------------------------------- */

/* The rows of a picture or table: measures with their names. */
typedef struct panel {
    const td_measure **measures;
    const char       **names;
    const char       **phases; /* only groups of this phase of a study are in the row; NULL: all */
    size_t             n;
} panel;

/* Room for all measures, by phase; false: out of memory, and the document fails. */
static bool begin_panel(const td_report_data *d, td_document *doc, panel *p)
{
    size_t room = (d->comparison.n_measures + 1) * (td_report_phases(d) + 1);
    p->measures = td_arena_alloc(doc->arena, room * sizeof *p->measures);
    p->names = td_arena_alloc(doc->arena, room * sizeof *p->names);
    p->phases = td_arena_alloc(doc->arena, room * sizeof *p->phases);
    p->n = 0;
    doc->failed = doc->failed || !p->measures || !p->names || !p->phases;
    return !doc->failed;
}

static void add(panel *p, const td_measure *m, const char *name, const char *phase)
{
    p->names[p->n] = name;
    p->phases[p->n] = phase;
    p->measures[p->n++] = m;
}

static bool has_score_in(const td_report_data *d, const td_measure *m, const char *phase)
{
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        if (!strcmp(d->groups[g].phase, phase) && isfinite(m->groups[g].score))
            return true;
    return false;
}

/* Phases read different text, and may call it by the same name, so their losses are in rows of their own.
 * Items of tasks are the same in all phases. */
static void add_by_phase(const td_report_data *d, td_document *doc, panel *p, const td_measure *m,
                         const char *name)
{
    if (td_report_phases(d) < 2 || strncmp(m->name, "heldout", 7)) {
        add(p, m, name, NULL);
        return;
    }
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        const char *phase = d->groups[g].phase;
        if (td_report_begins_phase(d, g) && has_score_in(d, m, phase))
            add(p, m, td_document_print(doc, "%s (%s)", name, phase), phase);
    }
}

/* The score of the group in row k; NULL: it has none there. */
static const td_measured *score_in(const td_report_data *d, const panel *p, size_t k, size_t g)
{
    const td_measured *m = &p->measures[k]->groups[g];
    bool               other = p->phases[k] && strcmp(p->phases[k], d->groups[g].phase);
    return !other && isfinite(m->score) ? m : NULL;
}

/* Whether the picture shows anything of the group: others need no place in its legend. */
static bool is_shown(const td_report_data *d, const panel *p, size_t g)
{
    for (size_t k = 0; k < p->n; k++)
        if (score_in(d, p, k, g))
            return true;
    return false;
}

static size_t count_shown(const td_report_data *d, const panel *p)
{
    size_t n = 0;
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        n += is_shown(d, p, g);
    return n;
}

static void print_row(const td_report_data *d, const panel *p, size_t k, size_t g, double place,
                      td_doc_figure *f)
{
    const td_measured *m = score_in(d, p, k, g);
    td_text_print(&f->data, "%zu,%zu,%.4f,%.9g", k, g, place, m->score);
    td_results_cell(&f->data, td_report_half(m));
    td_results_cell(&f->data, m->deviation);
    td_text_print(&f->data, ",%" PRId64 ",", m->seeds);
    td_escape_csv(&f->data, p->names[k]);
    td_text_print(&f->data, ",");
    td_escape_csv(&f->data, d->groups[g].name);
    td_text_print(&f->data, "\n");
}

/* The groups of a measure stand below each other, in the middle half of its row. */
static void print_data(const td_report_data *d, const panel *p, td_doc_figure *f)
{
    size_t shown = count_shown(d, p);
    td_text_print(&f->data,
                  "measure_index,group_index,place,score,half,deviation,seeds,measure,group\n");
    for (size_t k = 0; k < p->n; k++)
        for (size_t g = 0, at = 0; g < d->comparison.n_groups; g++) {
            double shift = shown > 1 ? 0.5 * ((double)at / (double)(shown - 1) - 0.5) : 0;
            if (score_in(d, p, k, g))
                print_row(d, p, k, g, (double)k + shift, f);
            at += is_shown(d, p, g);
        }
}

static void plot_group(const td_report_data *d, td_doc_figure *f, size_t g, size_t *plots)
{
    td_figure_next(f, plots);
    td_text_print(&f->script,
                  "'%s.csv' using (column('group_index') == %zu ? column('score') : NaN)"
                  ":'place':'half' with xerrorbars linewidth 1.5 pointtype %zu pointsize 0.7 ",
                  f->name, g, td_figure_point(g));
    td_figure_style(f, d->groups[g].colour, false);
    td_text_print(&f->script, " title ");
    td_figure_quote(f, d->groups[g].name);
}

/* Describes in words what the picture shows. */
static const char *alt_of(const td_report_data *d, td_document *doc, const panel *p)
{
    td_text t = { 0 };
    for (size_t k = 0; k < p->n && t.size < 600; k++) {
        td_text_print(&t, "%s%s:", k ? "; " : "", p->names[k]);
        for (size_t g = 0; g < d->comparison.n_groups && g < 8; g++)
            if (score_in(d, p, k, g))
                td_text_print(&t, "%s %s %s", g ? "," : "", d->groups[g].name,
                              td_report_number(doc, score_in(d, p, k, g)->score, false));
    }
    return td_document_take(doc, &t);
}

/* Names this long leave too little room for the scores in a narrow picture. */
enum { LONG = 22 };

static bool has_long_names(const panel *p)
{
    for (size_t k = 0; k < p->n; k++)
        if (strlen(p->names[k]) > LONG)
            return true;
    return false;
}

static td_doc_figure *draw_panel(const td_report_data *d, td_document *doc, const panel *p,
                                 const char *name, const char *title, const char *x)
{
    td_doc_figure *f = td_document_figure(doc, name, title);
    size_t         plots = 0, shown = count_shown(d, p);
    f->wide = has_long_names(p);
    f->rows = p->n;
    td_figure_begin(f, x, "", shown);
    td_figure_rows(f, p->names, p->n);
    /* measures are named at their rows; the offsets keep bars of errors off the frame */
    td_text_print(&f->script, "unset ylabel\nset offsets graph 0.04, graph 0.04, 0, 0\n");
    print_data(d, p, f);
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        if (is_shown(d, p, g))
            plot_group(d, f, g, &plots);
    td_text_print(&f->script, "\n");
    f->alt = alt_of(d, doc, p);
    return f;
}

static const char *const interval_words =
    "Points are means over seeds, bars their 95 % intervals (Student's t); for a single run, the "
    "bar is "
    "1.96 standard errors over the scored text and does not reflect other seeds.";

static void draw_sources(const td_report_data *d, td_document *doc)
{
    panel             p;
    const td_measure *mean = NULL;
    size_t            sources = 0;
    /* NLL per token depends on what a token is */
    if (d->tokenizers_differ || !begin_panel(d, doc, &p))
        return;
    for (size_t k = 0; k < d->comparison.n_measures; k++) {
        const td_measure *m = &d->comparison.measures[k];
        if (!strcmp(m->name, "heldout"))
            mean = m;
        else if (!strncmp(m->name, "heldout ", 8) && !m->detail && !strstr(m->name, "perplexity") &&
                 !strstr(m->name, "bits/byte")) {
            add_by_phase(d, doc, &p, m, m->name + 8);
            sources++;
        }
    }
    if (mean && sources != 1) /* the mean of one source is that source */
        add_by_phase(d, doc, &p, mean, "mean");
    if (!p.n)
        return;
    td_doc_figure *f = draw_panel(d, doc, &p, "heldout", "Held-out loss by source",
                                  "NLL (nats per target token)");
    f->caption = td_document_print(doc,
                                   "Negative log-likelihood per target token of each source of "
                                   "held-out text, and the mean over sources; lower is better. %s",
                                   interval_words);
    f->command = td_report_command(d, doc, "evaluate", "");
}

/* The setting that all names end in, " (5-shot)"; "" if they differ. */
static const char *common_setting(const panel *p)
{
    const char *setting = p->n ? strstr(p->names[0], " (") : NULL;
    for (size_t k = 0; k < p->n && setting; k++) {
        const char *other = strstr(p->names[k], " (");
        if (!other || strcmp(other, setting))
            setting = NULL;
    }
    return setting ? setting : "";
}

/* Of the metrics of a task only the first, and no parts: the table and the files have the rest. */
static void draw_tasks(const td_report_data *d, td_document *doc)
{
    panel p;
    if (!begin_panel(d, doc, &p))
        return;
    for (size_t k = 0; k < d->comparison.n_measures; k++)
        if (td_report_is_main(d, k))
            add(&p, &d->comparison.measures[k], d->comparison.measures[k].name, NULL);
    if (!p.n)
        return;
    const char *setting = common_setting(&p);
    for (size_t k = 0; k < p.n; k++)
        p.names[k] = td_document_print(doc, "%.*s", (int)(strlen(p.names[k]) - strlen(setting)),
                                       p.names[k]);
    td_doc_figure *f = draw_panel(d, doc, &p, "tasks",
                                  td_document_print(doc, "Scores of tasks%s", setting), "score");
    f->caption = td_document_print(doc, "The first metric of each downstream task. %s",
                                   interval_words);
    f->command = td_report_command(d, doc, "evaluate", " --tasks ..");
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* The cells of the table rounded, the file beside it not. */
static const char *scores_csv(const td_report_data *d, td_document *doc)
{
    td_text t = { 0 };
    td_text_print(&t, "measure,group,mean,deviation,error,half,seeds,items\n");
    for (size_t k = 0; k < d->comparison.n_measures; k++)
        for (size_t g = 0; g < d->comparison.n_groups; g++) {
            const td_measured *m = &d->comparison.measures[k].groups[g];
            if (!isfinite(m->score))
                continue;
            td_escape_csv(&t, d->comparison.measures[k].name);
            td_text_print(&t, ",");
            td_escape_csv(&t, d->groups[g].name);
            td_results_cell(&t, m->score);
            td_results_cell(&t, m->deviation);
            td_results_cell(&t, m->error);
            td_results_cell(&t, td_report_half(m));
            td_text_print(&t, ",%" PRId64 ",%" PRId64 "\n", m->seeds, m->items);
        }
    return td_document_take(doc, &t);
}

/* "1.234 ± 0.012 (3)". */
static const char *score_cell(td_document *doc, const td_measured *m)
{
    if (!isfinite(m->score))
        return "";
    if (isfinite(m->deviation))
        return td_document_print(doc, "%.4f \xc2\xb1 %.4f (%" PRId64 ")", m->score, m->deviation,
                                 m->seeds);
    return td_document_print(doc, "%.4f", m->score);
}

/* Groups are columns while they fit; then measures are. */
enum { WIDEST = 5 };

static bool has_scores(const td_report_data *d, size_t g)
{
    for (size_t k = 0; k < d->comparison.n_measures; k++)
        if (isfinite(d->comparison.measures[k].groups[g].score))
            return true;
    return false;
}

static void put_score(const td_report_data *d, td_document *doc, td_doc_table *t, const panel *p,
                      size_t k, size_t g)
{
    const td_measured *m = score_in(d, p, k, g);
    td_table_text(doc, t, m ? score_cell(doc, m) : "");
}

static void fill_by_measure(const td_report_data *d, td_document *doc, td_doc_table *t,
                            const panel *p)
{
    for (size_t k = 0; k < p->n; k++) {
        td_table_text(doc, t, p->names[k]);
        for (size_t g = 0; g < d->comparison.n_groups; g++)
            if (has_scores(d, g))
                put_score(d, doc, t, p, k, g);
    }
}

static void fill_by_group(const td_report_data *d, td_document *doc, td_doc_table *t,
                          const panel *p)
{
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        if (!has_scores(d, g))
            continue;
        td_table_text(doc, t, d->groups[g].name);
        for (size_t k = 0; k < p->n; k++)
            put_score(d, doc, t, p, k, g);
    }
}

static void tabulate_scores(const td_report_data *d, td_document *doc)
{
    panel         p;
    td_doc_table *t;
    bool          by_measure;
    if (!begin_panel(d, doc, &p))
        return;
    for (size_t k = 0; k < d->comparison.n_measures; k++)
        if (!d->comparison.measures[k].detail)
            add_by_phase(d, doc, &p, &d->comparison.measures[k], d->comparison.measures[k].name);
    /* groups are the columns, unless they are too many for a page and measures are fewer */
    by_measure = d->comparison.n_groups <= WIDEST || p.n > d->comparison.n_groups;
    t = td_document_table(
        doc, "scores",
        "All scores: mean over seeds \xc2\xb1 standard deviation over seeds (number of seeds). "
        "tables/scores.csv also has the standard errors.",
        by_measure ? "measure" : "group", NULL);
    for (size_t g = 0; g < d->comparison.n_groups && by_measure; g++)
        if (has_scores(d, g))
            td_table_column(doc, t, td_document_print(doc, "#%s", d->groups[g].name));
    for (size_t k = 0; k < p.n && !by_measure; k++)
        td_table_column(doc, t, td_document_print(doc, "#%s", p.names[k]));
    by_measure ? fill_by_measure(d, doc, t, &p) : fill_by_group(d, doc, t, &p);
    t->csv = scores_csv(d, doc);
}

static const char *verdict(const td_compared_pair *p)
{
    return isnan(p->adjusted) ? "not tested" : p->adjusted < 0.05 ? "supported" : "not supported";
}

static void test_row(const td_report_data *d, td_document *doc, td_doc_table *t,
                     const td_compared_pair *p)
{
    const td_difference *x = &p->difference;
    td_table_text(doc, t, d->comparison.measures[p->measure].name);
    td_table_text(doc, t,
                  td_document_print(doc, "%s \xe2\x86\x92 %s", d->groups[p->a].name,
                                    d->groups[p->b].name));
    td_table_number(doc, t, "%+.4f", x->mean);
    td_table_text(doc, t,
                  isfinite(x->low) ? td_document_print(doc, "%+.4f to %+.4f", x->low, x->high)
                                   : "");
    td_table_text(doc, t, td_report_p_cell(doc, x->p));
    td_table_text(doc, t, td_report_p_cell(doc, p->adjusted));
    td_table_number(doc, t, "%.2f", x->effect);
    td_table_text(doc, t, p->method);
    td_table_text(doc, t, verdict(p));
}

static void tabulate_tests(const td_report_data *d, td_document *doc)
{
    td_doc_table *t;
    td_text       csv = { 0 };
    if (!d->comparison.n_pairs)
        return;
    t = td_document_table(doc, "tests",
                          "Tests of the differences, second group minus first, on the text and "
                          "items that both were scored on. Holm: p adjusted for all tests of this "
                          "table; a difference is supported if that is below 0.05. Effect: the "
                          "mean difference in standard deviations of the differences.",
                          "measure", "groups", "#difference", "#95 % interval", "#p", "#Holm",
                          "#effect", "test", "difference is", NULL);
    for (size_t k = 0; k < d->comparison.n_pairs; k++)
        test_row(d, doc, t, &d->comparison.pairs[k]);
    td_comparison_csv(&d->comparison, &csv);
    t->csv = td_document_take(doc, &csv);
}

void td_report_scores(const td_report_data *d, td_document *doc)
{
    if (!d->comparison.n_measures)
        return;
    td_document_heading(doc, 2, "Scores");
    draw_sources(d, doc);
    draw_tasks(d, doc);
    tabulate_scores(d, doc);
    tabulate_tests(d, doc);
}
