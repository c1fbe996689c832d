/* fit_output.c - fits as JSON. */
#include <math.h>

#include "run/results.h"
#include "study/fit_results.h"

/* [low, high]; null if unknown. */
static json_t *json_of_interval(td_interval x)
{
    return isnan(x.low) ? json_null()
                        : json_pack("[o, o]", td_results_number(x.low), td_results_number(x.high));
}

/* Names of parameters, in the order of intervals. */
static const char *const names_1[] = { "a", "alpha", "e" };
static const char *const names_2[] = { "a", "alpha", "b", "beta", "e" };

static const char *const *names_of(int64_t terms) { return terms > 1 ? names_2 : names_1; }

static double parameter(const td_fit_curve *c, int64_t k)
{
    return k == 2 * c->terms ? c->e : k % 2 ? c->alpha[k / 2] : c->a[k / 2];
}

/* The exp of a logarithm of minus infinity is 0, which JSON can express. */
static void add_parameters(json_t *j, const td_fit_curve *c)
{
    for (int64_t k = 0; k < 2 * c->terms + 1; k++)
        json_object_set_new(j, names_of(c->terms)[k], td_results_number(parameter(c, k)));
    json_object_set_new(j, "floor", td_results_number(exp(c->e)));
}

static json_t *json_of_intervals(const td_interval *x, int64_t terms)
{
    json_t *j = json_object();
    for (int64_t k = 0; k < 2 * terms + 1; k++)
        json_object_set_new(j, names_of(terms)[k], json_of_interval(x[k]));
    json_object_set_new(j, "floor",
                        json_of_interval(
                            (td_interval){ exp(x[2 * terms].low), exp(x[2 * terms].high) }));
    return j;
}

static json_t *json_of_optimum(const td_fit_optimum *o)
{
    json_t *n = json_pack("{s:o, s:f, s:o}", "scale", td_results_number(o->n_scale), "power",
                          o->n_power, "interval", json_of_interval(o->n_power_interval));
    json_t *d = json_pack("{s:o, s:f, s:o}", "scale", td_results_number(o->d_scale), "power",
                          o->d_power, "interval", json_of_interval(o->d_power_interval));
    return json_pack("{s:f, s:o, s:o}", "flops_per_parameter_token", o->factor, "parameters", n,
                     "tokens", d);
}

/* The projection comes first, with the papers' method beside it. */
static void add_curves(json_t *j, const td_fit_group *g)
{
    const td_fit *f = &g->fit;
    int64_t       terms = f->projection.curve.terms;
    json_t       *huber = json_pack("{s:s}", "method", "huber-lbfgs");
    json_object_set_new(j, "method", json_string("variable-projection"));
    add_parameters(j, &f->projection.curve);
    json_object_set_new(j, "intervals", json_of_intervals(f->projection.student, terms));
    json_object_set_new(j, "interval_method", json_string("student-t"));
    json_object_set_new(j, "bootstrap", json_of_intervals(f->projection.bootstrap, terms));
    json_object_set_new(j, "spread", td_results_number(f->spread));
    json_object_set_new(j, "freedom", json_integer(f->freedom));
    json_object_set_new(j, "condition", td_results_number(f->condition));
    /* the Huber loss has no Student's t interval, so its intervals are the bootstrap's */
    add_parameters(huber, &f->huber.curve);
    json_object_set_new(huber, "intervals", json_of_intervals(f->huber.bootstrap, terms));
    json_object_set_new(huber, "interval_method", json_string("bootstrap"));
    json_object_set_new(huber, "objective", td_results_number(f->huber.objective));
    json_object_set_new(j, "huber", huber);
    if (g->has_optimum)
        json_object_set_new(j, "optimum", json_of_optimum(&g->optimum));
    json_object_set_new(j, "warnings", td_results_lines(&f->warnings));
}

static void add_profiles(json_t *j, const td_isoflop *f)
{
    json_t *all = json_array();
    for (int64_t k = 0; k < f->count; k++) {
        const td_isoflop_profile *p = &f->profiles[k];
        json_array_append_new(all,
                              json_pack("{s:f, s:I, s:o, s:o, s:o, s:b}", "budget", p->budget,
                                        "points", (json_int_t)p->n, "size",
                                        td_results_number(p->size), "loss",
                                        td_results_number(p->loss), "interval",
                                        json_of_interval(p->size_interval), "inside", p->inside));
    }
    json_object_set_new(j, "method", json_string("parabola"));
    json_object_set_new(j, "profiles", all);
    json_object_set_new(j, "scale", td_results_number(f->scale));
    json_object_set_new(j, "power", td_results_number(f->power));
    json_object_set_new(j, "interval", json_of_interval(f->power_interval));
    json_object_set_new(j, "warnings", td_results_lines(&f->warnings));
}

static json_t *json_of_point(const td_fit_results *r, const td_frontier_point *p)
{
    const td_fit_group *g = &r->groups[p->group];
    return json_pack("{s:s, s:I, s:f, s:f}", "group", g->name, "row",
                     (json_int_t)g->rows[p->at] + 1, "x", g->x[p->at], "y", g->y[p->at]);
}

/* The points of the group that are on the frontier of all groups. */
static void add_frontier(json_t *j, const td_fit_results *r, int64_t group)
{
    json_t *own = json_array();
    for (int64_t k = 0; k < r->n_frontier; k++)
        if (r->frontier[k].group == group)
            json_array_append_new(own, json_of_point(r, &r->frontier[k]));
    json_object_set_new(j, "method", json_string("pareto"));
    json_object_set_new(j, "frontier", own);
    json_object_set_new(j, "warnings", json_array());
}

json_t *td_fit_results_json(const td_fit_results *r)
{
    json_t *fits = json_array(), *j;
    for (int64_t k = 0; k < r->count; k++) {
        const td_fit_group *g = &r->groups[k];
        json_t             *own = json_pack("{s:s, s:s, s:I}", "group", g->name, "form",
                                            td_fit_form_name(r->request.form), "points", (json_int_t)g->n);
        if (r->request.form == TD_FIT_FRONTIER)
            add_frontier(own, r, k);
        else if (r->request.form == TD_FIT_ISOFLOP)
            add_profiles(own, &g->isoflop);
        else
            add_curves(own, g);
        json_array_append_new(fits, own);
    }
    j = json_pack("{s:s, s:s, s:s, s:o}", "form", td_fit_form_name(r->request.form), "x",
                  r->request.x, "y", r->request.y, "fits", fits);
    if (r->request.form == TD_FIT_FRONTIER) {
        /* the frontier runs through all groups and belongs to none */
        json_t *all = json_array();
        for (int64_t k = 0; k < r->n_frontier; k++)
            json_array_append_new(all, json_of_point(r, &r->frontier[k]));
        json_object_set_new(j, "frontier", all);
    }
    return j;
}
