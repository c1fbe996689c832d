/* fit_results.c - splits a table into groups and fits each. */
#include "study/fit_results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *td_fit_form_name(td_fit_form form)
{
    static const char *const names[] = { "power", "joint", "isoflop", "frontier" };
    return names[form];
}

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the groups of a fit");
}

/* ---- columns --------------------------------------------------------------------------------- */

/* Indices of the columns that a form reads; -1: none. */
typedef struct columns {
    int64_t x, y, second, flops, by;
} columns;

static int find(const td_fit_table *t, const char *name, int64_t *out, td_error *error)
{
    *out = name ? td_fit_table_column(t, name, error) : -1;
    return name && *out < 0 ? TD_ECONFIG : 0;
}

static int find_columns(const td_fit_table *t, const td_fit_request *r, columns *c, td_error *error)
{
    bool joint = r->form == TD_FIT_JOINT, isoflop = r->form == TD_FIT_ISOFLOP;
    int  code = find(t, r->x, &c->x, error);
    if (!code)
        code = find(t, r->y, &c->y, error);
    if (!code)
        code = find(t, joint ? r->tokens : isoflop ? r->flops : NULL, &c->second, error);
    if (!code)
        code = find(t, joint ? r->flops : NULL, &c->flops, error);
    return code ? code : find(t, r->by, &c->by, error);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static td_fit_group *group_of(td_fit_results *out, const char *name)
{
    for (int64_t k = 0; k < out->count; k++)
        if (!strcmp(out->groups[k].name, name))
            return &out->groups[k];
    out->groups[out->count].name = name;
    return &out->groups[out->count++];
}

static const char *label(const td_fit_table *t, const columns *c, int64_t row)
{
    return c->by < 0 ? "all" : td_fit_table_cell(t, row, c->by);
}

/* With more groups than this, the column must hold numbers, not names. */
enum { MOST_GROUPS = 200 };

static int count_rows(const td_fit_table *t, const columns *c, const td_fit_request *r,
                      td_fit_results *out, td_error *error)
{
    /* one more than is allowed, as the excess is noticed once it is in the list */
    out->groups = td_arena_alloc(out->arena, (MOST_GROUPS + 1) * sizeof *out->groups);
    if (!out->groups)
        return out_of_memory(error);
    for (int64_t k = 0; k < t->rows; k++) {
        group_of(out, label(t, c, k))->n++;
        if (out->count > MOST_GROUPS)
            return td_fail(
                error, TD_ECONFIG,
                "column '%s' of %s has more than %d values: --by takes a column of names", r->by,
                t->source, (int)MOST_GROUPS);
    }
    return 0;
}

static int make_room(td_fit_results *out, td_error *error)
{
    for (int64_t k = 0; k < out->count; k++) {
        td_fit_group *g = &out->groups[k];
        size_t        bytes = (size_t)g->n * sizeof(double);
        g->rows = td_arena_alloc(out->arena, bytes);
        g->x = td_arena_alloc(out->arena, bytes);
        g->second = td_arena_alloc(out->arena, bytes);
        g->y = td_arena_alloc(out->arena, bytes);
        if (!g->rows || !g->x || !g->second || !g->y)
            return out_of_memory(error);
        /* take_rows counts again, as it fills them */
        g->n = 0;
    }
    return 0;
}

static int take_rows(const td_fit_table *t, const columns *c, td_fit_results *out, td_error *error)
{
    for (int64_t k = 0; k < t->rows; k++) {
        td_fit_group *g = group_of(out, label(t, c, k));
        int           code = td_fit_table_number(t, k, c->x, &g->x[g->n], error);
        if (!code)
            code = td_fit_table_number(t, k, c->y, &g->y[g->n], error);
        if (!code && c->second >= 0)
            code = td_fit_table_number(t, k, c->second, &g->second[g->n], error);
        if (code)
            return code;
        g->rows[g->n++] = k;
    }
    return 0;
}

static int split(const td_fit_table *t, const columns *c, const td_fit_request *r,
                 td_fit_results *out, td_error *error)
{
    int code = t->rows ? 0
                       : td_fail(error, TD_ECONFIG, "%s has column names, but no rows", t->source);
    if (!code)
        code = count_rows(t, c, r, out, error);
    if (!code)
        code = make_room(out, error);
    return code ? code : take_rows(t, c, out, error);
}

/* ---- fits ------------------------------------------------------------------------------------ */

/* FLOPs per parameter and token: the geometric mean over the rows, or 6 (a product of matrices takes
 * 2 forward and 4 backward). */
static int find_factor(const td_fit_table *t, const columns *c, const td_fit_group *g, double *out,
                       td_error *error)
{
    double sum = 0;
    *out = 6;
    for (int64_t i = 0; i < g->n && c->flops >= 0; i++) {
        double flops;
        int    code = td_fit_table_number(t, g->rows[i], c->flops, &flops, error);
        if (code)
            return code;
        sum += log(flops / g->x[i] / g->second[i]) / (double)g->n;
    }
    if (c->flops >= 0)
        *out = exp(sum);
    return 0;
}

static int fit_curves(const td_fit_table *t, const columns *c, const td_fit_request *r,
                      td_fit_group *g, td_error *error)
{
    td_fit_points p = {
        .n = g->n, .terms = r->form == TD_FIT_JOINT ? 2 : 1, .x = { g->x, g->second }, .y = g->y
    };
    td_fit_options o = r->options;
    double         factor;
    int            code;
    o.names[0] = r->x;
    o.names[1] = r->tokens;
    code = td_fit_curves(&p, &o, &g->fit, error);
    /* with one term there is nothing to divide a budget between */
    if (!code && r->form == TD_FIT_JOINT)
        code = find_factor(t, c, g, &factor, error);
    if (!code && r->form == TD_FIT_JOINT)
        g->has_optimum = td_fit_optimal(&g->fit, factor, &g->optimum);
    return code;
}

/* The frontier of all groups' points together. */
static int find_frontier(td_fit_results *out, td_error *error)
{
    int64_t n = 0, *numbers;
    double *x;
    for (int64_t k = 0; k < out->count; k++)
        n += out->groups[k].n;
    x = td_arena_alloc(out->arena, 2 * (size_t)n * sizeof *x);
    numbers = td_arena_alloc(out->arena, (size_t)n * sizeof *numbers);
    out->frontier = td_arena_alloc(out->arena, 2 * (size_t)n * sizeof *out->frontier);
    if (!x || !numbers || !out->frontier)
        return out_of_memory(error);
    td_frontier_point *all = out->frontier + n; /* every point by its number */
    n = 0;
    for (int64_t k = 0; k < out->count; k++)
        for (int64_t i = 0; i < out->groups[k].n; i++)
            all[n++] = (td_frontier_point){ k, i };
    for (int64_t i = 0; i < n; i++) {
        x[i] = out->groups[all[i].group].x[all[i].at];
        x[n + i] = out->groups[all[i].group].y[all[i].at];
    }
    out->n_frontier = td_frontier(x, x + n, n, numbers);
    for (int64_t k = 0; k < out->n_frontier; k++)
        out->frontier[k] = all[numbers[k]];
    return out->n_frontier < 0 ? out_of_memory(error) : 0;
}

/* Errors name the group that they concern. */
static int fit_group(const td_fit_table *t, const columns *c, const td_fit_request *r,
                     td_fit_group *g, td_error *error)
{
    td_error why = { 0 };
    int      code = r->form == TD_FIT_ISOFLOP
                        ? td_isoflop_fit(g->second, g->x, g->y, g->n, &g->isoflop, &why)
                        : fit_curves(t, c, r, g, &why);
    if (!code)
        return 0;
    return r->by ? td_fail(error, code, "group '%s': %s", g->name, why.text)
                 : td_fail(error, code, "%s", why.text);
}

int td_fit_table_fit(const td_fit_table *t, const td_fit_request *r, td_fit_results *out,
                     td_error *error)
{
    columns c;
    int     code;
    memset(out, 0, sizeof *out);
    out->request = *r;
    out->arena = td_arena_new();
    code = out->arena ? find_columns(t, r, &c, error) : out_of_memory(error);
    if (!code)
        code = split(t, &c, r, out, error);
    if (!code && r->form == TD_FIT_FRONTIER)
        /* one for all groups: a frontier shows which of them are on it */
        return find_frontier(out, error);
    for (int64_t k = 0; k < out->count && !code; k++)
        code = fit_group(t, &c, r, &out->groups[k], error);
    return code;
}

void td_fit_results_free(td_fit_results *r)
{
    for (int64_t k = 0; k < r->count; k++) {
        td_fit_free(&r->groups[k].fit);
        td_isoflop_free(&r->groups[k].isoflop);
    }
    td_arena_free(r->arena);
    memset(r, 0, sizeof *r);
}
