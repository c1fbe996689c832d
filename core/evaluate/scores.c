/* scores.c - statistics of items, summed into scores. */
#include "evaluate/scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "evaluate/statistics.h"
#include "plugin/hook.h"
#include "tandem/random.h"

/* A metric applied after a filter. */
typedef struct column {
    const td_task_metric *metric;
    const void           *config;
    size_t                filter;
    char                  key[160], error_key[168]; /* "acc,none", "acc_stderr,none" */
    size_t                name;                     /* bytes of the key before the comma */
    double               *at;                       /* [items][statistics] */
} column;

struct td_scores {
    column  *columns;
    size_t   n_columns;
    int64_t  items;
    int64_t *group; /* [items]: index of its `by`; -1: not measured */
    td_map  *groups;
};

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the scores of a task");
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The name that the plugin gives its score, or the plugin's own name with _ for -. */
static void name_score(column *c, const char *filter)
{
    const char *key = c->metric->key ? c->metric->key(c->config) : c->metric->plugin.name;
    char        name[80];
    snprintf(name, sizeof name, "%s", key);
    for (char *at = name; *at; at++)
        if (*at == '-')
            *at = '_';
    c->name = strlen(name);
    snprintf(c->key, sizeof c->key, "%s,%.60s", name, filter);
    snprintf(c->error_key, sizeof c->error_key, "%s_stderr,%.60s", name, filter);
}

static int add_column(td_scores *s, const td_task *t, const td_part *metric, size_t filter,
                      const char *filter_name, td_error *error)
{
    column *c = &s->columns[s->n_columns++];
    size_t  n;
    c->metric = (const void *)metric->plugin;
    c->config = metric->config;
    c->filter = filter;
    /* kept per item: standard errors and group scores are computed from them later */
    n = (size_t)(s->items + 1) * (size_t)c->metric->statistics;
    c->at = calloc(n, sizeof *c->at);
    name_score(c, filter_name);
    return c->at ? 0 : out_of_memory(error);
}

static bool is_read(const td_part *metric, bool choices)
{
    const td_task_metric *m = (const void *)metric->plugin;
    return ((m->flags & TD_METRIC_CHOICES) != 0) == choices;
}

td_scores *td_scores_open(const td_task *t, bool choices, int64_t items, td_error *error)
{
    const td_parts *metrics = &t->options.metrics;
    size_t          filters = choices ? 1 : t->n_filters; /* choices are never filtered */
    td_scores      *s = calloc(1, sizeof *s);
    int             code;
    if (s) {
        s->items = items;
        s->columns = calloc(filters * metrics->count + 1, sizeof *s->columns);
        s->group = malloc((size_t)(items + 1) * sizeof *s->group);
        s->groups = td_map_new();
    }
    /* -1: items belong to no group until they are scored */
    code = s && s->columns && s->group && s->groups ? 0 : out_of_memory(error);
    for (int64_t k = 0; !code && k < items; k++)
        s->group[k] = -1;
    for (size_t f = 0; f < filters; f++)
        for (size_t k = 0; k < metrics->count && !code; k++)
            if (is_read(&metrics->at[k], choices))
                code = add_column(s, t, &metrics->at[k], f,
                                  choices ? "none" : td_task_filter_name(t, f), error);
    if (!code)
        return s;
    td_scores_close(s);
    return NULL;
}

void td_scores_close(td_scores *s)
{
    if (!s)
        return;
    for (size_t k = 0; k < s->n_columns; k++)
        free(s->columns[k].at);
    td_map_free(s->groups);
    free(s->columns);
    free(s->group);
    free(s);
}

/* ---- adding ---------------------------------------------------------------------------------- */

/* The map stores indices plus one, as NULL means missing. */
static int64_t group_of(const td_scores *s, const char *by)
{
    return (int64_t)(intptr_t)td_map_get(s->groups, by) - 1;
}

static double *statistics_of(const column *c, int64_t item)
{
    return c->at + item * c->metric->statistics;
}

/* A single NaN or infinity would spoil the sums, and with them every score. */
static int check_statistics(const column *c, int64_t item, const double *x, td_error *error)
{
    for (int64_t k = 0; k < c->metric->statistics; k++)
        if (!isfinite(x[k]))
            return td_fail(error, TD_EPLUGIN,
                           "metric '%s' measured %g as statistic %lld of item %lld: statistics "
                           "must be finite; correct the plugin (`tandem plugins check`), or leave "
                           "the metric out",
                           c->metric->plugin.name, x[k], (long long)k, (long long)item);
    return 0;
}

