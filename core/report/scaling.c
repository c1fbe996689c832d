/* scaling.c - quality against cost: of training and parameters, and of inference. Variants that
 * a study trains at several sizes get a curve. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "report/figure.h"
#include "report/sections.h"
#include "run/results.h"
#include "study/fit.h"

/* One of the costs that quality is shown against. */
typedef struct cost {
    const char *name, *title, *axis;
    double (*of)(const td_report_data *, size_t group);
    double      scale; /* of the axis */
    const char *caption, *command, *options;
    bool        frontier, fitted;
} cost;

static double training_flops(const td_report_data *d, size_t g)
{
    return d->comparison.groups[g].flops;
}

static double parameters(const td_report_data *d, size_t g)
{
    return d->groups[g].described ? (double)d->groups[g].model.parameters : (double)NAN;
}

double td_report_inference(const td_report_data *d, size_t g)
{
    const td_report_group *x = &d->groups[g];
    return x->described && x->model.predicted
               ? x->model.forward.visible / (double)x->model.predicted
               : (double)NAN;
}

double td_report_latency(const td_report_data *d, size_t g)
{
    const td_compared_group *group = &d->comparison.groups[g];
    double                   sum = 0;
    size_t                   n = 0;
    for (size_t k = 0; k < group->count; k++)
        if (isfinite(d->runs[group->runs[k]].latency.step)) {
            sum += d->runs[group->runs[k]].latency.step;
            n++;
        }
    return n ? sum / (double)n : (double)NAN;
}

static const cost costs[] = {
    { "flops", "Held-out loss against training FLOPs", "training FLOPs", training_flops, 1,
      "Held-out loss of the trained models by training FLOPs (matrix products, visible scores "
      "only).",
      "evaluate", "", true, true },
    { "parameters", "Held-out loss against parameters", "parameters", parameters, 1,
      "Held-out loss of the trained models by their number of parameters.", "evaluate", "", false,
      true },
    { "inference-flops", "Held-out loss against the FLOPs of inference", "FLOPs per target token",
      td_report_inference, 1,
      "Held-out loss by the FLOPs of a forward pass of one whole sequence, divided by its target "
      "tokens.",
      "describe", "", true, false },
    { "latency", "Held-out loss against measured latency", "milliseconds per generated token",
      td_report_latency, 1e3, "Held-out loss by the time to generate one token.", "bench",
      " --generate --out RUN/eval", true, false },
};

/* ---- the points ------------------------------------------------------------------------------ */

/* The groups that have both numbers. Those of one variant are a series; without a study, each
 * group is its own series. */
typedef struct points {
    size_t       n, n_series;
    size_t      *groups, *series; /* [n] */
    double      *x, *y, *half;    /* [n] */
    bool        *best;            /* [n]: on the frontier */
    const char **names;           /* [n_series] */
} points;

static void free_points(points *p)
{
    free(p->groups);
    free(p->series);
    free(p->x);
    free(p->y);
    free(p->half);
    free(p->best);
    free(p->names);
}

static bool allocate_points(points *p, size_t room)
{
    *p = (points){ .groups = calloc(room + 1, sizeof *p->groups),
                   .series = calloc(room + 1, sizeof *p->series),
                   .x = calloc(room + 1, sizeof *p->x),
                   .y = calloc(room + 1, sizeof *p->y),
                   .half = calloc(room + 1, sizeof *p->half),
                   .best = calloc(room + 1, sizeof *p->best),
                   .names = calloc(room + 1, sizeof *p->names) };
    return p->groups && p->series && p->x && p->y && p->half && p->best && p->names;
}

static size_t series_of(points *p, const td_report_group *g)
{
    const char *name = *g->variant ? g->variant : g->name;
    for (size_t k = 0; k < p->n_series; k++)
        if (!strcmp(p->names[k], name))
            return k;
    p->names[p->n_series] = name;
    return p->n_series++;
}

/* A finetuned model's loss on pretraining text is a different question. */
static bool is_shown(const td_report_data *d, const td_measure *m, size_t g)
{
    if (!isfinite(m->groups[g].score) || strcmp(d->groups[g].phase, "finetune") != 0)
        return isfinite(m->groups[g].score);
    for (size_t k = 0; k < d->comparison.n_groups; k++)
        if (isfinite(m->groups[k].score) && strcmp(d->groups[k].phase, "finetune"))
            return false;
    return true;
}

static bool mark_frontier(points *p)
{
    int64_t *at = calloc(p->n + 1, sizeof *at);
    int64_t  n = at ? td_frontier(p->x, p->y, (int64_t)p->n, at) : -1;
    for (int64_t k = 0; k < n; k++)
        p->best[at[k]] = true;
    free(at);
    return n >= 0;
}

