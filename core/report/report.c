/* report.c - gathers, lays out and writes a report. */
#include "report/report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "report/figure.h"
#include "report/sections.h"
#include "report/writers.h"

/* ---- the document ---------------------------------------------------------------------------- */

static const char *title_of(const td_report_data *d, td_arena *arena)
{
    const td_comparison *c = &d->comparison;
    if (d->options->title)
        return d->options->title;
    if (d->study && *d->study)
        return td_arena_print(arena, "Study %s", d->study);
    if (c->n_groups == 2)
        return td_arena_print(arena, "%s against %s", d->groups[0].name, d->groups[1].name);
    if (c->n_groups == 1)
        return d->groups[0].name;
    return td_arena_print(arena, "%s and %zu others", d->groups[0].name, c->n_groups - 1);
}

static void lay_out(const td_report_data *d, td_document *doc)
{
    doc->subtitle = td_document_print(doc, "%zu run%s in %zu group%s", d->count,
                                      d->count == 1 ? "" : "s", d->comparison.n_groups,
                                      d->comparison.n_groups == 1 ? "" : "s");
    if (d->brief && *d->brief)
        doc->question = td_document_print(doc, "%s", d->brief);
    doc->footer = "Written by tandem report. The data and the script of each plot are in figures/, "
                  "the tables as CSV and LaTeX in tables/.";
    /* the answer first, then what it rests on, from results to settings */
    td_report_answer(d, doc);
    td_report_scores(d, doc);
    td_report_scaling(d, doc);
    td_report_extrapolation(d, doc);
    td_report_attention(d, doc);
    td_report_training(d, doc);
    td_report_setup(d, doc);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* What a report consists of. The page comes first: if this report is interrupted here, the page
 * shows a later one that the rest is part of a report, too. */
static const char *const parts[] = { "index.html", "report.md", "figures", "tables" };

static int write_text(td_text *t, const char *directory, const char *name, td_error *error)
{
    char *path = td_path_join(directory, name);
    int   code = path && !t->failed
                     ? td_file_write(path, td_text_get(t), t->size, error)
                     : td_fail(error, TD_ENOMEM, "out of memory while writing a report");
    free(path);
    td_text_free(t);
    return code;
}

static int write_table(const td_doc_table *t, const char *directory, td_error *error)
{
    td_text text = { 0 }, name = { 0 };
    int     code;
    td_csv_table(t, &text);
    td_text_print(&name, "%s.csv", t->name);
    code = write_text(&text, directory, td_text_get(&name), error);
    td_text_free(&name);
    td_latex_table(t, &text);
    td_text_print(&name, "%s.tex", t->name);
    if (!code)
        code = write_text(&text, directory, td_text_get(&name), error);
    td_text_free(&text);
    td_text_free(&name);
    return code;
}

static int write_tables(const td_document *doc, const char *directory, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < doc->n_blocks && !code; k++)
        if (doc->blocks[k].table)
            code = write_table(doc->blocks[k].table, directory, error);
    return code;
}

static int write_pages(const td_document *doc, const char *directory, td_error *error)
{
    td_text text = { 0 };
    int     code;
    td_markdown_write(doc, &text);
    code = write_text(&text, directory, "report.md", error);
    td_html_write(doc, &text);
    if (!code)
        code = write_text(&text, directory, "index.html", error);
    td_text_free(&text);
    return code;
}

static bool has(const char *directory, const char *name)
{
    char *path = td_path_join(directory, name);
    bool  there = path && td_file_exists(path);
    free(path);
    return there;
}

/* Whether the directory holds an earlier report: its page says what wrote it. */
static bool is_report(const char *directory)
{
    char *path = td_path_join(directory, "index.html");
    char *page = path && td_file_exists(path) ? td_file_read(path, NULL, &(td_error){ 0 }) : NULL;
    bool  is = page && strstr(page, "<meta name=\"generator\" content=\"tandem report\">");
    free(page);
    free(path);
    return is;
}

/* Files that somebody else keeps under these names are not ours to replace. */
static int check_place(const char *directory, td_error *error)
{
    if (is_report(directory))
        return 0;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
        if (has(directory, parts[k]))
            return td_fail(error, TD_ECONFIG,
                           "'%s' contains '%s', which is not part of a report and is not replaced: "
                           "choose another directory with -o",
                           directory, parts[k]);
    return 0;
}

