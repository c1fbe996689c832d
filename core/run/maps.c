/* maps.c - an analysis of attention as JSON, CSV and a script for gnuplot. */
#include "run/maps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "run/results.h"

static const char *const reads_names[TD_READS] = { "encoder", "self", "cross", "both" };

/* A map of the analysis: which attention's weights it shows, and on which keys. */
typedef struct map {
    const char              *name, *title, *queries, *keys; /* axis labels for keys and queries */
    const td_attention_mean *of;
    const double            *at; /* [of->n_parts][parts] */
    int64_t                  tokens, parts;
    int64_t                  first; /* position of the first key */
} map;

enum { MAPS = 3 };

/* A merged attention has weights on both the stack's and the encoder's tokens. */
static size_t find_maps(const td_analysis *a, map *out)
{
    const td_attention_mean *both = &a->all[TD_READS_BOTH], *encoder = &a->all[TD_READS_ENCODER];
    const td_attention_mean *own = both->heads ? both : &a->all[TD_READS_SELF];
    const td_attention_mean *cross = both->heads ? both : &a->all[TD_READS_CROSS];
    size_t                   n = 0;
    /* a model has attentions that read both, or separate ones, never both kinds in one stack */
    if (own->heads)
        out[n++] = (map){ "self",   "self-attention", "query",           "key", own, own->own_map,
                          own->own, own->own_parts,   own->parts[0].from };
    if (cross->heads)
        out[n++] = (map){ "cross",
                          "cross-attention",
                          "query",
                          "key of the encoder",
                          cross,
                          cross->memory_map,
                          cross->memory_tokens,
                          cross->memory_parts,
                          0 };
    if (encoder->heads)
        out[n++] = (map){ "encoder",
                          "self-attention of the encoder",
                          "query",
                          "key",
                          encoder,
                          encoder->own_map,
                          encoder->own,
                          encoder->own_parts,
                          0 };
    return n;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *json_of_parts(const td_attention_mean *m)
{
    json_t *all = json_array();
    for (int64_t k = 0; k < m->n_parts; k++)
        json_array_append_new(all, json_pack("{s:I, s:I, s:o, s:o, s:o}", "from",
                                             (json_int_t)m->parts[k].from, "to",
                                             (json_int_t)m->parts[k].to, "locality",
                                             td_results_number(m->parts[k].locality), "entropy",
                                             td_results_number(m->parts[k].entropy), "distance",
                                             td_results_number(m->parts[k].distance)));
    return all;
}

static json_t *json_of_mean(const td_attention_mean *m)
{
    json_t *j = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "name", m->name, "reads",
                          reads_names[m->reads], "map", (json_int_t)m->map, "heads",
                          (json_int_t)m->heads, "locality", td_results_number(m->locality),
                          "entropy", td_results_number(m->entropy), "distance",
                          td_results_number(m->distance), "memory", td_results_number(m->memory));
    if (m->layer >= 0)
        json_object_set_new(j, "layer_index", json_integer(m->layer));
    return j;
}

static json_t *json_of_all(const td_analysis *a)
{
    json_t *all = json_object();
    for (int r = 0; r < TD_READS; r++) {
        json_t *j, *coverage = json_array();
        if (!a->all[r].heads) {
            json_decref(coverage);
            continue;
        }
        j = json_of_mean(&a->all[r]);
        json_object_set_new(j, "parts", json_of_parts(&a->all[r]));
        for (int64_t k = 0; k < a->all[r].memory_tokens; k++)
            json_array_append_new(coverage, td_results_number(a->all[r].coverage[k]));
        json_object_set_new(j, "coverage", coverage);
        json_object_set_new(all, reads_names[r], j);
    }
    return all;
}

static json_t *json_of_logprobs(const td_analysis *a)
{
    json_t *all = json_array();
    for (size_t k = 0; k < a->n_logprobs; k++)
        json_array_append_new(all,
                              json_pack("{s:I, s:I, s:o}", "from", (json_int_t)a->logprobs[k].from,
                                        "to", (json_int_t)a->logprobs[k].to, "logprob",
                                        td_results_number(a->logprobs[k].logprob)));
    return all;
}

