/* fit_runs.c - runs as a table of points. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "run/compared.h"
#include "run/seeds.h"
#include "run/weights.h"
#include "study/fit_table.h"

typedef struct run {
    td_compared_run about;
    td_series_list  series;
    td_config      *config;
    size_t          family; /* its first run */
} run;

/* ---- families -------------------------------------------------------------------------------- */

static bool is_number(const char *text, size_t n)
{
    char   copy[64], *end;
    size_t first = strspn(text, " ");
    snprintf(copy, sizeof copy, "%.*s", (int)(n - first < 63 ? n - first : 63), text + first);
    if (!strcmp(copy, "(absent)")) /* the other run's plugin or budget does not use it */
        return true;
    strtod(copy, &end);
    return end > copy && !*end;
}

/* "train.steps: 300 -> 900": numbers are sizes and budgets. */
static bool is_size(void *arg, const char *key, const char *line)
{
    const char *before = line + strlen(key) + 1, *arrow = strstr(before, " -> ");
    (void)arg;
    if (td_seeds_incidental(key) || !strcmp(key, "train.weights"))
        return true;
    return arrow && is_number(before, (size_t)(arrow - before)) &&
           is_number(arrow + 4, strlen(arrow + 4));
}

static bool is_family(const run *a, const run *b)
{
    td_text differences = { 0 }, others;
    bool    same;
    if (!a->config || !b->config)
        return false;
    td_config_diff(a->config, b->config, &differences);
    others = td_refused_differences(&differences, is_size, NULL);
    same = !others.size && !others.failed && !differences.failed;
    td_text_free(&others);
    td_text_free(&differences);
    return same;
}

static void set_families(run *runs, size_t count)
{
    for (size_t k = 0; k < count; k++) {
        runs[k].family = k;
        for (size_t j = 0; j < k && runs[k].family == k; j++)
            if (runs[j].family == j && is_family(&runs[j], &runs[k]))
                runs[k].family = j;
    }
}

/* The common part of the names of a family's runs; if another family has the same common part,
 * the whole name of the first run. NULL when out of memory. */
static const char *common_name(const run *runs, size_t count, size_t family, td_arena *arena)
{
    const char **names = td_arena_alloc(arena, count * sizeof *names);
    size_t       n = 0;
    for (size_t k = 0; names && k < count; k++)
        if (runs[k].family == family)
            names[n++] = runs[k].about.name;
    return names ? td_seeds_name(arena, names, n) : NULL;
}

static const char *family_name(const run *runs, size_t count, size_t family, td_arena *arena)
{
    const char *own = common_name(runs, count, family, arena);
    for (size_t k = 0; own && k < count; k++) {
        const char *other = runs[k].family == k && k != family ? common_name(runs, count, k, arena)
                                                               : "";
        if (!other || !strcmp(own, other))
            return other ? runs[family].about.name : NULL;
    }
    return own;
}

/* ---- columns --------------------------------------------------------------------------------- */

enum { RUN, FAMILY, PARAMETERS, TOKENS, FLOPS, NLL, FIXED };
static const char *const fixed_names[FIXED] = { "run",    "family", "parameters",
                                                "tokens", "flops",  "nll" };

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a table of runs");
}

static int64_t column_of(const td_fit_table *t, const char *name)
{
    for (int64_t k = FIXED; k < t->columns; k++)
        if (!strcmp(t->names[k], name))
            return k;
    return -1;
}

/* A column for each score that any run has. */
static int set_columns(const run *runs, size_t count, td_fit_table *t, td_error *error)
{
    size_t most = FIXED;
    for (size_t k = 0; k < count; k++)
        most += runs[k].series.count;
    t->names = td_arena_alloc(t->arena, most * sizeof *t->names);
    if (!t->names)
        return out_of_memory(error);
    for (t->columns = 0; t->columns < FIXED; t->columns++)
        t->names[t->columns] = fixed_names[t->columns];
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < runs[k].series.count; i++)
            if (column_of(t, runs[k].series.at[i].name) < 0)
                t->names[t->columns++] = runs[k].series.at[i].name;
    return 0;
}

/* 17 digits: as exact as the number. */
static const char *text_of(td_arena *arena, double x)
{
    return isfinite(x) ? td_arena_print(arena, "%.17g", x) : "";
}

static int set_row(const run *runs, size_t count, size_t k, td_fit_table *t, td_error *error)
{
    const run   *r = &runs[k];
    const char **row = t->cells + (int64_t)k * t->columns;
    for (int64_t c = 0; c < t->columns; c++)
        row[c] = "";
    row[RUN] = r->about.name;
    row[FAMILY] = family_name(runs, count, r->family, t->arena);
    row[PARAMETERS] = text_of(t->arena, r->about.parameters);
    row[TOKENS] = text_of(t->arena, r->about.tokens);
    row[FLOPS] = text_of(t->arena, r->about.flops);
    for (size_t i = 0; i < r->series.count; i++) {
        const td_series *s = &r->series.at[i];
        int64_t          c = column_of(t, s->name);
        row[c] = text_of(t->arena, s->total.score);
        /* also under the name that --y uses by default */
        if (!strcmp(s->name, "heldout"))
            row[NLL] = row[c];
    }
    for (int64_t c = 0; c < t->columns; c++)
        if (!row[c])
            return out_of_memory(error);
    return 0;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static int fill(run *runs, const char *const *names, size_t count, td_fit_table *t, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < count && !code; k++)
        code = td_compared_read(names[k], t->arena, &runs[k].about, &runs[k].series,
                                &runs[k].config, &t->notes, false, error);
    if (code)
        return code;
    /* families and columns depend on all runs */
    set_families(runs, count);
    code = set_columns(runs, count, t, error);
    t->cells = code ? NULL : calloc(count * (size_t)t->columns, sizeof *t->cells);
    if (!code && !t->cells)
        code = out_of_memory(error);
    for (size_t k = 0; k < count && !code; k++)
        code = set_row(runs, count, k, t, error);
    t->rows = (int64_t)count;
    return code;
}

int td_fit_table_runs(const char *const *names, size_t count, td_fit_table *out, td_error *error)
{
    run *runs = calloc(count + 1, sizeof *runs);
    int  code;
    memset(out, 0, sizeof *out);
    out->source = "the table of runs";
    out->arena = td_arena_new();
    code = runs && out->arena ? fill(runs, names, count, out, error) : out_of_memory(error);
    for (size_t k = 0; runs && k < count; k++) {
        free(runs[k].series.at);
        td_config_free(runs[k].config);
    }
    free(runs);
    return code;
}