static bool find_points(const td_report_data *d, const td_measure *m, const cost *c, points *p)
{
    if (!allocate_points(p, d->comparison.n_groups))
        return false;
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        double half = td_report_half(&m->groups[g]), x = c->scale * c->of(d, g);
        /* the axis is logarithmic */
        if (!is_shown(d, m, g) || !isfinite(x) || x <= 0)
            continue;
        p->groups[p->n] = g;
        p->series[p->n] = series_of(p, &d->groups[g]);
        p->x[p->n] = x;
        p->y[p->n] = m->groups[g].score;
        p->half[p->n++] = isfinite(half) ? half : 0;
    }
    return mark_frontier(p);
}

static void find_range(const points *p, double *low, double *high)
{
    *low = (double)INFINITY;
    *high = 0;
    for (size_t k = 0; k < p->n; k++) {
        *low = fmin(*low, p->x[k]);
        *high = fmax(*high, p->x[k]);
    }
}

/* A row is a point, or a place of a curve with the band around it. */
static void print_row(td_doc_figure *f, size_t series, int curve, double x, double y, double low,
                      double high, bool best, const char *name)
{
    td_text_print(&f->data, "%zu,%d,%.9g", series, curve, x);
    td_results_cell(&f->data, y);
    td_results_cell(&f->data, low);
    td_results_cell(&f->data, high);
    td_text_print(&f->data, ",%d,", best);
    td_escape_csv(&f->data, name);
    td_text_print(&f->data, "\n");
}

static void print_points(const td_report_data *d, const points *p, td_doc_figure *f)
{
    td_text_print(&f->data, "series,curve,cost,loss,low,high,frontier,group\n");
    for (size_t k = 0; k < p->n; k++)
        print_row(f, p->series[k], 0, p->x[k], p->y[k], p->y[k] - p->half[k], p->y[k] + p->half[k],
                  p->best[k], d->groups[p->groups[k]].name);
}

/* ---- curves ---------------------------------------------------------------------------------- */

enum { PLACES = 60 };

static void print_curve(td_doc_figure *f, const td_fit *fit, size_t series, const char *name,
                        double low, double high)
{
    for (int k = 0; k < PLACES; k++) {
        double      x = low * pow(high / low, k / (double)(PLACES - 1));
        td_interval band = td_fit_band(fit, &x);
        print_row(f, series, 1, x, td_fit_at(&fit->projection.curve, &x), band.low, band.high,
                  false, name);
    }
}

/* The points of one series; returns how many. */
static int64_t take_series(const points *p, size_t series, double *x, double *y)
{
    int64_t n = 0;
    for (size_t k = 0; k < p->n; k++)
        if (p->series[k] == series) {
            x[n] = p->x[k];
            y[n++] = p->y[k];
        }
    return n;
}

/* A series with too few sizes has no curve, only points. Adds the law to `words`. */
static bool fit_series(const points *p, size_t series, td_doc_figure *f, td_text *words)
{
    double  *x = calloc(p->n + 1, sizeof *x), *y = calloc(p->n + 1, sizeof *y), low, high;
    int64_t  n = x && y ? take_series(p, series, x, y) : 0;
    td_fit   fit = { 0 };
    td_error why = { 0 };
    /* three points determine the three parameters exactly, and leave no error to estimate */
    bool fits = n > 3 && !td_fit_curves(&(td_fit_points){ .n = n, .terms = 1, .x = { x }, .y = y },
                                        &(td_fit_options){ .seed = 1 }, &fit, &why);
    if (fits) {
        const td_fit_estimate *e = &fit.projection;
        find_range(p, &low, &high);
        print_curve(f, &fit, series, p->names[series], low, high);
        td_text_print(words,
                      " %s: L = %.3g x^-%.3g + %.3g (95 %% interval of the exponent %.2g to %.2g).",
                      p->names[series], exp(e->curve.a[0]), e->curve.alpha[0], exp(e->curve.e),
                      e->student[1].low, e->student[1].high);
    }
    td_fit_free(&fit);
    free(x);
    free(y);
    return fits;
}

/* ---- pictures -------------------------------------------------------------------------------- */

static void plot_curve(td_doc_figure *f, size_t series, size_t *plots)
{
    /* the band first, so that the curve lies on top of it */
    td_figure_next(f, plots);
    td_text_print(
        &f->script,
        "'%s.csv' using (column('series') == %zu && column('curve') == 1 ? column('cost') : NaN)"
        ":'low':'high' with filledcurves fillstyle transparent solid 0.15 noborder ",
        f->name, series);
    td_figure_style(f, series, false);
    td_text_print(&f->script, " notitle");
    td_figure_next(f, plots);
    td_text_print(
        &f->script,
        "'%s.csv' using (column('series') == %zu && column('curve') == 1 ? column('cost') : NaN)"
        ":'loss' with lines linewidth 1.5 ",
        f->name, series);
    td_figure_style(f, series, true);
    td_text_print(&f->script, " notitle");
}

