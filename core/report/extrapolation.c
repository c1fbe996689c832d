/* extrapolation.c - the loss beyond the training length, of all groups in one picture per prefix. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "base/file.h"
#include "report/figure.h"
#include "report/sections.h"
#include "run/results.h"

enum { LENGTHS = 64, PREFIXES = 4 };

/* The points of one run at one prefix, from RUN/eval/extrapolate.json. */
typedef struct lengths {
    double x[LENGTHS], nll[LENGTHS];
    size_t n;
} lengths;

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static json_t *load(const td_report_run *r)
{
    char   *folder = td_path_join(r->directory, "eval");
    char   *path = folder ? td_path_join(folder, "extrapolate.json") : NULL;
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL;
    free(path);
    free(folder);
    return j;
}

/* All runs are shown at the prefixes of the first run that has any: other prefixes ask other
 * questions. */
static size_t find_prefixes(json_t *const *files, size_t n, double out[PREFIXES])
{
    size_t found = 0;
    for (size_t r = 0; r < n && !found; r++) {
        const json_t *point;
        size_t        k;
        json_array_foreach(json_object_get(files[r], "lengths"), k, point)
        {
            double prefix = number(point, "prefix");
            if (found < PREFIXES && isfinite(prefix) && (!found || out[found - 1] != prefix))
                out[found++] = prefix;
        }
    }
    return found;
}

static lengths read_lengths(const json_t *file, double prefix)
{
    lengths       l = { .n = 0 };
    const json_t *point;
    size_t        k;
    json_array_foreach(json_object_get(file, "lengths"), k, point)
    {
        if (number(point, "prefix") != prefix || l.n == LENGTHS)
            continue;
        l.x[l.n] = number(point, "to");
        l.nll[l.n++] = number(point, "nll");
    }
    return l;
}

/* Mean and deviation over the runs that have the length; returns how many have it. */
static int64_t at_length(const lengths *all, size_t n, double x, double *mean, double *deviation)
{
    double  squares = 0;
    int64_t have = 0;
    *mean = 0;
    for (size_t r = 0; r < n; r++)
        for (size_t k = 0; k < all[r].n; k++) {
            if (all[r].x[k] != x || !isfinite(all[r].nll[k]))
                continue;
            double delta = all[r].nll[k] - *mean;
            *mean += delta / (double)++have;
            squares += delta * (all[r].nll[k] - *mean);
        }
    *deviation = have > 1 ? sqrt(squares / (double)(have - 1)) : (double)NAN;
    return have;
}

/* A row per length; false: no run of the group has this prefix. */
static bool print_group(const td_report_data *d, json_t *const *files, td_doc_figure *f, size_t g,
                        double prefix, td_text *alt)
{
    const td_compared_group *group = &d->comparison.groups[g];
    lengths                 *all = calloc(group->count + 1, sizeof *all);
    size_t                   longest = 0;
    double                   mean = 0, deviation = 0;
    if (!all) {
        f->data.failed = true;
        return false;
    }
    for (size_t k = 0; k < group->count; k++) {
        all[k] = read_lengths(files[group->runs[k]], prefix);
        longest = all[k].n > all[longest].n ? k : longest;
    }
    for (size_t k = 0; k < all[longest].n; k++) {
        double  x = all[longest].x[k];
        int64_t have = at_length(all, group->count, x, &mean, &deviation);
        if (!have)
            continue;
        td_text_print(&f->data, "%zu,%.9g,%.9g", g, x, mean);
        /* no bar if there is only one seed */
        td_results_cell(&f->data, isfinite(deviation) ? td_student_quantile((double)(have - 1)) *
                                                            deviation / sqrt((double)have)
                                                      : 0);
        td_text_print(&f->data, ",%lld,", (long long)have);
        td_escape_csv(&f->data, d->groups[g].name);
        td_text_print(&f->data, "\n");
        if (!k || k + 1 == all[longest].n)
            td_text_print(alt, "%s%s %.3f at %.0f tokens", alt->size ? ", " : "", d->groups[g].name,
                          mean, x);
    }
    bool any = all[longest].n > 0;
    free(all);
    return any;
}

