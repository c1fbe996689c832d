/* compare.c - `tandem compare`: compares runs, as tables. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/report.h"
#include "run/comparison.h"
#include "study/study.h"
#include "work.h"

/* ---- tables ---------------------------------------------------------------------------------- */

/* "red", "red (3 seeds)". */
static const char *head_of(const td_comparison *c, size_t g, char out[400])
{
    size_t n = c->groups[g].count;
    if (n > 1)
        snprintf(out, 400, "%.370s (%zu seeds)", td_comparison_name(c, g), n);
    else
        snprintf(out, 400, "%.399s", td_comparison_name(c, g));
    return out;
}

static int wide(size_t least, size_t n) { return (int)(n > least ? n : least); }

/* The width of the first column. */
static int name_width(const td_comparison *c)
{
    size_t most = 14;
    for (size_t k = 0; k < c->n_measures; k++)
        if (!c->measures[k].detail && strlen(c->measures[k].name) > most)
            most = strlen(c->measures[k].name);
    return (int)most;
}

/* "0.4031", "0.4031 +- 0.0120", of several seeds "0.4031 +- 0.0120 (0.0208)", or "-" if unknown. */
static const char *score_text(const td_measured *m, char out[100])
{
    size_t n = 1;
    snprintf(out, 100, "-");
    if (isfinite(m->score))
        n = (size_t)snprintf(out, 100, isfinite(m->error) ? "%.4f +- %.4f" : "%.4f", m->score,
                             m->error);
    if (isfinite(m->deviation) && n < 100)
        snprintf(out + n, 100 - n, " (%.4f)", m->deviation);
    return out;
}

/* The width of a group's column: of its heading or of its longest score, a perplexity in the
 * thousands for example. */
static int group_width(const td_comparison *c, size_t g)
{
    char text[400];
    int  width = wide(c->groups[g].count > 1 ? 26 : 16, strlen(head_of(c, g, text)));
    for (size_t k = 0; k < c->n_measures; k++)
        if (!c->measures[k].detail)
            width = wide((size_t)width, strlen(score_text(&c->measures[k].groups[g], text)));
    return width;
}

static void print_differences(const td_comparison *c)
{
    for (size_t g = 1; g < c->n_groups; g++) {
        const td_compared_run *run = &c->runs[c->groups[g].runs[0]];
        const char            *text = td_text_get(&run->differences);
        printf("%s -> %s\n", c->runs[0].name, run->name);
        for (const char *line = text; *line;) {
            size_t n = strcspn(line, "\n");
            printf("  %.*s\n", (int)n, line);
            line += n + (line[n] == '\n');
        }
        puts(*text ? "" : "  no difference\n");
    }
}

/* "300", "1.2M", or "-" if unknown. */
static void print_count(double x, int width)
{
    char text[32] = "-";
    if (isfinite(x) && x < 1e5)
        snprintf(text, sizeof text, "%.0f", x);
    else if (isfinite(x))
        snprintf(text, sizeof text, "%.4g", x);
    printf("  %*s", width, text);
}

static void print_head(const td_comparison *c, int width)
{
    char head[400];
    printf("%-*s", width, "");
    for (size_t g = 0; g < c->n_groups; g++)
        printf("  %*s", group_width(c, g), head_of(c, g, head));
    printf("\n%-*s", width, "step");
    for (size_t g = 0; g < c->n_groups; g++)
        /* -1: the group's runs are at different steps */
        print_count(c->groups[g].step < 0 ? (double)NAN : (double)c->groups[g].step,
                    group_width(c, g));
    printf("\n%-*s", width, "tokens");
    for (size_t g = 0; g < c->n_groups; g++)
        print_count(c->groups[g].tokens, group_width(c, g));
    printf("\n%-*s", width, "training FLOPs");
    for (size_t g = 0; g < c->n_groups; g++)
        print_count(c->groups[g].flops, group_width(c, g));
    putchar('\n');
}

static void print_scores(const td_comparison *c)
{
    int  width = name_width(c);
    char text[100];
    print_head(c, width);
    for (size_t k = 0; k < c->n_measures; k++) {
        if (c->measures[k].detail)
            continue;
        printf("%-*s", width, c->measures[k].name);
        for (size_t g = 0; g < c->n_groups; g++)
            printf("  %*s", group_width(c, g), score_text(&c->measures[k].groups[g], text));
        putchar('\n');
    }
}

