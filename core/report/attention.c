/* attention.c - where attention weights go: maps, and locality by position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/escape.h"
#include "base/file.h"
#include "report/figure.h"
#include "report/sections.h"
#include "run/results.h"

enum { MAPPED = 4 }; /* groups whose maps are shown: more would be a wall of pictures */

/* RUN/eval/NAME; free() it. */
static char *path_of(const td_report_run *r, const char *name)
{
    char *folder = td_path_join(r->directory, "eval");
    char *path = folder ? td_path_join(folder, name) : NULL;
    free(folder);
    return path;
}

static json_t *load(const td_report_run *r)
{
    char   *path = path_of(r, "analyze.json");
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL;
    free(path);
    return j;
}

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* ---- locality -------------------------------------------------------------------------------- */

/* The attention of the stack that predicts: its self-attention, or the single softmax over both. */
static const json_t *predicting(const json_t *analysis)
{
    const json_t *all = json_object_get(analysis, "all");
    const json_t *both = json_object_get(all, "both");
    return both ? both : json_object_get(all, "self");
}

/* Row k is the mean over those runs of a group that have it. */
static void print_locality(const td_report_data *d, json_t *const *files, td_doc_figure *f,
                           size_t g)
{
    const td_compared_group *group = &d->comparison.groups[g];
    const json_t            *first = NULL;
    /* a seed that was not analyzed must not hide the others */
    for (size_t k = 0; k < group->count && !first; k++)
        first = json_object_get(predicting(files[group->runs[k]]), "parts");
    for (size_t k = 0; k < json_array_size(first); k++) {
        const json_t *part = json_array_get(first, k);
        double        sum = 0;
        size_t        have = 0;
        for (size_t r = 0; r < group->count; r++) {
            const json_t *parts = json_object_get(predicting(files[group->runs[r]]), "parts");
            double        own = number(json_array_get(parts, k), "locality");
            sum += isfinite(own) ? own : 0;
            have += isfinite(own);
        }
        if (!have)
            continue;
        td_text_print(&f->data, "%zu,%.9g,%.9g,%zu,", g,
                      (number(part, "from") + number(part, "to")) / 2, sum / (double)have, have);
        td_escape_csv(&f->data, d->groups[g].name);
        td_text_print(&f->data, "\n");
    }
}

static bool has_locality(const td_report_data *d, json_t *const *files, size_t g)
{
    const td_compared_group *group = &d->comparison.groups[g];
    for (size_t k = 0; k < group->count; k++)
        if (json_array_size(json_object_get(predicting(files[group->runs[k]]), "parts")))
            return true;
    return false;
}

static void print_mean(const td_report_data *d, json_t *const *files, size_t g, td_text *alt)
{
    const td_compared_group *group = &d->comparison.groups[g];
    double                   sum = 0;
    size_t                   n = 0;
    for (size_t k = 0; k < group->count; k++) {
        double own = number(predicting(files[group->runs[k]]), "locality");
        sum += isfinite(own) ? own : 0;
        n += isfinite(own);
    }
    if (n)
        td_text_print(alt, "%s%s %.3f on average", alt->size ? ", " : "", d->groups[g].name,
                      sum / (double)n);
}

static void draw_locality(const td_report_data *d, td_document *doc, json_t *const *files)
{
    td_doc_figure *f = td_document_figure(doc, "locality", "Locality of attention by position");
    td_text        alt = { 0 };
    size_t         plots = 0;
    td_figure_begin(f, "position (tokens)", "weight on t-4 .. t", d->comparison.n_groups);
    /* from 0: a cut axis would exaggerate differences */
    td_text_print(&f->script, "set yrange [0:*]\n");
    td_text_print(&f->data, "group_index,position,locality,seeds,group\n");
    for (size_t g = 0; g < d->comparison.n_groups; g++) {
        if (!has_locality(d, files, g))
            continue;
        print_locality(d, files, f, g);
        print_mean(d, files, g, &alt);
        td_figure_next(f, &plots);
        td_text_print(&f->script,
                      "'%s.csv' using (column('group_index') == %zu ? column('position') : "
                      "NaN):'locality' with lines linewidth %.2g ",
                      f->name, g, 1.8 * d->groups[g].width);
        td_figure_style(f, d->groups[g].colour, true);
        td_text_print(&f->script, " title ");
        td_figure_quote(f, d->groups[g].name);
    }
    td_text_print(&f->script, "\n");
    f->alt = td_document_take(doc, &alt);
    f->command = td_report_command(d, doc, "analyze", "");
    f->caption = td_report_with_sizes(
        d, doc,
        "Weight that a query puts on its own token and the four before it, by the query's "
        "position: mean over layers, heads, sequences and seeds, of the stack that predicts.");
}

/* ---- maps ------------------------------------------------------------------------------------ */

/* The positions along the edge of a map. */
typedef struct edge {
    double first, step;
    size_t n;
} edge;

static edge edge_of(const double *at, size_t n)
{
    edge e = { .n = n, .first = n ? at[0] : 0 };
    e.step = n > 1 ? (at[n - 1] - at[0]) / (double)(n - 1) : 1;
    return e;
}

