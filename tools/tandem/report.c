/* report.c - `tandem report`: what runs or a study have shown, as a page. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "report/diff.h"
#include "report/report.h"
#include "work.h"

static const td_flag flags[] = {
    { "-o", "DIR", "where the report is written (report, or STUDY/report for a study)" },
    { "--title", "TEXT", "title of the page" },
    { "--trust", 0, "load the modules stored in the runs, to count parameters and FLOPs" },
    { "--diff", 0,
      "for two runs: print settings that differ, and the first step and parameter that differ" },
    { "--draws", "N", "number of bootstrap samples (10000)" },
    { 0, 0, 0 },
};

const td_usage td_usage_report = {
    .name = "report",
    .arguments = "RUN ..|STUDY [-o DIR] [--title TEXT] | --diff RUN RUN",
    .brief = "Write a report of runs or of a study: one page with an answer in three sentences, "
             "plots and tables.",
    .example = "tandem report runs/red-1 runs/red-2 runs/dec-1 runs/dec-2 -o report",
    .flags = flags,
    .json = true,
    .plain = TD_ARGUMENTS,
    .notes =
        "DIR/index.html is one file that needs no network and no script; beside it are report.md, "
        "the plots with their scripts and data in figures, and the tables as CSV and LaTeX in "
        "tables. gnuplot draws the plots; without it the report has none, and says so.\n\n"
        "Plots and tables appear where runs have the data: `tandem evaluate` (with --tasks and "
        "--extrapolate), `tandem analyze`, and `tandem bench RUN --generate --out "
        "RUN/eval` for latency. Runs that differ only in their seed form a "
        "group; groups are tested as in `tandem compare`.\n\n"
        "--diff writes no page: it prints the settings that differ, the first step whose metrics "
        "differ (each line has a hash of all parameters), and the first parameter that differs in "
        "the first checkpoint that does.",
};

/* ---- two runs -------------------------------------------------------------------------------- */