static bool has_seeds(const td_comparison *c)
{
    for (size_t g = 0; g < c->n_groups; g++)
        if (c->groups[g].count > 1)
            return true;
    return false;
}

/* A probability as people write it. */
static void print_p(double p)
{
    if (isnan(p))
        printf("  %8s", "-");
    else if (p < 0.0001)
        printf("  %8s", "< 0.0001");
    else
        printf("  %8.4f", p);
}

static void print_pair(const td_comparison *c, const td_compared_pair *p, int width)
{
    const td_difference *d = &p->difference;
    char                 runs[200], effect[32] = "-";
    snprintf(runs, sizeof runs, "%s -> %s", td_comparison_name(c, p->a),
             td_comparison_name(c, p->b));
    if (isfinite(d->effect))
        snprintf(effect, sizeof effect, "%.2f", d->effect);
    printf("%-*s  %-24s %+9.4f  ", width, c->measures[p->measure].name, runs, d->mean);
    if (isfinite(d->low))
        printf("%+9.4f .. %+.4f", d->low, d->high);
    else
        printf("%20s", "-");
    print_p(d->p);
    print_p(p->adjusted);
    printf("%8s  %6" PRId64 "  %s\n", effect, d->n, p->method);
}

static void print_pairs(const td_comparison *c)
{
    int width = name_width(c);
    if (!c->n_pairs)
        return;
    printf("\n%-*s  %-24s %9s  %20s  %8s  %8s%8s  %6s  %s\n", width, "difference", "", "",
           "95 % interval", "p", "Holm", "effect", "pairs", "test");
    for (size_t k = 0; k < c->n_pairs; k++)
        print_pair(c, &c->pairs[k], width);
}

/* By the p that is adjusted for all tests: among twenty of them one is small by chance. */
static bool is_noise(const td_compared_pair *p) { return !(p->adjusted < 0.05); }

/* What it would take to show a difference of this size. */
static void print_seeds(const td_compared_pair *p)
{
    if (p->seeds > 0)
        printf("; about %" PRId64 " seeds each would show %.4f", p->seeds,
               fabs(p->difference.mean));
    else if (!p->seeds && p->difference.items > 0)
        printf("; more seeds alone would not show %.4f: score more items",
               fabs(p->difference.mean));
    putchar('\n');
}

/* In words, for measures of a whole: those of single sources and tasks are in the table. */
static void print_verdict(const td_comparison *c, const td_compared_pair *p)
{
    const td_measure *m = &c->measures[p->measure];
    double            d = p->difference.mean;
    bool              better = (d < 0) == m->lower_is_better;
    if (strchr(m->name, ' '))
        return;
    if (is_noise(p)) {
        printf("%s: the data do not support a difference between '%s' and '%s' (p %.2g)", m->name,
               td_comparison_name(c, p->a), td_comparison_name(c, p->b), p->adjusted);
        print_seeds(p);
    } else
        printf("%s: '%s' is better than '%s' by %.4f, more than noise (p %.2g)\n", m->name,
               td_comparison_name(c, better ? p->b : p->a),
               td_comparison_name(c, better ? p->a : p->b), fabs(d), p->adjusted);
}

static void print_verdicts(const td_comparison *c)
{
    size_t real = 0;
    if (!c->n_pairs)
        return;
    putchar('\n');
    for (size_t k = 0; k < c->n_pairs; k++) {
        real += !is_noise(&c->pairs[k]);
        print_verdict(c, &c->pairs[k]);
    }
    printf("%zu of %zu differences are more than noise%s\n", real, c->n_pairs,
           has_seeds(c) ? " (Holm below 0.05)"
                        : " of the scored text (Holm below 0.05); another training seed may change "
                          "a score by more");
}

static void print(const td_comparison *c)
{
    print_differences(c);
    print_scores(c);
    if (has_seeds(c))
        puts("for several seeds: mean +- its standard error over seeds (standard deviation)");
    print_pairs(c);
    print_verdicts(c);
    if (c->notes.size)
        printf("\n%s", td_text_get(&c->notes));
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--by-run", NULL, "show each run separately, even if only the seed differs" },
    { "--csv", NULL, "print the tests as CSV" },
    { "--draws", "N", "number of bootstrap samples (10000)" },
    { "--seed", "N", "seed for the bootstrap samples (1)" },
    { "--trust", NULL, "accepted, but without effect: comparing loads no modules" },
    { 0, 0, 0 },
};

