/* fit.c - `tandem fit`: scaling laws through the points of a table or of runs. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "study/fit_results.h"
#include "work.h"

/* ---- tables ---------------------------------------------------------------------------------- */

/* "0.1727 (0.151 .. 0.195)", or "-" of a part that is 0. */
static void print_value(double x, td_interval i, int width)
{
    char   text[80] = "-";
    size_t n = 1;
    if (isfinite(x))
        n = (size_t)snprintf(text, sizeof text, "%.4g", x);
    if (isfinite(x) && isfinite(i.low) && isfinite(i.high))
        snprintf(text + n, sizeof text - n, " (%.3g .. %.3g)", i.low, i.high);
    printf("  %-*s", width, text);
}

static td_interval exp_of(td_interval x) { return (td_interval){ exp(x.low), exp(x.high) }; }

enum { VALUE = 28 };

static int name_width(const td_fit_results *r)
{
    size_t most = 5;
    for (int64_t k = 0; k < r->count; k++)
        if (strlen(r->groups[k].name) > most)
            most = strlen(r->groups[k].name);
    return most < 40 ? (int)most : 40;
}

static void print_curve_row(const char *group, int width, const char *method, int64_t n,
                            const td_fit_estimate *e, const td_interval *own)
{
    printf("%-*.*s  %-12s %6" PRId64, width, width, group, method, n);
    for (int64_t k = 0; k < e->curve.terms; k++) {
        print_value(e->curve.a[k], own[2 * k], VALUE);
        print_value(e->curve.alpha[k], own[2 * k + 1], VALUE);
    }
    print_value(e->curve.e, own[2 * e->curve.terms], VALUE);
    print_value(exp(e->curve.e), exp_of(own[2 * e->curve.terms]), 0);
    putchar('\n');
}

static void print_curves(const td_fit_results *r)
{
    int width = name_width(r);
    printf("%-*s  %-12s %6s", width, "group", "method", "points");
    printf("  %-*s  %-*s", VALUE, "a", VALUE, "alpha");
    if (r->request.form == TD_FIT_JOINT)
        printf("  %-*s  %-*s", VALUE, "b", VALUE, "beta");
    printf("  %-*s  floor exp(e)\n", VALUE, "e");
    for (int64_t k = 0; k < r->count; k++) {
        const td_fit *f = &r->groups[k].fit;
        print_curve_row(r->groups[k].name, width, "projection", f->n, &f->projection,
                        f->projection.student);
        /* the method of the papers below ours, each with the interval that suits it */
        print_curve_row("", width, "Huber L-BFGS", f->n, &f->huber, f->huber.bootstrap);
    }
    printf("\n%s = exp(a) / %s^alpha + ", r->request.y, r->request.x);
    if (r->request.form == TD_FIT_JOINT)
        printf("exp(b) / %s^beta + ", r->request.tokens);
    puts("exp(e); 95 % intervals: Student's t of the projection, bootstrap of Huber L-BFGS");
}

static void print_profiles(const td_fit_results *r)
{
    int width = name_width(r);
    printf("%-*s  %-10s %6s  %-32s  least %s\n", width, "group", "budget", "points", "best size",
           r->request.y);
    for (int64_t k = 0; k < r->count; k++)
        for (int64_t j = 0; j < r->groups[k].isoflop.count; j++) {
            const td_isoflop_profile *p = &r->groups[k].isoflop.profiles[j];
            printf("%-*.*s  %-10.3g %6" PRId64, width, width, r->groups[k].name, p->budget, p->n);
            print_value(p->size, p->size_interval, 32);
            print_value(p->loss, (td_interval){ NAN, NAN }, 0);
            putchar('\n');
        }
}

static void print_frontier(const td_fit_results *r)
{
    int width = name_width(r);
    printf("%-*s  %-12s %s\n", width, "group", r->request.x, r->request.y);
    for (int64_t k = 0; k < r->n_frontier; k++) {
        const td_fit_group *g = &r->groups[r->frontier[k].group];
        printf("%-*.*s  %-12.4g %.4f\n", width, width, g->name, g->x[r->frontier[k].at],
               g->y[r->frontier[k].at]);
    }
}

/* ---- sentences ------------------------------------------------------------------------------- */