json_t *td_maps_json(const td_analysis *a)
{
    json_t *attentions = json_array(), *without = json_array();
    for (size_t k = 0; k < a->n_attentions; k++)
        json_array_append_new(attentions, json_of_mean(&a->attentions[k]));
    for (size_t k = 0; k < a->n_without; k++)
        json_array_append_new(without, json_string(a->without[k]));
    return json_pack("{s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:o}", "trained",
                     (json_int_t)a->trained, "length", (json_int_t)a->length, "prefix",
                     (json_int_t)a->prefix, "sequences", (json_int_t)a->sequences, "documents",
                     a->documents, "attentions", attentions, "all", json_of_all(a), "without",
                     without, "logprobs", json_of_logprobs(a));
}

/* ---- as tables ------------------------------------------------------------------------------- */

static void print_parts(const td_attention_mean *m, td_text *t)
{
    for (int64_t k = 0; k < m->n_parts; k++) {
        const td_attention_part *p = &m->parts[k];
        td_text_print(t, "%s,%" PRId64 ",%" PRId64 ",%" PRId64, m->name, m->map, p->from, p->to);
        td_results_cell(t, p->locality);
        td_results_cell(t, p->entropy);
        td_results_cell(t, p->distance);
        td_text_print(t, "\n");
    }
}

static void print_locality(const td_analysis *a, td_text *t)
{
    td_text_print(t, "attention,map,from,to,locality,entropy,distance\n");
    for (int r = 0; r < TD_READS; r++)
        print_parts(&a->all[r], t);
    for (size_t k = 0; k < a->n_attentions; k++)
        print_parts(&a->attentions[k], t);
}

static void print_received(const td_attention_mean *m, td_text *t)
{
    for (int64_t k = 0; k < m->memory_tokens; k++) {
        td_text_print(t, "%s,%" PRId64 ",%" PRId64, m->name, m->map, k);
        td_results_cell(t, m->coverage[k]);
        td_text_print(t, "\n");
    }
}

static void print_coverage(const td_analysis *a, td_text *t)
{
    td_text_print(t, "attention,map,position,weight\n");
    for (int r = 0; r < TD_READS; r++)
        print_received(&a->all[r], t);
    for (size_t k = 0; k < a->n_attentions; k++)
        print_received(&a->attentions[k], t);
}

static void print_logprobs(const td_analysis *a, td_text *t)
{
    td_text_print(t, "from,to,logprob\n");
    for (size_t k = 0; k < a->n_logprobs; k++) {
        td_text_print(t, "%" PRId64 ",%" PRId64, a->logprobs[k].from, a->logprobs[k].to);
        td_results_cell(t, a->logprobs[k].logprob);
        td_text_print(t, "\n");
    }
}

/* Writes a matrix with the first position of each row and column. */
static void print_map(const map *m, td_text *t)
{
    td_text_print(t, "from");
    for (int64_t c = 0; c < m->parts; c++)
        td_text_print(t, ",%" PRId64, m->first + c * m->tokens / m->parts);
    td_text_print(t, "\n");
    for (int64_t r = 0; r < m->of->n_parts; r++) {
        td_text_print(t, "%" PRId64, m->of->parts[r].from);
        for (int64_t c = 0; c < m->parts; c++)
            td_results_cell(t, m->at[r * m->parts + c]);
        td_text_print(t, "\n");
    }
}

/* ---- as pictures ----------------------------------------------------------------------------- */

/* The table's first line and column are positions, not weights: they are skipped. */
static void print_heat_map(const map *m, const char *name, td_text *t)
{
    int64_t first = m->of->parts[0].from, end = m->of->parts[m->of->n_parts - 1].to;
    double  rows = (double)(end - first) / (double)m->of->n_parts;
    double  columns = (double)m->tokens / (double)m->parts;
    td_text_print(t,
                  "set title '%s'\n"
                  "set xlabel '%s (token)'\n"
                  "set ylabel '%s (token)'\n"
                  "set xrange [%" PRId64 ":%" PRId64 "]\n"
                  "set yrange [%" PRId64 ":%" PRId64 "]\n"
                  "plot '%s-map-%s.csv' skip 1 matrix every 1::1 \\\n"
                  "    using (%" PRId64 " + ($1 - 0.5) * %.9g):(%" PRId64
                  " + ($2 + 0.5) * %.9g):3 \\\n"
                  "    with image notitle\n",
                  m->title, m->keys, m->queries, m->first, m->first + m->tokens, end, first, name,
                  m->name, m->first, columns, first, rows);
}

