/* comparison.c - compares runs: their configs, scores and differences. */
#include "run/comparison.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "config/config.h"
#include "run/compared.h"
#include "run/seeds.h"
#include "run/series.h"

enum { DRAWS = 10000 };

/* With which a difference should be found, as is usual (Cohen 1988). */
static const double POWER = 0.8;

typedef struct job {
    const td_compare_options *options;
    td_comparison            *out;
    td_series_list           *runs;    /* [count] */
    td_config               **configs; /* [count]; NULL where it cannot be read */
} job;

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory while comparing runs");
}

/* ---- runs ------------------------------------------------------------------------------------ */

static int read_run(job *j, size_t k, td_error *error)
{
    td_comparison *c = j->out;
    int            code = td_compared_read(j->options->runs[k], c->arena, &c->runs[k], &j->runs[k],
                                           &j->configs[k], &c->notes, j->options->unscored, error);
    if (!code && k && j->configs[0] && j->configs[k])
        td_config_diff(j->configs[0], j->configs[k], &c->runs[k].differences);
    return code;
}

/* ---- measures -------------------------------------------------------------------------------- */

static const td_series *find(const td_series_list *l, const char *key)
{
    for (size_t k = 0; k < l->count; k++)
        if (!strcmp(l->at[k].key, key))
            return &l->at[k];
    return NULL;
}

static bool is_measured(const td_comparison *c, const char *key)
{
    for (size_t k = 0; k < c->n_measures; k++)
        if (!strcmp(c->measures[k].key, key))
            return true;
    return false;
}

/* All scores that any run has, in order of first appearance. */
static int add_measure(job *j, const td_series *s, td_error *error)
{
    td_comparison *c = j->out;
    td_measure    *m = &c->measures[c->n_measures++];
    *m = (td_measure){ .name = s->name,
                       .key = s->key,
                       .lower_is_better = s->lower_is_better,
                       .detail = s->detail,
                       .runs = td_arena_alloc(c->arena, c->n_runs * sizeof *m->runs),
                       .groups = td_arena_alloc(c->arena, c->n_groups * sizeof *m->groups) };
    if (!m->runs || !m->groups)
        return out_of_memory(error);
    for (size_t r = 0; r < c->n_runs; r++) {
        const td_series *own = find(&j->runs[r], s->key);
        /* NaN: this run has no such score */
        m->runs[r] = own ? own->total : (td_measured){ .score = (double)NAN, .error = (double)NAN };
    }
    for (size_t g = 0; g < c->n_groups; g++)
        m->groups[g] = td_seeds_mean(&c->groups[g], m->runs);
    return 0;
}

/* Two measures that a short name does not tell apart get their long ones. */
static void name_apart(td_comparison *c)
{
    for (size_t k = 0; k < c->n_measures; k++)
        for (size_t i = 0; i < k; i++)
            if (!strcmp(c->measures[k].name, c->measures[i].name)) {
                c->measures[k].name = c->measures[k].key;
                c->measures[i].name = c->measures[i].key;
            }
}