/* "(0.15 to 0.19)", or nothing where it is unknown. */
static void print_range(td_interval i)
{
    if (isfinite(i.low) && isfinite(i.high))
        printf(" (%.3g to %.3g)", i.low, i.high);
}

/* "ten times the tokens leaves 52 % (50 to 55)" of what lies above the floor. */
static void print_tenfold(const td_fit *f, int64_t k, const char *size)
{
    double      alpha = f->projection.curve.alpha[k];
    td_interval own = f->projection.student[2 * k + 1];
    printf("ten times the %s leaves %.3g %%", size, 100 * pow(10, -alpha));
    print_range((td_interval){ 100 * pow(10, -own.high), 100 * pow(10, -own.low) });
}

static void print_floor(const td_fit *f)
{
    const td_fit_curve *c = &f->projection.curve;
    printf("%.4g", exp(c->e));
    if (!isinf(c->e))
        print_range(exp_of(f->projection.student[2 * c->terms]));
}

/* What increasing a size gains, and the floor that remains. A term that is 0 has a warning. */
static void print_curve_sentence(const td_fit_results *r, const td_fit_group *g)
{
    const char *const sizes[] = { r->request.x, r->request.tokens };
    printf("%s: ", g->name);
    for (int64_t k = 0; k < g->fit.projection.curve.terms; k++) {
        /* log of 0: the term is absent, and a warning says so */
        if (isinf(g->fit.projection.curve.a[k]))
            continue;
        print_tenfold(&g->fit, k, sizes[k]);
        if (r->request.form == TD_FIT_JOINT)
            printf(" of its own term; ");
        else
            printf(" of the %s above its floor; ", r->request.y);
    }
    printf("the floor of %s is ", r->request.y);
    print_floor(&g->fit);
    puts("");
    if (g->has_optimum) {
        const td_fit_optimum *o = &g->optimum;
        printf("%s: with C = %.3g x %s x %s, compute is best used with %s = %.4g (C/%.3g)^%.3f",
               g->name, o->factor, r->request.x, r->request.tokens, r->request.x, o->n_scale,
               o->factor, o->n_power);
        print_range(o->n_power_interval);
        printf(" and %s = %.4g (C/%.3g)^%.3f", r->request.tokens, o->d_scale, o->factor,
               o->d_power);
        print_range(o->d_power_interval);
        puts("");
    }
}

static void print_profile_sentence(const td_fit_results *r, const td_fit_group *g)
{
    const td_isoflop *f = &g->isoflop;
    if (isnan(f->power)) {
        printf("%s: too few budgets have a best size to show how it grows\n", g->name);
        return;
    }
    printf("%s: the best %s grow as budget^%.3f", g->name, r->request.x, f->power);
    print_range(f->power_interval);
    printf(", from %" PRId64 " budgets\n", f->used);
}

/* Where each group is on the frontier, and which group is at its end. */
static void print_frontier_sentence(const td_fit_results *r)
{
    const td_frontier_point *end = &r->frontier[r->n_frontier - 1];
    for (int64_t k = 0; k < r->count; k++) {
        double  low = INFINITY, high = 0;
        int64_t n = 0;
        for (int64_t i = 0; i < r->n_frontier; i++)
            if (r->frontier[i].group == k) {
                low = fmin(low, r->groups[k].x[r->frontier[i].at]);
                high = fmax(high, r->groups[k].x[r->frontier[i].at]);
                n++;
            }
        printf("%s: %" PRId64 " of %" PRId64 " points are on the frontier", r->groups[k].name, n,
               r->groups[k].n);
        /* a group may have no point there */
        if (n)
            printf(", from %s %.4g to %.4g", r->request.x, low, high);
        puts("");
    }
    printf("the lowest %s belongs to '%s'\n", r->request.y, r->groups[end->group].name);
}

static void print_warnings(const char *group, const td_text *warnings)
{
    for (const char *line = td_text_get(warnings); *line;) {
        size_t n = strcspn(line, "\n");
        printf("warning: %s: %.*s\n", group, (int)n, line);
        line += n + (line[n] == '\n');
    }
}