static void print_differences(const char *lines)
{
    if (!*lines)
        puts("settings: all the same");
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        printf("%.*s\n", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

static void print_metrics(const td_parting *p)
{
    if (!p->lines)
        puts("metrics: the runs have no step in common");
    else if (p->first < 0)
        printf("metrics: all %" PRId64 " lines in common are the same%s\n", p->lines,
               p->hashed ? ", with the hash of all parameters" : "");
    else {
        printf("metrics: they first differ at step %" PRId64, p->first);
        if (p->last_same >= 0)
            printf("; until step %" PRId64 " they are the same", p->last_same);
        printf("\n  %s: %.17g, %.17g\n", p->metric, p->a, p->b);
    }
    /* equal losses may hide a difference in the parameters */
    if (p->lines && !p->hashed)
        puts("  an older run has no hash of its parameters in metrics.jsonl: only losses and norms "
             "are compared");
    if (p->damaged)
        printf("  %" PRId64 " damaged lines are left out\n", p->damaged);
}

static void print_checkpoints(const td_parting *p)
{
    if (!p->checkpoints)
        puts("checkpoints: the runs have none at the same step");
    else if (p->checkpoint < 0 && p->checkpoints == 1)
        puts("checkpoints: the one in common has the same parameters");
    else if (p->checkpoint < 0)
        printf("checkpoints: all %" PRId64 " in common have the same parameters\n", p->checkpoints);
    else {
        printf("checkpoints: step %" PRId64 " is the first that differs", p->checkpoint);
        if (p->checkpoint_same >= 0)
            printf("; step %" PRId64 " is the same", p->checkpoint_same);
        printf("\n  %s is the first of %" PRId64 " parameters that differ, of %" PRId64 "\n",
               td_text_get(&p->tensor), p->differ, p->tensors);
    }
}

static json_t *step_or_null(int64_t step) { return step < 0 ? json_null() : json_integer(step); }

static json_t *json_of_parting(const td_parting *p)
{
    json_t *settings = json_array();
    for (const char *line = td_text_get(&p->differences); *line;) {
        size_t n = strcspn(line, "\n");
        json_array_append_new(settings, json_stringn(line, n));
        line += n + (line[n] == '\n');
    }
    return json_pack(
        "{s:o, s:{s:I, s:o, s:o, s:s, s:o, s:o, s:b}, s:{s:I, s:o, s:o, s:s, s:I, s:I}}",
        "settings", settings, "metrics", "lines", (json_int_t)p->lines, "last_same",
        step_or_null(p->last_same), "first", step_or_null(p->first), "metric", p->metric, "a",
        td_tool_number(p->a), "b", td_tool_number(p->b), "hashed", p->hashed, "checkpoints",
        "in_common", (json_int_t)p->checkpoints, "last_same", step_or_null(p->checkpoint_same),
        "first", step_or_null(p->checkpoint), "tensor", td_text_get(&p->tensor), "differ",
        (json_int_t)p->differ, "tensors", (json_int_t)p->tensors);
}

/* It prints, and writes nothing, so every option of pages would be ignored. --trust is accepted, as
 * by `tandem compare`: there is nothing to load. */
static int diff(td_tool *t)
{
    td_parting p;
    td_error   e = { 0 };
    int        code;
    for (const td_flag *f = flags; f->name; f++)
        if (strcmp(f->name, "--diff") && strcmp(f->name, "--trust") && td_tool_option(t, f->name))
            return td_tool_usage_error(t, "--diff writes no page, so %s has no effect with it",
                                       f->name);
    if (t->n_plain != 2)
        return td_tool_usage_error(t, "--diff takes two runs");
    code = td_parting_find(t->plain[0], t->plain[1], &p, &e);
    if (code)
        code = td_tool_fail(t, &e);
    else if (t->json)
        td_work_print_json(json_of_parting(&p), JSON_INDENT(2));
    else {
        print_differences(td_text_get(&p.differences));
        print_metrics(&p);
        print_checkpoints(&p);
    }
    td_parting_free(&p);
    return code;
}

/* ---- the report ------------------------------------------------------------------------------ */

static void print_list(const json_t *list, const char *before)
{
    size_t        k;
    const json_t *item;
    json_array_foreach(list, k, item) printf("%s%s\n", before, json_string_value(item));
}

static void print_summary(const json_t *j)
{
    print_list(json_object_get(j, "answer"), "");
    if (json_array_size(json_object_get(j, "notes")))
        putchar('\n');
    print_list(json_object_get(j, "notes"), "note: ");
    printf("\nreport: %s\n", json_string_value(json_object_get(j, "report")));
}

/* free() it. */
static char *directory_of(const td_tool *t, const char *study)
{
    const char *given = td_tool_option(t, "-o");
    return td_path_join(study && !given ? study : "", given ? given : "report");
}

int td_command_report(td_tool *t, int argc, char **argv)
{
    td_report_options o = { 0 };
    td_error          e = { 0 };
    json_t           *summary;
    char             *directory;
    int               code;

    if (!td_tool_parse(t, &td_usage_report, argc, argv, &code))
        return code;
    if (td_tool_option(t, "--diff"))
        return diff(t);
    if (!t->n_plain)
        return td_tool_usage_error(t, "name runs, or the directory of a study");
    if (!td_tool_integer(t, "--draws", 10000, 100, 10000000, &o.draws))
        return TD_EXIT_USAGE;
    td_work_leave_out_repeated(t);
    o.study = t->n_plain == 1 && td_report_is_study(t->plain[0]) ? t->plain[0] : NULL;
    o.runs = t->plain;
    o.count = t->n_plain;
    o.title = td_tool_option(t, "--title");
    o.plugin_paths = t->plugin_paths;
    o.trust = td_tool_option(t, "--trust") != NULL;
    o.log = t->log;
    /* the report of a study lies in it, that of runs here: they may be anywhere */
    directory = directory_of(t, o.study);
    o.directory = directory ? directory : "report";
    code = td_report_write(&o, &summary, &e);
    free(directory);
    if (code)
        return td_tool_fail(t, &e);
    if (t->json)
        td_work_print_json(summary, JSON_INDENT(2));
    else {
        print_summary(summary);
        json_decref(summary);
    }
    return TD_EXIT_OK;
}
