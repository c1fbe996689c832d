/* training.c - the loss during training, and its cost: throughput and memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "report/figure.h"
#include "report/palette.h"
#include "report/sections.h"
#include "run/results.h"

enum { POINTS = 300 }; /* of a curve: more than the width of the picture shows */

/* ---- curves ---------------------------------------------------------------------------------- */

/* One of the pictures: which points, and what is on the x axis. */
typedef struct view {
    const char *name, *title, *x, *y, *caption;
    bool        evaluations, flops;
} view;

static const view views[] = {
    { "training", "Training loss", "tokens read", "cross-entropy (nats per token)",
      "Training loss by tokens read: seeds as thin lines, their mean thick. The first tenth of a "
      "curve may be cut off at the top. A curve has at most 300 points, each a mean over "
      "neighbouring lines of metrics.",
      false, false },
    { "training-heldout", "Held-out loss during training", "tokens read",
      "held-out NLL (nats per token)",
      "Held-out loss during training by tokens read: seeds as thin lines, their mean thick.", true,
      false },
    { "training-flops", "Held-out loss by compute", "training FLOPs",
      "held-out NLL (nats per token)",
      "Held-out loss by the training FLOPs so far (matrix products, visible scores only): which "
      "model is "
      "better for a given compute budget.",
      true, true },
};

/* The points of one run, or of the mean over a group's runs. */
typedef struct curve {
    double *x, *y; /* [n] */
    size_t  n;
} curve;

static void free_curve(curve *c)
{
    free(c->x);
    free(c->y);
}

static const td_history_point *points_of(const td_history *h, const view *v, size_t *n)
{
    *n = v->evaluations ? h->n_evaluations : h->n_training;
    return v->evaluations ? h->evaluations : h->training;
}

static double x_of(const td_history_point *p, const view *v)
{
    return v->flops ? p->flops : p->tokens;
}

static bool is_known(const td_history_point *p, const view *v)
{
    return isfinite(x_of(p, v)) && isfinite(p->loss);
}

/* Neighbouring points are averaged until few enough are left: a picture cannot show more. */
static curve curve_of(const td_history *h, const view *v)
{
    size_t                  n, known = 0, of_bin = 0;
    const td_history_point *p = points_of(h, v, &n);
    curve  c = { calloc(POINTS + 1, sizeof *c.x), calloc(POINTS + 1, sizeof *c.y), 0 };
    size_t bin = (n + POINTS - 1) / POINTS;
    for (size_t k = 0; c.x && c.y && k < n; k++) {
        if (!is_known(&p[k], v))
            continue;
        c.x[c.n] += x_of(&p[k], v) / (double)bin;
        c.y[c.n] += p[k].loss / (double)bin;
        known++;
        if (++of_bin == bin) {
            c.n++;
            of_bin = 0;
        }
    }
    /* an incomplete bin at the end would be a mean of fewer points: it is left out */
    return c;
}

/* At the places of the first curve at which all the others also have a point. */
static curve mean_of(const curve *all, size_t n)
{
    curve c = { calloc(POINTS + 1, sizeof *c.x), calloc(POINTS + 1, sizeof *c.y), 0 };
    for (size_t k = 0; n && c.x && c.y && k < all[0].n; k++) {
        double x = 0, y = 0;
        size_t have = 0;
        for (size_t r = 0; r < n && k < all[r].n; r++) {
            x += all[r].x[k];
            y += all[r].y[k];
            have++;
        }
        if (have < n)
            break;
        c.x[c.n] = x / (double)n;
        c.y[c.n++] = y / (double)n;
    }
    return c;
}

/* `run` counts from 1; 0 is the mean of the group. */
static void print_curve(td_doc_figure *f, const curve *c, size_t group, size_t run,
                        const char *name)
{
    for (size_t k = 0; k < c->n; k++) {
        td_text_print(&f->data, "%zu,%zu", group, run);
        td_results_cell(&f->data, c->x[k]);
        td_results_cell(&f->data, c->y[k]);
        td_text_print(&f->data, ",");
        td_escape_csv(&f->data, name);
        td_text_print(&f->data, "\n");
    }
}

/* Every run thin, without a title; then their mean, thick. */
static void plot_curves(const td_report_data *d, td_doc_figure *f, size_t g, bool marks,
                        size_t *plots)
{
    size_t runs = d->comparison.groups[g].count;
    for (size_t run = runs > 1 ? 1 : 0; run <= runs; run++) {
        size_t number = (run + 1) % (runs + 1); /* the mean last, on top */
        if (runs == 1 && number)
            continue;
        td_figure_next(f, plots);
        td_text_print(&f->script,
                      "'%s.csv' using (column('group_index') == %zu && column('run') == %zu ? "
                      "column('x') : NaN):'loss' with %s linewidth %.2g ",
                      f->name, g, number, marks ? "linespoints pointtype 7 pointsize 0.4" : "lines",
                      number ? 0.5 : 2.2 * d->groups[g].width);
        td_figure_style(f, d->groups[g].colour, true);
        if (number)
            td_text_print(&f->script, " notitle");
        else {
            td_text_print(&f->script, " title ");
            td_figure_quote(f, d->groups[g].name);
        }
    }
}

