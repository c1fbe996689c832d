/* seeds.c - which runs are seeds of one config, and means over them. */
#include "run/seeds.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "run/place.h"
#include "run/weights.h"

bool td_seeds_incidental(const char *key)
{
    static const char *const keys[] = { "train.seed",  "train.seed_*",    "run.*",
                                        "plugin_path", "backend.threads", "evaluate.batch",
                                        "tasks.data",  "comm.*" };
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (td_match(keys[k], key))
            return true;
    return false;
}

/* ---- starts ---------------------------------------------------------------------------------- */

/* A finetuning of a finetuning of ..: more than anyone does, and configs may name each other. */
enum { DEEPEST = 8 };

/* The path of train.weights without its quotes; "" if there is none. */
static char *start_of(const td_config *c)
{
    const char *value = td_config_value(c, "train.weights");
    size_t      n = value ? strlen(value) : 0;
    return n > 1 && *value == '"' ? strndup(value + 1, n - 2) : strdup(n ? value : "");
}

/* The run that parameters belong to. The path names the run, its checkpoint, or the file in the
 * checkpoint. */
static bool find_run(td_run_place *place, const char *weights)
{
    char *directory;
    bool  found = *weights && td_run_place_find(place, weights);
    if (found || !*weights)
        return found;
    directory = td_path_directory(weights);
    found = directory && td_run_place_find(place, directory);
    free(directory);
    return found;
}

/* "step-00000300" of a checkpoint; "" of a run. */
static const char *step_of(const td_run_place *place)
{
    const char *slash = place->checkpoint ? strrchr(place->checkpoint, '/') : NULL;
    return slash ? slash + 1 : "";
}

static bool is_same_but_seed(const td_config *a, const td_config *b, int depth);

/* Whether two runs began with the same step of runs that differ in nothing but their seed. */
static bool is_start_of_seed(const char *a, const char *b, int depth)
{
    td_run_place x = { 0 }, y = { 0 };
    td_errors    errors = { 0 };
    td_config   *c = NULL, *d = NULL;
    bool         same = false;
    /* configs may name each other in a circle */
    if (depth < DEEPEST && find_run(&x, a) && find_run(&y, b) &&
        !strcmp(step_of(&x), step_of(&y))) {
        c = td_run_place_config(&x, &errors);
        d = td_run_place_config(&y, &errors);
        same = c && d && is_same_but_seed(c, d, depth + 1);
    }
    td_config_free(c);
    td_config_free(d);
    td_errors_free(&errors);
    td_run_place_free(&x);
    td_run_place_free(&y);
    return same;
}

/* ---- which runs ------------------------------------------------------------------------------ */

/* Two configs whose difference is judged. */
typedef struct judged {
    const td_config *a, *b;
    int              depth;
} judged;

static bool is_harmless(void *arg, const char *key, const char *line)
{
    const judged *j = arg;
    char         *a, *b;
    bool          same;
    (void)line;
    if (td_seeds_incidental(key))
        return true;
    if (strcmp(key, "train.weights") != 0)
        return false;
    /* each seed may have its own pretraining */
    a = start_of(j->a);
    b = start_of(j->b);
    same = a && b && is_start_of_seed(a, b, j->depth);
    free(a);
    free(b);
    return same;
}

static bool is_same_but_seed(const td_config *a, const td_config *b, int depth)
{
    judged  j = { a, b, depth };
    td_text differences = { 0 }, others;
    bool    same;
    td_config_diff(a, b, &differences);
    others = td_refused_differences(&differences, is_harmless, &j);
    same = !others.size && !others.failed && !differences.failed;
    td_text_free(&others);
    td_text_free(&differences);
    return same;
}

/* A seed that is not set, or is 0, is train.seed, whose default is 1. */
static const char *seed_of(const td_config *c, const char *key)
{
    const char *value = td_config_value(c, key);
    if (value && strcmp(value, "0"))
        return value;
    value = td_config_value(c, "train.seed");
    return value ? value : "1";
}

/* Two runs that began with different parameters count as two seeds. */
static bool is_same_start(const td_config *a, const td_config *b)
{
    const char *x = td_config_value(a, "train.weights"), *y = td_config_value(b, "train.weights");
    return !strcmp(x ? x : "", y ? y : "");
}

static bool is_same_seed(const td_config *a, const td_config *b)
{
    static const char *const keys[] = { "train.seed_init", "train.seed_data",
                                        "train.seed_dropout" };
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (strcmp(seed_of(a, keys[k]), seed_of(b, keys[k])))
            return false;
    return is_same_start(a, b);
}

/* Two checkpoints of one run have one seed: they are compared, not averaged. */
static bool belongs(const td_compared_group *g, td_config *const *configs, size_t run)
{
    if (!configs[run] || !configs[g->runs[0]] ||
        !is_same_but_seed(configs[g->runs[0]], configs[run], 0))
        return false;
    for (size_t k = 0; k < g->count; k++)
        if (is_same_seed(configs[g->runs[k]], configs[run]))
            return false;
    return true;
}

/* ---- names ----------------------------------------------------------------------------------- */