/* Everything is written into the new directory `to` first. */
static int write_parts(td_report_data *d, td_document *doc, const char *to, td_error *error)
{
    char   *figures = td_path_join(to, "figures"), *tables = td_path_join(to, "tables");
    td_text missing = { 0 };
    int     code = figures && tables
                       ? 0
                       : td_fail(error, TD_ENOMEM, "out of memory while writing a report");
    if (!code)
        code = td_make_directories(figures, error);
    if (!code)
        code = td_make_directories(tables, error);
    if (!code)
        code = td_figures_draw(doc, figures, &missing, error);
    /* before the pages are written, because they list the notes */
    if (missing.size) {
        td_text_print(&d->notes, "the plots were not drawn: %s\n", td_text_get(&missing));
        td_document_say(doc, "The plots were not drawn: %s", td_text_get(&missing));
    }
    if (!code)
        code = write_tables(doc, tables, error);
    if (!code)
        code = write_pages(doc, to, error);
    td_text_free(&missing);
    free(figures);
    free(tables);
    return code;
}

/* A link or a file where a directory must go, or the reverse, cannot be replaced by a rename. */
static int make_way(const char *new, const char *old, td_error *error)
{
    struct stat a, b;
    if (lstat(old, &b) || lstat(new, &a) || (a.st_mode & S_IFMT) == (b.st_mode & S_IFMT))
        return 0;
    return td_remove_tree(old, error);
}

/* Pages are files, which a rename replaces; the others are directories. */
static int put_in_place(const char *from, const char *to, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < sizeof parts / sizeof *parts && !code; k++) {
        char *new = td_path_join(from, parts[k]), *old = td_path_join(to, parts[k]);
        if (!new || !old)
            code = td_fail(error, TD_ENOMEM, "out of memory while writing a report");
        else
            code = make_way(new, old, error) ? td_failed(error, TD_EIO)
                                             : td_replace_directory(new, old, error);
        free(new);
        free(old);
    }
    return code;
}

/* An earlier report stays whole while the new one is drawn, which may take long or fail: only then
 * do its parts replace the earlier ones. */
static int write_all(td_report_data *d, td_document *doc, td_error *error)
{
    const char *directory = d->options->directory;
    char       *aside = td_path_join(directory, ".new-report");
    int         code = aside ? td_make_directories(directory, error)
                             : td_fail(error, TD_ENOMEM, "out of memory while writing a report");
    /* a report that was interrupted may have left one */
    if (!code)
        code = td_remove_tree(aside, error);
    if (!code)
        code = write_parts(d, doc, aside, error);
    if (!code && doc->failed)
        code = td_fail(error, TD_ENOMEM, "out of memory while writing a report");
    if (!code)
        code = put_in_place(aside, directory, error);
    if (aside)
        td_remove_tree(aside, NULL);
    free(aside);
    return code;
}

/* ---- the summary ----------------------------------------------------------------------------- */

static void append_lines(json_t *all, const char *lines)
{
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        json_array_append_new(all, json_stringn(lines, n));
        lines += n + (lines[n] == '\n');
    }
}

static json_t *summarize(const td_report_data *d, const td_document *doc)
{
    json_t *answer = json_array(), *figures = json_array(), *tables = json_array();
    json_t *notes = json_array();
    char   *page = td_path_join(d->options->directory, "index.html");
    json_t *j;
    /* a sentence is NULL if the runs have no data for it */
    for (int k = 0; k < 3; k++)
        if (doc->answer[k])
            json_array_append_new(answer, json_string(doc->answer[k]));
    for (size_t k = 0; k < doc->n_blocks; k++) {
        if (doc->blocks[k].figure)
            json_array_append_new(figures, json_string(doc->blocks[k].figure->name));
        if (doc->blocks[k].table)
            json_array_append_new(tables, json_string(doc->blocks[k].table->name));
    }
    append_lines(notes, td_text_get(&d->notes));
    j = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "report", page ? page : "", "title",
                  doc->title, "answer", answer, "figures", figures, "tables", tables, "notes",
                  notes, "comparison", td_comparison_json(&d->comparison));
    free(page);
    return j;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int write_report(td_report_data *d, json_t **summary, td_error *error)
{
    const char  *title = title_of(d, d->arena);
    td_document *doc = title ? td_document_new(title) : NULL;
    /* the place is checked before anything is drawn, which takes a while */
    int          code = doc ? check_place(d->options->directory, error)
                            : td_fail(error, TD_ENOMEM, "out of memory while writing a report");
    if (!code)
        code = td_make_writable(d->options->directory, error);
    if (!code) {
        lay_out(d, doc);
        td_log_line(d->options->log, TD_LOG_INFO, "drawing the plots");
        code = write_all(d, doc, error);
    }
    if (!code)
        *summary = summarize(d, doc);
    td_document_free(doc);
    return code;
}

int td_report_write(const td_report_options *o, json_t **summary, td_error *error)
{
    td_report_data d;
    int            code = td_report_gather(o, &d, error);
    *summary = NULL;
    if (!code)
        code = write_report(&d, summary, error);
    td_report_data_free(&d);
    return code;
}
