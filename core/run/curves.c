/* curves.c - curves as JSON, CSV and a script for gnuplot. */
#include "run/curves.h"

#include <inttypes.h>

#include "base/file.h"
#include "run/results.h"

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *json_of_points(const td_curve_point *points, size_t n)
{
    json_t *all = json_array();
    for (size_t k = 0; k < n; k++)
        json_array_append_new(all,
                              json_pack("{s:I, s:I, s:I, s:o, s:o}", "prefix",
                                        (json_int_t)points[k].prefix, "from",
                                        (json_int_t)points[k].from, "to", (json_int_t)points[k].to,
                                        "nll", td_results_number(points[k].nll), "error",
                                        td_results_number(points[k].error)));
    return all;
}

json_t *td_curves_json(const td_extrapolation *e)
{
    return json_pack("{s:I, s:b, s:I, s:o, s:o}", "trained", (json_int_t)e->trained, "documents",
                     e->documents, "sequences", (json_int_t)e->sequences, "lengths",
                     json_of_points(e->lengths, e->n_lengths), "positions",
                     json_of_points(e->positions, e->n_positions));
}

/* ---- as tables ------------------------------------------------------------------------------- */

static void print_lengths(const td_extrapolation *e, td_text *t)
{
    td_text_print(t, "prefix,length,nll,error\n");
    for (size_t k = 0; k < e->n_lengths; k++) {
        const td_curve_point *p = &e->lengths[k];
        td_text_print(t, "%" PRId64 ",%" PRId64, p->prefix, p->to);
        td_results_cell(t, p->nll);
        td_results_cell(t, p->error);
        td_text_print(t, "\n");
    }
}

static void print_positions(const td_extrapolation *e, td_text *t)
{
    td_text_print(t, "prefix,from,to,nll,error\n");
    for (size_t k = 0; k < e->n_positions; k++) {
        const td_curve_point *p = &e->positions[k];
        td_text_print(t, "%" PRId64 ",%" PRId64 ",%" PRId64, p->prefix, p->from, p->to);
        td_results_cell(t, p->nll);
        td_results_cell(t, p->error);
        td_text_print(t, "\n");
    }
}

/* ---- as a picture ---------------------------------------------------------------------------- */

/* One curve per prefix: rows of other prefixes become NaN, which gnuplot leaves out. */
static void print_plot(const td_extrapolation *e, const char *file, const char *x, const char *y,
                       td_text *t)
{
    int64_t before = -1;
    td_text_print(t, "plot ");
    for (size_t k = 0; k < e->n_lengths; k++) {
        int64_t prefix = e->lengths[k].prefix;
        if (prefix == before)
            continue;
        td_text_print(t,
                      "%s\\\n    '%s' using (%s):(column('prefix') == %" PRId64
                      " ? %s : NaN) with linespoints pointsize 0.5 title 'prefix %" PRId64 "'",
                      before < 0 ? "" : ", ", file, x, prefix, y, prefix);
        before = prefix;
    }
    td_text_print(t, "\n");
}

/* The script is kept beside its data, and names files without directories, so that the picture can be
 * drawn again after the directory was moved. */
static void print_script(const td_extrapolation *e, const char *name, td_text *t)
{
    td_text by_length = { 0 }, by_position = { 0 };
    td_text_print(&by_length, "%s.csv", name);
    td_text_print(&by_position, "%s-position.csv", name);
    td_text_print(t,
                  "# draws %s.svg: gnuplot %s.gnuplot\n"
                  "set terminal svg size 1100,420 dynamic background rgb 'white'\n"
                  "set output '%s.svg'\n"
                  "set datafile separator comma\n"
                  "set datafile columnheaders\n"
                  "set grid\n"
                  "set key outside below center horizontal\n"
                  "set ylabel 'NLL (nats per token)'\n"
                  "# the training length\n"
                  "set arrow from %" PRId64 ", graph 0 to %" PRId64 ", graph 1 nohead dashtype 2\n"
                  "set multiplot layout 1,2\n"
                  "set xlabel 'total length (tokens)'\n",
                  name, name, name, e->trained, e->trained);
    print_plot(e, td_text_get(&by_length), "column('length')", "column('nll')", t);
    td_text_print(t, "set xlabel 'position (tokens)'\n");
    /* a part of the text is drawn at its middle */
    print_plot(e, td_text_get(&by_position), "(column('from') + column('to')) / 2", "column('nll')",
               t);
    td_text_print(t, "unset multiplot\n");
    td_text_free(&by_length);
    td_text_free(&by_position);
}

/* ---- as files -------------------------------------------------------------------------------- */

int td_curves_write(const td_session *s, const td_extrapolation *e, const char *directory,
                    const char *name, td_error *error)
{
    td_text t = { 0 };
    json_t *all = td_results_about(s, "extrapolate"), *points = td_curves_json(e);
    int     code = td_make_directories(directory, error);

    print_lengths(e, &t);
    if (!code)
        code = td_results_text(&t, directory, name, ".csv", error);
    print_positions(e, &t);
    if (!code)
        code = td_results_text(&t, directory, name, "-position.csv", error);
    print_script(e, name, &t);
    if (!code)
        code = td_results_text(&t, directory, name, ".gnuplot", error);
    td_text_free(&t);
    /* the summary is written last, as for all results */
    json_object_del(all, "protocol"); /* only for evaluations at the training length */
    return td_results_finish(code, all, points, directory, name, error);
}