static size_t common(const char *a, const char *b, size_t n)
{
    size_t k = 0;
    while (k < n && a[k] && a[k] == b[k])
        k++;
    return k;
}

char *td_seeds_name(td_arena *arena, const char *const *names, size_t count)
{
    const char *first = names[0];
    size_t      n = strlen(first);
    bool        number = false;
    for (size_t k = 1; k < count; k++)
        n = common(first, names[k], n);
    /* x-10 and x-12 share "x-1": a number that continues is dropped as a whole */
    for (size_t k = 0; k < count; k++)
        number = number || isdigit((unsigned char)names[k][n]);
    while (number && n && isdigit((unsigned char)first[n - 1]))
        n--;
    while (n && strchr("-_. ", first[n - 1]))
        n--;
    if (!n || first[n - 1] == '/')
        n = strlen(first);
    return td_arena_print(arena, "%.*s", (int)n, first);
}

static char *name_of(const td_comparison *c, const td_compared_group *g)
{
    const char **names = td_arena_alloc(c->arena, g->count * sizeof *names);
    for (size_t k = 0; names && k < g->count; k++)
        names[k] = c->runs[g->runs[k]].name;
    return names ? td_seeds_name(c->arena, names, g->count) : NULL;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static void describe(td_comparison *c, td_compared_group *g)
{
    g->step = c->runs[g->runs[0]].step;
    g->tokens = g->flops = 0;
    for (size_t k = 0; k < g->count; k++) {
        const td_compared_run *r = &c->runs[g->runs[k]];
        g->tokens += r->tokens / (double)g->count;
        g->flops += r->flops / (double)g->count;
        /* -1: seeds were stopped at different steps */
        g->step = g->step == r->step ? g->step : -1;
    }
    if (g->count < 2)
        return;
    td_text_print(&c->notes, "%s: %zu runs that differ only in their seed:", g->name, g->count);
    for (size_t k = 0; k < g->count; k++)
        td_text_print(&c->notes, " %s", c->runs[g->runs[k]].name);
    td_text_print(&c->notes, g->step < 0 ? "; they are not at the same step\n" : "\n");
}

static bool is_same_group(const td_compared_group *g, td_config *const *configs,
                          const td_compare_options *o, size_t run)
{
    if (o->labels)
        return !strcmp(o->labels[g->runs[0]], o->labels[run]);
    return !o->by_run && belongs(g, configs, run);
}

static td_compared_group *group_of(td_comparison *c, td_config *const *configs,
                                   const td_compare_options *o, size_t run)
{
    for (size_t k = 0; k < c->n_groups; k++)
        if (is_same_group(&c->groups[k], configs, o, run))
            return &c->groups[k];
    c->groups[c->n_groups].runs = td_arena_alloc(c->arena, c->n_runs * sizeof(size_t));
    return c->groups[c->n_groups].runs ? &c->groups[c->n_groups++] : NULL;
}

/* A test of several seeds against one run covers the seeds of one side only. */
static void note_single_runs(td_comparison *c)
{
    bool several = false;
    for (size_t k = 0; k < c->n_groups; k++)
        several = several || c->groups[k].count > 1;
    for (size_t k = 0; k < c->n_groups && several; k++)
        if (c->groups[k].count == 1)
            td_text_print(
                &c->notes,
                "%s: a single run: its error and tests do not cover variation between seeds\n",
                c->groups[k].name);
}

int td_seeds_group(td_comparison *c, td_config *const *configs, const td_compare_options *o,
                   td_error *error)
{
    bool failed;
    c->groups = td_arena_alloc(c->arena, c->n_runs * sizeof *c->groups);
    failed = !c->groups;
    for (size_t r = 0; r < c->n_runs && !failed; r++) {
        td_compared_group *g = group_of(c, configs, o, r);
        failed = !g;
        if (g)
            g->runs[g->count++] = r;
    }
    /* a name states the number of seeds, so the groups must be complete */
    for (size_t k = 0; k < c->n_groups && !failed; k++) {
        c->groups[k].name = o->labels ? td_arena_copy(c->arena, o->labels[c->groups[k].runs[0]])
                                      : name_of(c, &c->groups[k]);
        failed = !c->groups[k].name;
        if (!failed)
            describe(c, &c->groups[k]);
    }
    if (!failed)
        note_single_runs(c);
    return failed ? td_fail(error, TD_ENOMEM, "out of memory while comparing runs") : 0;
}

td_measured td_seeds_mean(const td_compared_group *g, const td_measured *runs)
{
    td_measured m = { .score = 0, .error = (double)NAN, .deviation = (double)NAN };
    double      squares = 0;
    for (size_t k = 0; k < g->count; k++) {
        const td_measured *own = &runs[g->runs[k]];
        double             delta = own->score - m.score;
        if (!isfinite(own->score))
            continue;
        /* Welford's update */
        m.score += delta / (double)++m.seeds;
        squares += delta * (own->score - m.score);
        m.items = own->items;
        m.error = own->error;
    }
    if (!m.seeds)
        m.score = (double)NAN;
    if (m.seeds > 1) {
        m.deviation = sqrt(squares / (double)(m.seeds - 1));
        m.error = m.deviation / sqrt((double)m.seeds);
    }
    return m;
}