int td_scores_add(td_scores *s, int64_t item, const char *by, const td_answer *answers,
                  td_error *error)
{
    if (group_of(s, by) < 0 &&
        td_map_set(s->groups, by, (void *)(intptr_t)(td_map_count(s->groups) + 1)))
        return out_of_memory(error);
    s->group[item] = group_of(s, by);
    for (size_t k = 0; k < s->n_columns; k++) {
        const column *c = &s->columns[k];
        /* a metric may clear all of them, even those that it does not use */
        double        all[TD_MOST_STATISTICS] = { 0 };
        int code = TD_HOOK(c->metric, measure, c->config, &answers[c->filter], all, error);
        if (code)
            return td_fail(error, code, "metric '%s' cannot measure an answer",
                           c->metric->plugin.name);
        if (check_statistics(c, item, all, error))
            return TD_EPLUGIN;
        memcpy(statistics_of(c, item), all, (size_t)c->metric->statistics * sizeof *all);
    }
    return 0;
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* Lists the items of a group, or all; returns their number. */
static int64_t choose(const td_scores *s, const char *by, int64_t *out)
{
    int64_t n = 0, group = by ? group_of(s, by) : 0;
    for (int64_t k = 0; k < s->items; k++)
        if (s->group[k] >= 0 && (!by || s->group[k] == group))
            out[n++] = k;
    return n;
}

static void add(const column *c, int64_t item, double *sums)
{
    const double *one = statistics_of(c, item);
    for (int64_t k = 0; k < c->metric->statistics; k++)
        sums[k] += one[k];
}

static double score_of(const column *c, const int64_t *items, int64_t n)
{
    double sums[TD_MOST_STATISTICS] = { 0 };
    for (int64_t k = 0; k < n; k++)
        add(c, items[k], sums);
    return td_metric_score(c->metric, c->config, sums, n);
}

enum { SAMPLES = 1000 };

/* The standard deviation of the score over samples of the same size, drawn with replacement. */
static double bootstrap(const column *c, const int64_t *items, int64_t n)
{
    double mean = 0, square = 0;
    for (uint64_t b = 0; b < SAMPLES; b++) {
        double sums[TD_MOST_STATISTICS] = { 0 }, x, delta;
        for (int64_t k = 0; k < n; k++)
            add(c, items[td_random_below(1234, b, (uint64_t)k, (uint64_t)n)], sums);
        x = td_metric_score(c->metric, c->config, sums, n);
        /* Welford's update: a mean that is large relative to its spread loses no digits */
        delta = x - mean;
        mean += delta / (double)(b + 1);
        square += delta * (x - mean);
    }
    return sqrt(square / (SAMPLES - 1));
}

static double error_of(const column *c, const int64_t *items, int64_t n)
{
    double *x, error;
    if (n < 2)
        return NAN;
    /* only a mean has a closed formula */
    if (c->metric->score)
        return bootstrap(c, items, n);
    x = malloc((size_t)n * sizeof *x);
    if (!x)
        return NAN;
    for (int64_t k = 0; k < n; k++)
        x[k] = statistics_of(c, items[k])[0];
    error = td_ratio(x, NULL, n).error;
    free(x);
    return error;
}

size_t td_scores_count(const td_scores *s) { return s->n_columns; }

int td_scores_check(const td_scores *s, td_error *error)
{
    for (size_t k = 0; k < s->n_columns; k++) {
        td_score_line l = td_scores_line(s, k, NULL);
        if (l.items && !isfinite(l.score))
            return td_fail(error, TD_EPLUGIN,
                           "metric '%s' scored %g on %lld items: a score must be finite; correct "
                           "the plugin (`tandem plugins check`), or leave the metric out",
                           s->columns[k].metric->plugin.name, l.score, (long long)l.items);
    }
    return 0;
}

td_score_line td_scores_line(const td_scores *s, size_t k, const char *by)
{
    const column *c = &s->columns[k];
    int64_t      *items = malloc((size_t)(s->items + 1) * sizeof *items);
    int64_t       n = items ? choose(s, by, items) : 0;
    td_score_line line = { .key = c->key,
                           .score = n ? score_of(c, items, n) : (double)NAN,
                           .error = n ? error_of(c, items, n) : (double)NAN,
                           .items = n,
                           .percent = (c->metric->flags & TD_METRIC_PERCENT) != 0 };
    free(items);
    return line;
}

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_string("N/A"); }

void td_scores_put(const td_scores *s, const char *by, json_t *into)
{
    for (size_t k = 0; k < s->n_columns; k++) {
        td_score_line l = td_scores_line(s, k, by);
        json_object_set_new(into, s->columns[k].key, number(l.score));
        json_object_set_new(into, s->columns[k].error_key, number(l.error));
    }
}

/* The name is "acc" with one filter; with several, each has its own. */
void td_scores_of_item(const td_scores *s, int64_t item, json_t *into)
{
    /* the index of the last filter: 0 if there is only one */
    size_t filters = 0;
    for (size_t k = 0; k < s->n_columns; k++)
        filters = s->columns[k].filter > filters ? s->columns[k].filter : filters;
    for (size_t k = 0; k < s->n_columns; k++) {
        const column *c = &s->columns[k];
        char          name[160];
        snprintf(name, sizeof name, "%.*s", filters ? 159 : (int)c->name, c->key);
        json_object_set_new(into, name, number(score_of(c, &item, 1)));
    }
}

size_t      td_scores_groups(const td_scores *s) { return td_map_count(s->groups); }
const char *td_scores_group(const td_scores *s, size_t k) { return td_map_key(s->groups, k); }