static void plot_group(const td_report_data *d, td_doc_figure *f, size_t g, size_t *plots)
{
    td_figure_next(f, plots);
    td_text_print(&f->script,
                  "'%s.csv' using (column('group_index') == %zu ? column('length') : NaN)"
                  ":'nll':'half' with yerrorlines linewidth %.2g pointtype %zu pointsize 0.5 ",
                  f->name, g, 1.5 * d->groups[g].width, td_figure_point(g));
    td_figure_style(f, d->groups[g].colour, false);
    td_text_print(&f->script, " title ");
    td_figure_quote(f, d->groups[g].name);
}

/* The training length, if all runs have the same. */
static double trained_of(json_t *const *files, size_t n)
{
    double trained = (double)NAN;
    for (size_t k = 0; k < n; k++) {
        double own = number(files[k], "trained");
        if (isfinite(own) && isfinite(trained) && own != trained)
            return (double)NAN;
        trained = isfinite(own) ? own : trained;
    }
    return trained;
}

static bool is_joined(json_t *const *files, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (json_is_false(json_object_get(files[k], "documents")))
            return true;
    return false;
}

static void draw_prefix(const td_report_data *d, td_document *doc, json_t *const *files,
                        double prefix)
{
    td_doc_figure *f =
        td_document_figure(doc, td_document_print(doc, "extrapolation-%.0f", prefix),
                           td_document_print(doc, "Beyond the training length, %.0f token%s given",
                                             prefix, prefix == 1 ? "" : "s"));
    double  trained = trained_of(files, d->count);
    td_text alt = { 0 };
    size_t  plots = 0;
    td_figure_begin(f, "total length (tokens)", "NLL (nats per token)", d->comparison.n_groups);
    /* runs trained at different lengths have no common line to draw */
    if (isfinite(trained))
        td_text_print(
            &f->script,
            "set arrow from %.9g, graph 0 to %.9g, graph 1 nohead dashtype 2 linecolor rgb "
            "'#57606a'\n",
            trained, trained);
    td_text_print(&f->data, "group_index,length,nll,half,seeds,group\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        if (print_group(d, files, f, g, prefix, &alt))
            plot_group(d, f, g, &plots);
    td_text_print(&f->script, "\n");
    f->alt = td_document_take(doc, &alt);
    f->command = td_report_command(d, doc, "evaluate", " --extrapolate");
    f->caption = td_report_with_sizes(
        d, doc,
        td_document_print(doc,
                          "Mean NLL of all tokens after the first %.0f, by total length. Means "
                          "over seeds, with 95 %% intervals where there are several.",
                          prefix));
}

static void introduce(td_document *doc, bool joined)
{
    td_document_heading(doc, 2, "Beyond the training length");
    td_document_say(
        doc,
        "The loss on text longer than in training; the dashed line marks the training length.%s",
        joined ? " No held-out document was that long: the text is joined from shorter ones, so "
                 "distant tokens do not help to predict it."
               : "");
}

void td_report_extrapolation(const td_report_data *d, td_document *doc)
{
    json_t **files = calloc(d->count + 1, sizeof *files);
    double   prefixes[PREFIXES];
    size_t   n;
    if (!files) {
        doc->failed = true;
        return;
    }
    for (size_t k = 0; k < d->count; k++)
        files[k] = load(&d->runs[k]);
    n = find_prefixes(files, d->count, prefixes);
    /* nats per token do not compare between tokenizers */
    if (n && !d->tokenizers_differ)
        introduce(doc, is_joined(files, d->count));
    for (size_t k = 0; k < n && !d->tokenizers_differ; k++)
        draw_prefix(d, doc, files, prefixes[k]);
    for (size_t k = 0; k < d->count; k++)
        json_decref(files[k]);
    free(files);
}
