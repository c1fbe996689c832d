/* figure.c - scripts for gnuplot, and drawing them. */
#include "report/figure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "base/file.h"
#include "report/palette.h"
#include "run/picture.h"

/* ---- scripts --------------------------------------------------------------------------------- */

enum { BELOW = 8 }; /* with more series, their names stand beside the picture */

static size_t at_least(size_t a, size_t b) { return a > b ? a : b; }

/* Each series has a line of its own in the legend, above the picture or beside it, and in a row. */
static size_t height_of(const td_doc_figure *f, size_t series)
{
    size_t legend = 20 * series, rows = f->rows * at_least(24, 12 * series);
    size_t plot = f->rows ? 100 + rows : 340;
    if (series > BELOW)
        return at_least(plot, legend + 90);
    return f->rows ? plot + legend : plot;
}

/* Small enough that a phone shows the text at about ten pixels. */
static void print_terminal(td_doc_figure *f, size_t series)
{
    size_t height = height_of(f, series);
    f->beside = series > BELOW;
    f->wide = f->wide || f->beside;
    td_text_print(&f->script,
                  "# draws %s.svg from %s.csv: gnuplot %s.gp\n"
                  "set encoding utf8\n"
                  "set terminal svg size %d,%zu dynamic noenhanced font 'sans-serif,14'\n"
                  "set output '%s.svg'\n"
                  "set datafile separator comma\n"
                  "set datafile columnheaders\n",
                  f->name, f->name, f->name, f->wide ? 960 : 480, height, f->name);
}

void td_figure_begin(td_doc_figure *f, const char *x, const char *y, size_t series)
{
    char ink[8], muted[8], grid[8];
    td_palette_colour(TD_INK, ink);
    td_palette_colour(TD_MUTED, muted);
    td_palette_colour(TD_GRID, grid);
    print_terminal(f, series);
    /* literal colours of a light page: on a dark one, a style sheet replaces exactly these
     * (palette.h) */
    td_text_print(&f->script,
                  "set border 3 linecolor rgb '%s'\n"
                  "set tics nomirror textcolor rgb '%s'\n"
                  "set grid %stics linetype 1 linewidth 0.5 linecolor rgb '%s'\n"
                  "set key %s samplen 2 textcolor rgb '%s'\n"
                  "set bars 0.5\n",
                  muted, ink, f->rows ? "x" : "y", grid,
                  series > BELOW ? "outside right top maxcols 1 spacing 0.95"
                                 : "tmargin center horizontal",
                  ink);
    td_text_print(&f->script, "set xlabel ");
    td_figure_quote(f, x);
    td_text_print(&f->script, " textcolor rgb '%s'\nset ylabel ", ink);
    td_figure_quote(f, y);
    td_text_print(&f->script, " textcolor rgb '%s'\n", ink);
}

/* 1, 2 or 5 times a power of ten, the nearest from above. */
static double round_step(double x)
{
    double power = pow(10, floor(log10(x)));
    return x <= power       ? power
           : x <= 2 * power ? 2 * power
           : x <= 5 * power ? 5 * power
                            : 10 * power;
}

void td_figure_amounts(td_doc_figure *f, double low, double high)
{
    double span = high > low ? high - low : fabs(high), step = span > 0 ? round_step(span / 4) : 1;
    double thousands = high > 0 ? 3 * floor(log10(high) / 3) : 0;
    double digits = thousands - floor(log10(step) + 1e-9);
    if (high < 1000) /* without a letter for milli */
        td_text_print(&f->script, "set xtics %.9g\n", step);
    else
        td_text_print(&f->script, "set xtics %.9g\nset format x '%%.%.0fs%%c'\n", step,
                      digits > 0 ? digits : 0);
}

void td_figure_next(td_doc_figure *f, size_t *n)
{
    td_text_print(&f->script, *n ? ", \\\n     " : "plot ");
    (*n)++;
}

/* Dashes also distinguish lines on paper; points differ in shape. Once the colours repeat, all have
 * dashes. */
void td_figure_style(td_doc_figure *f, size_t k, bool dashed)
{
    char colour[8];
    td_text_print(&f->script, "linecolor rgb '%s' dashtype %zu", td_palette_series(k, colour),
                  dashed ? k % 5 + 1 : k / TD_SERIES_COUNT % 5 + 1);
}

size_t td_figure_point(size_t k) { return 2 * (k % 4) + (k / TD_SERIES_COUNT % 2 ? 4 : 5); }

void td_figure_quote(td_doc_figure *f, const char *text) { td_escape_gnuplot(&f->script, text); }

/* gnuplot treats the names of places as formats. */
static void quote_format(td_doc_figure *f, const char *name)
{
    td_text doubled = { 0 };
    for (; *name; name++)
        td_text_print(&doubled, *name == '%' ? "%%%%" : "%c", *name);
    td_figure_quote(f, td_text_get(&doubled));
    f->script.failed = f->script.failed || doubled.failed;
    td_text_free(&doubled);
}

