/* fit_plot.c - fits as a table of points and curves, and a script that draws them. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "run/results.h"
#include "study/fit_results.h"

/* The table and the list of what the script draws grow together: each part of the picture is a block of
 * rows, which the script names by their numbers. */
typedef struct drawing {
    const char *name;
    td_text     table, plots;
    int64_t     rows;
} drawing;

/* ---- blocks ---------------------------------------------------------------------------------- */

/* A name in quotes. Quotes within the name, and line ends, would end it for gnuplot, which reads
 * tables line by line: they become spaces. Within single quotes, gnuplot takes everything else
 * literally. */
static void add_name(td_text *t, const char *name, char quote)
{
    td_text_print(t, "%c", quote);
    for (const char *c = name; *c; c++) {
        bool plain = (unsigned char)*c >= ' ' && *c != 127 && *c != '"' && *c != '\'';
        td_text_print(t, "%c", plain ? *c : ' ');
    }
    td_text_print(t, "%c", quote);
}

static void add_row(drawing *d, const char *series, const char *kind, double x, double y,
                    td_interval band)
{
    td_text_print(&d->table, "%s", kind);
    td_results_cell(&d->table, x);
    td_results_cell(&d->table, y);
    td_results_cell(&d->table, band.low);
    td_results_cell(&d->table, band.high);
    td_text_print(&d->table, ",");
    add_name(&d->table, series, '"');
    td_text_print(&d->table, "\n");
    d->rows++;
}

/* A part that draws the rows from `first` to the last. `title` NULL: it is not in the key. */
static void add_plot(drawing *d, int64_t first, const char *columns, const char *style,
                     int64_t color, const char *title)
{
    if (first == d->rows)
        return;
    td_text_print(&d->plots, "%s\\\n    '%s.csv' every ::%" PRId64 "::%" PRId64 " using %s with %s",
                  d->plots.size ? "," : "", d->name, first, d->rows - 1, columns, style);
    td_text_print(&d->plots, " linecolor %" PRId64 " ", color + 1);
    td_text_print(&d->plots, title ? "title " : "notitle");
    if (title)
        add_name(&d->plots, title, '\'');
}

static const td_interval NO_BAND = { NAN, NAN };

static void add_points(drawing *d, const td_fit_group *g, int64_t color)
{
    int64_t first = d->rows;
    for (int64_t i = 0; i < g->n; i++)
        add_row(d, g->name, "point", g->x[i], g->y[i], NO_BAND);
    add_plot(d, first, "2:3", "points pointtype 7 pointsize 0.6", color, g->name);
}

/* ---- curves ---------------------------------------------------------------------------------- */

enum { SAMPLES = 100, MOST_LINES = 6 };

static void find_range(const double *x, int64_t n, double *low, double *high)
{
    for (int64_t i = 0; i < n; i++) {
        *low = fmin(*low, x[i]);
        *high = fmax(*high, x[i]);
    }
}

/* Evenly spaced in the logarithm. */
static double between(double low, double high, int k, int n)
{
    return n > 1 ? low * pow(high / low, k / (double)(n - 1)) : sqrt(low * high);
}

/* The curve over the sizes of the group, and somewhat beyond; at a fixed second size, if the
 * form has one. */
static void add_curve(drawing *d, const td_fit_group *g, double second, int64_t color, bool band)
{
    double  low = INFINITY, high = 0;
    int64_t first = d->rows;
    find_range(g->x, g->n, &low, &high);
    for (int k = 0; k < SAMPLES; k++) {
        double x[TD_FIT_TERMS] = { between(low / 1.5, high * 3, k, SAMPLES), second };
        add_row(d, g->name, "curve", x[0], td_fit_at(&g->fit.projection.curve, x),
                td_fit_band(&g->fit, x));
    }
    if (band)
        add_plot(d, first, "2:4:5", "filledcurves fillstyle transparent solid 0.15 noborder", color,
                 NULL);
    add_plot(d, first, "2:3", "lines linewidth 1.5", color, NULL);
}

