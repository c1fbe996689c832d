/* several.c - scores several runs one after the other, and shows means over their seeds. */
#include "several.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/ranks.h"
#include "run/comparison.h"
#include "run/place.h"
#include "work.h"

/* ---- which runs ------------------------------------------------------------------------------- */

/* Before the first is scored, which may take an hour. */
static int check_runs(td_tool *t)
{
    static const char *const single[] = { "--weights", "--out" };
    for (size_t k = 0; k < sizeof single / sizeof *single; k++)
        if (td_tool_option(t, single[k]))
            return td_tool_usage_error(
                t, "%s is for one run: the results of %zu would overwrite each other", single[k],
                t->n_plain);
    /* all of them, because the last one may be the misspelt one */
    for (size_t k = 0; k < t->n_plain; k++) {
        td_run_place place;
        bool         found = td_run_place_find(&place, t->plain[k]);
        td_run_place_free(&place);
        if (!found)
            return td_tool_usage_error(
                t, "'%s' is neither a run nor a checkpoint: it has no config.cfg", t->plain[k]);
    }
    return TD_EXIT_OK;
}

/* With a registry of its own: runs may have modules of the same name. */
static int evaluate_run(td_tool *t, size_t k, int (*one)(td_tool *))
{
    td_tool own = *t;
    int     code;
    own.registry = NULL;
    own.plain[0] = t->plain[k];
    own.n_plain = 1;
    if (!t->json && k)
        putchar('\n');
    if (!t->json)
        printf("%s\n", t->plain[k]);
    code = one(&own);
    td_registry_free(own.registry);
    return code;
}

/* ---- means ------------------------------------------------------------------------------------ */

/* What was scored now, among all results that lie in the runs: --tasks or held-out text. */
static bool is_asked(const td_tool *t, const td_measure *m)
{
    bool heldout = !strncmp(m->name, "heldout", strlen("heldout"));
    return !m->detail && heldout == !td_tool_count(t, "--tasks");
}

static void print_mean(const td_compared_group *g, const char *name, const td_measured *m)
{
    printf("%-24s %-24s %10.4f %8.4f %10.4f %6" PRId64 "\n", g->name, name, m->score, m->error,
           m->deviation, m->seeds);
}

static json_t *json_of_mean(const td_compared_group *g, const char *name, const td_measured *m)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:I}", "group", g->name, "measure", name, "mean",
                     td_tool_number(m->score), "error", td_tool_number(m->error), "deviation",
                     td_tool_number(m->deviation), "seeds", (json_int_t)m->seeds);
}

static bool has_seeds(const td_comparison *c)
{
    for (size_t g = 0; g < c->n_groups; g++)
        if (c->groups[g].count > 1)
            return true;
    return false;
}

/* For each group of seeds a line per score. As JSON they go to `list`. */
static void show_means(const td_tool *t, const td_comparison *c, json_t *list)
{
    if (!list && has_seeds(c))
        printf("\n%-24s %-24s %10s %8s %10s %6s\n", "mean over seeds", "score", "", "error",
               "deviation", "seeds");
    for (size_t g = 0; g < c->n_groups; g++)
        for (size_t k = 0; k < c->n_measures; k++) {
            const td_measured *m = &c->measures[k].groups[g];
            if (m->seeds < 2 || !is_asked(t, &c->measures[k]))
                continue;
            if (list)
                json_array_append_new(list, json_of_mean(&c->groups[g], c->measures[k].name, m));
            else
                print_mean(&c->groups[g], c->measures[k].name, m);
        }
}

/* Of the results that the runs keep, grouped as `tandem compare` does. */
static int find_means(td_tool *t, json_t *list)
{
    td_compare_options o = { .runs = t->plain, .count = t->n_plain, .untested = true };
    td_comparison      c;
    td_error           e = { 0 };
    int                code = td_compare(&o, &c, &e);
    if (!code)
        show_means(t, &c, list);
    td_comparison_free(&c);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

int td_tool_evaluate_runs(td_tool *t, int (*one)(td_tool *))
{
    json_t *means = t->json ? json_array() : NULL;
    int     code = check_runs(t);
    t->results = t->json ? json_array() : NULL;
    for (size_t k = 0; k < t->n_plain && !code; k++)
        code = evaluate_run(t, k, one);
    /* curves beyond the training length are not a score to be averaged */
    if (!code && !td_tool_option(t, "--extrapolate") && !td_ranks_of_environment().rank)
        code = find_means(t, means);
    if (!code && t->json)
        td_work_print_json(json_pack("{s:O, s:O}", "runs", t->results, "seeds", means),
                           JSON_INDENT(2));
    json_decref(means);
    json_decref(t->results);
    t->results = NULL;
    return code;
}