static void print(const td_fit_results *r)
{
    td_fit_form form = r->request.form;
    if (form == TD_FIT_FRONTIER)
        print_frontier(r);
    else if (form == TD_FIT_ISOFLOP)
        print_profiles(r);
    else
        print_curves(r);
    puts("");
    if (form == TD_FIT_FRONTIER)
        print_frontier_sentence(r);
    for (int64_t k = 0; k < r->count && form != TD_FIT_FRONTIER; k++)
        if (form == TD_FIT_ISOFLOP)
            print_profile_sentence(r, &r->groups[k]);
        else
            print_curve_sentence(r, &r->groups[k]);
    /* warnings come last, next to the prompt, where they are seen */
    for (int64_t k = 0; k < r->count; k++) {
        print_warnings(r->groups[k].name, &r->groups[k].fit.warnings);
        print_warnings(r->groups[k].name, &r->groups[k].isoflop.warnings);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

static const td_flag flags[] = {
    { "--x", "COLUMN", "the size: parameters, flops, tokens, or any column (parameters)" },
    { "--y", "COLUMN", "the loss: nll, or any column (nll)" },
    { "--by", "COLUMN",
      "fit the rows of each value of this column separately (runs: family; a file: all rows)" },
    { "--form", "power|joint|isoflop|frontier", "what to fit (power)" },
    { "--tokens", "COLUMN", "second size of the joint form (tokens)" },
    { "--flops", "COLUMN", "for isoflop: the budget (flops); for joint: FLOPs of a row (6 N D)" },
    { "--draws", "N", "number of bootstrap samples (1000)" },
    { "--seed", "N", "seed for the bootstrap samples (1)" },
    { "--plot", "FILE", "draw FILE.svg, with its data and its gnuplot script beside it" },
    { 0, 0, 0 },
};

const td_usage td_usage_fit = {
    .name = "fit",
    .arguments = "FILE.csv|RUN ..",
    .brief = "Fit scaling laws to the losses of models of several sizes, with intervals, and "
             "warnings where the data are inconclusive.",
    .example = "tandem fit points.csv --x flops --y nll --by model",
    .flags = flags,
    .json = true,
    .plain = TD_ARGUMENTS,
    .notes = "A FILE has a header and comma-separated columns; - is standard input. For a RUN, or "
             "a checkpoint of one, the columns are run, family, parameters, tokens, flops, nll "
             "(held-out, from `tandem evaluate`) and the scores of its tasks. Runs belong to one "
             "family if their configs differ only in numbers, names and paths.\n\n"
             "power: y = exp(a) / x^alpha + exp(e), with 4 points or more. joint: exp(a) / x^alpha "
             "+ exp(b) / tokens^beta + exp(e), with 6 points or more, and the best way to divide "
             "compute. Both are fitted by variable projection (least squares of relative errors, "
             "Student's t intervals) and, as papers do, by L-BFGS on the Huber loss of log y from "
             "a grid of starts (bootstrap intervals). isoflop: for each budget a parabola in log "
             "x. frontier: the points that no other point beats in both x and y.",
};

static bool is_directory(const char *path)
{
    char  **names;
    int64_t n = td_list_directory(path, &names, NULL);
    if (n >= 0)
        td_free_names(names, n);
    return n >= 0;
}

/* One file, or runs. Returns an exit code. */
static int open_table(td_tool *t, td_fit_table *out, bool *runs)
{
    td_error e = { 0 };
    int      code;
    *runs = is_directory(t->plain[0]);
    if (!*runs && t->n_plain > 1)
        return td_tool_usage_error(t,
                                   "name one file, or directories of runs: '%s' is not a directory",
                                   t->plain[0]);
    code = *runs
               ? td_fit_table_runs(t->plain, t->n_plain, out, &e)
               : td_fit_table_read(strcmp(t->plain[0], "-") ? t->plain[0] : "/dev/stdin", out, &e);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

/* Most fits end before anyone needs to see progress. */
static const double SILENT_SECONDS = 2;

typedef struct progress {
    td_journal *log;
    double      start;
} progress;

static int show_progress(void *arg, int64_t done, int64_t all)
{
    const progress *p = arg;
    if (td_now() - p->start < SILENT_SECONDS)
        return 0;
    td_log_progress(p->log, done == all, "bootstrap, %" PRId64 "/%" PRId64 " samples", done, all);
    return 0;
}

static const char *option(const td_tool *t, const char *name, const char *otherwise)
{
    const char *value = td_tool_option(t, name);
    return value ? value : otherwise;
}

static bool take_form(td_tool *t, td_fit_form *out)
{
    const char *name = option(t, "--form", "power");
    for (*out = TD_FIT_POWER; *out <= TD_FIT_FRONTIER; (*out)++)
        if (!strcmp(td_fit_form_name(*out), name))
            return true;
    td_tool_usage_error(t, "--form is '%s'; it must be power, joint, isoflop or frontier", name);
    return false;
}

static bool take_request(td_tool *t, td_fit_request *r)
{
    int64_t seed;
    if (!take_form(t, &r->form) ||
        !td_tool_integer(t, "--draws", 1000, 0, 1000000, &r->options.draws) ||
        !td_tool_integer(t, "--seed", 1, 0, INT64_MAX, &seed))
        return false;
    r->options.seed = (uint64_t)seed;
    r->x = option(t, "--x", "parameters");
    r->y = option(t, "--y", "nll");
    r->by = td_tool_option(t, "--by");
    r->tokens = option(t, "--tokens", "tokens");
    /* isoflop needs the budgets; joint uses FLOPs only if a column of them is named */
    r->flops = option(t, "--flops", r->form == TD_FIT_ISOFLOP ? "flops" : NULL);
    return true;
}

/* "DIR/loss.svg": the files are DIR/loss.csv, DIR/loss.gnuplot and the picture. */
static int plot(td_tool *t, const td_fit_results *r, const char *path)
{
    char       *directory = td_path_directory(path);
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t      n = strlen(base);
    char       *name;
    td_error    e = { 0 };
    bool        drawn = false;
    int         code;
    if (n > 4 && !strcmp(base + n - 4, ".svg"))
        n -= 4;
    name = strndup(base, n);
    code = !directory || !name ? td_fail(&e, TD_ENOMEM, "out of memory for the plot '%s'", path)
           /* the name stands in single quotes in gnuplot's script */
           : strchr(name, '\'') || !*name
               ? td_fail(&e, TD_ECONFIG, "--plot %s: the name of a plot must not contain quotes",
                         path)
               : td_fit_results_write(r, directory, name, &e);
    if (!code)
        code = td_work_draw(t, directory, name, &drawn, &e);
    if (!code && drawn)
        td_log_line(t->log, TD_LOG_INFO,
                    "plot in %s/%s.svg, its data in .csv, its script in .gnuplot", directory, name);
    free(directory);
    free(name);
    return code ? td_tool_fail(t, &e) : TD_EXIT_OK;
}

/* Rows that take longer than a moment. */
enum { MANY = 5000 };

static int fit(td_tool *t, const td_fit_table *table, const td_fit_request *request)
{
    td_fit_results r;
    td_error       e = { 0 };
    const char    *picture = td_tool_option(t, "--plot");
    int            code;
    if (table->rows > MANY)
        td_log_line(t->log, TD_LOG_INFO, "fitting %" PRId64 " rows", table->rows);
    code = td_fit_table_fit(table, request, &r, &e);
    if (code)
        code = td_tool_fail(t, &e);
    else {
        if (t->json)
            td_work_print_json(td_fit_results_json(&r), JSON_INDENT(2));
        else
            print(&r);
        /* after the results, which may be many lines */
        if (table->notes.size)
            td_log_line(t->log, TD_LOG_WARN, "%s", td_text_get(&table->notes));
        code = picture ? plot(t, &r, picture) : TD_EXIT_OK;
    }
    td_fit_results_free(&r);
    return code;
}

int td_command_fit(td_tool *t, int argc, char **argv)
{
    td_fit_request request = { 0 };
    td_fit_table   table = { 0 };
    bool           runs;
    int            code;
    if (!td_tool_parse(t, &td_usage_fit, argc, argv, &code))
        return code;
    if (!t->n_plain)
        return td_tool_usage_error(t, "name a CSV file, or runs");
    if (!take_request(t, &request))
        return TD_EXIT_USAGE;
    request.options.progress = show_progress;
    request.options.arg = &(progress){ t->log, td_now() };
    code = open_table(t, &table, &runs);
    /* runs of different families follow different laws */
    if (runs && !request.by)
        request.by = "family";
    if (!code)
        code = fit(t, &table, &request);
    td_fit_table_free(&table);
    return code;
}
