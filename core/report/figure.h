/* figure.h - pictures of a report: gnuplot scripts beside their data, which are run and whose
 * pictures become part of a page. */
#ifndef TD_REPORT_FIGURE_H
#define TD_REPORT_FIGURE_H

#include "report/document.h"
#include "tandem/error.h"

/* Begin the script: size, colours and labels of the axes. The plots, of `series` groups, follow. */
void   td_figure_begin(td_doc_figure *, const char *x, const char *y, size_t series);
/* The x axis shows large amounts from `low` to `high`: few tics, written like "1.2M". */
void   td_figure_amounts(td_doc_figure *, double low, double high);
/* Begin the first of several plots, "plot ", or continue with ", ". `n` counts them. */
void   td_figure_next(td_doc_figure *, size_t *n);
/* The colour of series k and, for lines without points (`dashed`), its dashes. */
void   td_figure_style(td_doc_figure *, size_t k, bool dashed);
/* gnuplot's number for the shape of series k's points: hollow once the colours repeat. */
size_t td_figure_point(size_t k);
/* Append a string for gnuplot. */
void   td_figure_quote(td_doc_figure *, const char *text);
/* Name places 0 .. n - 1 of the x axis. */
void   td_figure_places(td_doc_figure *, const char *const *names, size_t n);
/* Name places 0 .. n - 1 of the y axis, from top to bottom. Before td_figure_begin, set `rows`. */
void   td_figure_rows(td_doc_figure *, const char *const *names, size_t n);

/* Write NAME.csv, NAME.gp and NAME.svg of each figure of the document to DIRECTORY, which exists,
 * and keep the pictures in the document. Without gnuplot `missing` gets its message, and there are no
 * pictures. */
int td_figures_draw(td_document *, const char *directory, td_text *missing, td_error *error);

/* gnuplot's picture as part of a page, with a title, a description, and unique names for the
 * elements it refers to. `style`: CSS for the picture to carry; NULL: it uses the page's. NULL
 * when out of memory; free() it. */
char *td_svg_adapt(const char *svg, const td_doc_figure *, const char *style);

#endif