static int collect_measures(job *j, td_error *error)
{
    td_comparison *c = j->out;
    size_t         most = 0;
    int            code = 0;
    for (size_t r = 0; r < c->n_runs; r++)
        most += j->runs[r].count;
    c->measures = td_arena_alloc(c->arena, most * sizeof *c->measures);
    c->pairs = td_arena_alloc(c->arena, most * c->n_groups * c->n_groups * sizeof *c->pairs);
    if (!c->measures || !c->pairs)
        return out_of_memory(error);
    for (size_t r = 0; r < c->n_runs && !code; r++)
        for (size_t k = 0; k < j->runs[r].count && !code; k++)
            if (!is_measured(c, j->runs[r].at[k].key))
                code = add_measure(j, &j->runs[r].at[k], error);
    /* short names can be told apart only when all are known */
    name_apart(c);
    return code;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

/* The runs of a group that have items of a measure. */
typedef struct side {
    const td_series **at;    /* [n], owned */
    td_map          **known; /* [n]: items by id */
    int64_t           n;
    double           *values; /* [items][n] */
} side;

static int index_items(side *s, td_error *error)
{
    for (int64_t k = 0; k < s->n; k++) {
        s->known[k] = td_map_new();
        if (!s->known[k])
            return out_of_memory(error);
        for (int64_t i = 0; i < s->at[k]->n; i++)
            if (td_map_set(s->known[k], s->at[k]->items[i].id,
                           (void *)(uintptr_t)&s->at[k]->items[i]))
                return out_of_memory(error);
    }
    return 0;
}

static int open_side(const job *j, size_t group, const char *key, side *s, td_error *error)
{
    const td_compared_group *g = &j->out->groups[group];
    *s = (side){ .at = calloc(g->count, sizeof *s->at),
                 .known = calloc(g->count, sizeof *s->known) };
    if (!s->at || !s->known)
        return out_of_memory(error);
    for (size_t k = 0; k < g->count; k++) {
        const td_series *own = find(&j->runs[g->runs[k]], key);
        if (own && own->n) /* a score without items can only be looked at */
            s->at[s->n++] = own;
    }
    return index_items(s, error);
}

static void close_side(side *s)
{
    for (int64_t k = 0; k < s->n; k++)
        td_map_free(s->known[k]);
    free(s->known);
    free(s->at);
    free(s->values);
}

/* The items that two groups have in common, in the order of the first run. */
typedef struct common {
    side     a, b;
    double  *w;
    int64_t *ends;
    int64_t  n, strata;
    bool     binary; /* every score is 0 or 1 */
} common;

static int open_common(common *c, td_error *error)
{
    size_t room = (size_t)c->a.at[0]->n + 1;
    c->a.values = calloc(room * (size_t)c->a.n, sizeof *c->a.values);
    c->b.values = calloc(room * (size_t)c->b.n, sizeof *c->b.values);
    c->w = calloc(room, sizeof *c->w);
    c->ends = calloc(room, sizeof *c->ends);
    c->binary = true;
    return c->a.values && c->b.values && c->w && c->ends ? 0 : out_of_memory(error);
}

static void close_common(common *c)
{
    close_side(&c->a);
    close_side(&c->b);
    free(c->w);
    free(c->ends);
}

static bool is_binary(double x) { return x == 0 || x == 1; }

/* The item's value in every run of a side; false: one of them lacks it. */
static bool take_values(common *c, side *s, const char *id)
{
    for (int64_t k = 0; k < s->n; k++) {
        const td_series_item *x = td_map_get(s->known[k], id);
        if (!x)
            return false;
        s->values[c->n * s->n + k] = x->sum;
        c->binary = c->binary && is_binary(x->sum);
    }
    return true;
}

static int match(common *c, td_error *error)
{
    const td_series *first = c->a.at[0];
    const char      *stratum = NULL;
    if (open_common(c, error))
        return TD_ENOMEM;
    for (int64_t k = 0; k < first->n; k++) {
        const td_series_item *x = &first->items[k];
        /* only items that both sides have are compared */
        if (!take_values(c, &c->a, x->id) || !take_values(c, &c->b, x->id))
            continue;
        if (!stratum || strcmp(stratum, x->stratum) != 0)
            c->strata++;
        stratum = x->stratum;
        c->w[c->n] = x->weight;
        c->binary = c->binary && x->weight == 1;
        c->ends[c->strata - 1] = ++c->n;
    }
    return 0;
}

static td_difference count_answers(const common *c)
{
    int64_t cells[2][2] = { { 0 } };
    for (int64_t k = 0; k < c->n; k++)
        cells[c->a.values[k] == 1][c->b.values[k] == 1]++;
    return td_mcnemar(cells[1][1], cells[1][0], cells[0][1], cells[0][0]);
}

/* What is not compared must not look as if it had been. */
static void note_missing(job *j, const td_compared_pair *p, const common *c)
{
    const td_comparison *out = j->out;
    int64_t              most[2] = { 0 };
    bool                 missing = false;
    for (int side_ = 0; side_ < 2; side_++) {
        const side *s = side_ ? &c->b : &c->a;
        for (int64_t k = 0; k < s->n; k++) {
            most[side_] = s->at[k]->n > most[side_] ? s->at[k]->n : most[side_];
            missing = missing || s->at[k]->n != c->n;
        }
    }
    if (!missing)
        return;
    td_text_print(&j->out->notes, "%s: '%s' has %" PRId64 " items and '%s' has %" PRId64 "; %s",
                  out->measures[p->measure].name, out->groups[p->a].name, most[0],
                  out->groups[p->b].name, most[1],
                  c->n ? "" : "they have none in common, so there is no test\n");
    if (c->n)
        td_text_print(&j->out->notes, "the test is on the %" PRId64 " that they have in common\n",
                      c->n);
}

/* Seeds are observations, too; right or wrong answers of single runs are counted, others drawn. */
static int test_common(job *j, const common *c, td_compared_pair *p, td_error *error)
{
    const td_compare_options *o = j->options;
    bool                      seeds = c->a.n > 1 || c->b.n > 1;
    td_pairs                  pairs = { .a = c->a.values,
                                        .b = c->b.values,
                                        .seeds_a = c->a.n,
                                        .seeds_b = c->b.n,
                                        .w = c->w,
                                        .n = c->n,
                                        .ends = c->ends,
                                        .strata = c->strata };
    p->method = seeds ? "t over seeds and items" : c->binary ? "McNemar" : "bootstrap";
    if (seeds)
        return td_seeded_difference(&pairs, &p->difference, error);
    /* the exact test needs no sampling, and holds for a few disagreements too */
    if (c->binary) {
        p->difference = count_answers(c);
        return 0;
    }
    return td_paired_bootstrap(&pairs, o->draws > 0 ? o->draws : DRAWS, o->seed, &p->difference,
                               error);
}

static int test(job *j, size_t measure, size_t a, size_t b, td_error *error)
{
    const char      *key = j->out->measures[measure].key;
    td_compared_pair p = { .measure = measure, .a = a, .b = b };
    common           c = { 0 };
    int              code = open_side(j, a, key, &c.a, error);

    if (!code)
        code = open_side(j, b, key, &c.b, error);
    /* a measure that one of them lacks has no test, and that is no error */
    if (!code && c.a.n && c.b.n) {
        code = match(&c, error);
        if (!code && c.n)
            code = test_common(j, &c, &p, error);
        if (!code)
            note_missing(j, &p, &c);
        if (!code && c.n)
            j->out->pairs[j->out->n_pairs++] = p;
    }
    close_common(&c);
    return code;
}

/* Pooled over both groups, or that of the one with several seeds; NaN: neither has. */
static double spread_of(const td_measure *m, const td_compared_pair *p)
{
    double squares = 0, n = 0;
    for (int side_ = 0; side_ < 2; side_++) {
        double own = m->groups[side_ ? p->b : p->a].deviation;
        if (!isfinite(own))
            continue;
        squares += own * own;
        n++;
    }
    return n > 0 ? sqrt(squares / n) : (double)NAN;
}

/* If the difference is one that the data do not support. */
static void set_seeds(const td_comparison *c, td_compared_pair *p)
{
    p->spread = spread_of(&c->measures[p->measure], p);
    p->seeds = -1;
    /* what only Holm's correction calls noise does not lack seeds */
    if (isnan(p->spread) || !(p->difference.p >= 0.05))
        return;
    p->seeds = td_seeds_needed(p->difference.mean, p->spread,
                               isfinite(p->difference.items) ? p->difference.items : 0, POWER);
}

static int test_all(job *j, td_error *error)
{
    td_comparison *c = j->out;
    double        *p, *adjusted;
    int            code = 0;
    for (size_t m = 0; m < c->n_measures; m++)
        for (size_t a = 0; a < c->n_groups; a++)
            for (size_t b = a + 1; b < c->n_groups && !code; b++)
                if (!j->options->tested || j->options->tested(j->options->arg, c, a, b))
                    code = test(j, m, a, b, error);
    if (code)
        return code;
    p = calloc(2 * c->n_pairs + 1, sizeof *p);
    if (!p)
        return out_of_memory(error);
    adjusted = p + c->n_pairs;
    for (size_t k = 0; k < c->n_pairs; k++)
        p[k] = c->pairs[k].difference.p;
    /* adjusted together: of twenty true ties, one would pass 0.05 on its own */
    td_holm(p, (int64_t)c->n_pairs, adjusted);
    for (size_t k = 0; k < c->n_pairs; k++) {
        c->pairs[k].adjusted = adjusted[k];
        set_seeds(c, &c->pairs[k]);
    }
    free(p);
    return 0;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static int compare(job *j, td_error *error)
{
    td_comparison *c = j->out;
    int            code = 0;
    c->arena = td_arena_new();
    c->n_runs = j->options->count;
    c->runs = c->arena ? td_arena_alloc(c->arena, c->n_runs * sizeof *c->runs) : NULL;
    if (!c->runs || !j->runs || !j->configs) {
        /* td_comparison_free must not look for runs that are not there */
        c->n_runs = 0;
        return out_of_memory(error);
    }
    for (size_t k = 0; k < c->n_runs && !code; k++)
        code = read_run(j, k, error);
    if (!code)
        code = td_seeds_group(c, j->configs, j->options, error);
    if (!code)
        code = collect_measures(j, error);
    return code || j->options->untested ? code : test_all(j, error);
}

int td_compare(const td_compare_options *o, td_comparison *out, td_error *error)
{
    job j = { o, out, calloc(o->count + 1, sizeof *j.runs),
              calloc(o->count + 1, sizeof *j.configs) };
    int code;
    memset(out, 0, sizeof *out);
    code = compare(&j, error);
    for (size_t k = 0; k < o->count; k++) {
        if (j.runs)
            free(j.runs[k].at);
        if (j.configs)
            td_config_free(j.configs[k]);
    }
    free(j.runs);
    free(j.configs);
    return code;
}

void td_comparison_free(td_comparison *c)
{
    for (size_t k = 0; k < c->n_runs; k++)
        td_text_free(&c->runs[k].differences);
    td_text_free(&c->notes);
    td_arena_free(c->arena);
    memset(c, 0, sizeof *c);
}