const td_usage td_usage_compare = {
    .name = "compare",
    .arguments = "RUN RUN ..|STUDY",
    .brief = "Compare runs: how their configs differ, their scores, and which differences are "
             "statistically significant.",
    .example = "tandem compare runs/red runs/dec",
    .flags = flags,
    .json = true,
    .plain = 64,
    .notes =
        "A RUN is the directory of a run that `tandem evaluate` has scored, or of one of its "
        "checkpoints. Runs are tested on the same sequences and the same items: a paired "
        "bootstrap, or McNemar's test where answers are right or wrong; p is also adjusted by "
        "Holm's method for all tests of the table.\n\n"
        "Runs whose configs differ in nothing but train.seed (and names and paths) are one group: "
        "its scores are means over seeds, with their standard error and standard deviation, and "
        "its tests count seeds as observations. The error of a single run does not cover variation "
        "between seeds: train several. For a difference that is not significant, the last lines "
        "estimate how many seeds per group would show one of that size (80 % power), if the groups "
        "have several seeds.",
};

/* The finished runs of a study in place of its directory. */
static int take_study(td_tool *t, td_error *error)
{
    td_study *s = td_study_open(t->plain[0], error);
    if (!s)
        return td_failed(error, TD_EIO);
    t->n_plain = 0;
    for (size_t k = 0; k < s->n_cells && t->n_owned < TD_ARGUMENTS; k++) {
        char *run = td_phase_trains(s->cells[k].phase) && s->cells[k].state == TD_CELL_DONE
                        ? strdup(s->cells[k].run)
                        : NULL;
        if (run)
            t->plain[t->n_plain++] = t->owned[t->n_owned++] = run;
    }
    td_study_close(s);
    return 0;
}

/* Whether the path's last name is "cache". */
static bool is_cache(const char *path)
{
    size_t n = strlen(path), size = strlen("cache");
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n >= size && !strncmp(path + n - size, "cache", size) &&
           (n == size || path[n - size - 1] == '/');
}

/* RUNS/ * and STUDY/cells/ * also name the prepared data, which is not a run. */
static void leave_out_cache(td_tool *t)
{
    size_t n = 0;
    for (size_t k = 0; k < t->n_plain; k++) {
        char *config = td_path_join(t->plain[k], "config.cfg");
        bool  run = config && td_file_exists(config);
        if (run || !is_cache(t->plain[k]))
            t->plain[n++] = t->plain[k];
        free(config);
    }
    t->n_plain = n;
}

static int report(const td_tool *t, const td_comparison *c)
{
    td_text csv = { 0 };
    if (t->json)
        td_work_print_json(td_comparison_json(c), JSON_INDENT(2));
    else if (td_tool_option(t, "--csv")) {
        td_comparison_csv(c, &csv);
        fputs(td_text_get(&csv), stdout);
    } else
        print(c);
    td_text_free(&csv);
    return TD_EXIT_OK;
}

int td_command_compare(td_tool *t, int argc, char **argv)
{
    td_compare_options o = { 0 };
    td_comparison      c;
    td_error           e = { 0 };
    int64_t            seed;
    size_t             named;
    int                code;

    if (!td_tool_parse(t, &td_usage_compare, argc, argv, &code))
        return code;
    leave_out_cache(t);
    if (t->n_plain == 1 && td_report_is_study(t->plain[0]) && take_study(t, &e))
        return td_tool_fail(t, &e);
    named = t->n_plain;
    td_work_leave_out_repeated(t);
    if (t->n_plain < 2)
        return td_tool_usage_error(t, "name at least two %sruns", named < 2 ? "" : "different ");
    /* both would go to standard output */
    if (t->json && td_tool_option(t, "--csv"))
        return td_tool_usage_error(t, "choose only one of --json and --csv");
    if (!td_tool_integer(t, "--draws", 10000, 100, 10000000, &o.draws) ||
        !td_tool_integer(t, "--seed", 1, 0, INT64_MAX, &seed))
        return TD_EXIT_USAGE;
    o.runs = t->plain;
    o.count = t->n_plain;
    o.by_run = td_tool_option(t, "--by-run") != NULL;
    o.seed = (uint64_t)seed;
    code = td_compare(&o, &c, &e);
    code = code ? td_tool_fail(t, &e) : report(t, &c);
    td_comparison_free(&c);
    return code;
}
