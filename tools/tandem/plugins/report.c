/* report.c - the results of `tandem plugins check`.
 *
 * One module, every test as it ends:            Several, a line for each plugin:
 *
 *     norm-mine.so: norm/mine                       norm-mine.so
 *       table          ok                             norm/mine                     12 ok, but:
 *       shapes         crashed    Segmentation ..     shapes         crashed    Segmentation ..
 *       leaks          ok                           norm-yours.so
 *                                                     norm/yours                    13 ok
 */
#include "plugins/report.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { WORDS = 6 }; /* of a crashed child, lines of its stderr that are shown */

/* ---- what a job came to ---------------------------------------------------------------------- */

static bool is_word(const char *line)
{
    /* "    #3 0x..": the frames of a sanitizer's report, which differ from run to run. */
    return *line && strncmp(line, "    #", 5) != 0;
}

/* The last lines of the child's stderr, without the record of its memory after them. */
static json_t *last_words(const td_check_job *j)
{
    char   *text = td_file_read(j->child.error, NULL, NULL), *record = td_child_record(text);
    json_t *lines = json_array();
    if (record)
        *record = 0;
    if (text)
        td_make_utf8(text); /* JSON holds nothing else */
    for (char *rest = text, *line; rest && (line = strsep(&rest, "\n")) != NULL;) {
        if (!is_word(line))
            continue;
        if (json_array_size(lines) >= WORDS)
            json_array_remove(lines, 0);
        json_array_append_new(lines, json_string(line));
    }
    free(text);
    return lines;
}

/* The way in which a child without a result ended. */
static json_t *crash(const td_report *r, const td_check_job *j)
{
    const td_child *c = &j->child;
    if (c->end != TD_CHILD_CRASHED)
        return json_sprintf("ended the process with exit code %d", c->code);
    if (c->code == SIGXFSZ)
        return json_sprintf("wrote a file of more than %zu MiB (1/%d of --memory-limit)",
                            r->limits.bytes / TD_CHILD_FILE_SHARE >> 20, TD_CHILD_FILE_SHARE);
    /* a module that crashes when it is loaded has not said what its plugins are */
    return json_sprintf("%s (to run it in a debugger, add --here --plugin %s --only %s)",
                        strsignal(c->code), *j->plugin ? j->plugin : "''", j->test);
}

static void add_crash(const td_report *r, const td_check_job *j, json_t *findings)
{
    json_t *words = last_words(j);
    json_array_append_new(findings, crash(r, j));
    json_array_extend(findings, words);
    json_decref(words);
}

/* "ok", "failed", .., with the reasons in `findings`. */
static const char *outcome_of(const td_report *r, const td_check_job *j, json_t *findings)
{
    const td_child *c = &j->child;
    if (j->dropped) {
        json_array_append_new(findings, json_string("two other tests of the plugin timed out"));
        return "not run";
    }
    if (c->end == TD_CHILD_LATE) {
        json_array_append_new(findings, json_sprintf("not done after %g s (--time-limit)",
                                                     r->limits.seconds));
        return "timed out";
    }
    if (c->end == TD_CHILD_MEMORY) {
        json_array_append_new(findings, json_sprintf("used more than %zu MiB (--memory-limit)",
                                                     r->limits.bytes >> 20));
        return "memory";
    }
    /* A child that exits by itself always prints a result first, unless the plugin called exit. */
    if (c->end == TD_CHILD_CRASHED || !j->result) {
        add_crash(r, j, findings);
        return "crashed";
    }
    json_array_extend(findings, json_object_get(j->result, "findings"));
    if (json_array_size(findings))
        return "failed";
    return *json_string_value(json_object_get(j->result, "skipped")) ? "skipped" : "ok";
}

/* ---- the table ------------------------------------------------------------------------------- */

/* The first finding is next to the outcome, the others below it. */
static void put_row(td_text *out, const char *test, const char *outcome, json_t *findings,
                    const char *skipped)
{
    td_text_print(out, "  %-14s %-10s ", test, outcome);
    for (size_t k = 0; k < json_array_size(findings); k++) {
        const char *text = json_string_value(json_array_get(findings, k));
        td_text_print(out, "%s%s\n", k ? "                             " : "", text ? text : "");
    }
    if (!json_array_size(findings))
        td_text_print(out, "%s\n", skipped);
}

void td_report_end_plugin(td_report *r)
{
    /* A title that is not indented is a module, whose only test is "load": it has no count. */
    bool loaded = *r->title != ' ' && !r->rows.size;
    if (r->json || !r->several || !*r->title)
        return;
    if (loaded)
        printf("%s\n", r->title);
    else
        printf("%-44s %2zu ok%s\n%s", r->title, r->passed, r->rows.size ? ", but:" : "",
               td_text_get(&r->rows));
    r->passed = 0;
    td_text_free(&r->rows);
}

/* One module: every row at once. Several: a line per plugin, followed by the tests that did not
 * pass. */
static void show_row(td_report *r, const td_check_job *j, const char *outcome, json_t *findings,
                     const char *skipped)
{
    char title[sizeof r->title];
    snprintf(title, sizeof title, "%s%s%s", *j->plugin && r->several ? "  " : j->path,
             *j->plugin && !r->several ? ": " : "", j->plugin);
    if (strcmp(title, r->title)) {
        td_report_end_plugin(r);
        if (!r->several)
            printf("%s%s\n", *r->title ? "\n" : "", title);
        strcpy(r->title, title);
    }
    if (r->several && !strcmp(outcome, "ok"))
        r->passed++;
    else
        put_row(&r->rows, j->test, outcome, findings, skipped);
    /* Results are shown as they come: a suite takes minutes. */
    if (!r->several) {
        fputs(td_text_get(&r->rows), stdout);
        td_text_free(&r->rows);
    }
    fflush(stdout);
}

/* ---- all of it ------------------------------------------------------------------------------- */

void td_report_job(td_report *r, const td_check_job *j)
{
    char        file[4096];
    json_t     *findings = json_array();
    const char *outcome = outcome_of(r, j, findings), *skipped = "";
    bool        ok = !strcmp(outcome, "ok"), skip = !strcmp(outcome, "skipped");
    if (skip)
        skipped = json_string_value(json_object_get(j->result, "skipped"));
    r->n_ok += ok;
    r->n_skipped += skip;
    r->n_failed += !ok && !skip;
    if (!r->json)
        show_row(r, j, outcome, findings, skipped);
    snprintf(file, sizeof file, "%s", j->path);
    td_make_utf8(file); /* a path may contain any bytes, a JSON string may not */
    if (!r->tests)
        r->tests = json_array();
    json_array_append_new(r->tests,
                          json_pack("{s:s, s:s, s:s, s:s, s:O, s:s, s:f}", "file", file, "plugin",
                                    j->plugin, "test", j->test, "outcome", outcome, "findings",
                                    findings, "skipped", skipped, "seconds", j->child.seconds));
    json_decref(findings);
}

void td_report_sum(const td_report *r)
{
    size_t n = r->n_ok + r->n_failed + r->n_skipped;
    if (r->json) {
        json_t *all = json_pack("{s:b, s:O}", "ok", !r->n_failed, "tests", r->tests);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
        return;
    }
    printf("\n%zu test%s: %zu ok, %zu with findings, %zu skipped\n", n, n == 1 ? "" : "s", r->n_ok,
           r->n_failed, r->n_skipped);
}

void td_report_free(td_report *r)
{
    td_text_free(&r->rows);
    json_decref(r->tests);
}