/* gnuplot refuses images of a single row or column. */
static size_t find_images(const td_analysis *a, map *out)
{
    map    maps[MAPS];
    size_t n = find_maps(a, maps), images = 0;
    for (size_t k = 0; k < n; k++)
        if (maps[k].of->n_parts > 1 && maps[k].parts > 1)
            out[images++] = maps[k];
    return images;
}

/* Queries run downwards, like the rows of a matrix. The colour scale is logarithmic, because
 * weights differ by orders of magnitude. */
static void print_maps(const td_analysis *a, const char *name, td_text *t)
{
    map    maps[MAPS];
    size_t n = find_images(a, maps);
    if (!n)
        return;
    td_text_print(t,
                  "set terminal svg size %zu,460 dynamic background rgb 'white'\n"
                  "set output '%s-maps.svg'\n"
                  "set palette defined (0 'white', 0.35 '#8fb8de', 0.7 '#2b5f9e', 1 '#0b1f3a')\n"
                  "set logscale cb\n"
                  "set cbrange [0.0003:1]\n"
                  "set format cb '%%g'\n"
                  "set multiplot layout 1,%zu\n",
                  500 * n, name, n);
    for (size_t k = 0; k < n; k++)
        print_heat_map(&maps[k], name, t);
    td_text_print(t, "unset multiplot\n");
}

/* Plots the rows of NAME-locality.csv that belong to one attention. */
static void print_curve(const td_attention_mean *m, bool first, const char *name, const char *title,
                        const char *style, td_text *t)
{
    td_text_print(t,
                  "%s\\\n    '%s-locality.csv' using ((column('from') + column('to')) / 2):\\\n"
                  "    (stringcolumn('attention') eq '%s' && column('map') == %" PRId64
                  " ? column('locality') : NaN) %s title '%s'",
                  first ? "" : ", ", name, m->name, m->map, style, title);
}

static bool is_drawn(const td_attention_mean *m, const td_attention_mean *mean)
{
    return m->reads == mean->reads;
}

/* Plots every layer of the stack that predicts, and their mean on top. If there are many, they are
 * not named, because the key would cover the curves. */
static void print_locality_plot(const td_analysis *a, const char *name, td_text *t)
{
    enum { NAMED = 6 };
    const td_attention_mean *both = &a->all[TD_READS_BOTH];
    const td_attention_mean *mean = both->heads ? both : &a->all[TD_READS_SELF];
    size_t                   layers = 0, drawn = 0;
    /* linear attention, for example, has no weights to draw */
    if (!mean->heads)
        return;
    for (size_t k = 0; k < a->n_attentions; k++)
        layers += is_drawn(&a->attentions[k], mean);
    td_text_print(t, "set ylabel 'locality (weight on t-4 .. t)'\nset yrange [0:1]\nplot ");
    for (size_t k = 0; k < a->n_attentions; k++) {
        const td_attention_mean *m = &a->attentions[k];
        td_text                  title = { 0 };
        if (!is_drawn(m, mean))
            continue;
        if (layers <= NAMED)
            td_text_print(&title, "layer %" PRId64 "%s", m->layer, m->map ? ", second map" : "");
        print_curve(m, !drawn++, name, td_text_get(&title), "with lines linewidth 1", t);
        td_text_free(&title);
    }
    print_curve(mean, !drawn, name, "mean", "with lines linewidth 3 linecolor rgb 'black'", t);
    td_text_print(t, "\n");
}

static void print_coverage_plot(const td_analysis *a, const char *name, td_text *t)
{
    const td_attention_mean *both = &a->all[TD_READS_BOTH];
    const td_attention_mean *mean = both->heads ? both : &a->all[TD_READS_CROSS];
    /* without an encoder nothing is covered */
    if (!mean->heads)
        return;
    td_text_print(t,
                  "unset arrow\n"
                  "set xlabel 'token of the encoder'\n"
                  "set ylabel 'weight it receives'\n"
                  "set xrange [0:%" PRId64 "]\n"
                  "set yrange [0:*]\n"
                  "plot '%s-coverage.csv' using (stringcolumn('attention') eq '%s' ? \\\n"
                  "    column('position') : NaN):'weight' with lines notitle\n",
                  mean->memory_tokens, name, mean->name);
}