static void plot_points(const points *p, td_doc_figure *f, size_t series, size_t *plots)
{
    td_figure_next(f, plots);
    td_text_print(
        &f->script,
        "'%s.csv' using (column('series') == %zu && column('curve') == 0 ? column('cost') : NaN)"
        ":'loss':'low':'high' with yerrorbars linewidth 1.5 pointtype %zu pointsize 0.9 ",
        f->name, series, td_figure_point(series));
    td_figure_style(f, series, false);
    td_text_print(&f->script, " title ");
    td_figure_quote(f, p->names[series]);
}

static void plot_frontier(td_doc_figure *f, size_t *plots)
{
    td_figure_next(f, plots);
    td_text_print(&f->script,
                  "'%s.csv' using (column('frontier') == 1 ? column('cost') : NaN):'loss' "
                  "smooth unique with lines linewidth 1.2 dashtype 3 linecolor rgb '#57606a' title "
                  "'frontier'",
                  f->name);
}

/* Returns the laws of the curves, in words. */
static const char *plot(const points *p, const cost *c, td_document *doc, td_doc_figure *f)
{
    size_t  plots = 0;
    td_text words = { 0 };
    if (c->frontier) /* its line continues past points that are not on it, which are NaN */
        td_text_print(&f->script, "set datafile missing NaN\n");
    for (size_t s = 0; s < p->n_series && c->fitted; s++)
        if (fit_series(p, s, f, &words))
            plot_curve(f, s, &plots);
    if (c->frontier)
        plot_frontier(f, &plots);
    for (size_t s = 0; s < p->n_series; s++)
        plot_points(p, f, s, &plots);
    td_text_print(&f->script, "\n");
    return td_document_take(doc, &words);
}

static const char *alt_of(const td_report_data *d, td_document *doc, const points *p)
{
    td_text t = { 0 };
    for (size_t k = 0; k < p->n && t.size < 600; k++)
        td_text_print(&t, "%s%s %.3f at %.3g", t.size ? ", " : "", d->groups[p->groups[k]].name,
                      p->y[k], p->x[k]);
    return td_document_take(doc, &t);
}

static void draw(const td_report_data *d, td_document *doc, const points *p, const cost *c)
{
    td_doc_figure *f = td_document_figure(doc, c->name, c->title);
    double         low, high;
    const char    *laws;
    td_figure_begin(f, c->axis,
                    d->tokenizers_differ ? "bits per byte" : "held-out NLL (nats per token)",
                    p->n_series + c->frontier);
    find_range(p, &low, &high);
    /* over a shorter range a logarithmic axis has hardly any labels */
    if (high > 4 * low)
        td_text_print(&f->script, "set logscale x\nset format x '%%.0e'\n");
    else
        td_figure_amounts(f, low, high);
    td_text_print(&f->script, "set offsets graph 0.1, graph 0.1, graph 0.1, graph 0.1\n");
    print_points(d, p, f);
    laws = plot(p, c, doc, f);
    f->alt = alt_of(d, doc, p);
    f->caption = td_document_print(
        doc, "%s%s Bars are 95 %% intervals.%s%s", c->caption,
        c->frontier ? " The dotted line is the Pareto frontier: no other model has a lower loss at "
                      "a lower cost."
                    : "",
        *laws ? " Curves are power laws fitted to the sizes of a variant, with 95 % bands." : "",
        laws);
    f->command = td_report_command(d, doc, c->command, c->options);
}

/* A picture with a single place shows nothing. */
static bool has_two_places(const points *p)
{
    double low, high;
    find_range(p, &low, &high);
    return p->n > 1 && high > low;
}

void td_report_scaling(const td_report_data *d, td_document *doc)
{
    const td_measure *m = td_report_measure(d,
                                            d->tokenizers_differ ? "heldout bits/byte" : "heldout");
    bool              headed = false;
    for (size_t k = 0; m && k < sizeof costs / sizeof *costs; k++) {
        points p;
        doc->failed = !find_points(d, m, &costs[k], &p) || doc->failed;
        /* with all points above each other there is nothing to see */
        if (!doc->failed && has_two_places(&p)) {
            if (!headed)
                td_document_heading(doc, 2, "Quality and cost");
            headed = true;
            draw(d, doc, &p, &costs[k]);
        }
        free_points(&p);
    }
}