static size_t add_group(const td_report_data *d, td_doc_figure *f, size_t g, const view *v)
{
    const td_compared_group *group = &d->comparison.groups[g];
    curve                   *curves = calloc(group->count + 1, sizeof *curves), mean;
    size_t                   n = 0;
    if (!curves) {
        f->data.failed = true;
        return 0;
    }
    for (size_t k = 0; k < group->count; k++) {
        curve c = curve_of(&d->runs[group->runs[k]].history, v);
        /* a single run is its own mean: drawn once, as the thick line */
        if (group->count > 1)
            print_curve(f, &c, g, k + 1, d->comparison.runs[group->runs[k]].name);
        if (c.n > 1)
            curves[n++] = c;
        else
            free_curve(&c);
    }
    mean = mean_of(curves, n);
    print_curve(f, &mean, g, 0, d->groups[g].name);
    free_curve(&mean);
    for (size_t k = 0; k < n; k++)
        free_curve(&curves[k]);
    free(curves);
    return n;
}

/* The first points of a run are so high that, with them, a picture would show nothing else. */
static double highest(const td_report_data *d, const view *v)
{
    double high = 0;
    for (size_t r = 0; r < d->count; r++) {
        size_t                  n;
        const td_history_point *p = points_of(&d->runs[r].history, v, &n);
        size_t                  from = n / 10;
        for (size_t k = from; k < n; k++)
            if (is_known(&p[k], v) && p[k].loss > high)
                high = p[k].loss;
    }
    return high;
}

static double largest(const td_report_data *d, const view *v)
{
    double most = 0;
    for (size_t r = 0; r < d->count; r++) {
        size_t                  n;
        const td_history_point *p = points_of(&d->runs[r].history, v, &n);
        for (size_t k = 0; k < n; k++)
            if (is_known(&p[k], v))
                most = fmax(most, x_of(&p[k], v));
    }
    return most;
}

static bool has_curve(const td_report_data *d, const view *v)
{
    for (size_t r = 0; r < d->count; r++) {
        size_t                  n, known = 0;
        const td_history_point *p = points_of(&d->runs[r].history, v, &n);
        for (size_t k = 0; k < n; k++)
            known += is_known(&p[k], v);
        if (known > 1)
            return true;
    }
    return false;
}

/* The final value of each group, in words. */
static const char *ends_of(const td_report_data *d, td_document *doc, const view *v)
{
    td_text t = { 0 };
    for (size_t g = 0; g < d->comparison.n_groups && g < 12; g++) {
        size_t                  n;
        const td_history       *h = &d->runs[d->comparison.groups[g].runs[0]].history;
        const td_history_point *p = points_of(h, v, &n);
        if (n)
            td_text_print(&t, "%s%s falls from %s to %s", t.size ? "; " : "", d->groups[g].name,
                          td_report_number(doc, p[0].loss, false),
                          td_report_number(doc, p[n - 1].loss, false));
    }
    return td_document_take(doc, &t);
}