static void print_curves(const td_analysis *a, const char *name, td_text *t)
{
    bool   weights = a->all[TD_READS_SELF].heads || a->all[TD_READS_BOTH].heads;
    bool   coverage = a->all[TD_READS_CROSS].heads || a->all[TD_READS_BOTH].heads;
    size_t n = 1 + (size_t)weights + (size_t)coverage;
    /* log-probabilities are always drawn, the other two only if attentions of their kind exist */
    td_text_print(t,
                  "set terminal svg size %zu,420 dynamic background rgb 'white'\n"
                  "set output '%s-curves.svg'\n"
                  "unset title\n"
                  "set datafile columnheaders\n"
                  "set grid\n"
                  "set key top right\n"
                  "set multiplot layout 1,%zu\n"
                  "set xlabel 'position (tokens)'\n"
                  "set xrange [%" PRId64 ":%" PRId64 "]\n"
                  "# the training length\n"
                  "set arrow from %" PRId64 ", graph 0 to %" PRId64 ", graph 1 nohead dashtype 2\n",
                  500 * n, name, n, weights ? INT64_C(0) : a->prefix, a->length, a->trained,
                  a->trained);
    print_locality_plot(a, name, t);
    td_text_print(t,
                  "set ylabel 'log-probability (nats)'\n"
                  "set yrange [*:*]\n"
                  "plot '%s-logprob.csv' using ((column('from') + column('to')) / 2):'logprob' \\\n"
                  "    with lines notitle\n",
                  name);
    print_coverage_plot(a, name, t);
    td_text_print(t, "unset multiplot\n");
}

static void print_script(const td_analysis *a, const char *name, td_text *t)
{
    td_text_print(t,
                  "# draws %s-maps.svg and %s-curves.svg: gnuplot %s.gnuplot\n"
                  "set datafile separator comma\n",
                  name, name, name);
    print_maps(a, name, t);
    td_text_print(t, "reset\nset datafile separator comma\n");
    print_curves(a, name, t);
}

/* ---- as files -------------------------------------------------------------------------------- */

/* Files left by an analysis of other layers must not be taken for part of this one. */
static void forget(const char *directory, const char *name)
{
    static const char *const endings[] = { "-map-self.csv", "-map-cross.csv", "-map-encoder.csv",
                                           "-maps.svg", "-curves.svg" };
    for (size_t k = 0; k < sizeof endings / sizeof *endings; k++) {
        td_text file = { 0 };
        char   *path;
        td_text_print(&file, "%s%s", name, endings[k]);
        path = td_path_join(directory, td_text_get(&file));
        if (path)
            unlink(path);
        free(path);
        td_text_free(&file);
    }
}

static int write_maps(const td_analysis *a, const char *directory, const char *name,
                      td_error *error)
{
    map    maps[MAPS];
    size_t n = find_maps(a, maps);
    int    code = 0;
    for (size_t k = 0; k < n && !code; k++) {
        td_text t = { 0 }, ending = { 0 };
        td_text_print(&ending, "-map-%s.csv", maps[k].name);
        print_map(&maps[k], &t);
        code = td_results_text(&t, directory, name, td_text_get(&ending), error);
        td_text_free(&ending);
    }
    return code;
}

static int write_tables(const td_analysis *a, const char *directory, const char *name,
                        td_error *error)
{
    static const struct {
        const char *ending;
        void (*print)(const td_analysis *, td_text *);
    } tables[] = { { "-locality.csv", print_locality },
                   { "-coverage.csv", print_coverage },
                   { "-logprob.csv", print_logprobs } };
    int code = 0;
    for (size_t k = 0; k < sizeof tables / sizeof *tables && !code; k++) {
        td_text t = { 0 };
        tables[k].print(a, &t);
        code = td_results_text(&t, directory, name, tables[k].ending, error);
    }
    return code;
}

int td_maps_write(const td_session *s, const td_analysis *a, const char *directory,
                  const char *name, td_error *error)
{
    json_t *all = td_results_about(s, "analyze"), *numbers = td_maps_json(a);
    td_text script = { 0 };
    int     code = write_tables(a, directory, name, error);

    forget(directory, name);
    if (!code)
        code = write_maps(a, directory, name, error);
    print_script(a, name, &script);
    if (!code)
        code = td_results_text(&script, directory, name, ".gnuplot", error);
    td_text_free(&script);
    /* the summary is written last, as for all results */
    json_object_del(all, "protocol"); /* only for evaluations at the training length */
    return td_results_finish(code, all, numbers, directory, name, error);
}