/* "('arxiv' 0, 'book' 1)". */
static void name_places(td_doc_figure *f, const char *const *names, size_t n)
{
    td_text_print(&f->script, "(");
    for (size_t k = 0; k < n; k++) {
        td_text_print(&f->script, k ? ", " : "");
        quote_format(f, names[k]);
        td_text_print(&f->script, " %zu", k);
    }
    td_text_print(&f->script, ")\n");
}

/* Long names would run into each other. */
void td_figure_places(td_doc_figure *f, const char *const *names, size_t n)
{
    size_t letters = 0;
    for (size_t k = 0; k < n; k++)
        letters += strlen(names[k]) + 2;
    td_text_print(&f->script, "set xrange [-0.5:%g]\nset xtics%s ", (double)n - 0.5,
                  letters > (f->beside ? 60
                             : f->wide ? 120
                                       : 50)
                      ? " rotate by -35"
                      : "");
    name_places(f, names, n);
}

void td_figure_rows(td_doc_figure *f, const char *const *names, size_t n)
{
    td_text_print(&f->script, "set yrange [%g:-0.5]\nset ytics ", (double)n - 0.5);
    name_places(f, names, n);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static int write_text(const char *directory, const char *name, const char *ending, const char *text,
                      td_error *error)
{
    td_text file = { 0 };
    char   *path;
    int     code;
    td_text_print(&file, "%s%s", name, ending);
    path = file.failed ? NULL : td_path_join(directory, td_text_get(&file));
    code = path ? td_file_write(path, text, strlen(text), error)
                : td_fail(error, TD_ENOMEM, "out of memory while drawing '%s'", name);
    free(path);
    td_text_free(&file);
    return code;
}

/* free() it. */
static char *read_svg(const char *directory, const char *name, td_error *error)
{
    td_text file = { 0 };
    char   *path, *svg;
    td_text_print(&file, "%s.svg", name);
    path = td_path_join(directory, td_text_get(&file));
    svg = path ? td_file_read(path, NULL, error) : NULL;
    free(path);
    td_text_free(&file);
    return svg;
}

static int out_of_memory(const td_doc_figure *f, td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while drawing '%s'", f->name);
}

static int draw(td_doc_figure *f, const char *directory, const char *style, td_error *error)
{
    td_text script = { 0 };
    char   *svg, *alone = NULL;
    int     code;
    td_text_print(&script, "%s.gp", f->name);
    code = td_picture_draw(directory, td_text_get(&script), error);
    td_text_free(&script);
    svg = code ? NULL : read_svg(directory, f->name, error);
    if (svg) {
        f->svg = td_svg_adapt(svg, f, NULL);
        /* within a page the page's style applies; a file of its own carries it along */
        alone = td_svg_adapt(svg, f, style);
        code = f->svg && alone ? write_text(directory, f->name, ".svg", alone, error)
                               : out_of_memory(f, error);
    } else if (!code)
        code = td_failed(error, TD_EIO);
    free(alone);
    free(svg);
    return code;
}

static int write_figure(td_doc_figure *f, const char *directory, td_error *error)
{
    if (f->data.failed || f->script.failed)
        return out_of_memory(f, error);
    return write_text(directory, f->name, ".csv", td_text_get(&f->data), error)
               ? td_failed(error, TD_EIO)
               : write_text(directory, f->name, ".gp", td_text_get(&f->script), error);
}

/* If gnuplot cannot draw one picture, the others are not affected. */
static int draw_or_note(td_document *d, td_doc_figure *f, const char *directory, const char *style,
                        td_text *missing, td_error *error)
{
    td_error why = { 0 };
    int      code = draw(f, directory, style, &why);
    if (code == TD_EUNSUPPORTED)
        td_text_print(missing, "%s", why.text);
    else if (code == TD_EIO)
        f->failure = td_document_print(d, "%s", why.text);
    else if (code)
        return td_fail(error, why.code, "%s", why.text);
    return 0;
}

int td_figures_draw(td_document *d, const char *directory, td_text *missing, td_error *error)
{
    td_text style = { 0 };
    int     code = 0;
    td_text_print(&style, "@media (prefers-color-scheme:dark){\n");
    td_palette_dark(&style);
    td_text_print(&style, "}\n");
    for (size_t k = 0; k < d->n_blocks && !code; k++) {
        td_doc_figure *f = d->blocks[k].figure;
        if (!f)
            continue;
        code = write_figure(f, directory, error);
        /* without gnuplot one attempt is enough, but all data and scripts are written */
        if (!code && !missing->size)
            code = draw_or_note(d, f, directory, td_text_get(&style), missing, error);
    }
    td_text_free(&style);
    return code;
}
