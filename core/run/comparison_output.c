/* comparison_output.c - a comparison as JSON and CSV, and names for tables. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/escape.h"
#include "run/comparison.h"
#include "run/results.h"

/* The last part of a path, which usually distinguishes runs: "red", "step-00000100". */
static const char *short_name(const char *path)
{
    const char *checkpoint = strstr(path, "/checkpoints/"), *start;
    size_t      n = checkpoint ? (size_t)(checkpoint - path) : strlen(path);
    if (checkpoint)
        return checkpoint + strlen("/checkpoints/");
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (start = path + n; start > path && start[-1] != '/';)
        start--;
    return start;
}

const char *td_comparison_name(const td_comparison *c, size_t g)
{
    const char *name = short_name(c->groups[g].name);
    for (size_t k = 0; k < c->n_groups; k++)
        if (k != g && !strcmp(short_name(c->groups[k].name), name))
            return c->groups[g].name;
    return name;
}

static json_t *json_of_run(const td_compared_run *r)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "run", r->name, "step",
                     r->step < 0 ? json_null() : json_integer(r->step), "tokens",
                     td_results_number(r->tokens), "flops", td_results_number(r->flops),
                     "differences", td_results_lines(&r->differences));
}

static json_t *json_of_group(const td_comparison *c, const td_compared_group *g)
{
    json_t *runs = json_array();
    for (size_t k = 0; k < g->count; k++)
        json_array_append_new(runs, json_string(c->runs[g->runs[k]].name));
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", g->name, "runs", runs, "step",
                     g->step < 0 ? json_null() : json_integer(g->step), "tokens",
                     td_results_number(g->tokens), "flops", td_results_number(g->flops));
}

static json_t *json_of_scores(const td_measured *m, size_t n, bool seeds)
{
    json_t *scores = json_array();
    for (size_t k = 0; k < n; k++) {
        json_t *j = json_pack("{s:o, s:o, s:I}", "score", td_results_number(m[k].score), "error",
                              td_results_number(m[k].error), "items", (json_int_t)m[k].items);
        if (seeds) {
            json_object_set_new(j, "seeds", json_integer(m[k].seeds));
            json_object_set_new(j, "deviation", td_results_number(m[k].deviation));
        }
        json_array_append_new(scores, j);
    }
    return scores;
}

static json_t *json_of_measure(const td_comparison *c, const td_measure *m)
{
    return json_pack("{s:s, s:b, s:o, s:o}", "measure", m->name, "lower_is_better",
                     m->lower_is_better, "scores", json_of_scores(m->runs, c->n_runs, false),
                     "groups", json_of_scores(m->groups, c->n_groups, true));
}

static json_t *json_of_pair(const td_comparison *c, const td_compared_pair *p)
{
    const td_difference *d = &p->difference;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I}", "measure", c->measures[p->measure].name, "a",
                          c->groups[p->a].name, "b", c->groups[p->b].name, "method", p->method,
                          "pairs", (json_int_t)d->n);
    const double             x[] = { d->mean,     d->low,    d->high,       d->p,
                                     p->adjusted, d->effect, d->effect_low, d->effect_high };
    static const char *const names[] = { "difference", "low",    "high",       "p",
                                         "p_adjusted", "effect", "effect_low", "effect_high" };
    for (size_t k = 0; k < sizeof x / sizeof *x; k++)
        json_object_set_new(j, names[k], td_results_number(x[k]));
    json_object_set_new(j, "spread", td_results_number(p->spread));
    json_object_set_new(j, "seeds_needed", p->seeds > 0 ? json_integer(p->seeds) : json_null());
    return j;
}

json_t *td_comparison_json(const td_comparison *c)
{
    json_t *runs = json_array(), *measures = json_array(), *pairs = json_array();
    json_t *groups = json_array();
    for (size_t k = 0; k < c->n_runs; k++)
        json_array_append_new(runs, json_of_run(&c->runs[k]));
    for (size_t k = 0; k < c->n_groups; k++)
        json_array_append_new(groups, json_of_group(c, &c->groups[k]));
    for (size_t k = 0; k < c->n_measures; k++)
        json_array_append_new(measures, json_of_measure(c, &c->measures[k]));
    for (size_t k = 0; k < c->n_pairs; k++)
        json_array_append_new(pairs, json_of_pair(c, &c->pairs[k]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "runs", runs, "groups", groups, "measures",
                     measures, "pairs", pairs, "notes", td_results_lines(&c->notes));
}

/* An unknown number is an empty field. */
static void print_numbers(const double *x, size_t n, td_text *out)
{
    for (size_t k = 0; k < n; k++)
        if (isfinite(x[k]))
            td_text_print(out, ",%.9g", x[k]);
        else
            td_text_print(out, ",");
}

static void print_pair(const td_comparison *c, const td_compared_pair *p, td_text *out)
{
    const td_measure    *m = &c->measures[p->measure];
    const td_difference *d = &p->difference;
    const double         scores[] = { m->groups[p->a].score, m->groups[p->b].score };
    const double         tests[] = { d->mean, d->low, d->high, d->p, p->adjusted };
    const double         effects[] = { d->effect, d->effect_low, d->effect_high };
    td_escape_csv(out, m->name);
    td_text_print(out, ",");
    td_escape_csv(out, c->groups[p->a].name);
    td_text_print(out, ",");
    td_escape_csv(out, c->groups[p->b].name);
    print_numbers(scores, sizeof scores / sizeof *scores, out);
    print_numbers(tests, sizeof tests / sizeof *tests, out);
    print_numbers(effects, sizeof effects / sizeof *effects, out);
    td_text_print(out, ",%" PRId64 ",%s,", d->n, p->method);
    if (p->seeds > 0) /* otherwise no number of seeds is known to be enough */
        td_text_print(out, "%" PRId64, p->seeds);
    td_text_print(out, "\n");
}

void td_comparison_csv(const td_comparison *c, td_text *out)
{
    td_text_print(out, "measure,a,b,score_a,score_b,difference,low,high,p,p_adjusted,effect,"
                       "effect_low,effect_high,pairs,method,seeds_needed\n");
    for (size_t k = 0; k < c->n_pairs; k++)
        print_pair(c, &c->pairs[k], out);
}