static void draw_curves(const td_report_data *d, td_document *doc, const view *v)
{
    td_doc_figure *f;
    size_t         plots = 0;
    if (!has_curve(d, v))
        return;
    f = td_document_figure(doc, v->name, v->title);
    td_figure_begin(f, v->x, v->y, d->comparison.n_groups);
    td_figure_amounts(f, 0, largest(d, v));
    /* `highest` leaves out the start, whose losses would flatten everything after it */
    td_text_print(&f->script, "set xrange [0:*]\nset yrange [*:%.6g]\n", 1.02 * highest(d, v));
    td_text_print(&f->data, "group_index,run,x,loss,name\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        if (add_group(d, f, g, v))
            plot_curves(d, f, g, v->evaluations, &plots);
    td_text_print(&f->script, "\n");
    f->alt = ends_of(d, doc, v);
    f->command = "tandem train .. (metrics.jsonl of each run)";
    f->caption = td_report_with_sizes(d, doc, v->caption);
    if (td_report_phases(d) > 1)
        f->caption = td_document_print(doc,
                                       "%s Phases read different text: only curves of the same "
                                       "phase can be compared.",
                                       f->caption);
}

/* ---- throughput and memory ------------------------------------------------------------------- */

static void mean_rate(const td_report_data *d, size_t g, double *mean, double *low, double *high)
{
    const td_compared_group *group = &d->comparison.groups[g];
    size_t                   n = 0;
    *mean = 0;
    *low = (double)INFINITY;
    *high = -(double)INFINITY;
    for (size_t k = 0; k < group->count; k++) {
        double rate = td_history_rate(&d->runs[group->runs[k]].history);
        /* a run too short to log a rate */
        if (!isfinite(rate))
            continue;
        *mean += rate;
        *low = fmin(*low, rate);
        *high = fmax(*high, rate);
        n++;
    }
    *mean = n ? *mean / (double)n : (double)NAN;
}

static void plot_bars(const td_report_data *d, td_doc_figure *f, const char *columns)
{
    size_t plots = 0;
    /* from 0, because the length of a bar is what is compared */
    td_text_print(&f->script, "unset xlabel\nset boxwidth 0.6\nset style fill solid 1.0 noborder\n"
                              "set bars 0.5 front linecolor rgb '#1b1f24' linewidth 1.5\n"
                              "set yrange [0:*]\nset offsets 0, 0, graph 0.08, 0\nunset key\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        char colour[8];
        td_figure_next(f, &plots);
        td_text_print(
            &f->script,
            "'%s.csv' using (column('group_index') == %zu ? column('group_index') : NaN):%s "
            "linecolor rgb '",
            f->name, g, columns);
        td_text_print(&f->script, "%s'", td_palette_series(d->groups[g].colour, colour));
    }
    td_text_print(&f->script, "\n");
}

static const char **names_of(const td_report_data *d, td_document *doc)
{
    const char **names = td_arena_alloc(doc->arena, (d->comparison.n_groups + 1) * sizeof *names);
    for (size_t g = 0; names && g < d->comparison.n_groups; g++)
        names[g] = d->groups[g].name;
    doc->failed = doc->failed || !names;
    return names;
}

static void draw_throughput(const td_report_data *d, td_document *doc)
{
    const char   **names = names_of(d, doc);
    td_doc_figure *f;
    td_text        alt = { 0 };
    double         mean, low, high, best = 0;
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        mean_rate(d, g, &mean, &low, &high);
        best = fmax(best, mean);
    }
    if (!(best > 0) || !names)
        return;
    f = td_document_figure(doc, "throughput", "Training throughput");
    td_figure_begin(f, "", "tokens per second", 1);
    td_figure_places(f, names, d->comparison.n_groups);
    td_text_print(&f->data, "group_index,rate,low,high,group\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        mean_rate(d, g, &mean, &low, &high);
        /* a run too short for a line of metrics has no rate */
        if (!isfinite(mean))
            continue;
        td_text_print(&f->data, "%zu,%.6g,%.6g,%.6g,", g, mean, low, high);
        td_escape_csv(&f->data, d->groups[g].name);
        td_text_print(&f->data, "\n");
        td_text_print(&alt, "%s%s %.4g tokens per second", alt.size ? ", " : "", d->groups[g].name,
                      mean);
    }
    plot_bars(d, f, "'rate':'low':'high':(0.6) with boxerrorbars");
    f->alt = td_document_take(doc, &alt);
    f->caption =
        "Tokens per second of training, the median over the lines of metrics.jsonl: mean over "
        "seeds, the bar from the slowest to the fastest. The runs may have shared the machine "
        "with other work; tandem bench measures speed.";
    f->command = "tandem train .. (time/tokens_per_second in metrics.jsonl)";
}

static double memory_of(const td_footprint *m)
{
    return (double)m->parameters + (double)m->gradients + (double)m->states +
           (double)m->activations + (double)m->inputs;
}

static void draw_memory(const td_report_data *d, td_document *doc)
{
    const char   **names = names_of(d, doc);
    td_doc_figure *f;
    td_text        alt = { 0 };
    size_t         described = 0;
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        described += d->groups[g].described;
    if (!described || !names)
        return;
    f = td_document_figure(doc, "memory", "Memory of training");
    td_figure_begin(f, "", "MiB", 1);
    td_figure_places(f, names, d->comparison.n_groups);
    td_text_print(&f->data,
                  "group_index,mib,parameters,gradients,states,activations,inputs,group\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        const td_footprint *m = &d->groups[g].model.memory;
        char                size[32];
        /* a config whose plugins are not here cannot be described */
        if (!d->groups[g].described)
            continue;
        td_text_print(&f->data, "%zu,%.6g,%zu,%zu,%zu,%zu,%zu,", g, memory_of(m) / 1048576,
                      m->parameters, m->gradients, m->states, m->activations, m->inputs);
        td_escape_csv(&f->data, d->groups[g].name);
        td_text_print(&f->data, "\n");
        td_text_print(&alt, "%s%s %s", alt.size ? ", " : "", d->groups[g].name,
                      td_human_bytes(size, memory_of(m)));
    }
    plot_bars(d, f, "'mib' with boxes");
    f->alt = td_document_take(doc, &alt);
    f->caption =
        "Memory that a training run plans before it begins: parameters, gradients, optimizer "
        "states, activations and batches. The CSV file has the parts in bytes.";
    f->command = td_report_command(d, doc, "describe", "");
}

void td_report_training(const td_report_data *d, td_document *doc)
{
    td_document_heading(doc, 2, "Training");
    for (size_t k = 0; k < sizeof views / sizeof *views; k++)
        draw_curves(d, doc, &views[k]);
    draw_throughput(d, doc);
    draw_memory(d, doc);
}