enum { EDGE = 256 };

/* The table's first line has the positions of the keys, the first column those of the queries. */
static bool read_edges(const char *text, edge *keys, edge *queries)
{
    double x[EDGE], y[EDGE];
    size_t columns = 0, rows = 0;
    for (const char *at = strchr(text, ','); at && *at == ',' && columns < EDGE;) {
        char *end;
        x[columns++] = strtod(at + 1, &end);
        at = end;
    }
    for (const char *line = strchr(text, '\n'); line && line[1] && rows < EDGE;
         line = strchr(line + 1, '\n'))
        y[rows++] = strtod(line + 1, NULL);
    *keys = edge_of(x, columns);
    *queries = edge_of(y, rows);
    return columns > 1 && rows > 1; /* gnuplot refuses images of a single row or column */
}

/* Queries run downwards, like the rows of a matrix; weights differ by orders of magnitude. */
static void print_map_script(td_doc_figure *f, const edge *keys, const edge *queries)
{
    td_text_print(&f->script,
                  "set datafile nocolumnheaders\n"
                  "unset grid\nunset key\n"
                  "set palette defined (0 '#f7fbff', 0.35 '#8fb8de', 0.7 '#2b5f9e', 1 '#0b1f3a')\n"
                  "set logscale cb\nset cbrange [0.0003:1]\nset format cb '%%g'\n"
                  "set colorbox user origin 0.87,0.25 size 0.03,0.65\nset rmargin at screen 0.84\n"
                  "set cbtics textcolor rgb '#1b1f24'\n"
                  "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n"
                  "plot '%s.csv' skip 1 matrix every 1::1 using (%.9g + ($1 - 0.5) * %.9g):"
                  "(%.9g + ($2 + 0.5) * %.9g):3 with image notitle\n",
                  keys->first, keys->first + keys->step * (double)keys->n,
                  queries->first + queries->step * (double)queries->n, queries->first, f->name,
                  keys->first, keys->step, queries->first, queries->step);
}

typedef struct kind {
    const char *file, *name, *title, *keys;
} kind;

static const kind kinds[] = {
    { "analyze-map-encoder.csv", "encoder", "self-attention of the encoder", "key (token)" },
    { "analyze-map-self.csv", "self", "self-attention", "key (token)" },
    { "analyze-map-cross.csv", "cross", "cross-attention", "key of the encoder (token)" },
};

static void draw_map(const td_report_data *d, td_document *doc, size_t g, const kind *k)
{
    const td_report_run *r = &d->runs[d->comparison.groups[g].runs[0]];
    char                *path = path_of(r, k->file);
    /* no error if there is none: maps are of runs that were analyzed */
    char *text = path && td_file_exists(path) ? td_file_read(path, NULL, &(td_error){ 0 }) : NULL;
    edge  keys, queries;
    if (text && read_edges(text, &keys, &queries)) {
        td_doc_figure *f = td_document_figure(doc,
                                              td_document_print(doc, "attention-%zu-%s", g + 1,
                                                                k->name),
                                              td_document_print(doc, "%s: %s", d->groups[g].name,
                                                                k->title));
        td_figure_begin(f, k->keys, "query (token)", 1);
        td_text_append(&f->data, text, strlen(text));
        print_map_script(f, &keys, &queries);
        f->alt = td_document_print(doc,
                                   "Map of attention weights, %zu parts of queries by %zu parts of "
                                   "keys; the CSV file has the weights.",
                                   queries.n, keys.n);
        f->caption = td_document_print(doc, "Attention weights of the run '%s'.",
                                       d->comparison.runs[d->comparison.groups[g].runs[0]].name);
        f->command = td_document_print(doc, "tandem analyze %s", r->directory);
    }
    free(text);
    free(path);
}

void td_report_attention(const td_report_data *d, td_document *doc)
{
    json_t **files = calloc(d->count + 1, sizeof *files);
    bool     any = false;
    if (!files) {
        doc->failed = true;
        return;
    }
    /* each file is read once, and used by several plots */
    for (size_t k = 0; k < d->count; k++)
        files[k] = load(&d->runs[k]);
    for (size_t g = 0; g < d->comparison.n_groups; g++)
        any = any || has_locality(d, files, g);
    if (any) {
        td_document_heading(doc, 2, "Attention");
        td_document_say(doc,
                        "A map shows the weight that the queries of a part of the text put on the "
                        "keys of a part: mean over layers, heads and sequences of one run of each "
                        "group. Rows add up to 1; the scale is logarithmic.");
        draw_locality(d, doc, files);
        for (size_t g = 0; g < d->comparison.n_groups && g < MAPPED; g++)
            for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
                draw_map(d, doc, g, &kinds[k]);
        if (d->comparison.n_groups > MAPPED)
            td_document_say(doc,
                            "Maps of the first %d groups only; the others' maps are in the eval "
                            "directories of their runs.",
                            MAPPED);
    }
    for (size_t k = 0; k < d->count; k++)
        json_decref(files[k]);
    free(files);
}