static void draw_power(drawing *d, const td_fit_results *r)
{
    for (int64_t k = 0; k < r->count; k++) {
        add_curve(d, &r->groups[k], 0, k, true);
        add_points(d, &r->groups[k], k);
    }
}

/* Lines of equal numbers of tokens, from the least to the most that were trained on. */
static void draw_joint(drawing *d, const td_fit_results *r)
{
    for (int64_t k = 0; k < r->count; k++) {
        const td_fit_group *g = &r->groups[k];
        double              low = INFINITY, high = 0;
        find_range(g->second, g->n, &low, &high);
        for (int j = 0; j < MOST_LINES; j++) {
            double second = between(low, high, j, MOST_LINES);
            add_curve(d, g, second, k, false);
        }
        add_points(d, g, k);
    }
}

/* ---- profiles and frontiers ------------------------------------------------------------------ */

static void draw_isoflop(drawing *d, const td_fit_results *r)
{
    for (int64_t k = 0; k < r->count; k++) {
        const td_isoflop *f = &r->groups[k].isoflop;
        int64_t           first;
        add_points(d, &r->groups[k], k);
        first = d->rows;
        for (int64_t j = 0; j < f->count; j++)
            if (f->profiles[j].inside)
                add_row(d, r->groups[k].name, "minimum", f->profiles[j].size, f->profiles[j].loss,
                        f->profiles[j].size_interval);
        add_plot(d, first, "2:3", "linespoints pointtype 2 pointsize 1.2", k, NULL);
    }
}

static void draw_frontier(drawing *d, const td_fit_results *r)
{
    int64_t first = d->rows;
    for (int64_t k = 0; k < r->n_frontier; k++) {
        const td_fit_group *g = &r->groups[r->frontier[k].group];
        add_row(d, "frontier", "frontier", g->x[r->frontier[k].at], g->y[r->frontier[k].at],
                NO_BAND);
    }
    add_plot(d, first, "2:3", "steps linewidth 1.5", r->count, "frontier");
    for (int64_t k = 0; k < r->count; k++)
        add_points(d, &r->groups[k], k);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void print_axis(td_text *t, const char *axis, const char *name)
{
    td_text_print(t, "set %slabel noenhanced ", axis);
    add_name(t, name, '\'');
    td_text_print(t, "\n");
}

static void print_script(const td_fit_results *r, const drawing *d, td_text *t)
{
    td_text_print(t,
                  "# draws %s.svg: gnuplot %s.gnuplot\n"
                  "set terminal svg size 720,480 dynamic background rgb 'white'\n"
                  "set output '%s.svg'\n"
                  "set datafile separator comma\n"
                  "set datafile columnheaders\n"
                  "set grid\n"
                  "set key noenhanced outside below center horizontal\n"
                  "set logscale x\n"
                  "set format x '%%.0e'\n",
                  d->name, d->name, d->name);
    print_axis(t, "x", r->request.x);
    print_axis(t, "y", r->request.y);
    td_text_print(t, "plot %s\n", td_text_get(&d->plots));
}

int td_fit_results_write(const td_fit_results *r, const char *directory, const char *name,
                         td_error *error)
{
    /* in the order of td_fit_form */
    static void (*const draw[])(drawing *, const td_fit_results *) = { draw_power, draw_joint,
                                                                       draw_isoflop,
                                                                       draw_frontier };
    drawing d = { .name = name };
    td_text script = { 0 };
    int     code = td_make_directories(directory, error);
    td_text_print(&d.table, "kind,x,y,low,high,series\n");
    draw[r->request.form](&d, r);
    print_script(r, &d, &script);
    if (!code && (d.plots.failed || script.failed))
        code = td_fail(error, TD_ENOMEM, "out of memory for the plot '%s'", name);
    if (!code)
        code = td_results_text(&d.table, directory, name, ".csv", error);
    if (!code)
        code = td_results_text(&script, directory, name, ".gnuplot", error);
    td_text_free(&d.table);
    td_text_free(&d.plots);
    td_text_free(&script);
    return code;
}
